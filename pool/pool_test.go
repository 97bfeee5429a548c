package pool

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that tests move by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *clock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return time.AfterFunc(d, f).Stop
}

func members(names ...string) []*Member {
	var ms []*Member
	for _, name := range names {
		ms = append(ms, &Member{Name: name, Key: name + "#1"})
	}
	return ms
}

func group(c *clock, ms ...*Member) *Group {
	return New(c, 1).Group(ms, Policies[DefaultPolicy])
}

func message(session string) *Request {
	return &Request{User: "ann", Session: session, Model: "claude-opus-5", Endpoint: anthropic.EndpointMessages, CacheLife: 5 * time.Minute}
}

func pick(t *testing.T, g *Group, req *Request) *Lease {
	t.Helper()
	lease, refused := g.Pick(req)
	if lease == nil {
		t.Fatalf("refused: %s", refused.Words(g.pool.now()))
	}
	return lease
}

func serve(t *testing.T, g *Group, req *Request) string {
	t.Helper()
	lease := pick(t, g, req)
	lease.Report(&served, nil)
	lease.End(anthropic.Usage{InputTokens: 1})
	return lease.Member.Name
}

var served = anthropic.Verdict{Name: "served", Scope: anthropic.ScopeNobody}

func windowSpent(until time.Time) *anthropic.Verdict {
	return &anthropic.Verdict{Name: "account_window", Scope: anthropic.ScopeAccount, Action: anthropic.Next, Until: until, Source: "reset", Window: "5h", Reason: "usage window spent"}
}

func tell(l *Lease, windows ...anthropic.Window) {
	l.Report(&served, &anthropic.Limits{Windows: windows})
	l.End(anthropic.Usage{})
}

func TestLeastUsedTakesTheEmptiestOverBothWindows(t *testing.T) {
	c := newClock()
	g := New(c, 1).Group(members("five", "week", "free"), Policies["least_used"])
	p := g.Pool()
	for name, w := range map[string]anthropic.Window{
		"five": {Name: "5h", Utilization: 0.5, Reset: c.now.Add(time.Hour)},
		"week": {Name: "7d", Utilization: 0.9, Reset: c.now.Add(time.Hour)},
		"free": {Name: "5h", Utilization: 0.3, Reset: c.now.Add(time.Hour)},
	} {
		p.Pin(name)
		tell(pick(t, g, message("")), w)
	}
	p.Pin("")
	for range 10 {
		if got := serve(t, g, message("")); got != "free" {
			t.Fatalf("took %s", got)
		}
	}
	// Once its reset has passed a window counts as empty, whatever was told.
	c.advance(2 * time.Hour)
	seen := map[string]bool{}
	for range 60 {
		seen[serve(t, g, message(""))] = true
	}
	if len(seen) != 3 {
		t.Errorf("among equals only %v were used", seen)
	}
}

func TestRequestsInFlightSpread(t *testing.T) {
	g := New(newClock(), 1).Group(members("a", "b", "c", "d"), Policies["least_used"])
	count := map[string]int{}
	for range 40 {
		count[pick(t, g, message("")).Member.Name]++
	}
	for name, n := range count {
		if n != 10 {
			t.Errorf("%s has %d of 40 requests in flight", name, n)
		}
	}
}

func TestClosedPinnedAccountFallsThrough(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b")...)
	g.Pool().Pin("a")
	lease := pick(t, g, message(""))
	lease.Report(windowSpent(c.now.Add(time.Hour)), nil)
	lease.End(anthropic.Usage{})
	if got := serve(t, g, message("")); got != "b" {
		t.Errorf("got %s", got)
	}
}

func TestBenchLastsUntilItsTimeAndNotLonger(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	lease := pick(t, g, message(""))
	until := c.now.Add(100 * time.Hour)
	lease.Report(windowSpent(until), nil)
	lease.End(anthropic.Usage{})
	c.advance(100*time.Hour - time.Second)
	if lease, refused := g.Pick(message("")); lease != nil || !refused.Until.Equal(until) {
		t.Errorf("a second before the reset: %v, %+v", lease, refused)
	}
	c.advance(time.Second)
	serve(t, g, message(""))
}

func TestLateSuccessDoesNotEndABench(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	early, late := pick(t, g, message("")), pick(t, g, message(""))
	c.advance(time.Second)
	late.Report(windowSpent(c.now.Add(time.Hour)), nil)
	c.advance(time.Second)
	early.Report(&served, nil)
	if lease, _ := g.Pick(message("")); lease != nil {
		t.Error("an answer to a request from before the bench ended it")
	}
}

func TestModelWindowLeavesOtherModels(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	lease := pick(t, g, message(""))
	lease.Report(&anthropic.Verdict{Name: "model_window", Scope: anthropic.ScopeFamily, Until: c.now.Add(time.Hour), Source: "reset", Window: "7d_opus"}, nil)
	lease.End(anthropic.Usage{})
	if lease, _ := g.Pick(message("")); lease != nil {
		t.Error("opus is served without quota")
	}
	haiku := message("")
	haiku.Model = "claude-haiku-4-5"
	serve(t, g, haiku)
}

func TestOneRequestTriesAnAccountAfterAGuessedBench(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	lease := pick(t, g, message(""))
	lease.Blame(&anthropic.Unreachable)
	lease.End(anthropic.Usage{})
	c.advance(blameFirst)
	probe := pick(t, g, message(""))
	if lease, refused := g.Pick(message("")); lease != nil || !refused.Busy {
		t.Error("two requests try the account at once")
	}
	probe.Report(&served, nil)
	pick(t, g, message(""))
}

func TestOwnersModelsAndCaps(t *testing.T) {
	g := group(newClock(),
		&Member{Name: "anns", Key: "1", Owners: []string{"ann"}},
		&Member{Name: "haiku", Key: "2", Models: []string{"claude-haiku-*"}},
		&Member{Name: "one", Key: "3", MaxConcurrent: 1})
	bob := message("")
	bob.User = "bob"
	if lease := pick(t, g, bob); lease.Member.Name != "one" {
		t.Errorf("bob got %s", lease.Member.Name)
	}
	if lease, refused := g.Pick(bob); lease != nil || !refused.Busy || refused.Allowed != 2 || refused.Serving != 1 {
		t.Errorf("bob's second request: %v %+v", lease, refused)
	}
	if lease := pick(t, g, message("")); lease.Member.Name != "anns" {
		t.Errorf("ann got %s", lease.Member.Name)
	}
}

func TestPriorityTiers(t *testing.T) {
	c := newClock()
	g := group(c, &Member{Name: "paid", Key: "1", Priority: 1}, &Member{Name: "plan", Key: "2"})
	for range 10 {
		if got := serve(t, g, message("")); got != "plan" {
			t.Fatalf("took %s", got)
		}
	}
	lease := pick(t, g, message(""))
	lease.Report(windowSpent(c.now.Add(time.Hour)), nil)
	lease.End(anthropic.Usage{})
	if got := serve(t, g, message("")); got != "paid" {
		t.Errorf("took %s with the plan spent", got)
	}
}

func TestCountingTokensIgnoresUsageBenches(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	count := &Request{User: "ann", Model: "claude-opus-5", Endpoint: anthropic.EndpointCountTokens}
	lease := pick(t, g, count)
	lease.Report(windowSpent(c.now.Add(time.Hour)), nil)
	lease.End(anthropic.Usage{})
	lease = pick(t, g, message("")) // the free endpoint's limit is its own
	lease.Report(windowSpent(c.now.Add(time.Hour)), nil)
	lease.End(anthropic.Usage{})
	pick(t, g, count).End(anthropic.Usage{})
}

func TestPolicies(t *testing.T) {
	candidates := []Candidate{
		{Name: "half", Weight: 1, FiveHour: Window{Used: 0.5, Left: 1}, SevenDay: Window{Left: 0.3, ResetIn: 50 * time.Hour}, Turn: 3},
		{Name: "full", Weight: 1, FiveHour: Window{Used: 0.9, Left: 1}, SevenDay: Window{Left: 0.6, ResetIn: 100 * time.Hour}, Turn: 2},
		{Name: "fresh", Weight: 1, FiveHour: Window{Left: 1}, SevenDay: Window{Left: 1}, Turn: 1},
		{Name: "soon", Weight: 1, FiveHour: Window{Used: 0.6, Left: 1}, SevenDay: Window{Left: 0.01, ResetIn: 2 * time.Hour}, Turn: 4},
	}
	for policy, want := range map[string]string{"balanced": "soon", "least_used": "fresh", "fill_first": "full", "soonest_reset": "soon", "round_robin": "fresh"} {
		best, top := "", math.Inf(-1)
		for i := range candidates {
			if score := Policies[policy].Score(time.Time{}, message(""), &candidates[i]); score > top {
				best, top = candidates[i].Name, score
			}
		}
		if best != want {
			t.Errorf("%s took %s, want %s", policy, best, want)
		}
	}
	g := group(newClock(), &Member{Name: "three", Key: "3", Weight: 3}, &Member{Name: "one", Key: "1"})
	count := map[string]int{}
	for range 4000 {
		count[serve(t, g, message(""))]++
	}
	if count["three"] < 2700 || count["three"] > 3300 {
		t.Errorf("weights 3 and 1 shared 4000 picks as %v", count)
	}
}

func TestLRUIsBounded(t *testing.T) {
	l := newLRU[string, int](3)
	for i := range 10 {
		*l.put(fmt.Sprint(i)) = i
		if i == 8 {
			l.put("7") // newer than 8 now
		}
	}
	if l.len() != 3 {
		t.Errorf("%d are kept", l.len())
	}
	var kept []string
	l.oldestFirst(func(key string, value *int) { kept = append(kept, fmt.Sprintf("%s=%d", key, *value)) })
	if got := strings.Join(kept, " "); got != "8=8 7=7 9=9" {
		t.Errorf("kept %s", got)
	}
	l.remove("7")
	l.remove("8")
	l.remove("9")
	if l.len() != 0 || l.oldest != nil || l.newest != nil {
		t.Error("the empty list is not empty")
	}
}

func TestWords(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b", "c", "d")...)
	soon := time.Date(2026, 11, 23, 14, 20, 0, 0, time.UTC)
	for i, v := range []*anthropic.Verdict{
		windowSpent(soon), windowSpent(soon.Add(time.Hour)),
		{Name: "revoked", Scope: anthropic.ScopeAccount, Until: c.now.Add(time.Hour), Source: "default", Login: true, Reason: "the login was revoked"},
		{Name: "overloaded", Scope: anthropic.ScopeProvider, Until: c.now.Add(4 * time.Second), Source: "default", Reason: "upstream is overloaded"},
	} {
		g.Pool().Pin([]string{"a", "b", "c", "d"}[i])
		lease := pick(t, g, message(""))
		lease.Report(v, nil)
		lease.End(anthropic.Usage{})
	}
	_, refused := g.Pick(message(""))
	got := refused.Words(c.now)
	for _, part := range []string{"all 4 accounts are out", "2 at the 5-hour limit until 14:20 UTC", "1 in need of a login (the login was revoked)", "1 overloaded until 12:00:04 UTC"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q does not say %q", got, part)
		}
	}
	if reopens := refused.Reopens(); !reopens.Equal(c.now.Add(4 * time.Second)) {
		t.Errorf("reopens at %v", reopens)
	}
}

func TestSnapshotRestoresTheSamePool(t *testing.T) {
	c := newClock()
	ms := members("a", "b")
	g := group(c, ms...)
	home := serve(t, g, message("s"))
	g.Pool().Pin("b")
	lease := pick(t, g, message("x"))
	lease.Report(windowSpent(c.now.Add(time.Hour)), &anthropic.Limits{Windows: []anthropic.Window{{Name: "5h", Utilization: 1, Status: "rejected", Reset: c.now.Add(time.Hour)}}})
	lease.End(anthropic.Usage{OutputTokens: 7})
	g.Pool().Finish(Record{ID: "r1", User: "ann", Usage: anthropic.Usage{OutputTokens: 7}}, lease.Member.Key, nil)

	data, _, err := g.Pool().Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	g2 := group(c, ms...)
	if err := g2.Pool().Restore(data); err != nil {
		t.Fatal(err)
	}
	if g2.Pool().Pinned() != "b" {
		t.Error("the pin is lost")
	}
	if lease, _ := g2.Pick(&Request{Endpoint: anthropic.EndpointMessages, Tried: []string{"a#1"}}); lease != nil {
		t.Error("the bench is lost")
	}
	v := g2.View()
	if len(v.Recent) != 1 || v.Recent[0].ID != "r1" || v.People["ann"].Usage.OutputTokens != 7 || v.Accounts[1].Totals.Usage.OutputTokens != 7 {
		t.Errorf("history is lost: %+v", v)
	}
	if w, ok := v.Accounts[1].Window("5h"); !ok || w.Utilization != 1 {
		t.Errorf("the window is lost: %+v", w)
	}
	g2.Pool().Pin("")
	if home == "a" {
		if lease := pick(t, g2, message("s")); lease.Member.Name != home || lease.Reason != ReasonSession {
			t.Error("the session's place is lost")
		}
	}
	again, _, err := g2.Pool().Snapshot()
	if err != nil || !json.Valid(again) {
		t.Fatalf("%v %s", err, again)
	}
	c.advance(2 * time.Hour)
	g3 := group(c, ms...)
	if err := g3.Pool().Restore(data); err != nil {
		t.Fatal(err)
	}
	if lease, _ := g3.Pick(&Request{Endpoint: anthropic.EndpointMessages, Tried: []string{"a#1"}}); lease == nil {
		t.Error("a bench that ran out while we were down still holds")
	}
}

func TestRestoreRefusesWhatItCannotRead(t *testing.T) {
	for _, data := range []string{"", "{", "[]", `{"version":0}`, `{"version":99}`} {
		if err := New(newClock(), 1).Restore([]byte(data)); err == nil {
			t.Errorf("restored %q", data)
		}
	}
}
