package pool

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Standing is where one account stood in a decision.
type Standing struct {
	Candidate
	Priority int
	// Own tells that the account is the person's own, which comes before all others.
	Own bool
	// Score is the policy's; it counts only among open accounts of one priority.
	Score float64
	// Closed says what kept the account from serving; its Kind is Open when nothing did.
	Closed Closure
}

// Decision is one choice of an account as it was taken.
type Decision struct {
	Time   time.Time
	Policy string
	// Account is who was chosen, empty when nobody was.
	Account string
	// Reason is one of the Reason constants.
	Reason string
	// Until is, when nobody was chosen, when the next account may open; zero when
	// that is not known.
	Until time.Time
	// Refused says in words why nobody was chosen.
	Refused string
	// Accounts are all of the configuration, in its order. They are empty when the
	// request was refused before any account was looked at.
	Accounts []Standing

	refusal *Refusal
}

// Trace keeps the decisions of one request, and lends it its leases. The zero
// Trace is ready; a nil Trace keeps nothing.
type Trace struct {
	decisions []Decision
	leases    [2]Lease
	lent      int
}

// lease lends a lease; beyond the first few they are made.
func (t *Trace) lease() *Lease {
	if t == nil || t.lent >= len(t.leases) {
		return new(Lease)
	}
	t.lent++
	return &t.leases[t.lent-1]
}

// maxDecisions bounds how many decisions of one request are kept: the last one is
// overwritten beyond.
const maxDecisions = 16

// decision is where the next decision is written: over the last one if that chose
// nobody, since the request was only asking again.
func (t *Trace) decision(now time.Time) *Decision {
	if t == nil {
		return nil
	}
	n := len(t.decisions)
	if n == 0 || n < maxDecisions && (t.decisions[n-1].Account != "" || t.stayBegins(n-1)) {
		if n < cap(t.decisions) {
			t.decisions = t.decisions[:n+1]
		} else {
			t.decisions = append(t.decisions, Decision{})
		}
		n++
	}
	d := &t.decisions[n-1]
	*d = Decision{Time: now, Accounts: d.Accounts[:0]}
	return d
}

// stayBegins reports whether the decision was the first of a row to wait for the
// own account: it is kept, and what was asked again meanwhile is not.
func (t *Trace) stayBegins(i int) bool {
	return t.decisions[i].Reason == ReasonStay && (i == 0 || t.decisions[i-1].Reason != ReasonStay)
}

// forget lets go of the request, which may hold much: the trace is kept to be looked at.
func (t *Trace) forget() {
	if t != nil {
		for i := range t.leases {
			t.leases[i].req = nil
		}
	}
}

// reset makes the trace ready for another request, keeping its memory.
func (t *Trace) reset() {
	t.decisions, t.lent = t.decisions[:0], 0
}

func (d *Decision) begin(policy string) {
	if d != nil {
		d.Policy = policy
	}
}

func (d *Decision) add(g *Group, i int, c *Candidate, score float64, kind ClosureKind, family string, now time.Time) {
	n := len(d.Accounts)
	d.Accounts = slices.Grow(d.Accounts, 1)[:n+1]
	s := &d.Accounts[n] // with what an older decision left there
	s.Candidate, s.Priority, s.Score = *c, g.members[i].Priority, score
	if kind != Open {
		s.Closed = g.closure(i, kind, family, now)
	} else if s.Closed.Kind != Open {
		s.Closed = Closure{}
	}
}

func (d *Decision) choose(account, reason string) {
	if d != nil {
		d.Account, d.Reason = account, reason
	}
}

func (d *Decision) refuse(r *Refusal) {
	if d == nil {
		return
	}
	d.Reason, d.Until, d.refusal = ReasonNone, r.Until, r
	if r.Stay {
		d.Reason = ReasonStay
	}
}

// finished is a copy that outlives the trace.
func (d *Decision) finished() Decision {
	copied := *d
	copied.Accounts = append([]Standing(nil), d.Accounts...)
	if d.refusal != nil {
		copied.Refused = d.refusal.Words(d.Time)
		if r := d.refusal; r.Stay && len(r.Closures) > 0 {
			c := &r.Closures[0]
			copied.Refused = c.Name + " is " + c.phrase()
			if !c.Until.IsZero() {
				copied.Refused += " until " + timeWords(c.Until, d.Time)
			}
		}
		copied.refusal = nil
	}
	return copied
}

// Explain tells what would be decided for the request now, and changes nothing.
// stay is as in [Waiting].
func (g *Group) Explain(req *Request, stay time.Duration) Decision {
	p := g.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	// The draw among equals must not change what the next request draws.
	drawn := *p.pcg
	defer func() { *p.pcg = drawn }()
	// Nor must it be the first to see that the clock went back: see heal.
	for _, a := range g.states {
		if a.benched() {
			own, shared, limits := slices.Clone(a.benches), slices.Clone(a.limits.benches), a.limits
			defer func() { a.benches, limits.benches = own, shared }()
		}
	}
	var trace Trace
	asked := *req
	asked.Trace = nil
	family := asked.family()
	d := trace.decision(now)
	i, reason, refused := g.decide(&asked, family, stay, d, now)
	if refused != nil {
		d.refuse(refused)
	} else {
		d.choose(g.members[i].Name, reason)
	}
	return d.finished()
}

// Decisions are those that were taken for a recent request, oldest first; none
// when it is not remembered.
func (p *Pool) Decisions(id string) []Decision {
	p.mu.Lock()
	defer p.mu.Unlock()
	trace := p.recent.trace(id)
	if trace == nil {
		return nil
	}
	decisions := make([]Decision, 0, len(trace.decisions))
	for i := range trace.decisions {
		decisions = append(decisions, trace.decisions[i].finished())
	}
	return decisions
}

// Words says why the decision was as it was.
func (d *Decision) Words() string {
	switch d.Reason {
	case ReasonPinned:
		return d.Account + " is pinned"
	case ReasonSession:
		return "the session lives at " + d.Account + ", where its prompt cache is warm or its thinking can be read"
	case ReasonStay:
		return "the session waits for its own account, which is cheaper than a move: " + d.Refused
	case ReasonNone:
		return d.Refused
	}
	var chosen *Standing
	open := 0
	for i := range d.Accounts {
		if a := &d.Accounts[i]; a.Name == d.Account {
			chosen = a
		}
	}
	var next *Standing
	for i := range d.Accounts {
		a := &d.Accounts[i]
		if a.Closed.Kind != Open || chosen == nil || a.Priority != chosen.Priority || a.Own != chosen.Own {
			continue
		}
		open++
		if a != chosen && (next == nil || a.Score > next.Score) {
			next = a
		}
	}
	switch {
	case chosen == nil:
		return d.Account + " was chosen"
	case next == nil && len(d.Accounts) == 1:
		return d.Account + " is the only account"
	case next == nil && chosen.Own:
		return d.Account + " is the person's own account, which comes before the others"
	case next == nil:
		return fmt.Sprintf("%s is the only account that is open in its priority", d.Account)
	case next.Score > chosen.Score-Equal:
		return fmt.Sprintf("%s and %s are as good, and it was drawn: %s", d.Account, next.Name, chosen.Words())
	}
	return fmt.Sprintf("%s is best of %d open: %s; next is %s: %s", d.Account, open, chosen.Words(), next.Name, next.Words())
}

// Words tells what the score was made of.
func (s *Standing) Words() string {
	if s.Closed.Kind != Open {
		return "closed: " + s.Closed.Reason
	}
	parts := []string{fmt.Sprintf("score %.3g", s.Score+0)}
	window := func(name string, w *Window) {
		if w.ResetIn > 0 {
			parts = append(parts, fmt.Sprintf("%s %.0f%% used with %.0f%% of its time left", name, 100*w.Used, 100*w.Left))
		}
	}
	window("week", &s.SevenDay)
	window("model's week", &s.Family)
	window("5 hours", &s.FiveHour)
	if s.Burn >= 0.005 {
		parts = append(parts, fmt.Sprintf("%.0f%% of 5 hours about to be used", 100*s.Burn))
	}
	if s.Bucket > 0 {
		parts = append(parts, fmt.Sprintf("rate limit %.0f%% used", 100*s.Bucket))
	}
	if s.WarmPrefix {
		parts = append(parts, "tools and system text warm")
	}
	if s.Home {
		parts = append(parts, "the session lived here")
	}
	if s.Parent {
		parts = append(parts, "its parent lives here")
	}
	return strings.Join(parts, ", ")
}
