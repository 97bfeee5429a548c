package chaos

import (
	"fmt"
	"sync"
	"time"
)

// span is a time in which something was not well.
type span struct {
	what     string
	from, to time.Time // to is zero while it lasts
}

func (s *span) touches(from, to time.Time) bool {
	return s.from.Before(to) && (s.to.IsZero() || s.to.After(from))
}

// tally is a line of the table: a fault and what came of it.
type tally struct {
	Times int
	Lost  int // requests that should have been served, or failed dishonestly
	Wrong int // answers that upstream did not give
}

// truth is what the checker knows of the world, and what it found.
type truth struct {
	mu    sync.Mutex
	sick  map[string][]*span // by account
	ours  []*span            // kills and reloads of Caddy
	world []*span            // everything, for the table
	table map[string]*tally
	found []string

	counts map[string]int64
	// sent counts requests by person. served has the request ids of upstream's answers
	// that came to their client in full, with the person.
	sent   map[string]int64
	served map[string]string
	// begun has those whose beginning came: it says what the prompt cost.
	begun map[string]bool
}

func newTruth() *truth {
	return &truth{sick: map[string][]*span{}, table: map[string]*tally{}, counts: map[string]int64{},
		sent: map[string]int64{}, served: map[string]string{}, begun: map[string]bool{}}
}

// linger is how long the consequences of a fault may be met: an answer that it broke
// may still be on its way, the account rests, a connection of before is found dead.
const linger = 3 * time.Second

// begin notes a fault of an account; the function that it returns notes its end.
func (tr *truth) begin(account, what string) func() {
	s := &span{what: what, from: time.Now()}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.line(what).Times++
	tr.world = append(tr.world, s)
	if account != "" {
		tr.sick[account] = append(tr.sick[account], s)
	}
	return func() { tr.end(s, linger) }
}

// beginOurs notes that Caddy itself is killed or reloaded.
func (tr *truth) beginOurs(what string, after time.Duration) func() {
	end := tr.begin("", what)
	tr.mu.Lock()
	s := tr.world[len(tr.world)-1]
	tr.ours = append(tr.ours, s)
	tr.mu.Unlock()
	_ = end
	return func() { tr.end(s, after) }
}

func (tr *truth) end(s *span, after time.Duration) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	s.to = time.Now().Add(after)
}

// line is the table's line of a fault. The caller holds mu.
func (tr *truth) line(what string) *tally {
	if tr.table[what] == nil {
		tr.table[what] = &tally{}
	}
	return tr.table[what]
}

func touching(spans []*span, from, to time.Time) (names []string) {
	for _, s := range spans {
		if s.touches(from, to) {
			names = append(names, s.what)
		}
	}
	return names
}

func (tr *truth) accountSick(account string, from, to time.Time) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(touching(tr.sick[account], from, to)) > 0
}

// killed reports whether Caddy was dead at some moment of that time.
func (tr *truth) killed(from, to time.Time) bool { return tr.oursIs(faultKill, from, to) }

func (tr *truth) reloaded(from, to time.Time) bool { return tr.oursIs(faultReload, from, to) }

func (tr *truth) oursIs(what string, from, to time.Time) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, s := range tr.ours {
		if s.what == what && s.touches(from, to) {
			return true
		}
	}
	return false
}

// maxFound bounds what is told of what was found.
const maxFound = 60

// lost and wrong note a finding, on the lines of all faults of that time.
func (tr *truth) lost(from, to time.Time, format string, args ...any) {
	tr.find(from, to, func(t *tally) { t.Lost++ }, "lost: "+format, args...)
}

func (tr *truth) wrong(from, to time.Time, format string, args ...any) {
	tr.find(from, to, func(t *tally) { t.Wrong++ }, "wrong: "+format, args...)
}

func (tr *truth) find(from, to time.Time, note func(*tally), format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	names := touching(tr.world, from, to)
	for _, name := range names {
		note(tr.line(name))
	}
	note(tr.line(total))
	if len(tr.found) < maxFound {
		tr.found = append(tr.found, fmt.Sprintf("%s [%s..%s] ", from.Format("15:04:05.000"), to.Format("05.000"), names)+fmt.Sprintf(format, args...))
	}
}

func (tr *truth) count(what string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.counts[what]++
}

// total is the table's line of everything.
const total = "total"

// beginLong notes a fault that all accounts have; an empty name keeps it off the table.
func (tr *truth) beginLong(account, what string) func() {
	s := &span{what: what, from: time.Now()}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.sick[account] = append(tr.sick[account], s)
	if what != "" {
		tr.line(what).Times++
		tr.world = append(tr.world, s)
	}
	return func() { tr.end(s, recovery) }
}

// unmet takes back a fault that too few requests have met.
func (tr *truth) unmet(what string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.line(what).Times--
}
