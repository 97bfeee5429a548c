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

// TestANameThatComesBack: what was heard of it as another's is not counted beside
// what is loaded as our own.
func TestANameThatComesBack(t *testing.T) {
	now := at(t, "2026-11-23T12:00:00Z")
	l := New(func() time.Time { return now }, time.UTC)
	l.Add(Key{"ann", "a", "m"}, tokens(5))
	data, err := l.Record(l.Today())
	if err != nil {
		t.Fatal(err)
	}
	l.Saved(l.Today())
	for range 2 {
		l.Rename("other")
		if err := l.Hear("first", l.Today(), data); err != nil {
			t.Fatal(err)
		}
		if got := l.Spent(OfPerson, "ann", PerDay).Tokens; got != 5 {
			t.Errorf("under another name: %d", got)
		}
		l.Rename("first")
		if err := l.Load(l.Today(), data); err != nil {
			t.Fatal(err)
		}
		if got := l.Spent(OfPerson, "ann", PerDay).Tokens; got != 5 {
			t.Errorf("under the first name again: %d", got)
		}
	}
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

// world is a storage with instances that come, go and fail, and a plain count of what
// must be in the books.
type world struct {
	t       *testing.T
	dice    *rand.Rand
	now     time.Time
	storage map[string][]byte // by day/instance
	// unsaved is what was counted, by instance, and a kill of it takes along.
	// maybe is what storage has of the unsaved, although it said that it failed.
	unsaved, maybe map[string]map[Row]int64
}

func rowOf(d Day, k Key) Row { return Row{Day: d, Key: k} }

// TestBooksAreRight: whatever is saved, fails to be saved, is killed, renamed and
// heard in whatever order, the sums are those of what was counted and not lost with a
// kill.
func TestBooksAreRight(t *testing.T) {
	for seed := range uint64(300) {
		w := &world{
			t: t, dice: rand.New(rand.NewPCG(seed, 7)), now: at(t, "2026-11-30T20:00:00Z"), storage: make(map[string][]byte),
			unsaved: make(map[string]map[Row]int64), maybe: make(map[string]map[Row]int64),
		}
		w.run()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (w *world) open(name string) *Ledger {
	l := New(func() time.Time { return w.now }, time.UTC)
	w.load(l, name)
	return l
}

func (w *world) load(l *Ledger, name string) {
	l.Rename(name)
	for key, data := range w.storage {
		d, owner := to(w.t, key[:10]), key[11:]
		if owner == name {
			if err := l.Load(d, data); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

func (w *world) hear(l *Ledger, own string) {
	for key, data := range w.storage {
		if owner := key[11:]; owner != own {
			if err := l.Hear(owner, to(w.t, key[:10]), data); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

func (w *world) run() {
	names := []string{"one", "two"}
	ledgers := map[string]*Ledger{}
	for _, n := range names {
		ledgers[n] = w.open(n)
		w.unsaved[n], w.maybe[n] = make(map[Row]int64), make(map[Row]int64)
	}
	total := make(map[Row]int64)
	for range 200 {
		name := names[w.dice.IntN(len(names))]
		l := ledgers[name]
		switch w.dice.IntN(9) {
		case 0, 1, 2, 3:
			k := Key{fmt.Sprint("p", w.dice.IntN(3)), fmt.Sprint("a", w.dice.IntN(2)), "m"}
			n := 1 + w.dice.Int64N(50)
			l.Add(k, tokens(n))
			w.unsaved[name][rowOf(l.Today(), k)] += n
		case 4, 5:
			w.save(l, name, total)
		case 6:
			w.now = w.now.Add(time.Duration(w.dice.IntN(180)-20) * time.Minute)
		case 7:
			w.hear(l, name)
		case 8:
			if w.dice.IntN(3) == 0 { // killed
				for row, n := range w.maybe[name] {
					total[row] += n
				}
				clear(w.unsaved[name])
				clear(w.maybe[name])
				ledgers[name] = w.open(name)
			} else if w.dice.IntN(3) == 0 && len(w.maybe[name]) == 0 { // another name
				other := fmt.Sprint(name, w.dice.IntN(1000))
				w.load(l, other)
				ledgers[other], w.unsaved[other], w.maybe[other] = l, w.unsaved[name], w.maybe[name]
				delete(ledgers, name)
				delete(w.unsaved, name)
				names[slices.Index(names, name)] = other
			}
		}
	}
	for _, n := range names {
		w.save(ledgers[n], n, total)
		for len(ledgers[n].Unsaved()) > 0 {
			w.save(ledgers[n], n, total)
		}
	}
	for _, n := range names {
		w.hear(ledgers[n], n)
		w.check(ledgers[n], total)
	}
}

// save writes what is unsaved, or fails to, whether or not it was written after all.
func (w *world) save(l *Ledger, name string, total map[Row]int64) {
	for _, d := range l.Unsaved() {
		data, err := l.Record(d)
		if err != nil {
			w.t.Fatal(err)
		}
		switch w.dice.IntN(4) {
		case 0:
			l.Failed(d)
			continue
		case 1: // written, and reported as failed: the same comes again, in the same place
			w.storage[d.String()+"/"+name] = data
			l.Failed(d)
			if w.dice.IntN(2) == 0 {
				for row, n := range w.unsaved[name] {
					if row.Day == d {
						w.maybe[name][row] = n
					}
				}
				continue
			}
			if data, err = l.Record(d); err != nil {
				w.t.Fatal(err)
			}
		}
		w.storage[d.String()+"/"+name] = data
		l.Saved(d)
		for row, n := range w.unsaved[name] {
			if row.Day == d {
				total[row] += n
				delete(w.unsaved[name], row)
				delete(w.maybe[name], row)
			}
		}
	}
}

func (w *world) check(l *Ledger, total map[Row]int64) {
	got := make(map[Row]int64)
	people := make(map[string]int64)
	for d, p := range l.days {
		p.each(func(k Key, c *Counts) { got[rowOf(d, k)] += c.Usage.InputTokens })
	}
	maps.DeleteFunc(got, func(_ Row, n int64) bool { return n == 0 })
	if !maps.Equal(got, total) {
		w.t.Errorf("the books say %v; want %v", got, total)
	}
	month, today := w.monthOf(l), l.Today()
	for row, n := range total {
		if row.Day >= month && row.Day <= today {
			people[row.Person] += n
		}
	}
	for name, n := range people {
		if sum := l.Spent(OfPerson, name, PerMonth); sum.Tokens != n || sum.Cost != anthropic.Money(3*n) {
			w.t.Errorf("%s has spent %+v; want %d", name, sum, n)
		}
	}
}

func (w *world) monthOf(l *Ledger) Day {
	from, _ := PerMonth.bounds(l.Today())
	return from
}

func FuzzParse(f *testing.F) {
	l := New(func() time.Time { return time.Unix(1795000000, 0) }, time.UTC)
	l.Add(Key{"ann", "a", "m"}, tokens(5))
	good, err := l.Record(l.Today())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		day := l.Today()
		fresh := New(func() time.Time { return time.Unix(1795000000, 0) }, time.UTC)
		if fresh.Load(day, data) != nil {
			return
		}
		for _, row := range fresh.Own(day) {
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
