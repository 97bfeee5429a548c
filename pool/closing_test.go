package pool

import (
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// TestClosedFromOutside: what costs something goes elsewhere, whatever would choose the
// account, until the time or until it is opened again; what is free does not.
func TestClosedFromOutside(t *testing.T) {
	clock := newSteppedClock()
	p := New(clock, 1)
	g := p.Group([]*Member{{Name: "a", Key: "a#1"}, {Name: "b", Key: "b#1", Priority: 1}}, Policies[DefaultPolicy])
	pick := func(req Request) string {
		t.Helper()
		l, r := g.Pick(&req)
		if l == nil {
			return "none: " + r.Words(clock.now)
		}
		l.Report(&anthropic.Verdict{Name: anthropic.Served}, nil) // proves nothing about a budget
		l.End(anthropic.Usage{})
		return l.Member.Name
	}
	message := Request{User: "ann", Session: "s", Model: "claude-sonnet-5", Endpoint: anthropic.EndpointMessages, CacheLife: time.Hour}
	if got := pick(message); got != "a" {
		t.Fatalf("before: %s", got)
	}
	until := clock.now.Add(3 * time.Hour)
	p.CloseFor("a#1", until, "its budget is used up")
	p.CloseFor("nobody", until, "")
	p.Pin("a")
	for what, test := range map[string]struct {
		req  Request
		want string
	}{
		"a message":     {message, "b"},
		"a new batch":   {Request{User: "ann", Endpoint: anthropic.EndpointBatches}, "b"},
		"counting":      {Request{User: "ann", Endpoint: anthropic.EndpointCountTokens}, "a"},
		"a list":        {Request{User: "eve", Endpoint: anthropic.EndpointBatches, List: true, Home: "a"}, "a"},
		"the same talk": {message, "b"},
	} {
		if got := pick(test.req); got != test.want {
			t.Errorf("%s goes to %s; want %s", what, got, test.want)
		}
	}
	p.CloseFor("b#1", until.Add(time.Hour), "its budget is used up")
	_, refused := g.Pick(&message)
	if refused == nil || !refused.Reopens().Equal(until) || refused.Busy || refused.Closures[0].Kind != ClosedLimit {
		t.Errorf("with both closed: %+v", refused)
	}
	if ready, why := g.Ready(func(*Member) string { return "" }); ready || !why.Reopens().Equal(until) {
		t.Errorf("ready: %v %+v", ready, why)
	}
	var told *Lease
	leave := g.Join(&message, Waiting{Hold: 5 * time.Hour}, func(l *Lease, _ *Refusal) { told = l })
	defer leave()
	p.CloseFor("a#1", time.Time{}, "")
	if told == nil || told.Member.Name != "a" {
		t.Error("who waits is not served when the account is opened")
	}
	p.CloseFor("a#1", clock.now.Add(-time.Second), "over")
	if got := pick(message); got != "a" {
		t.Errorf("after its time: %s", got)
	}
}

// TestEndOfPlan: what is told of windows closes an account with plan_only, and no other.
func TestEndOfPlan(t *testing.T) {
	window := func(name, status string, used float64, in time.Duration) anthropic.Window {
		return anthropic.Window{Name: name, Status: status, Utilization: used, Reset: newSteppedClock().now.Add(in)}
	}
	for name, test := range map[string]struct {
		said   anthropic.Limits
		family string
		until  time.Duration // 0 for open
	}{
		"room":                    {anthropic.Limits{Windows: []anthropic.Window{window("5h", "allowed", 0.5, time.Hour)}}, "opus", 0},
		"five hours used up":      {anthropic.Limits{Windows: []anthropic.Window{window("5h", "rejected", 1.02, time.Hour)}}, "opus", time.Hour},
		"nearly":                  {anthropic.Limits{Windows: []anthropic.Window{window("5h", "allowed_warning", 0.995, time.Hour)}}, "opus", time.Hour},
		"the later of two":        {anthropic.Limits{Windows: []anthropic.Window{window("5h", "rejected", 1, time.Hour), window("7d", "rejected", 1, 50*time.Hour)}}, "opus", 50 * time.Hour},
		"the family's own":        {anthropic.Limits{Windows: []anthropic.Window{window("7d_opus", "rejected", 1, 50*time.Hour)}}, "opus", 50 * time.Hour},
		"another family's":        {anthropic.Limits{Windows: []anthropic.Window{window("7d_opus", "rejected", 1, 50*time.Hour)}}, "sonnet", 0},
		"over already":            {anthropic.Limits{Windows: []anthropic.Window{window("5h", "rejected", 1, -time.Second)}}, "opus", 0},
		"paid, window told":       {anthropic.Limits{OverageInUse: true, Windows: []anthropic.Window{window("5h", "allowed", 0.95, 2*time.Hour)}}, "opus", 2 * time.Hour},
		"paid, nothing told":      {anthropic.Limits{OverageReset: newSteppedClock().now.Add(300 * time.Hour)}, "opus", 5 * time.Hour},
		"paid, by the claim":      {anthropic.Limits{Status: "allowed", Claim: "overage"}, "opus", 5 * time.Hour},
		"no extra usage, no more": {anthropic.Limits{Status: "allowed", OverageStatus: "rejected", Windows: []anthropic.Window{window("5h", "allowed", 0.1, time.Hour)}}, "opus", 0},
	} {
		for _, planOnly := range []bool{true, false} {
			clock := newSteppedClock()
			p := New(clock, 1)
			g := p.Group([]*Member{{Name: "a", Key: "a", PlanOnly: planOnly}}, Policies[DefaultPolicy])
			req := Request{User: "ann", Model: "claude-" + test.family + "-5", Endpoint: anthropic.EndpointMessages}
			l, _ := g.Pick(&req)
			said := test.said
			l.Report(&anthropic.Verdict{Name: anthropic.Served}, &said)
			l.End(anthropic.Usage{})
			lease, refused := g.Pick(&req)
			open := test.until == 0 || !planOnly
			switch {
			case open && lease == nil:
				t.Errorf("%s, plan_only %v: %s", name, planOnly, refused.Words(clock.now))
			case !open && (lease != nil || !refused.Reopens().Equal(clock.now.Add(test.until))):
				t.Errorf("%s: %+v; want it closed for %v", name, refused, test.until)
			}
		}
	}
}

// TestPlanCountsWhatItWasNotTold: an answer's head is older than what has ended since
// its request was sent, however late it is heard.
func TestPlanCountsWhatItWasNotTold(t *testing.T) {
	clock := newSteppedClock()
	p := New(clock, 1)
	g := p.Group([]*Member{{Name: "a", Key: "a", PlanOnly: true}}, Policies[DefaultPolicy])
	req := Request{User: "ann", Model: "claude-sonnet-5", Endpoint: anthropic.EndpointMessages}
	told := func(l *Lease, used float64) {
		l.Report(&anthropic.Verdict{Name: anthropic.Served}, &anthropic.Limits{Windows: []anthropic.Window{{Name: "5h", Status: "allowed", Utilization: used, Reset: clock.now.Add(4 * time.Hour)}}})
		clock.now = clock.now.Add(time.Second)
	}
	cost := anthropic.Usage{InputTokens: 10_000}
	serve := func(used float64) {
		l, _ := g.Pick(&req)
		clock.now = clock.now.Add(time.Second)
		told(l, used)
		l.End(cost)
	}
	for i := range 41 { // a request is 2 % of the window
		serve(0.02 * float64(i))
	}
	slow, _ := g.Pick(&req)
	clock.now = clock.now.Add(time.Second)
	quick, _ := g.Pick(&req)
	clock.now = clock.now.Add(time.Second)
	told(quick, 0.86)
	quick.End(cost)
	told(slow, 0.92) // as it was before quick had ended
	slow.End(cost)
	if l, _ := g.Pick(&req); l != nil {
		t.Error("92 % was told, 4 % have ended since, and another may take 4 %: it is open all the same")
	}
}
