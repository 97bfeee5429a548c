package pool

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// spy is a policy that keeps what it was last asked about each account, and
// prefers the one it is told to.
type spy struct {
	prefer string
	seen   map[string]Candidate
}

func (*spy) Name() string { return "spy" }

func (p *spy) Score(_ time.Time, _ *Request, c *Candidate) float64 {
	p.seen[c.Name] = *c
	if c.Name == p.prefer {
		return 1
	}
	return 0
}

func spied(c Clock, names ...string) (*Group, *spy) {
	p := &spy{seen: map[string]Candidate{}}
	return New(c, 1).Group(members(names...), p), p
}

// placedBy says why the session's next request goes where it goes, without being
// served.
func placedBy(t *testing.T, g *Group, req *Request) (account, reason string) {
	t.Helper()
	lease := pick(t, g, req)
	lease.End(anthropic.Usage{})
	return lease.Member.Name, lease.Reason
}

func TestASessionStaysForItsCachesLife(t *testing.T) {
	for _, test := range []struct {
		name  string
		life  time.Duration
		bound bool
		stays time.Duration
	}{
		{"five minutes", 5 * time.Minute, false, 5 * time.Minute},
		{"an hour", time.Hour, false, time.Hour},
		{"thinking that only one account can read", 5 * time.Minute, true, BoundLife},
		{"a cache that outlives the thinking", 48 * time.Hour, true, 48 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClock()
			g, p := spied(c, "a", "b", "c")
			p.prefer = "b"
			req := message("s")
			req.CacheLife, req.Bound = test.life, test.bound
			serve(t, g, req)
			p.prefer = "c"
			for range 30 {
				c.advance(test.stays - time.Second) // the life slides
				if got := serve(t, g, req); got != "b" {
					t.Fatalf("moved to %s while warm", got)
				}
			}
			c.advance(test.stays)
			account, reason := placedBy(t, g, req)
			if account != "c" || reason != ReasonPolicy {
				t.Errorf("when its life is over: %s (%s)", account, reason)
			}
			// Where it lived is worth something for a while.
			if home := p.seen["b"].Home; home != (test.stays <= homeLife) || p.seen["a"].Home || p.seen["c"].Home {
				t.Errorf("home after %v: %v", test.stays, home)
			}
		})
	}
}

func TestAColdSessionsHomeIsKnownForSixHours(t *testing.T) {
	c := newClock()
	g, p := spied(c, "a", "b")
	p.prefer = "a"
	serve(t, g, message("s"))
	p.prefer = "b"
	c.advance(homeLife)
	placedBy(t, g, message("s"))
	if !p.seen["a"].Home {
		t.Error("the home was forgotten before its time")
	}
	c.advance(time.Second)
	placedBy(t, g, message("s"))
	if p.seen["a"].Home {
		t.Error("the home is known for ever")
	}
	// To the default policy it is worth something, within its time: among accounts
	// that are otherwise the same the home wins.
	for _, after := range []time.Duration{time.Hour, homeLife + time.Second} {
		homes := 0
		for i := range 20 {
			c := newClock()
			g := New(c, uint64(i)).Group(members("a", "b", "c", "d"), Policies[DefaultPolicy])
			told := &anthropic.Limits{Windows: []anthropic.Window{{Name: "5h", Utilization: 0.1, Reset: c.now.Add(50 * time.Hour)}, {Name: "7d", Utilization: 0.5, Reset: c.now.Add(84 * time.Hour)}}}
			for _, m := range g.members {
				g.Pool().Pin(m.Name)
				lease := pick(t, g, message(""))
				lease.Report(&served, told)
				lease.End(anthropic.Usage{InputTokens: 1})
			}
			g.Pool().Pin("")
			session := fmt.Sprint("s", i)
			home := serve(t, g, message(session))
			c.advance(after)
			known := slices.ContainsFunc(g.Explain(message(session), 0).Accounts, func(s Standing) bool { return s.Home })
			if got := serve(t, g, message(session)); got == home && known {
				homes++
			}
		}
		if back := homes == 20; back != (after <= homeLife) {
			t.Errorf("after %v %d of 20 went back to their home", after, homes)
		}
	}
}

func TestASessionHasAPlaceForEachFamily(t *testing.T) {
	c := newClock()
	g, p := spied(c, "a", "b", "c")
	request := func(model string) *Request {
		req := message("s")
		req.Model = model
		return req
	}
	homes := map[string]string{"claude-opus-5": "a", "claude-sonnet-5": "b", "claude-haiku-4-5": "c"}
	for model, home := range homes {
		p.prefer = home
		serve(t, g, request(model))
	}
	for range 3 {
		c.advance(4 * time.Minute)
		for model, home := range homes {
			p.prefer = "a"
			if got := serve(t, g, request(model)); got != home {
				t.Errorf("%s went to %s, lives at %s", model, got, home)
			}
		}
	}
	// One family's place may go cold while another's is warm.
	for range 2 {
		c.advance(3 * time.Minute)
		serve(t, g, request("claude-sonnet-5"))
	}
	if _, reason := placedBy(t, g, request("claude-opus-5")); reason != ReasonPolicy {
		t.Errorf("the cold family was placed by %s", reason)
	}
	if got, reason := placedBy(t, g, request("claude-sonnet-5")); got != "b" || reason != ReasonSession {
		t.Errorf("the warm family went to %s by %s", got, reason)
	}
}

func TestAnUnprovedPlaceHoldsOnlyUntilItsAnswer(t *testing.T) {
	c := newClock()
	g, p := spied(c, "a", "b")
	p.prefer = "a"
	first := pick(t, g, message("s"))
	p.prefer = "b"
	// What comes before the first answer goes along.
	if got, reason := placedBy(t, g, message("s")); got != "a" || reason != ReasonSession {
		t.Errorf("the second request went to %s (%s)", got, reason)
	}
	first.Report(&anthropic.Unreachable, nil)
	first.End(anthropic.Usage{})
	if got, reason := placedBy(t, g, message("s")); got != "b" || reason != ReasonPolicy {
		t.Errorf("after a first answer that was none: %s (%s)", got, reason)
	}
	// The request itself goes on to another account before its first lease has ended.
	p.prefer = "a"
	first = pick(t, g, message("other"))
	first.Report(windowSpent(c.now.Add(time.Hour)), nil)
	second := pick(t, g, message("other"))
	second.Report(&served, nil)
	second.End(anthropic.Usage{})
	first.End(anthropic.Usage{})
	if got, reason := placedBy(t, g, message("other")); got != "b" || reason != ReasonSession {
		t.Errorf("the place where it was served was lost: %s (%s)", got, reason)
	}
}

func TestAnAnswerMovesThePlace(t *testing.T) {
	c := newClock()
	g, p := spied(c, "a", "b", "c")
	p.prefer = "a"
	serve(t, g, message("s"))
	tried := message("s")
	tried.Tried = []string{"a#1"}
	p.prefer = "b"
	moved := pick(t, g, tried)
	if got, _ := placedBy(t, g, message("s")); got != "a" {
		t.Errorf("a request that was sent elsewhere took the place to %s before any answer", got)
	}
	moved.Report(&anthropic.Unreachable, nil)
	if got, _ := placedBy(t, g, message("s")); got != "a" {
		t.Errorf("an answer that was none took the place to %s", got)
	}
	moved.Report(&served, nil)
	moved.End(anthropic.Usage{})
	if got, reason := placedBy(t, g, message("s")); got != "b" || reason != ReasonSession {
		t.Errorf("served by b, then sent to %s (%s)", got, reason)
	}
	// Counting tokens leaves no cache anywhere.
	free := &Request{User: "ann", Session: "s", Model: "claude-opus-5", Endpoint: anthropic.EndpointCountTokens, Tried: []string{"b#1"}, CacheLife: time.Hour}
	serve(t, g, free)
	if got, _ := placedBy(t, g, message("s")); got != "b" {
		t.Errorf("a token count took the place to %s", got)
	}
}

func TestNobodyFollowsAnothersSession(t *testing.T) {
	c := newClock()
	g, p := spied(c, "a", "b")
	p.prefer = "a"
	child := message("child")
	serve(t, g, message("s"))
	p.prefer = "b"
	for _, user := range []string{"bob", ""} {
		req := message("s")
		req.User = user
		if got, reason := placedBy(t, g, req); got != "b" || reason != ReasonPolicy {
			t.Errorf("%q followed ann's session to %s (%s)", user, got, reason)
		}
		req = message("child")
		req.User, req.Parent = user, "s"
		placedBy(t, g, req)
		if p.seen["a"].Parent || p.seen["a"].Home {
			t.Errorf("%q is told of ann's session", user)
		}
	}
	child.Parent = "s"
	placedBy(t, g, child)
	if !p.seen["a"].Parent || p.seen["b"].Parent {
		t.Error("ann's own child is not told where its parent lives")
	}
	c.advance(5 * time.Minute)
	child.Session = "second child"
	placedBy(t, g, child)
	if p.seen["a"].Parent {
		t.Error("the parent has gone cold")
	}
}

func TestThePrefixOfAnotherSessionIsWarmForItsLife(t *testing.T) {
	c := newClock()
	g, p := spied(c, "a", "b")
	p.prefer = "a"
	first := message("s")
	first.Prefix = 7
	serve(t, g, first)
	next := message("t")
	next.User, next.Prefix = "bob", 7
	p.prefer = "b"
	for after, warm := range map[time.Duration]bool{5*time.Minute - time.Second: true, 5 * time.Minute: false} {
		began := c.now
		c.advance(after)
		placedBy(t, g, next)
		if p.seen["a"].WarmPrefix != warm || p.seen["b"].WarmPrefix {
			t.Errorf("after %v: %v", after, p.seen["a"].WarmPrefix)
		}
		c.advance(began.Sub(c.now))
	}
	next.Prefix = 8
	placedBy(t, g, next)
	if p.seen["a"].WarmPrefix {
		t.Error("another prefix is taken for warm")
	}
	next.Prefix = 0
	first.Prefix = 0
	serve(t, g, first)
	placedBy(t, g, next)
	if p.seen["a"].WarmPrefix {
		t.Error("no prefix is taken for a warm one")
	}
}

// TestMemoryIsBounded: more sessions, prompts and people than any team has.
func TestMemoryIsBounded(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b")...)
	const more = maxSessions + 500
	req := message("")
	for i := range more {
		req.Session, req.Prefix, req.User = fmt.Sprint(i), uint64(i)+1, "ann"
		if i%5 == 0 {
			req.User = fmt.Sprint("person", i%(maxShares*6))
		}
		lease, _ := g.Pick(req)
		lease.Report(&served, nil)
		lease.End(anthropic.Usage{InputTokens: 100})
		if i%1000 == 0 {
			// Used all the time, though it came first.
			serve(t, g, message("first"))
		}
	}
	p := g.pool
	if n := p.sessions.len(); n != maxSessions {
		t.Errorf("%d sessions", n)
	}
	if n := p.prefixes.len(); n != maxPrefixes {
		t.Errorf("%d prefixes", n)
	}
	if n := len(p.shares.of); n > maxShares {
		t.Errorf("%d people's shares", n)
	}
	if len(p.brakes) != 0 || len(p.costs) != 1 {
		t.Errorf("%d brakes, %d costs", len(p.brakes), len(p.costs))
	}
	for session, want := range map[string]string{"first": ReasonSession, fmt.Sprint(more - 1): ReasonSession, "1": ReasonPolicy} {
		if _, reason := placedBy(t, g, message(session)); reason != want {
			t.Errorf("session %s is placed by %s, want %s", session, reason, want)
		}
	}
	// An account has a prefix once, however many sessions use it.
	req.Prefix = 1 << 40
	for i := range 100 {
		req.Session = fmt.Sprint("same ", i)
		lease, _ := g.Pick(req)
		lease.Report(&served, nil)
		lease.End(anthropic.Usage{})
	}
	if places := *p.prefixes.get(1 << 40); len(places) > 2 {
		t.Errorf("the prefix is at %d places of two accounts", len(places))
	}
}

func TestPlacesAreInTheSnapshot(t *testing.T) {
	c := newClock()
	g, p := spied(c, "a", "b", "c")
	for i := range 30 {
		p.prefer = []string{"a", "b", "c"}[i%3]
		req := message(fmt.Sprint(i))
		lease := pick(t, g, req)
		if i < 24 {
			lease.Report(&served, nil)
		}
		lease.End(anthropic.Usage{InputTokens: int64(i)})
		if i == 14 {
			c.advance(4 * time.Minute)
		}
	}
	pick(t, g, message("29")) // unproved to the end
	c.advance(2 * time.Minute)
	data, _, err := g.Pool().Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	later, p := spied(c, "a", "b", "c")
	if err := later.Pool().Restore(data); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		p.prefer = ""
		p.seen = map[string]Candidate{}
		home := []string{"a", "b", "c"}[i%3]
		account, reason := placedBy(t, later, message(fmt.Sprint(i)))
		switch {
		case i < 15: // cold, but remembered
			if reason != ReasonPolicy || !p.seen[home].Home {
				t.Errorf("session %d: %s (%s), home %v", i, account, reason, p.seen[home].Home)
			}
		case i < 24:
			if account != home || reason != ReasonSession {
				t.Errorf("session %d: %s (%s), lives at %s", i, account, reason, home)
			}
		default:
			if reason != ReasonPolicy || p.seen[home].Home {
				t.Errorf("session %d was never served: %s (%s)", i, account, reason)
			}
		}
	}
}

func TestSessionStaysUntilItsCacheIsCold(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b", "c", "d", "e", "f", "g", "h")...)
	home := serve(t, g, message("s"))
	for range 20 {
		c.advance(4 * time.Minute) // the life slides
		if got := serve(t, g, message("s")); got != home {
			t.Fatalf("moved from %s to %s while warm", home, got)
		}
	}
	other := message("s")
	other.User = "bob"
	if lease := pick(t, g, other); lease.Reason == ReasonSession {
		t.Error("another person's session of the same name has a place")
	}
	serve(t, g, message("s"))
	c.advance(5*time.Minute + time.Second)
	if lease := pick(t, g, message("s")); lease.Reason != ReasonPolicy {
		t.Errorf("a cold session was placed by %s", lease.Reason)
	}
}

func TestPinGoesBeforeTheSession(t *testing.T) {
	g := group(newClock(), members("a", "b")...)
	home := serve(t, g, message("s"))
	other := map[string]string{"a": "b", "b": "a"}[home]
	g.Pool().Pin(other)
	if lease := pick(t, g, message("s")); lease.Member.Name != other || lease.Reason != ReasonPinned {
		t.Errorf("got %s (%s)", lease.Member.Name, lease.Reason)
	}
	if got := serve(t, g, message("s")); got != other {
		t.Errorf("served by %s", got)
	}
	g.Pool().Pin("")
	if got := serve(t, g, message("s")); got != home {
		t.Errorf("the pin moved the session's home to %s", got)
	}
}
