package history

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Date(2026, 11, 23, 12, 0, 30, 0, time.UTC)} }

func (c *clock) Now() time.Time { return c.now }

func span(t *testing.T, name string) Span {
	t.Helper()
	s, ok := SpanNamed(name)
	if !ok {
		t.Fatalf("no span %s", name)
	}
	return s
}

func requests(r *Report) (list []int64, sum int64) {
	for i := range r.Points {
		list = append(list, r.Points[i].Requests)
		sum += r.Points[i].Requests
	}
	return list, sum
}

// TestSteps: what happens is counted in the step of each span in which it happened, and
// forgotten when the span has passed.
func TestSteps(t *testing.T) {
	c := newClock()
	h := New(c.Now)
	for range 90 { // one a minute
		h.Count(&Counts{Requests: 1, Retries: 2, Failed: 1, Usage: anthropic.Usage{InputTokens: 3}, Cost: anthropic.Dollar})
		c.now = c.now.Add(time.Minute)
	}
	hour, day, week := h.Report(span(t, "hour"), nil), h.Report(span(t, "day"), nil), h.Report(span(t, "week"), nil)
	if list, sum := requests(hour); sum != 59 || list[0] != 1 || list[58] != 1 || list[59] != 0 || len(list) != 60 {
		t.Errorf("the hour: %v", list)
	}
	if list, sum := requests(day); sum != 90 || list[143] != 0 || list[142] != 10 || list[134] != 10 || list[133] != 0 {
		t.Errorf("the day: %v", list)
	}
	if list, sum := requests(week); sum != 90 || list[167] != 30 || list[166] != 60 {
		t.Errorf("the week: %v", list)
	}
	last := week.Points[167]
	if last.Retries != 60 || last.Failed != 30 || last.Usage.InputTokens != 90 || last.Cost != 30*anthropic.Dollar || !last.Begins.Equal(time.Date(2026, 11, 23, 13, 0, 0, 0, time.UTC)) {
		t.Errorf("the last hour of the week: %+v", last)
	}
	c.now = c.now.Add(8 * 24 * time.Hour)
	h.Count(&Counts{Requests: 1})
	for _, s := range Spans {
		if _, sum := requests(h.Report(s, nil)); sum != 1 {
			t.Errorf("after a week the %s has %d", s.Name, sum)
		}
	}
	for i, points := range h.spans {
		if len(points) != 1 {
			t.Errorf("%d points of the %s are kept", len(points), Spans[i].Name)
		}
	}
}

func TestLevels(t *testing.T) {
	c := newClock()
	h := New(c.Now)
	h.Look(7, map[string]Level{"a": {0.1, 0.2}, "b": Unknown})
	h.Look(2, map[string]Level{"a": {0.25, -1}})
	c.now = c.now.Add(time.Minute)
	h.Look(0, map[string]Level{"a": {0.5, 0.3}, "c": {1.02, 0.9999}})
	r := h.Report(span(t, "hour"), nil)
	if len(r.Accounts) != 2 || r.Accounts[0].Account != "a" || r.Accounts[1].Account != "c" {
		t.Fatalf("%+v", r.Accounts)
	}
	a, ca := r.Accounts[0].Levels, r.Accounts[1].Levels
	if a[58] != (Level{0.25, -1}) || a[59] != (Level{0.5, 0.3}) || a[57] != Unknown || ca[59] != (Level{1.02, 1}) || ca[58] != Unknown {
		t.Errorf("a %v, c %v", a[57:], ca[57:])
	}
	if r.Points[58].Waiting != 7 || r.Points[59].Waiting != 0 {
		t.Errorf("waiting: %d, then %d", r.Points[58].Waiting, r.Points[59].Waiting)
	}
}

// TestClockGoesBack: nothing is lost but what lies ahead.
func TestClockGoesBack(t *testing.T) {
	c := newClock()
	h := New(c.Now)
	h.Count(&Counts{Requests: 1})
	c.now = c.now.Add(2 * time.Hour)
	h.Count(&Counts{Requests: 1})
	c.now = c.now.Add(-2*time.Hour + time.Minute)
	h.Count(&Counts{Requests: 1})
	if list, sum := requests(h.Report(span(t, "day"), nil)); sum != 2 {
		t.Errorf("%v", list)
	}
}

// TestOthers: what processes have stored is added up, step by step.
func TestOthers(t *testing.T) {
	c := newClock()
	before := New(c.Now)
	before.Count(&Counts{Requests: 2, Cost: 5})
	before.Look(3, map[string]Level{"a": {0.1, 0.1}, "old": {0.4, 0.4}})
	data, changes, err := before.Record()
	if err != nil || changes != before.Changes() {
		t.Fatal(changes, err)
	}
	past, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	h := New(c.Now)
	h.Count(&Counts{Requests: 1, Cost: 7})
	h.Look(1, map[string]Level{"a": {0.2, 0.2}})
	c.now = c.now.Add(time.Minute)
	h.Count(&Counts{Requests: 1})
	r := h.Report(span(t, "hour"), []*Past{past})
	if p := r.Points[58]; p.Requests != 3 || p.Cost != 12 || p.Waiting != 3 || r.Points[59].Requests != 1 {
		t.Errorf("%+v", p)
	}
	if r.Accounts[0].Levels[58] != (Level{0.2, 0.2}) || r.Accounts[1].Account != "old" || r.Accounts[1].Levels[58] != (Level{0.4, 0.4}) {
		t.Errorf("%+v", r.Accounts)
	}
}

func TestParseRefuses(t *testing.T) {
	many := `{"version":1,"spans":[[` + strings.Repeat(`{"step":1},`, 60) + `{"step":1}],[],[]]}`
	for what, data := range map[string]string{
		"no JSON": `{`, "another version": `{"version":2,"spans":[[],[],[]]}`, "other spans": `{"version":1,"spans":[[]]}`, "too many steps": many,
	} {
		if _, err := Parse([]byte(data)); err == nil {
			t.Errorf("%s was read", what)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"spans":[[{"step":29894520,"counts":{"requests":1,"usage":{"input":3},"cost":0.5},"levels":{"a":[100,-1]}}],[],[]]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		past, err := Parse(data)
		if err != nil {
			return
		}
		c := newClock()
		for _, s := range Spans {
			if r := New(c.Now).Report(s, []*Past{past}); len(r.Points) != s.Steps {
				t.Errorf("%d points", len(r.Points))
			}
		}
	})
}

func BenchmarkCount(b *testing.B) {
	h := New(newClock().Now)
	c := Counts{Requests: 1, Cost: 3}
	b.ReportAllocs()
	for b.Loop() {
		h.Count(&c)
	}
}
