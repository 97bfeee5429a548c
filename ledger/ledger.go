package ledger

import (
	"slices"
	"sync"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// Ledger is the books of a pool as this instance knows them. Its methods are safe for
// concurrent use.
type Ledger struct {
	clock func() time.Time

	mu      sync.Mutex // guards all below
	zone    *time.Location
	days    map[Day]*page
	changes uint64
}

// page is one day of the books.
type page struct {
	// What this instance counted: stored is what its record in storage holds, saving
	// what is being written, pending what has come since. Each use is in one of them.
	stored, saving, pending *rows
	// peers are the records of the other instances, by name.
	peers map[string]*rows
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

// SetZone makes days those of another zone from now on.
func (l *Ledger) SetZone(zone *time.Location) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.zone = zone
}

// Zone is the zone of the days.
func (l *Ledger) Zone() *time.Location {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.zone
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
		p = &page{stored: newRows(), pending: newRows(), peers: make(map[string]*rows), sums: make(map[who]Sum)}
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
	p.pending.at(k).Add(c)
	p.count(k, c)
	l.changes++
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
		if r != nil {
			for k, c := range r.counts {
				do(k, c)
			}
		}
	}
	all(p.stored)
	all(p.saving)
	all(p.pending)
	for _, r := range p.peers {
		all(r)
	}
}

// Spent is what the person or account has used since the period began that it is
// now, on all instances as far as they were heard.
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

// Own are the rows of a day that this instance counted.
func (l *Ledger) Own(d Day) []Row {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.days[d]
	if p == nil {
		return nil
	}
	return p.own().list(d)
}

// own is everything that this instance counted on a day.
func (p *page) own() *rows {
	sum := newRows()
	sum.addAll(p.stored)
	if p.saving != nil {
		sum.addAll(p.saving)
	}
	sum.addAll(p.pending)
	return sum
}

// list gives the rows in order.
func (r *rows) list(d Day) []Row {
	list := make([]Row, 0, len(r.counts))
	for k, c := range r.counts {
		list = append(list, Row{Day: d, Key: k, Counts: *c})
	}
	slices.SortFunc(list, func(a, b Row) int { return compareKeys(&a.Key, &b.Key) })
	return list
}

// Changes grows whenever something was counted.
func (l *Ledger) Changes() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes
}
