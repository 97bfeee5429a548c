package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

func TestGuessedBenchesGrow(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	refused := func() *anthropic.Verdict {
		return &anthropic.Verdict{Name: "key_refused", Scope: anthropic.ScopeAccount, Until: c.Now().Add(5 * time.Minute), Source: "default", Login: true}
	}
	for i, minutes := range []int{5, 10, 20, 40, 80, 80} {
		want := time.Duration(minutes) * time.Minute
		lease := pick(t, g, message(""))
		lease.Report(refused(), nil)
		lease.End(anthropic.Usage{})
		_, no := g.Pick(message(""))
		if got := no.Until.Sub(c.Now()); got != want {
			t.Errorf("bench %d lasts %v, want %v", i, got, want)
		}
		c.advance(want)
	}
}

func TestTheLongestBenchHolds(t *testing.T) {
	c := newClock()
	a := New(c, 1).account("a#1", "a")
	a.setBench(bench{Family: "opus", Until: c.now.Add(time.Hour)})
	a.setBench(bench{Until: c.now.Add(time.Minute)})
	if b := a.benchOf("opus", c.now); b == nil || b.Until.Sub(c.now) != time.Hour {
		t.Errorf("opus is benched until %v", b.Until)
	}
	if b := a.benchOf("haiku", c.now); b == nil || b.Until.Sub(c.now) != time.Minute {
		t.Errorf("haiku is benched until %v", b.Until)
	}
	// What upstream stated is not cut short by a guess.
	a.setBench(bench{Family: "opus", Until: c.now.Add(time.Hour), Source: "reset"})
	a.setBench(bench{Family: "opus", Until: c.now.Add(time.Second), Source: "default"})
	if b := a.benchOf("opus", c.now); b.Until.Sub(c.now) != time.Hour {
		t.Errorf("a guess cut a stated bench to %v", b.Until.Sub(c.now))
	}
}

func TestLearnMergesFields(t *testing.T) {
	c := newClock()
	a := New(c, 1).account("a#1", "a").limits
	a.learn(&anthropic.Limits{Windows: []anthropic.Window{{Name: "5h", Utilization: 0.4, Status: "allowed", Reset: c.now.Add(time.Hour)}}}, c.now)
	a.learn(&anthropic.Limits{Windows: []anthropic.Window{{Name: "5h", Utilization: -1, Status: "rejected"}}}, c.now.Add(time.Minute))
	w := a.fiveHour
	if w.Utilization != 0.4 || w.Status != "rejected" || w.Reset.IsZero() {
		t.Errorf("an answer without a field unmade it: %+v", w)
	}
	older := window{Utilization: 0.1, UtilizationAt: c.now.Add(-time.Hour), Status: "allowed", StatusAt: c.now.Add(time.Hour)}
	w.merge(&older)
	if w.Utilization != 0.4 || w.Status != "allowed" {
		t.Errorf("merged to %+v", w)
	}
}

func TestRestoreLeavesBehindWhatHasEnded(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	lease := pick(t, g, message(""))
	lease.Report(windowSpent(c.now.Add(time.Hour)), nil)
	lease.End(anthropic.Usage{})
	data, _, err := g.Pool().Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	c.advance(2 * time.Hour)
	later := group(c, members("a")...)
	if err := later.Pool().Restore(data); err != nil {
		t.Fatal(err)
	}
	if a := later.pool.accounts["a#1"]; a.benched() {
		t.Errorf("a bench that has ended was restored: %+v %+v", a.benches, a.limits.benches)
	}
}

func TestRecentRequestsAreTheLast(t *testing.T) {
	p := New(newClock(), 1)
	for i := range maxRecent + 50 {
		p.Finish(Record{ID: fmt.Sprint(i)}, "", nil)
	}
	got := p.Group(members("a"), Policies[DefaultPolicy]).View().Recent
	if len(got) != maxRecent || got[0].ID != fmt.Sprint(maxRecent+49) || got[maxRecent-1].ID != "50" {
		t.Errorf("%d requests, from %s to %s", len(got), got[0].ID, got[len(got)-1].ID)
	}
}

func TestRefusalTellsTheSoonestTime(t *testing.T) {
	c := newClock()
	g := group(c, members("login", "soon", "late")...)
	for name, v := range map[string]*anthropic.Verdict{
		"late": windowSpent(c.now.Add(5 * time.Hour)), "soon": windowSpent(c.now.Add(2 * time.Hour)),
		"login": {Name: "revoked", Scope: anthropic.ScopeAccount, Until: c.now.Add(time.Hour), Source: "default", Login: true, Reason: "revoked"},
	} {
		g.Pool().Pin(name)
		lease := pick(t, g, message(""))
		lease.Report(v, nil)
		lease.End(anthropic.Usage{})
	}
	_, refused := g.Pick(message(""))
	if got := refused.Until.Sub(c.now); got != time.Hour {
		t.Errorf("the next try is in %v", got)
	}
	// A person's help is no time to promise.
	if got := refused.Reopens().Sub(c.now); got != 2*time.Hour {
		t.Errorf("promised in %v", got)
	}
}

// TestAFreeAnswerEndsNoPaidBench: counting tokens goes on while the quota is
// spent, and says nothing about it.
func TestAFreeAnswerEndsNoPaidBench(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	lease := pick(t, g, message(""))
	lease.Report(windowSpent(c.now.Add(time.Hour)), nil)
	lease.End(anthropic.Usage{})
	c.advance(time.Second)
	serve(t, g, &Request{User: "ann", Model: "claude-opus-5", Endpoint: anthropic.EndpointCountTokens})
	if lease, _ := g.Pick(message("")); lease != nil {
		t.Error("a token count sent a message to an account whose window is spent")
	}
	// Where nothing stands, a free answer shows that the account is there again.
	c.advance(time.Hour)
	lease = pick(t, g, message(""))
	lease.Blame(&anthropic.Unreachable)
	lease.End(anthropic.Usage{})
	c.advance(blameMost)
	serve(t, g, &Request{User: "ann", Endpoint: anthropic.EndpointModels})
	if g.View().Accounts[0].Trying {
		t.Error("an account that only lists models is tried one by one for ever")
	}
}

// TestALoginBenchHoldsBehindALongerOne: a request that draws on no window still
// needs the credential.
func TestALoginBenchHoldsBehindALongerOne(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	first, second := pick(t, g, message("")), pick(t, g, message(""))
	first.Report(&anthropic.Verdict{Name: "model_window", Scope: anthropic.ScopeFamily, Until: c.now.Add(30 * time.Hour), Source: "reset", Window: "7d_opus"}, nil)
	second.Report(&anthropic.Verdict{Name: "revoked", Scope: anthropic.ScopeAccount, Until: c.now.Add(time.Hour), Source: "default", Login: true}, nil)
	first.End(anthropic.Usage{})
	second.End(anthropic.Usage{})
	if lease, _ := g.Pick(&Request{User: "ann", Model: "claude-opus-5", Endpoint: anthropic.EndpointCountTokens}); lease != nil {
		t.Error("a revoked login was used, since the model's window is spent for longer")
	}
}
