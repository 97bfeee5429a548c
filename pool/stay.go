package pool

import "time"

// MaxStay is how long a warm session waits for its own account at most, counted
// from the request's arrival: a move would write the whole prompt anew.
const MaxStay = time.Minute

// stayPerToken is how long a prompt's token is worth waiting for: three seconds for
// a thousand. An overload is waited for longer, since other accounts mostly share it.
const stayPerToken = 3 * time.Millisecond

// stays says until when a warm session waits for its own account, which is closed
// by kind; nil when it moves at once.
func (g *Group) stays(i int, kind ClosureKind, req *Request, family string, own *place, stay time.Duration, now time.Time) *Refusal {
	if own.Unproved || !req.paid() {
		return nil
	}
	arrived := req.Arrived
	if arrived.IsZero() {
		arrived = now
	}
	tokens := max(own.Tokens, req.Tokens)
	until := arrived.Add(stay)
	bursty := arrived.Add(min(stay, time.Duration(tokens)*stayPerToken))
	r := &Refusal{Stay: true}
	switch kind {
	case ClosedBench:
		b := g.states[i].benchOf(family, now)
		if b.Login {
			return nil
		}
		if b.Verdict != verdictOverloaded {
			until = bursty
		}
		if b.Until.After(until) || !b.Until.Before(own.Until) {
			return nil
		}
		r.Until = b.Until
	case ClosedFull, ClosedProbe:
		if kind == ClosedFull {
			until = bursty
		}
		if own.Until.Before(until) {
			until = own.Until
		}
		if !now.Before(until) {
			return nil
		}
		// Whoever is there ends at a time that nobody knows; after this one it moves.
		r.Until, r.Busy = until, true
	default:
		return nil
	}
	r.Allowed, r.Serving = 1, 1
	r.Closures = []AccountClosure{{Name: g.members[i].Name, Closure: g.closure(i, kind, family, now)}}
	return r
}
