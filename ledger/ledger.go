package ledger

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// Ledger is the books of a pool as this process knows them. Its methods are safe for
// concurrent use.
type Ledger struct {
	clock func() time.Time

	mu   sync.Mutex // guards all below
	zone *time.Location
	days map[Day]*page
}

// page is one day of the books.
type page struct {
	// own is what this process counted. changes counts how often, saved is the count
	// that storage has.
	own            *rows
	changes, saved uint64
	// others are the records of the other processes, by name.
	others map[string]*rows
	// sums of all of them by person and by account. Pages are many, and only budgets
	// look here.
	sums map[who]Sum
}

// Dimension is what a budget is of.
type Dimension uint8

// The dimensions of budgets.
const (
	OfPerson Dimension = iota
	OfAccount
)

type who struct {
	of   Dimension
	name string
}

// Sum is what a budget counts.
type Sum struct {
	Cost   anthropic.Money
	Tokens int64
	// Unpriced is of how many answers the cost is not known.
	Unpriced int64
}

func (s *Sum) add(other Sum) {
	s.Cost += other.Cost
	s.Tokens += other.Tokens
	s.Unpriced += other.Unpriced
}

// New makes empty books. Days are those of the zone.
func New(clock func() time.Time, zone *time.Location) *Ledger {
	return &Ledger{clock: clock, zone: zone, days: make(map[Day]*page)}
}

// SetZone makes days those of another zone from now on; nil is UTC.
func (l *Ledger) SetZone(zone *time.Location) {
	if zone == nil {
		zone = time.UTC
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.zone = zone
}

// Today is the day that it is.
func (l *Ledger) Today() Day {
	l.mu.Lock()
	defer l.mu.Unlock()
	return DayOf(l.clock(), l.zone)
}

// page finds or makes a day; mu must be held.
func (l *Ledger) page(d Day) *page {
	p := l.days[d]
	if p == nil {
		p = &page{own: newRows(), others: make(map[string]*rows), sums: make(map[who]Sum)}
		l.days[d] = p
	}
	return p
}

// Add counts under the key, today.
func (l *Ledger) Add(k Key, c *Counts) {
	k.Person, k.Account, k.Model = clip(k.Person), clip(k.Account), clip(k.Model)
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.page(DayOf(l.clock(), l.zone))
	p.own.at(k).Add(c)
	p.count(k, c)
	p.changes++
}

// count adds to the sums.
func (p *page) count(k Key, c *Counts) {
	add := Sum{Cost: c.Cost, Tokens: c.Usage.Total(), Unpriced: c.Unpriced}
	if add == (Sum{}) {
		return
	}
	for _, w := range [...]who{{OfPerson, k.Person}, {OfAccount, k.Account}} {
		s := p.sums[w]
		s.add(add)
		p.sums[w] = s
	}
}

// recount makes the sums anew.
func (p *page) recount() {
	clear(p.sums)
	p.each(func(k Key, c *Counts) { p.count(k, c) })
}

// each calls do for all counts of the page; a key may come several times.
func (p *page) each(do func(Key, *Counts)) {
	all := func(r *rows) {
		for k, c := range r.counts {
			do(k, c)
		}
	}
	all(p.own)
	for _, r := range p.others {
		all(r)
	}
}

// Spent is what the person or account has used since the period began that it is
// now, in all processes as far as they were heard.
func (l *Ledger) Spent(of Dimension, name string, p Period) (total Sum) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := who{of, clip(name)}
	today := DayOf(l.clock(), l.zone)
	from, _ := p.bounds(today)
	for d := from; d <= today; d++ {
		if page := l.days[d]; page != nil {
			total.add(page.sums[w])
		}
	}
	return total
}

// Ends is when the period ends that it is now.
func (l *Ledger) Ends(p Period) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, to := p.bounds(DayOf(l.clock(), l.zone))
	return to.begins(l.zone)
}

// Needed are the days that budgets look at, first to last: those of this month and of
// this week.
func (l *Ledger) Needed() (from, to Day) {
	l.mu.Lock()
	defer l.mu.Unlock()
	today := DayOf(l.clock(), l.zone)
	week, _ := PerWeek.bounds(today)
	month, _ := PerMonth.bounds(today)
	return min(week, month), today
}

// Written is the first day that others may still be writing to: for an hour that is
// yesterday.
func (l *Ledger) Written() Day {
	l.mu.Lock()
	defer l.mu.Unlock()
	return DayOf(l.clock().Add(-time.Hour), l.zone)
}

// Own are the rows of a day that this process counted.
func (l *Ledger) Own(d Day) []Row {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.days[d]
	if p == nil {
		return nil
	}
	return p.own.list(d)
}

// OwnBetween are the rows that this process counted, of all days in memory from one to
// another, in no order.
func (l *Ledger) OwnBetween(from, to Day) []Row {
	l.mu.Lock()
	days := slices.Collect(maps.Keys(l.days))
	l.mu.Unlock()
	var all []Row
	for _, d := range days {
		if d >= from && d <= to {
			all = l.ownOf(d, all) // a day at a time: requests count in between
		}
	}
	return all
}

// ownOf appends the rows of a day, in no order.
func (l *Ledger) ownOf(d Day, to []Row) []Row {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.days[d]; p != nil {
		to = p.own.appendTo(to, d)
	}
	return to
}

// Holds reports whether a day is in memory.
func (l *Ledger) Holds(d Day) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.days[d] != nil
}

func (r *rows) appendTo(list []Row, d Day) []Row {
	list = slices.Grow(list, len(r.counts))
	for k, c := range r.counts {
		list = append(list, Row{Day: d, Key: k, Counts: *c})
	}
	return list
}

// list gives the rows in order.
func (r *rows) list(d Day) []Row {
	list := r.appendTo(nil, d)
	slices.SortFunc(list, func(a, b Row) int { return compareKeys(&a.Key, &b.Key) })
	return list
}
