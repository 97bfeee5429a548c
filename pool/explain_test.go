package pool

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

func TestExplainSaysWhoStandsWhereAndWhy(t *testing.T) {
	c := newClock()
	g := New(c, 1).Group([]*Member{
		{Name: "best", Key: "best#1", Weight: 3}, {Name: "good", Key: "good#1"},
		{Name: "spare", Key: "spare#1", Priority: 2}, {Name: "bobs", Key: "bobs#1", Owners: []string{"bob"}},
		{Name: "haiku", Key: "haiku#1", Models: []string{"claude-haiku-*"}}, {Name: "tried", Key: "tried#1"},
		{Name: "spent", Key: "spent#1"}, {Name: "full", Key: "full#1", MaxConcurrent: 1},
	}, Policies[DefaultPolicy])
	for name, used := range map[string]float64{"best": 0.1, "good": 0.5, "spare": 0, "spent": 1} {
		g.Pool().Pin(name)
		lease := pick(t, g, message(""))
		lease.Report(&served, &anthropic.Limits{Windows: []anthropic.Window{{Name: "7d", Utilization: used, Reset: c.now.Add(84 * time.Hour)}}})
		if name == "spent" {
			lease.Report(windowSpent(c.now.Add(84*time.Hour)), nil)
		}
		lease.End(anthropic.Usage{})
	}
	g.Pool().Pin("full")
	pick(t, g, message(""))
	g.Pool().Pin("")
	req := message("")
	req.Tried = []string{"tried#1"}
	d := g.Explain(req, MaxStay)
	if d.Account != "best" || d.Reason != ReasonPolicy || d.Policy != "balanced" || !d.Time.Equal(c.now) || !d.Until.IsZero() || d.Refused != "" {
		t.Errorf("%+v", d)
	}
	want := []ClosureKind{Open, Open, Open, ClosedOwner, ClosedModel, ClosedTried, ClosedBench, ClosedFull}
	for i, a := range d.Accounts {
		if a.Name != g.members[i].Name || a.Priority != g.members[i].Priority || a.Closed.Kind != want[i] || (a.Closed.Reason == "") != (a.Closed.Kind == Open) {
			t.Errorf("%+v", a)
		}
	}
	if len(d.Accounts) != len(want) || d.Accounts[0].Score <= d.Accounts[1].Score || d.Accounts[0].SevenDay.Used != 0.1 || d.Accounts[0].Weight != 3 {
		t.Errorf("%+v", d.Accounts)
	}
	words := d.Words()
	for _, part := range []string{"best is best of 2 open", "week 10% used with 50% of its time left", "next is good", "week 50% used"} {
		if !strings.Contains(words, part) {
			t.Errorf("%q does not say %q", words, part)
		}
	}
	if got := d.Accounts[6].Words(); got != "closed: usage window spent" {
		t.Errorf("%q", got)
	}
}

func TestEachReasonHasWords(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b")...)
	say := func(req *Request, reason string, parts ...string) {
		t.Helper()
		d := g.Explain(req, MaxStay)
		if d.Reason != reason {
			t.Errorf("%s, want %s: %s", d.Reason, reason, d.Words())
		}
		for _, part := range parts {
			if !strings.Contains(d.Words(), part) {
				t.Errorf("%q does not say %q", d.Words(), part)
			}
		}
	}
	say(message(""), ReasonPolicy, "are as good, and it was drawn")
	g.Pool().Pin("b")
	say(message(""), ReasonPinned, "b is pinned")
	g.Pool().Pin("")
	settled(t, g, "s", "a", worth(MaxStay))
	say(message("s"), ReasonSession, "the session lives at a")
	only := message("")
	only.Tried = []string{"b#1"}
	say(only, ReasonPolicy, "a is the only account that is open")
	// Its own account closes for a moment: what Acquire would do is said.
	g.Pool().Pin("a")
	lease := pick(t, g, message(""))
	lease.Report(&anthropic.Verdict{Name: verdictBurst, Scope: anthropic.ScopeAccount, Until: c.now.Add(10 * time.Second), Source: "retry-after"}, nil)
	lease.End(anthropic.Usage{})
	g.Pool().Pin("")
	say(message("s"), ReasonStay, "waits for its own account", "briefly rate-limited", "12:00:10")
	none := message("")
	none.Tried = []string{"b#1"}
	say(none, ReasonNone, "briefly rate-limited until 12:00:10 UTC")
	if d := g.Explain(none, MaxStay); !d.Until.Equal(c.now.Add(10*time.Second)) || d.Account != "" {
		t.Errorf("%+v", d)
	}
	say(naming("file_x"), ReasonNone, "file_x")
	c.advance(10 * time.Second)
	held := pick(t, g, &Request{User: "ann", Model: "claude-opus-5", Endpoint: anthropic.EndpointMessages, Tried: []string{"b#1"}})
	say(none, ReasonNone, "1 busy")
	held.End(anthropic.Usage{})
	alone := group(c, members("a")...)
	if d := alone.Explain(message(""), MaxStay); d.Words() != "a is the only account" {
		t.Errorf("%q", d.Words())
	}
	var standing Standing
	standing.Burn, standing.Bucket, standing.WarmPrefix, standing.Home, standing.Parent = 0.1, 0.2, true, true, true
	standing.Family = Window{Used: 0.3, Left: 0.4, ResetIn: time.Hour}
	for _, part := range []string{"10% of 5 hours about to be used", "rate limit 20% used", "model's week 30% used", "tools and system text warm", "the session lived here", "its parent lives here"} {
		if !strings.Contains(standing.Words(), part) {
			t.Errorf("%q does not say %q", standing.Words(), part)
		}
	}
}

// TestExplainAgreesWithAcquire: where a pick would move at once and Acquire stays,
// Explain tells of Acquire.
func TestExplainAgreesWithAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, members("a", "b", "c")...)
		for i := range 60 {
			session := fmt.Sprint(i % 7)
			if i%7 != 0 {
				settled(t, l.g, session, []string{"a", "b", "c"}[i%3], int64(i)*1000)
			}
			if i%3 == 0 {
				l.trouble("a", burst(time.Duration(i%40+1)*time.Second))
			}
			if i%5 == 0 {
				l.trouble("b", resting(time.Duration(i%70+1)*time.Second))
			}
			name := fmt.Sprint("ann ", i)
			d := l.g.Explain(arrived(session), MaxStay)
			l.join(name, arrived(session), staying())
			synctest.Wait()
			lease := l.lease(name)
			switch {
			case d.Account != "" && (lease == nil || lease.Member.Name != d.Account || lease.Reason != d.Reason):
				t.Errorf("%d: explained %s (%s), acquired %+v", i, d.Account, d.Reason, lease)
			case d.Account == "" && lease != nil:
				t.Errorf("%d: explained %s, acquired %s (%s)", i, d.Reason, lease.Member.Name, lease.Reason)
			}
			l.leave[name]()
			if lease != nil {
				lease.Report(&served, nil)
				lease.End(anthropic.Usage{InputTokens: 1000})
			}
			time.Sleep(3 * time.Minute)
		}
	})
}

func TestAnExplanationStaysAsItWas(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b")...)
	d := g.Explain(message("s"), MaxStay)
	accounts, words := slices.Clone(d.Accounts), d.Words()
	for range 20 {
		serve(t, g, message(""))
		g.Explain(message("s"), MaxStay)
	}
	if !slices.Equal(d.Accounts, accounts) || d.Words() != words {
		t.Error("what was explained has changed")
	}
}

// TestATraceKeepsTheDecisions: those of one request in their order, asking again
// over each other, and only while the request is remembered.
func TestATraceKeepsTheDecisions(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b")...)
	p := g.Pool()
	finish := func(id string, req *Request) { p.Finish(Record{ID: id, User: "ann"}, "", req.Trace) }
	req := message("s")
	req.Trace = p.NewTrace()
	var went []string
	for range 2 {
		lease := pick(t, g, req)
		went = append(went, lease.Member.Name)
		lease.Report(windowSpent(c.now.Add(time.Hour)), nil)
		lease.End(anthropic.Usage{})
		req.Tried = append(req.Tried, lease.Member.Key)
	}
	req.Tried = nil
	for range 5 {
		if lease, _ := g.Pick(req); lease != nil {
			t.Fatal("a spent account was lent")
		}
		c.advance(time.Minute)
	}
	finish("r1", req)
	got := p.Decisions("r1")
	if len(got) != 3 || got[0].Account != went[0] || got[1].Account != went[1] || got[2].Reason != ReasonNone {
		t.Fatalf("%+v", got)
	}
	if got[2].Time.Sub(got[0].Time) != 4*time.Minute || !strings.Contains(got[2].Refused, "all 2 accounts are out") || got[1].Accounts[0].Closed.Kind == got[1].Accounts[1].Closed.Kind {
		t.Errorf("%+v", got[1:])
	}
	if p.Decisions("r2") != nil {
		t.Error("decisions of a request that was none")
	}
	c.advance(time.Hour)
	// However often it is tried, it keeps a bounded number, the last among them.
	many := message("")
	many.Trace = p.NewTrace()
	for i := range 3 * maxDecisions {
		p.Pin([]string{"a", "b"}[i%2])
		lease := pick(t, g, many)
		lease.Report(&served, nil)
		lease.End(anthropic.Usage{})
	}
	p.Pin("")
	finish("many", many)
	if got := p.Decisions("many"); len(got) != maxDecisions || got[maxDecisions-1].Account != "b" {
		t.Errorf("%d decisions", len(got))
	}
	for i := range maxRecent {
		next := message("")
		next.Trace = p.NewTrace()
		pick(t, g, next).End(anthropic.Usage{})
		finish(fmt.Sprint("later ", i), next)
	}
	if p.Decisions("r1") != nil || len(p.Decisions("later 0")) != 1 {
		t.Error("what is remembered is not the last")
	}
	// What a forgotten request left is lent again, empty.
	again := message("")
	again.Trace = p.NewTrace()
	pick(t, g, again).End(anthropic.Usage{})
	finish("again", again)
	if got := p.Decisions("again"); len(got) != 1 {
		t.Errorf("%d decisions of one pick", len(got))
	}
}

// TestManyAccountsAreNotComparedForNothing: a choice that is clear is shown in
// full only where that costs little.
func TestManyAccountsAreNotComparedForNothing(t *testing.T) {
	for _, accounts := range []int{maxCompared, maxCompared + 1} {
		var names []string
		for i := range accounts {
			names = append(names, fmt.Sprint("m", i))
		}
		policy := &counting{}
		g := New(newClock(), 1).Group(members(names...), policy)
		serve(t, g, message("s"))
		policy.asked = 0
		req := message("s")
		req.Trace = new(Trace)
		lease := pick(t, g, req)
		if compared := policy.asked > 0; compared != (accounts == maxCompared) || lease.Reason != ReasonSession {
			t.Errorf("%d accounts: asked %d times, %s", accounts, policy.asked, lease.Reason)
		}
	}
}
