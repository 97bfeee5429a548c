package main

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

func TestMaximumFlow(t *testing.T) {
	// Two ways that share an edge, and a way back that the first choice needs.
	n := newNetwork()
	a, b, c, d := n.node(), n.node(), n.node(), n.node()
	for _, e := range []struct {
		from, to int
		capacity float64
	}{
		{sourceNode, a, 10},
		{sourceNode, b, 10},
		{a, b, 2},
		{a, c, 4},
		{a, d, 8},
		{b, d, 9},
		{d, c, 6},
		{c, sinkNode, 10},
		{d, sinkNode, 10},
	} {
		n.edge(e.from, e.to, e.capacity)
	}
	if got := n.maximum(); math.Abs(got-19) > 0.01 {
		t.Errorf("the flow is %g, want 19", got)
	}
}

func TestBoundByHand(t *testing.T) {
	accounts := []account{{dead: never, windows: []window{
		{name: "5h", length: 5 * time.Hour, capacity: 1000},
		{name: "7d", length: week, capacity: 1500},
	}}}
	d := &demand{end: week, slots: []slotSum{
		{from: 0, to: 0, cost: 1200},  // of which the first window takes 1000
		{from: 9, to: 10, cost: 300},  // may move into the second window
		{from: 20, to: 20, cost: 900}, // of which the week leaves 200
	}}
	if got := bound(d, accounts); math.Abs(got-1500) > 0.01 {
		t.Errorf("the bound is %g, want 1500", got)
	}
	accounts[0].dead = 5 * time.Hour
	if got := bound(d, accounts); math.Abs(got-1000) > 0.01 {
		t.Errorf("the bound with a death after five hours is %g, want 1000", got)
	}
}

func TestClockKeepsTheOrder(t *testing.T) {
	var c clock
	src := newSource(1, forUnseen, 0)
	for range 1000 {
		c.push(event{at: time.Duration(src.IntN(50))})
	}
	var last event
	for len(c.events) > 0 {
		e := c.pop()
		if e.before(&last) {
			t.Fatalf("%v #%d came after %v #%d", e.at, e.number, last.at, last.number)
		}
		last = e
	}
}

func TestAlarmsStop(t *testing.T) {
	var w run
	rang := 0
	stop := w.clock.AfterFunc(time.Second, func() { rang++ })
	w.clock.AfterFunc(2*time.Second, func() { rang += 10 })
	if !stop() || stop() {
		t.Error("stop does not tell whether it stopped anything")
	}
	for len(w.clock.events) > 0 {
		e := w.clock.pop()
		w.handle(&e)
	}
	if rang != 10 {
		t.Errorf("rang %d, want 10", rang)
	}
}

// TestAnswersAreClassified holds the answers that the simulator makes against the
// production code.
func TestAnswersAreClassified(t *testing.T) {
	now := 100 * time.Hour
	with := func(five, seven, opusWeek float64) *account {
		return &account{windows: []window{
			{name: "5h", length: 5 * time.Hour, capacity: 100, used: five, reset: now + time.Hour},
			{name: "7d", length: week, capacity: 100, used: seven, reset: now + 50*time.Hour},
			{name: "7d_opus", length: week, capacity: 100, used: opusWeek, reset: now + 70*time.Hour},
		}}
	}
	for _, c := range []struct {
		kind   answerKind
		of     *account
		status int
		body   string
	}{
		{served, with(12.3, 45.6, 0), 200, ""},
		{quotaSpent, with(101, 45, 0), 429, ""},
		{quotaSpent, with(101, 100, 50), 429, ""},
		{opusSpent, with(10, 45, 103), 429, ""},
		{burst, with(10, 45, 3), 429, ""},
		{windowless, with(10, 45, 3), 429, ""},
		{overloaded, with(10, 45, 3), 529, `{"error":{"type":"overloaded_error"}}`},
		{revoked, with(10, 45, 3), 401, `{"error":{"type":"authentication_error","message":"OAuth token has been revoked."}}`},
	} {
		var a answer
		a.read(c.kind, c.of, opus, 3*time.Second, now)
		want := anthropic.Classify(&anthropic.Answer{
			Status: c.status, Limits: a.limits, Body: []byte(c.body), Family: anthropic.FamilyOpus, Now: epoch.Add(now),
		})
		if a.verdict != want {
			t.Errorf("kind %d:\n got %+v\nwant %+v", c.kind, a.verdict, want)
		}
	}
	var a answer
	a.read(served, with(12.3, 45.6, 0), sonnet, 0, now)
	if got := a.limits.Windows[0].Utilization; got != 0.12 {
		t.Errorf("told %g, want 0.12", got)
	}
}

func TestCrowded(t *testing.T) {
	a := makeAccount(&scenario{Weeks: 1}, &accounts{Plan: 1, N: 1}, newSource(1, forAccounts, 0), 0, 0)
	for i := range 8 {
		if a.crowded(0) {
			t.Fatalf("%d requests at once are too many", i+1)
		}
		a.admit(sonnet, 1, 0)
	}
	if !a.crowded(0) {
		t.Error("a ninth is taken")
	}
	for i := range 22 {
		a.inFlight = 0
		if a.crowded(time.Second) {
			t.Fatalf("%d requests in a minute are too many", i+9)
		}
		a.admit(sonnet, 1, time.Second)
	}
	a.inFlight = 0
	if !a.crowded(59*time.Second) || a.crowded(time.Minute) {
		t.Error("the minute's limit does not end after a minute")
	}
}

func TestCacheForgets(t *testing.T) {
	var c sessionCache
	c.put(3, 1000, 10*time.Second)
	c.put(4, 2000, 20*time.Second)
	if c.has(3, 9*time.Second) != 1000 || c.has(3, 10*time.Second) != 0 || c.has(4, 19*time.Second) != 2000 || c.has(5, 0) != 0 {
		t.Errorf("the cache is %+v", c)
	}
}

func TestEpisodesInOrder(t *testing.T) {
	all := drawEpisodes(newSource(3, forBursts, 0), week, 10/float64(day), 15, 40)
	if len(all) < 40 || len(all) > 110 || !slices.IsSortedFunc(all, func(a, b episode) int { return compare(a.from, b.from) }) {
		t.Errorf("%d episodes in a week at 10 a day", len(all))
	}
}
