package pool

import (
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// TestAnOlderRequestDoesNotEndTheDoubt: what was sent before a trouble may still
// be served, and shows nothing.
func TestAnOlderRequestDoesNotEndTheDoubt(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	old, bad := pick(t, g, message("")), pick(t, g, message(""))
	c.advance(time.Second)
	bad.Blame(&anthropic.Unreachable)
	bad.End(anthropic.Usage{})
	c.advance(blameFirst)
	old.Report(&served, nil)
	old.End(anthropic.Usage{})
	probe := pick(t, g, message(""))
	if lease, _ := g.Pick(message("")); lease != nil {
		t.Fatal("all go at once to an account that nobody has tried since its trouble")
	}
	c.advance(time.Second)
	probe.Report(&served, nil)
	pick(t, g, message(""))
}

// TestASecondTryOnTheSameLeaseEndsTheBenchOfTheFirst: it was sent after the bench
// was set, although the lease is older.
func TestASecondTryOnTheSameLeaseEndsTheBenchOfTheFirst(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	lease := pick(t, g, message(""))
	c.advance(time.Second)
	lease.Report(overload(c.now), nil)
	c.advance(time.Second)
	lease.Report(&served, nil)
	if _, refused := g.Pick(message("")); refused != nil {
		t.Errorf("it has just served, and is closed: %s", refused.Words(c.now))
	}
}

// TestOneWaveOfBurstsHalvesOnce: requests that were under way together say the
// same thing.
func TestOneWaveOfBurstsHalvesOnce(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	var leases []*Lease
	for range 16 {
		leases = append(leases, pick(t, g, message("")))
	}
	c.advance(time.Second)
	for _, lease := range leases[:8] {
		lease.Report(&anthropic.Verdict{Name: verdictBurst, Scope: anthropic.ScopeAccount, Until: c.now.Add(time.Second), Source: "retry-after"}, nil)
	}
	if got := g.pool.accounts["a#1"].limit.Most; got != 8 {
		t.Errorf("after eight refusals of one wave of 16 it takes %v", got)
	}
}

// TestOneTroubleIsCountedOnce: requests that fail together do not double the rest
// with each of them, and what states its end does not count.
func TestOneTroubleIsCountedOnce(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	var leases []*Lease
	for range 5 {
		leases = append(leases, pick(t, g, message("")))
	}
	c.advance(time.Second)
	for _, lease := range leases[:2] {
		lease.Report(&anthropic.Verdict{Name: verdictBurst, Scope: anthropic.ScopeAccount, Until: c.now.Add(time.Second), Source: "retry-after"}, nil)
	}
	for _, lease := range leases {
		c.advance(time.Millisecond)
		lease.Report(&anthropic.Unreachable, nil)
		c.advance(time.Millisecond)
		lease.Blame(&anthropic.Unreachable)
		lease.End(anthropic.Usage{})
	}
	a := g.pool.accounts["a#1"]
	if b := a.benchOf(wholeAccount, c.now); b == nil || b.Until.Sub(c.now) > blameFirst {
		t.Errorf("five requests that failed together: %+v", b)
	}
	c.advance(time.Minute)
	leases = nil
	a.suspect, a.limit = false, inFlightLimit{} // so that five can be sent at once
	for range 5 {
		leases = append(leases, pick(t, g, message("")))
	}
	c.advance(time.Second)
	for _, lease := range leases {
		c.advance(time.Millisecond)
		lease.Report(&anthropic.Verdict{Name: "no_credit", Scope: anthropic.ScopeAccount, Until: c.now.Add(10 * time.Minute), Source: "default"}, nil)
		lease.End(anthropic.Usage{})
	}
	if b := a.benchOf(wholeAccount, c.now); b == nil || b.Until.Sub(c.now) > 20*time.Minute {
		t.Errorf("the next five: %+v", b)
	}
}

// TestWaitingForAColdPlaceEnds: where nothing is warm any more nothing is worth a
// wait.
func TestWaitingForAColdPlaceEnds(t *testing.T) {
	c := newClock()
	g := group(c, &Member{Name: "a", Key: "a", MaxConcurrent: 1}, &Member{Name: "b", Key: "b"})
	req := message("s")
	req.CacheLife, req.Tokens = 10*time.Second, 100_000
	home := pick(t, g, req)
	home.Report(&served, nil)
	home.End(anthropic.Usage{})
	g.pool.Pin(home.Member.Name)
	g.members[0].MaxConcurrent, g.members[1].MaxConcurrent = 1, 1
	held := pick(t, g, message(""))
	g.pool.Pin("")
	_, refused := g.pick(req, MaxStay, c.now)
	if refused == nil || !refused.Stay || refused.Until.Sub(c.now) != 10*time.Second {
		t.Fatalf("it does not wait until its cache is cold: %+v", refused)
	}
	held.End(anthropic.Usage{})
}

// TestTheBrakeDoesNotHoldWhomNobodyServes: somebody without an account is told so
// at once.
func TestTheBrakeDoesNotHoldWhomNobodyServes(t *testing.T) {
	c := newClock()
	g := group(c, &Member{Name: "a", Key: "a", Owners: []string{"ann"}}, &Member{Name: "b", Key: "b", Owners: []string{"ann"}})
	overloadOn(t, g, c, "a")
	overloadOn(t, g, c, "b")
	req := message("")
	req.User = "bob"
	if _, refused := g.Pick(req); refused == nil || !refused.Hopeless() {
		t.Errorf("bob waits for the brake: %+v", refused)
	}
	c.advance(-48 * time.Hour)
	if _, refused := g.Pick(message("")); refused != nil && refused.Until.Sub(c.now) > 2*brakeMost {
		t.Errorf("the clock went back, and the brake lasts %v", refused.Until.Sub(c.now))
	}
}

func TestAnAbsurdWeightIsNoHarm(t *testing.T) {
	g := group(newClock(), &Member{Name: "a", Key: "a", Weight: 1 << 62}, &Member{Name: "b", Key: "b", Weight: 1 << 62})
	pick(t, g, message(""))
}

// TestTheFirstTellingTeachesNothing: what was used before we looked is not what
// our requests cost.
func TestTheFirstTellingTeachesNothing(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	lease := pick(t, g, message(""))
	lease.End(anthropic.Usage{InputTokens: 1000})
	tell(pick(t, g, message("")), anthropic.Window{Name: "5h", Utilization: 0.6})
	if w := g.pool.accounts["a#1"].limits.fiveHour; w.Capacity.units() != 0 {
		t.Errorf("from one telling a capacity of %v was learned", w.Capacity.units())
	}
}
