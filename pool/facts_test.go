package pool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// instances are several pools on one clock.
func instances(t *testing.T, n int) (*clock, []*Group) {
	t.Helper()
	c := newClock()
	var groups []*Group
	for i := range n {
		groups = append(groups, New(c, uint64(i)).Group(members("a", "b"), Policies["least_used"]))
	}
	return c, groups
}

// inform carries what one knows to the other.
func inform(t *testing.T, from *Group, name string, to *Group) {
	t.Helper()
	data, err := from.Pool().Facts(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Pool().Merge(name, data); err != nil {
		t.Fatal(err)
	}
}

func spentWindow(c *clock) *anthropic.Verdict {
	return &anthropic.Verdict{Name: verdictAccountWindow, Scope: anthropic.ScopeAccount, Action: anthropic.Next, Until: c.now.Add(time.Hour), Source: "reset", Window: "5h", Reason: "spent"}
}

func benchedIn(g *Group, i int) bool { return g.View().Accounts[i].Benched() != nil }

func TestBenchesTravelAndEndEverywhere(t *testing.T) {
	c, g := instances(t, 2)
	g[0].Pool().Pin("a")
	lease := pick(t, g[0], message("s"))
	c.advance(time.Second)
	lease.Report(spentWindow(c), nil)
	lease.End(anthropic.Usage{})
	select {
	case <-g[0].Pool().Urgent():
	default:
		t.Error("a bench is not urgent")
	}
	c.advance(time.Second)
	inform(t, g[0], "one", g[1])
	if !benchedIn(g[1], 0) || benchedIn(g[1], 1) {
		t.Fatal("the bench did not travel")
	}
	old, err := g[0].Pool().Facts(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	// The other one proves it wrong, by a request that began after it.
	g[1].Pool().mu.Lock()
	ended := g[1].states[0].clear(wholeAccount, c.now.Add(time.Second), c.now.Add(2*time.Second))
	g[1].Pool().mu.Unlock()
	if !ended || benchedIn(g[1], 0) {
		t.Fatal("the bench was not ended")
	}
	c.advance(5 * time.Second)
	if err := g[1].Pool().Merge("one", old); err != nil {
		t.Fatal(err)
	}
	if benchedIn(g[1], 0) {
		t.Error("an old record brought the bench back")
	}
	inform(t, g[1], "two", g[0])
	if benchedIn(g[0], 0) {
		t.Error("the end of the bench did not travel")
	}
	// A newer one counts again.
	lease = pick(t, g[0], message("s"))
	c.advance(time.Second)
	lease.Report(spentWindow(c), nil)
	lease.End(anthropic.Usage{})
	inform(t, g[0], "one", g[1])
	if !benchedIn(g[1], 0) {
		t.Error("a bench after the end did not travel")
	}
}

func TestOwnTroubleDoesNotTravel(t *testing.T) {
	_, g := instances(t, 2)
	lease := pick(t, g[0], message("s"))
	lease.Blame(&anthropic.Verdict{Name: "unreachable", Reason: "no route"})
	lease.End(anthropic.Usage{})
	inform(t, g[0], "one", g[1])
	if benchedIn(g[1], 0) || benchedIn(g[1], 1) {
		t.Error("an account rests here for the network of another instance")
	}
}

func TestPinPolicyAndSessionsTravel(t *testing.T) {
	c, g := instances(t, 2)
	g[0].Pool().Pin("b")
	if err := g[0].Pool().SwitchPolicy("round_robin"); err != nil {
		t.Fatal(err)
	}
	inform(t, g[0], "one", g[1])
	if v := g[1].View(); v.Pinned != "b" || v.Policy != "round_robin" {
		t.Fatalf("pinned %q, policy %s", v.Pinned, v.Policy)
	}
	c.advance(time.Second)
	g[1].Pool().Pin("")
	inform(t, g[0], "one", g[1])
	if g[1].Pool().Pinned() != "" {
		t.Error("an old pin came back")
	}
	inform(t, g[1], "two", g[0])
	if g[0].Pool().Pinned() != "" {
		t.Error("that nothing is pinned did not travel")
	}
	home := serve(t, g[0], message("talk"))
	inform(t, g[0], "one", g[1])
	for range 5 {
		if d := g[1].Explain(message("talk"), 0); d.Account != home || d.Reason != ReasonSession {
			t.Fatalf("the session went to %s (%s), and lives at %s", d.Account, d.Reason, home)
		}
	}
}

func TestCountersAreAddedUpOnce(t *testing.T) {
	c, g := instances(t, 3)
	use := func(i int) {
		lease := pick(t, g[i], message(fmt.Sprint("s", i)))
		lease.Report(&served, nil)
		key := lease.Member.Key
		lease.End(anthropic.Usage{InputTokens: 10, OutputTokens: 1})
		g[i].Pool().Finish(Record{User: "ann", Account: key, Usage: anthropic.Usage{InputTokens: 10, OutputTokens: 1}}, key, nil)
		c.advance(time.Second)
	}
	for range 4 {
		use(0)
	}
	use(1)
	for range 3 { // heard again and again, also by way of a third
		inform(t, g[0], "one", g[1])
		inform(t, g[1], "two", g[2])
		inform(t, g[0], "one", g[2])
		inform(t, g[2], "three", g[1])
	}
	for i, want := range []int64{4, 5, 5} {
		v := g[i].View()
		attempts := v.Accounts[0].Totals.Attempts + v.Accounts[1].Totals.Attempts
		if v.People["ann"].Requests != want || attempts != want || v.People["ann"].Usage.InputTokens != 10*want {
			t.Errorf("instance %d counts %d requests, %d attempts, want %d", i, v.People["ann"].Requests, attempts, want)
		}
	}
	// A snapshot has only what is the instance's own, so a restart doubles nothing.
	data, _, err := g[1].Pool().Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	again := New(c, 9).Group(members("a", "b"), Policies["least_used"])
	if err := again.Pool().Restore(data); err != nil {
		t.Fatal(err)
	}
	inform(t, g[0], "one", again)
	if n := again.View().People["ann"].Requests; n != 5 {
		t.Errorf("after a restart %d requests, want 5", n)
	}
}

func TestLoadElsewhereCounts(t *testing.T) {
	c, g := instances(t, 2)
	told := &anthropic.Limits{Windows: []anthropic.Window{{Name: "5h", Utilization: 0.1, Reset: c.now.Add(3 * time.Hour)}}}
	for _, i := range []int{0, 1} {
		for _, name := range []string{"a", "b"} {
			g[i].Pool().Pin(name)
			lease := pick(t, g[i], message(""))
			lease.Report(&served, told)
			lease.End(anthropic.Usage{})
		}
		g[i].Pool().Pin("")
		c.advance(time.Second)
	}
	inform(t, g[1], "two", g[0])
	g[0].Pool().Pin("a")
	for range 50 {
		pick(t, g[0], message("")).Report(&served, nil) // and stays in flight
	}
	burn := func() float64 { return g[1].Explain(message("new"), 0).Accounts[0].Burn }
	before := burn()
	c.advance(time.Second)
	inform(t, g[0], "one", g[1])
	if during := burn(); !(during > before) {
		t.Errorf("requests in flight elsewhere do not count: %v, then %v", before, during)
	}
	g[1].Pool().Drop("one")
	if after := burn(); after != before {
		t.Errorf("the load of a silent peer is %v, want %v", after, before)
	}
}

// TestInstancesLearnCapacityTogether: utilization grows by what all of them spend.
func TestInstancesLearnCapacityTogether(t *testing.T) {
	const holds = 30e6
	c, g := instances(t, 2)
	reset, spent := c.now.Add(4*time.Hour), 0.0
	usage := anthropic.Usage{InputTokens: 100_000}
	var older [2][]byte
	for i := range 60 {
		one := g[i%2]
		one.Pool().Pin("a")
		lease := pick(t, one, message(""))
		lease.Report(&served, &anthropic.Limits{Windows: []anthropic.Window{{Name: "5h", Utilization: spent / holds, Reset: reset}}})
		lease.End(usage)
		spent += anthropic.Load("claude-opus-5", usage)
		c.advance(time.Second)
		// Also an older record again, as of an instance that wrote everything.
		inform(t, one, fmt.Sprint("peer", i%2), g[1-i%2])
		if older[i%2] != nil {
			if err := g[1-i%2].Pool().Merge(fmt.Sprint("peer", i%2), older[i%2]); err != nil {
				t.Fatal(err)
			}
			inform(t, one, fmt.Sprint("peer", i%2), g[1-i%2])
		} else if older[i%2], _ = one.Pool().Facts(time.Time{}); older[i%2] == nil {
			t.Fatal("no facts")
		}
	}
	for i := range g {
		if got := g[i].states[0].limits.fiveHour.Capacity.units(); got < 0.9*holds || got > 1.1*holds {
			t.Errorf("instance %d learned %.3g, and the window holds %.3g", i, got, holds)
		}
	}
}

func TestSpendingElsewhereCounts(t *testing.T) {
	c, g := instances(t, 2)
	told := &anthropic.Limits{Windows: []anthropic.Window{{Name: "5h", Utilization: 0.1, Reset: c.now.Add(3 * time.Hour)}}}
	g[0].Pool().Pin("a")
	lease := pick(t, g[0], message(""))
	lease.Report(&served, told)
	lease.End(anthropic.Usage{InputTokens: 1_000_000})
	inform(t, g[0], "one", g[1])
	g[1].Pool().Pin("")
	if burn := g[1].Explain(message("new"), 0).Accounts[0].Burn; !(burn > 0) {
		t.Errorf("what was just spent elsewhere counts as %v", burn)
	}
}

// TestTiesAreBrokenEverywhereAlike: what was learned at the same time.
func TestTiesAreBrokenEverywhereAlike(t *testing.T) {
	_, g := instances(t, 2)
	g[0].Pool().Pin("a")
	g[1].Pool().Pin("b")
	inform(t, g[0], "one", g[1])
	inform(t, g[1], "two", g[0])
	if one, two := g[0].Pool().Pinned(), g[1].Pool().Pinned(); one != two {
		t.Errorf("pinned is %q here and %q there", one, two)
	}
}

func TestHoldingsAndBurstsTravel(t *testing.T) {
	c, g := instances(t, 2)
	hold := func(i int, account string, life time.Duration) {
		g[i].Pool().Pin(account)
		lease := pick(t, g[i], message(""))
		lease.Hold("file_1", life)
		lease.End(anthropic.Usage{})
	}
	hold(0, "a", time.Hour)
	hold(1, "b", 2*time.Hour)
	inform(t, g[1], "two", g[0])
	inform(t, g[0], "one", g[1])
	for i := range g {
		g[i].Pool().Pin("")
		req := message("")
		req.Refs = []string{"file_1"}
		if lease := pick(t, g[i], req); lease.Member.Name != "b" {
			t.Errorf("instance %d looks at %s", i, lease.Member.Name)
		} else {
			lease.End(anthropic.Usage{})
		}
	}
	g[0].Pool().Pin("a")
	for range 4 {
		pick(t, g[0], message(""))
	}
	last := pick(t, g[0], message(""))
	c.advance(time.Second)
	last.Report(&anthropic.Verdict{Name: verdictBurst, Scope: anthropic.ScopeAccount, Action: anthropic.Next, Until: c.now.Add(time.Second), Source: "retry-after"}, nil)
	inform(t, g[0], "one", g[1])
	if a, b := g[0].states[0].limit, g[1].states[0].limit; a.Most == 0 || a != b {
		t.Errorf("the limit is %+v here and %+v there", a, b)
	}
}

func TestForgottenPeerCountsNoMore(t *testing.T) {
	_, g := instances(t, 2)
	lease := pick(t, g[0], message("s"))
	lease.Report(&served, nil)
	lease.End(anthropic.Usage{InputTokens: 1})
	g[0].Pool().Finish(Record{User: "ann"}, lease.Member.Key, nil)
	inform(t, g[0], "one", g[1])
	if n := g[1].View().People["ann"].Requests; n != 1 {
		t.Fatalf("%d requests", n)
	}
	g[1].Pool().Forget("one")
	if n := g[1].View().People["ann"].Requests; n != 0 {
		t.Errorf("%d requests of a peer that is forgotten", n)
	}
}

// TestClockOfAPeerIsAhead: what it tells does not stand against what is learned here
// later.
func TestClockOfAPeerIsAhead(t *testing.T) {
	c, g := instances(t, 1)
	ahead := &clock{now: c.now.Add(3 * time.Hour)}
	other := New(ahead, 7).Group(members("a", "b"), Policies["least_used"])
	other.Pool().Pin("a")
	inform(t, other, "ahead", g[0])
	if g[0].Pool().Pinned() != "a" {
		t.Fatal("the pin did not travel")
	}
	c.advance(time.Minute)
	g[0].Pool().Pin("b")
	data, err := other.Pool().Facts(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	c.advance(-30 * time.Second) // told before the later pin
	if err := g[0].Pool().Merge("ahead", data); err != nil {
		t.Fatal(err)
	}
	if got := g[0].Pool().Pinned(); got != "b" {
		t.Errorf("pinned is %q", got)
	}
}

func TestMergeRefuses(t *testing.T) {
	_, g := instances(t, 1)
	before, err := g[0].Pool().Facts(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", `{"version":99}`, `[]`, `{"version":1,"accounts":7}`} {
		if err := g[0].Pool().Merge("x", []byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	after, err := g[0].Pool().Facts(time.Time{})
	if err != nil || !bytes.Equal(before, after) {
		t.Error("what was refused changed the pool")
	}
}

// shared is what instances must come to agree on: all but their own counters.
func sharedFacts(t *testing.T, p *Pool) string {
	t.Helper()
	data, err := p.Facts(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var f facts
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	type told struct {
		Key, Identity string
		Windows       map[string]*window
		Buckets       map[string]bucket
		Benches       map[string]bench
		Ended         map[string]time.Time
	}
	all := struct {
		Pin, Policy string
		Accounts    []told
		Sessions    map[string]sessionSnapshot
	}{Pin: f.Pin, Policy: f.Policy, Sessions: map[string]sessionSnapshot{}}
	for _, a := range f.Accounts {
		for _, w := range a.Windows {
			w.Capacity = capacity{}
		}
		benches := map[string]bench{}
		for _, b := range a.Benches {
			benches[b.Family+" "+b.Verdict] = b
		}
		all.Accounts = append(all.Accounts, told{a.Key, a.Identity, a.Windows, a.Buckets, benches, a.Ended})
	}
	for _, s := range f.Sessions {
		all.Sessions[s.User+" "+s.Session+" "+s.Family] = s
	}
	out, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestOrderOfMergesDoesNotMatter: whoever hears the same records comes to the same,
// in any order, however often.
func TestOrderOfMergesDoesNotMatter(t *testing.T) {
	for seed := range uint64(60) {
		dice := rand.New(rand.NewPCG(seed, 5))
		c, g := instances(t, 4)
		var records [][]byte
		var names []string
		for range 12 {
			i := dice.IntN(3)
			c.advance(time.Duration(1+dice.IntN(5000)) * time.Millisecond)
			switch dice.IntN(4) {
			case 0:
				g[i].Pool().Pin([]string{"a", "b", ""}[dice.IntN(3)])
			case 1:
				g[i].Pool().Revive([]string{"a#1", "b#1"}[dice.IntN(2)])
			default:
				lease, _ := g[i].Pick(message(fmt.Sprint("s", dice.IntN(4))))
				if lease == nil {
					continue
				}
				c.advance(time.Millisecond)
				switch dice.IntN(3) {
				case 0:
					lease.Report(spentWindow(c), nil)
				case 1:
					lease.Report(&anthropic.Verdict{Name: "dead", Scope: anthropic.ScopeAccount, Action: anthropic.Next, Until: c.now.Add(time.Hour), Source: "default", Login: true}, nil)
				default:
					lease.Report(&served, &anthropic.Limits{Windows: []anthropic.Window{{Name: "5h", Utilization: dice.Float64(), Status: "allowed", Reset: c.now.Add(time.Duration(1+dice.IntN(5)) * time.Hour)}}})
				}
				lease.End(anthropic.Usage{})
			}
			data, err := g[i].Pool().Facts(time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			records, names = append(records, data), append(names, fmt.Sprint("peer", i))
		}
		c.advance(time.Second)
		var want string
		for try := range 6 {
			fresh := New(c, 99).Group(members("a", "b"), Policies["least_used"])
			order := dice.Perm(len(records))
			for _, i := range append(order, order[:len(order)/2]...) {
				if err := fresh.Pool().Merge(names[i], records[i]); err != nil {
					t.Fatal(err)
				}
			}
			if got := sharedFacts(t, fresh.Pool()); try == 0 {
				want = got
			} else if got != want {
				t.Fatalf("seed %d: in one order\n%s\nin another\n%s", seed, want, got)
			}
		}
	}
}

func FuzzMerge(f *testing.F) {
	c := newClock()
	g := New(c, 1).Group(members("a", "b"), Policies["least_used"])
	lease, _ := g.Pick(message("s"))
	lease.Report(spentWindow(c), nil)
	lease.End(anthropic.Usage{InputTokens: 3})
	data, err := g.Pool().Facts(time.Time{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"accounts":[{"key":"a","windows":{"5h":null},"burn":{"sum":-1},"cost":{"x":1e400}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g := New(newClock(), 1).Group(members("a", "b"), Policies["balanced"])
		for range 2 {
			if g.Pool().Merge("x", data) != nil {
				return
			}
		}
		lease, refused := g.Pick(message("s"))
		if lease == nil && refused == nil {
			t.Fatal("neither a lease nor a refusal")
		}
		g.View()
		if _, err := g.Pool().Facts(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := g.Pool().Snapshot(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAnOlderChoiceDoesNotComeBack: after a restart, what a peer still tells of before
// does not win over what was chosen here since.
func TestAnOlderChoiceDoesNotComeBack(t *testing.T) {
	for _, pin := range []string{"a", ""} {
		c, g := instances(t, 2)
		g[0].Pool().Pin("b")
		if err := g[0].Pool().SwitchPolicy("round_robin"); err != nil {
			t.Fatal(err)
		}
		told, err := g[0].Pool().Facts(time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		c.advance(time.Minute)
		g[1].Pool().Pin(pin)
		if err := g[1].Pool().SwitchPolicy("fill_first"); err != nil {
			t.Fatal(err)
		}
		kept, _, err := g[1].Pool().Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		c.advance(time.Minute)
		again := group(c, members("a", "b")...)
		if err := again.Pool().Restore(kept); err != nil {
			t.Fatal(err)
		}
		if err := again.Pool().Merge("one", told); err != nil {
			t.Fatal(err)
		}
		if v := again.View(); v.Pinned != pin || v.Policy != "fill_first" {
			t.Errorf("with %q chosen last: pinned %q, policy %s", pin, v.Pinned, v.Policy)
		}
	}
}

// TestARestartTakesAPeersChoice: who never chose anything takes a peer's
// choice, however old.
func TestARestartTakesAPeersChoice(t *testing.T) {
	c, g := instances(t, 2)
	g[0].Pool().Pin("b")
	told, err := g[0].Pool().Facts(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	c.advance(time.Minute)
	kept, _, err := g[1].Pool().Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	again := group(c, members("a", "b")...)
	if err := again.Pool().Restore(kept); err != nil {
		t.Fatal(err)
	}
	if err := again.Pool().Merge("one", told); err != nil {
		t.Fatal(err)
	}
	if again.Pool().Pinned() != "b" {
		t.Error("the peer's pin was not taken")
	}
}
