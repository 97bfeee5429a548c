package ledger

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestPeriods(t *testing.T) {
	for _, test := range []struct{ zone, now, day, week, month string }{
		{"UTC", "2026-11-23T12:00:00Z", "2026-11-24T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"}, // a Monday
		{"UTC", "2026-11-29T23:59:59Z", "2026-11-30T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"}, // a Sunday
		{"UTC", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z", "2027-01-04T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"UTC", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z", "2028-03-06T00:00:00Z", "2028-03-01T00:00:00Z"},
		// Clocks go back on Sunday 25 October 2026: the day has 25 hours.
		{"Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "2026-10-25T23:00:00Z", "2026-10-31T23:00:00Z"},
		{"Europe/Berlin", "2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "2026-10-31T23:00:00Z"},
		// In Beirut clocks go forward at midnight: that day begins at one.
		{"Asia/Beirut", "2026-03-28T12:00:00Z", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z", "2026-03-31T21:00:00Z"},
		{"America/Santiago", "2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z", "2026-10-01T03:00:00Z"},
		{"America/Los_Angeles", "2026-11-23T07:59:59Z", "2026-11-23T08:00:00Z", "2026-11-23T08:00:00Z", "2026-12-01T08:00:00Z"},
	} {
		l := New(func() time.Time { return at(t, test.now) }, zone(t, test.zone))
		for p, want := range map[Period]string{PerDay: test.day, PerWeek: test.week, PerMonth: test.month} {
			if got := l.Ends(p).UTC().Format(time.RFC3339); got != want {
				t.Errorf("%s, %s: period %d ends at %s; want %s", test.zone, test.now, p, got, want)
			}
		}
	}
}

func tokens(n int64) *Counts {
	return &Counts{Requests: 1, Served: 1, Usage: anthropic.Usage{InputTokens: n}, Cost: anthropic.Money(n * 3)}
}

func TestSpent(t *testing.T) {
	now := at(t, "2026-11-30T23:00:00Z") // a Monday, the last of its month
	l := New(func() time.Time { return now }, time.UTC)
	l.Add(Key{"ann", "a", "m"}, tokens(1))
	now = at(t, "2026-12-01T01:00:00Z")
	l.Add(Key{"ann", "b", "m"}, tokens(10))
	l.Add(Key{"bob", "b", "m"}, tokens(100))
	now = at(t, "2026-12-02T01:00:00Z")
	l.Add(Key{"ann", "b", "n"}, tokens(1000))
	for _, test := range []struct {
		of     Dimension
		name   string
		period Period
		want   int64
	}{
		{OfPerson, "ann", PerDay, 1000},
		{OfPerson, "ann", PerWeek, 1011},
		{OfPerson, "ann", PerMonth, 1010},
		{OfPerson, "bob", PerMonth, 100},
		{OfPerson, "eve", PerMonth, 0},
		{OfAccount, "b", PerMonth, 1110},
		{OfAccount, "a", PerMonth, 0},
		{OfAccount, "a", PerWeek, 1},
	} {
		if got := l.Spent(test.of, test.name, test.period); got.Tokens != test.want || got.Cost != anthropic.Money(3*test.want) {
			t.Errorf("%+v: %+v", test, got)
		}
	}
	if from, to := l.Needed(); from.String() != "2026-11-30" || to.String() != "2026-12-02" {
		t.Errorf("budgets need %s to %s", from, to)
	}
	l.Forget(to(t, "2026-12-01"))
	if got := l.Spent(OfPerson, "ann", PerWeek); got.Tokens != 1011 {
		t.Errorf("what storage does not have was forgotten: %+v", got)
	}
	l.SetZone(zone(t, "Pacific/Kiritimati"))
	if got := l.Today().String(); got != "2026-12-02" {
		t.Errorf("it is %s", got)
	}
}

func to(t *testing.T, s string) Day {
	t.Helper()
	d, err := ParseDay(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestNamesAreBounded: whatever clients call themselves and their models, rows are
// bounded, and nothing is lost.
func TestNamesAreBounded(t *testing.T) {
	l := New(func() time.Time { return at(t, "2026-11-23T12:00:00Z") }, time.UTC)
	for i := range 2000 {
		l.Add(Key{"ann", "a", fmt.Sprint("model-", i)}, tokens(1))
	}
	for i := range mostPeople + 500 {
		l.Add(Key{fmt.Sprint("person-", i), "a", "m"}, tokens(1))
	}
	rows := l.Own(l.Today())
	if n := len(rows); n > mostOfPerson+mostPeople+2 {
		t.Errorf("%d rows", n)
	}
	lines, total := Report(rows, []By{ByPerson})
	if total.Requests != 2000+mostPeople+500 || total.Usage.InputTokens != total.Requests {
		t.Errorf("sums of %+v", total)
	}
	for _, line := range lines {
		if line.Labels[0] == "ann" && line.Requests != 2000 {
			t.Errorf("ann has %d requests: she must not be rid of a budget by odd names", line.Requests)
		}
	}
	if got := l.Spent(OfPerson, "ann", PerDay); got.Tokens != 2000 {
		t.Errorf("ann's budget counts %d", got.Tokens)
	}
}

func TestReport(t *testing.T) {
	day := to(t, "2026-11-23")
	rows := []Row{
		{day, Key{"bob", "a", "m"}, *tokens(1)}, {day, Key{"ann", "a", "m"}, *tokens(2)}, {day + 8, Key{"ann", "b", "m"}, *tokens(4)}, {day, Key{"ann", "a", "n"}, *tokens(8)},
	}
	for list, want := range map[string]string{
		"person":           "ann 14, bob 1",
		"model,person":     "m/ann 6, m/bob 1, n/ann 8",
		"month,account":    "2026-11/a 11, 2026-12/b 4",
		"day":              "2026-11-23 11, 2026-12-01 4",
		"person, account ": "ann/a 10, ann/b 4, bob/a 1",
	} {
		by, err := ParseBy(list)
		if err != nil {
			t.Fatal(err)
		}
		lines, total := Report(rows, by)
		text := ""
		for i, line := range lines {
			if i > 0 {
				text += ", "
			}
			for j, label := range line.Labels {
				if j > 0 {
					text += "/"
				}
				text += label
			}
			text += fmt.Sprint(" ", line.Usage.InputTokens)
		}
		if text != want || total.Usage.InputTokens != 15 {
			t.Errorf("by %s: %s; total %+v", list, text, total)
		}
	}
	for _, list := range []string{"", "person,", "person,person", "key"} {
		if by, err := ParseBy(list); err == nil {
			t.Errorf("%q is %v", list, by)
		}
	}
}

// world is a storage with processes that come, go and fail, and a plain count of what
// must be in the books.
type world struct {
	t       *testing.T
	dice    *rand.Rand
	now     time.Time
	born    int
	ledgers map[string]*Ledger
	storage map[string][]byte // by day/process
	// total is what storage must have; unsaved is what was counted since, by process,
	// and a kill takes along.
	total   map[Row]int64
	unsaved map[string]map[Row]int64
}

func rowOf(d Day, k Key) Row { return Row{Day: d, Key: k} }

// TestBooksAreRight: whatever is saved, fails to be saved, is killed and heard in
// whatever order, the sums are those of what was counted and not lost with a kill.
func TestBooksAreRight(t *testing.T) {
	for seed := range uint64(300) {
		w := &world{
			t: t, dice: rand.New(rand.NewPCG(seed, 7)), now: at(t, "2026-11-30T20:00:00Z"), ledgers: make(map[string]*Ledger), storage: make(map[string][]byte),
			total: make(map[Row]int64), unsaved: make(map[string]map[Row]int64),
		}
		w.run()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// start begins a process, which hears what storage has of all others.
func (w *world) start() {
	w.born++
	name := fmt.Sprint("process-", w.born)
	w.ledgers[name], w.unsaved[name] = New(func() time.Time { return w.now }, time.UTC), make(map[Row]int64)
	w.hear(name)
}

func (w *world) hear(name string) {
	for key, data := range w.storage {
		if owner := key[11:]; owner != name {
			if err := w.ledgers[name].Hear(owner, to(w.t, key[:10]), data); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

func (w *world) run() {
	w.start()
	w.start()
	for range 200 {
		names := slices.Sorted(maps.Keys(w.ledgers))
		name := names[w.dice.IntN(len(names))]
		l := w.ledgers[name]
		switch w.dice.IntN(9) {
		case 0, 1, 2, 3:
			k := Key{fmt.Sprint("p", w.dice.IntN(3)), fmt.Sprint("a", w.dice.IntN(2)), "m"}
			n := 1 + w.dice.Int64N(50)
			l.Add(k, tokens(n))
			w.unsaved[name][rowOf(l.Today(), k)] += n
		case 4, 5:
			w.save(name)
		case 6:
			w.now = w.now.Add(time.Duration(w.dice.IntN(180)-20) * time.Minute)
		case 7:
			w.hear(name)
		case 8:
			if w.dice.IntN(3) == 0 { // killed
				delete(w.ledgers, name)
				delete(w.unsaved, name)
				w.start()
			}
		}
	}
	for name, l := range w.ledgers {
		for len(l.Unsaved()) > 0 {
			w.save(name)
		}
	}
	for name, l := range w.ledgers {
		w.hear(name)
		w.check(l)
	}
}

// save writes what is unsaved, or fails to, whether or not it was written after all.
func (w *world) save(name string) {
	l := w.ledgers[name]
	for _, d := range l.Unsaved() {
		data, changes, err := l.Record(d)
		if err != nil {
			w.t.Fatal(err)
		}
		var late *Row // counted while the record is written
		if w.dice.IntN(3) == 0 {
			k := Key{"p0", "a0", "m"}
			l.Add(k, tokens(5))
			late = &Row{Day: l.Today(), Key: k}
		}
		fails, arrives := w.dice.IntN(3) == 0, w.dice.IntN(2) == 0
		if fails && !arrives {
			if late != nil {
				w.unsaved[name][*late] += 5
			}
			continue
		}
		w.storage[d.String()+"/"+name] = data
		for row, n := range w.unsaved[name] {
			if row.Day == d {
				w.total[row] += n
				delete(w.unsaved[name], row)
			}
		}
		if !fails {
			l.Saved(d, changes)
		}
		if late != nil {
			w.unsaved[name][*late] += 5
		}
	}
}

func (w *world) check(l *Ledger) {
	got := make(map[Row]int64)
	for d, p := range l.days {
		p.each(func(k Key, c *Counts) { got[rowOf(d, k)] += c.Usage.InputTokens })
	}
	if !maps.Equal(got, w.total) {
		w.t.Errorf("the books say %v; want %v", got, w.total)
	}
	month, _ := PerMonth.bounds(l.Today())
	people := make(map[string]int64)
	for row, n := range w.total {
		if row.Day >= month && row.Day <= l.Today() {
			people[row.Person] += n
		}
	}
	for name, n := range people {
		if sum := l.Spent(OfPerson, name, PerMonth); sum.Tokens != n || sum.Cost != anthropic.Money(3*n) {
			w.t.Errorf("%s has spent %+v; want %d", name, sum, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	l := New(func() time.Time { return time.Unix(1795000000, 0) }, time.UTC)
	l.Add(Key{"ann", "a", "m"}, tokens(5))
	good, _, err := l.Record(l.Today())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		day := l.Today()
		fresh := New(func() time.Time { return time.Unix(1795000000, 0) }, time.UTC)
		if fresh.Hear("other", day, data) != nil {
			return
		}
		rows, err := Parse(day, data)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if row.Cost < 0 || row.Usage.Total() < 0 || row.Requests < 0 {
				t.Errorf("%+v", row)
			}
		}
	})
}

func BenchmarkSpent(b *testing.B) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	l := New(func() time.Time { return now }, time.UTC)
	for d := range 30 {
		now = time.Date(2026, 11, 1+d, 12, 0, 0, 0, time.UTC)
		for p := range 100 {
			l.Add(Key{fmt.Sprint("person-", p), "a", "m"}, tokens(5))
		}
	}
	for b.Loop() {
		l.Spent(OfPerson, "person-50", PerMonth)
	}
}

func BenchmarkAdd(b *testing.B) {
	l := New(time.Now, time.UTC)
	c := tokens(5)
	b.ReportAllocs()
	for b.Loop() {
		l.Add(Key{"ann", "a", "claude-sonnet-5"}, c)
	}
}
