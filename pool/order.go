package pool

import (
	"cmp"
	"time"
)

// Verdicts of what an operator keeps from requests by hand: no answer ends them, and
// they are none of upstream's.
const (
	verdictDrained = "drained"
	verdictByHand  = "benched_by_hand"
)

// order is what an operator has ordered of an account last. The zero order leaves it to
// the pool. Unlike a bench it also keeps out what costs nothing.
type order struct {
	At      time.Time `json:"at,omitzero"`
	Drained bool      `json:"drained,omitempty"`
	Until   time.Time `json:"until,omitzero"` // zero if drained, which has no end
	Reason  string    `json:"reason,omitempty"`
}

// closes reports whether the account takes no new requests now.
func (o *order) closes(now time.Time) bool { return o.Drained || now.Before(o.Until) }

// bench is the order in the form in which everything else that closes an account is
// told. Its Until is zero for one without an end.
func (o *order) bench() *bench {
	b := &bench{Until: o.Until, Since: o.At, Verdict: verdictByHand, Reason: cmp.Or(o.Reason, "benched by the operator"), Source: "operator"}
	if o.Drained {
		b.Verdict, b.Reason = verdictDrained, cmp.Or(o.Reason, "drained by the operator")
	}
	return b
}

// text is for orders that were given at the same time, of which the greater stands.
func (o *order) text() string {
	kind := "0"
	if o.Drained {
		kind = "1"
	}
	return kind + o.Until.UTC().Format(time.RFC3339Nano) + o.Reason
}

// hearOrder takes over an order that was given later.
func (a *account) hearOrder(told order) {
	if newer(told.At, told.text(), a.order.At, a.order.text()) {
		a.setOrder(told)
	}
}

func (a *account) setOrder(o order) {
	a.order, a.ordered = o, o.Drained || !o.Until.IsZero()
}

// Drain gives the account (Member.Key) no new requests until Undrain; those that it
// serves go on. reason is in words, and may be empty. It reports whether the pool has
// the account.
func (p *Pool) Drain(key, reason string) bool {
	return p.order(key, order{Drained: true, Reason: reason})
}

// Undrain takes Drain and BenchUntil back. It reports whether the pool has the account.
func (p *Pool) Undrain(key string) bool { return p.order(key, order{}) }

// BenchUntil gives the account (Member.Key) no new requests until a time, which
// replaces what was ordered before. It reports whether the pool has the account.
func (p *Pool) BenchUntil(key string, until time.Time, reason string) bool {
	return p.order(key, order{Until: until, Reason: reason})
}

func (p *Pool) order(key string, o order) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.accounts[key]
	if !ok {
		return false
	}
	o.At = p.now()
	a.setOrder(o)
	p.ordered()
	return true
}

func (p *Pool) ordered() {
	p.changes++
	p.hurry()
	p.dispatch(p.now())
}

// Unbench ends all that keeps the account (Member.Key) from serving for a time, also
// what it shares with other accounts of its organisation, and BenchUntil; not Drain, and
// no limit of the configuration's. The next request finds out whether it serves again.
// It reports how much was ended, and whether the pool has the account.
func (p *Pool) Unbench(key string) (ended int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.accounts[key]
	if !ok {
		return 0, false
	}
	now := p.now()
	end := func(benches []bench, ends *map[string]time.Time) {
		for i := range benches {
			if b := &benches[i]; now.Before(b.Until) {
				ended++
				*ends = keepEnded(*ends, b.Family, latest(now, b.Since))
			}
		}
	}
	end(a.benches, &a.ended)
	end(a.limits.benches, &a.limits.ended)
	if ended > 0 {
		a.benches, a.limits.benches = nil, nil
		// One at a time, until it is known to serve.
		a.suspect, a.suspectAt, a.strikes = true, now, 0
	}
	if !a.order.Drained && a.order.closes(now) {
		ended++
		a.setOrder(order{At: now})
	}
	a.limits.changed()
	p.ordered()
	return ended, true
}
