package pool

import (
	"slices"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// askOf sends one request to the named account and tells the answer.
func askOf(t *testing.T, g *Group, name string, v *anthropic.Verdict, limits *anthropic.Limits) {
	t.Helper()
	g.Pool().Pin(name)
	defer g.Pool().Pin("")
	lease := pick(t, g, message(""))
	if lease.Member.Name != name {
		t.Fatalf("%s serves in the place of %s", lease.Member.Name, name)
	}
	lease.Report(v, limits)
	lease.End(anthropic.Usage{})
}

func windows(ws ...anthropic.Window) *anthropic.Limits { return &anthropic.Limits{Windows: ws} }

func viewOf(t *testing.T, g *Group, name string) AccountView {
	t.Helper()
	for _, a := range g.View().Accounts {
		if a.Member.Name == name {
			return a
		}
	}
	t.Fatalf("no account %s", name)
	return AccountView{}
}

func openTo(g *Group, name string) bool {
	for _, s := range g.Explain(message(""), 0).Accounts {
		if s.Name == name {
			return s.Closed.Kind == Open
		}
	}
	return false
}

func TestAccountsOfOneOrganizationShareItsLimits(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b", "other")...)
	p := g.Pool()
	askOf(t, g, "a", &served, windows(anthropic.Window{Name: "5h", Utilization: 0.3, Status: "allowed", Reset: c.now.Add(time.Hour)}))
	c.advance(time.Second)
	askOf(t, g, "b", &served, &anthropic.Limits{
		Windows: []anthropic.Window{{Name: "5h", Utilization: 0.4}, {Name: "7d", Utilization: 0.1}}, Buckets: []anthropic.Bucket{{Name: "requests", Limit: 10, Remaining: 4}},
		OverageStatus: "rejected",
	})
	p.Identify("a#1", "org")
	p.Identify("b#1", "org")
	p.Identify("nobody#1", "org")
	for _, name := range []string{"a", "b"} {
		v := viewOf(t, g, name)
		five, _ := v.Window("5h")
		seven, _ := v.Window("7d")
		if five.Utilization != 0.4 || five.Status != "allowed" || five.Reset.IsZero() || seven.Utilization != 0.1 || len(v.Buckets) != 1 || v.OverageStatus != "rejected" || v.Identity != "org" {
			t.Errorf("%s does not know the newest of both: %+v", name, v)
		}
	}
	if a, b, other := viewOf(t, g, "a"), viewOf(t, g, "b"), viewOf(t, g, "other"); !slices.Equal(a.Shares, []string{"b"}) || !slices.Equal(b.Shares, []string{"a"}) || other.Shares != nil {
		t.Errorf("they share with %v, %v and %v", a.Shares, b.Shares, other.Shares)
	}
	// What is told through one counts for the other, and so does what it costs.
	askOf(t, g, "a", &served, windows(anthropic.Window{Name: "7d", Utilization: 0.9}))
	if seven, _ := func() (WindowView, bool) { v := viewOf(t, g, "b"); return v.Window("7d") }(); seven.Utilization != 0.9 {
		t.Errorf("b does not hear what a was told: %+v", seven)
	}
	p.Pin("a")
	lease := pick(t, g, message(""))
	p.Pin("")
	var ca, cb, co Candidate
	for i, c := range []*Candidate{&ca, &cb, &co} {
		g.states[i].candidate(c, g.members[i], "opus", 0, g.pool.now())
	}
	if ca.Burn == 0 || cb.Burn != ca.Burn || co.Burn != 0 {
		t.Errorf("a request at a is ahead as %v for it, %v for b and %v for the other", ca.Burn, cb.Burn, co.Burn)
	}
	lease.End(anthropic.Usage{})
}

func TestABenchForWantOfQuotaClosesAllWhoShareIt(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b")...)
	p := g.Pool()
	p.Identify("a#1", "org")
	p.Identify("b#1", "org")
	askOf(t, g, "a", windowSpent(c.now.Add(time.Hour)), nil)
	_, refused := g.Pick(message(""))
	if refused == nil {
		t.Fatal("b is asked although its organisation's window is spent")
	}
	if got := refused.Words(c.now); got != "all 2 accounts are out: 2 at the 5-hour limit until 13:00 UTC" {
		t.Errorf("it says %q", got)
	}
	c.advance(time.Hour)
	// What is not for want of quota is each account's own.
	for _, v := range []*anthropic.Verdict{
		{Name: "key_refused", Scope: anthropic.ScopeAccount, Source: "default", Login: true, Reason: "refused"},
		{Name: verdictBurst, Scope: anthropic.ScopeAccount, Source: "retry-after"},
	} {
		v.Until = c.Now().Add(time.Hour)
		askOf(t, g, "a", v, nil)
		if openTo(g, "a") || !openTo(g, "b") {
			t.Errorf("%s of a: a is open %v, b %v", v.Name, openTo(g, "a"), openTo(g, "b"))
		}
		p.Revive("a#1")
		c.advance(2 * time.Hour)
		askOf(t, g, "a", &served, nil)
	}
	p.Pin("a")
	lease := pick(t, g, message(""))
	lease.Blame(&anthropic.Unreachable)
	lease.End(anthropic.Usage{})
	if p.Pin(""); openTo(g, "a") || !openTo(g, "b") {
		t.Error("b is blamed for what a could not do")
	}
}

// A bench that one sharer's served request proves wrong ends for all.
func TestOneServedProvesItForAll(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b")...)
	g.Pool().Identify("a#1", "org")
	g.Pool().Identify("b#1", "org")
	g.Pool().Pin("b")
	late := pick(t, g, message(""))
	late.Report(&anthropic.Verdict{Name: verdictBurst, Scope: anthropic.ScopeNobody}, nil)
	askOf(t, g, "a", windowSpent(c.now.Add(time.Hour)), nil)
	c.advance(time.Second)
	late.begun = c.Now() // it was sent again
	late.Report(&served, nil)
	late.End(anthropic.Usage{})
	if !openTo(g, "a") || !openTo(g, "b") {
		t.Error("the bench stands although b was served since")
	}
}

func TestFindingTheOrganizationUnitesBenchesAndWakes(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b")...)
	p := g.Pool()
	askOf(t, g, "a", windowSpent(c.now.Add(time.Hour)), nil)
	c.advance(time.Second)
	askOf(t, g, "b", &anthropic.Verdict{Name: verdictModelWindow, Scope: anthropic.ScopeFamily, Until: c.Now().Add(2 * time.Hour), Source: "reset", Window: "7d_opus"}, nil)
	p.Identify("a#1", "org")
	p.Identify("b#1", "org")
	for _, name := range []string{"a", "b"} {
		if v := viewOf(t, g, name); len(v.Benches) != 2 || v.Benched() == nil {
			t.Errorf("%s has the benches %+v", name, v.Benches)
		}
	}
	told := make(chan *Lease, 1)
	g.Join(message(""), Waiting{Hold: 3 * time.Hour}, func(l *Lease, _ *Refusal) { told <- l })
	// The key was replaced by another organisation's: clean limits, so it is open.
	p.Identify("a#1", "another")
	select {
	case l := <-told:
		if l == nil || l.Member.Name != "a" {
			t.Errorf("the one who waits got %v", l)
		}
		l.End(anthropic.Usage{})
	default:
		t.Error("nobody woke the one who waits")
	}
	if v := viewOf(t, g, "a"); len(v.Windows) != 0 || len(v.Benches) != 0 || v.Shares != nil {
		t.Errorf("a still knows of the organisation that it left: %+v", v)
	}
	if openTo(g, "b") {
		t.Error("b lost its benches when a left")
	}
	// And back: what the organisation has is known of it at once.
	if p.Identify("a#1", "org"); openTo(g, "a") {
		t.Error("a is open although its organisation's window is spent")
	}
	if p.Identify("b#1", ""); !openTo(g, "b") {
		t.Error("b is closed although nobody knows whose limits it has")
	}
}

func TestALeaseLivesThroughAChangeOfOrganization(t *testing.T) {
	g := group(newClock(), members("a", "b")...)
	p := g.Pool()
	lease, other := pick(t, g, message("")), pick(t, g, message(""))
	for _, identity := range []string{"org", "another", "", "org"} {
		p.Identify("a#1", identity)
		p.Identify("b#1", "org")
	}
	lease.End(anthropic.Usage{})
	other.End(anthropic.Usage{})
	for _, a := range p.accounts {
		if a.reserved != 0 || a.limits.reserved != 0 || a.inFlight != 0 {
			t.Errorf("%s: %v of %v reserved, %d in flight", a.name, a.reserved, a.limits.reserved, a.inFlight)
		}
	}
	if len(p.limits) != 1 || len(p.limits["org"].sharers) != 2 {
		t.Errorf("limits are left over: %v", p.limits)
	}
}

func TestIdentityIsKnownAfterARestart(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b", "unused")...)
	for _, key := range []string{"a#1", "b#1", "unused#1"} {
		g.Pool().Identify(key, "org")
	}
	askOf(t, g, "a", windowSpent(c.now.Add(time.Hour)), windows(anthropic.Window{Name: "5h", Utilization: 1, Reset: c.now.Add(time.Hour)}))
	data, _, err := g.Pool().Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	again := group(c, members("a", "b", "unused")...)
	if err := again.Pool().Restore(data); err != nil {
		t.Fatal(err)
	}
	if v := viewOf(t, again, "b"); len(v.Shares) != 2 || len(v.Windows) != 1 || openTo(again, "b") || openTo(again, "unused") {
		t.Errorf("after a restart: %+v", v)
	}
}

// A score that is remembered does not outlive what a sharer was told.
func TestSharersAreRatedAnew(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b", "other")...)
	g.Pool().Identify("a#1", "org")
	g.Pool().Identify("b#1", "org")
	for range 5 {
		serve(t, g, message(""))
	}
	askOf(t, g, "a", &served, windows(anthropic.Window{Name: "7d", Utilization: 0.99, Reset: c.now.Add(160 * time.Hour)}, anthropic.Window{Name: "5h", Utilization: 0.9, Reset: c.now.Add(4 * time.Hour)}))
	for range 10 {
		if got := serve(t, g, message("")); got != "other" {
			t.Fatalf("took %s, whose organisation is all but spent", got)
		}
	}
}
