package pool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

func overload(now time.Time) *anthropic.Verdict {
	return &anthropic.Verdict{Name: "overloaded", Scope: anthropic.ScopeProvider, Action: anthropic.Again, Until: now.Add(4 * time.Second), Source: "default", Reason: "overloaded"}
}

// overloadOn makes the named account answer that the service is overloaded.
func overloadOn(t *testing.T, g *Group, c *clock, name string) {
	t.Helper()
	g.Pool().Pin(name)
	defer g.Pool().Pin("")
	lease := pick(t, g, message(""))
	if lease.Member.Name != name {
		t.Fatalf("got %s, want %s", lease.Member.Name, name)
	}
	lease.Report(overload(c.Now()), nil)
	lease.End(anthropic.Usage{})
}

func TestOneOverloadedAccountIsNoBrake(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b", "c")...)
	overloadOn(t, g, c, "a")
	c.advance(brakeMemory + time.Second)
	overloadOn(t, g, c, "b")
	if got := serve(t, g, message("")); got == "b" {
		t.Errorf("%s was asked at once", got)
	}
}

func TestBrakeHoldsBackAllAccountsAndLetsOneTry(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b", "c", "d")...)
	overloadOn(t, g, c, "a")
	overloadOn(t, g, c, "b")
	lease, refused := g.Pick(message(""))
	if lease != nil || refused.Until.IsZero() || len(refused.Closures) != 4 {
		t.Fatalf("two accounts agree, and a request goes to a third: %+v", refused)
	}
	haiku := message("")
	haiku.Model = "claude-haiku-4-5"
	serve(t, g, haiku) // capacity is per model
	c.advance(refused.Until.Sub(c.Now()))
	probe := pick(t, g, message(""))
	if lease, refused := g.Pick(message("")); lease != nil || !refused.Busy {
		t.Fatal("two requests find out at once")
	}
	first := refused.Until
	probe.Report(overload(c.Now()), nil)
	probe.End(anthropic.Usage{})
	_, refused = g.Pick(message(""))
	if again := refused.Until.Sub(c.Now()); again < brakeFirst*2 || again > brakeMost*2 {
		t.Errorf("the second brake lasts %v, the first until %v", again, first)
	}
	c.advance(refused.Until.Sub(c.Now()))
	probe = pick(t, g, message(""))
	probe.Report(&served, nil)
	pick(t, g, message(""))
	pick(t, g, message(""))
	probe.End(anthropic.Usage{})
}

func TestBrakeWakesTheLineOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(SystemClock{}, 1).Group(members("a", "b"), Policies[DefaultPolicy])
		for _, name := range []string{"a", "b"} {
			g.Pool().Pin(name)
			lease, _ := g.Pick(message(""))
			lease.Report(overload(time.Now()), nil)
			lease.End(anthropic.Usage{})
		}
		g.Pool().Pin("")
		time.Sleep(0)
		leases := make(chan *Lease, 5)
		for range 5 {
			go func() {
				lease, _, _ := g.Acquire(t.Context(), message(""), Waiting{Hold: time.Minute})
				leases <- lease
			}()
		}
		synctest.Wait()
		if n := g.Pool().Waiting(); n != 5 {
			t.Fatalf("%d wait", n)
		}
		probe := <-leases
		synctest.Wait()
		if n := g.Pool().Waiting(); n != 4 {
			t.Fatalf("%d wait while one finds out", n)
		}
		probe.Report(&served, nil)
		probe.End(anthropic.Usage{})
		for range 4 {
			lease := <-leases
			lease.Report(&served, nil)
			lease.End(anthropic.Usage{})
		}
	})
}

// TestAClockThatGoesBackLocksNobodyUp: a bench that was guessed lasts its
// length, whatever the clock does meanwhile.
func TestAClockThatGoesBackLocksNobodyUp(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	lease := pick(t, g, message(""))
	lease.Blame(&anthropic.Unreachable)
	lease.End(anthropic.Usage{})
	c.advance(-48 * time.Hour)
	if _, refused := g.Pick(message("")); refused == nil || refused.Until.Sub(c.Now()) > blameFirst {
		t.Errorf("after the jump: %+v", refused)
	}
	c.advance(blameFirst)
	serve(t, g, message(""))
	// A time that upstream stated is a time of day, and stands.
	lease = pick(t, g, message(""))
	until := c.Now().Add(time.Hour)
	lease.Report(windowSpent(until), nil)
	lease.End(anthropic.Usage{})
	c.advance(-2 * time.Hour)
	if _, refused := g.Pick(message("")); refused == nil || !refused.Until.Equal(until) {
		t.Errorf("a stated time was moved: %+v", refused)
	}
}

// TestTheOnlyServingAccountIsBelieved: accounts that cannot have the request do
// not count.
func TestTheOnlyServingAccountIsBelieved(t *testing.T) {
	c := newClock()
	g := group(c, &Member{Name: "a", Key: "a"}, &Member{Name: "b", Key: "b", Models: []string{"claude-haiku-*"}}, &Member{Name: "c", Key: "c", Owners: []string{"bob"}})
	overloadOn(t, g, c, "a")
	if until, busy := g.pool.braked("opus", c.Now()); until.IsZero() || busy {
		t.Error("the only account that serves the model was not believed")
	}
}
