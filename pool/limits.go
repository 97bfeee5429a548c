package pool

import (
	"slices"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// limits is what upstream counts for one organisation: accounts whose credentials
// belong to it draw on the same. An account whose organisation nobody knows has
// limits of its own. They are guarded by the pool's mutex.
type limits struct {
	benches  []bench   // at most one for each family, all for want of quota
	windows  []*window // one for each name that was ever told
	sharers  []*account
	identity string // empty for those of one account whose identity is not known
	// fiveHour and sevenDay are those of windows that limit every model; nil until told.
	fiveHour, sevenDay *window
	buckets            map[string]bucket // classic limits of an API key, by name

	// reserved is what the requests in flight of all sharers are expected to cost,
	// burn what the sessions there cost lately: see capacity.go.
	reserved float64
	burn     decayed
	// elsewhere and reservedElsewhere are the same of other instances.
	elsewhere         decayed
	reservedElsewhere float64

	overage overage
	// recent are the requests that ended lately, see unseen.
	recent recentCosts
	// paidUntil is how long the plan is taken to be used up since an answer was paid
	// for as extra usage.
	paidUntil time.Time
	ended     map[string]time.Time // as account.ended, of these benches
}

// overage is what upstream says of paid extra usage.
type overage struct {
	Status string    `json:"status,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// shared reports whether the bench is for want of quota, which another
// credential of the organisation would want just as much.
func (b *bench) shared() bool {
	return b.Window != "" || b.Verdict == verdictAccountWindow || b.Verdict == verdictModelWindow
}

// changed makes all who share the limits be rated anew.
func (l *limits) changed() {
	for _, a := range l.sharers {
		a.rating.second = 0
	}
}

func (l *limits) learn(said *anthropic.Limits, now time.Time) {
	for i := range said.Windows {
		l.window(said.Windows[i].Name).learn(&said.Windows[i], now)
	}
	for _, b := range said.Buckets {
		if b.Limit < 0 && b.Remaining < 0 {
			continue
		}
		if l.buckets == nil {
			l.buckets = make(map[string]bucket)
		}
		l.buckets[b.Name] = bucket{Limit: b.Limit, Remaining: b.Remaining, Reset: b.Reset, At: now}
	}
	l.pays(said, now)
	if said.OverageStatus != "" {
		l.overage = overage{said.OverageStatus, said.OverageReason, now}
	}
}

// window finds or makes the window of that name.
func (l *limits) window(name string) *window {
	for _, w := range l.windows {
		if w.name == name {
			return w
		}
	}
	w := &window{name: name}
	l.windows = append(l.windows, w)
	switch name {
	case "5h":
		l.fiveHour = w
	case "7d":
		l.sevenDay = w
	}
	return w
}

// untouched reports whether nothing was ever asked of the limits.
func (l *limits) untouched() bool {
	return len(l.windows) == 0 && !slices.ContainsFunc(l.sharers, func(a *account) bool { return !a.totals.Usage.IsZero() })
}

// limits reports whether the window limits requests to the family.
func (w *window) limits(l *limits, family string) bool {
	return w == l.fiveHour || w == l.sevenDay || anthropic.WindowLimits(w.name, family)
}

// fiveHourCapacity is what the five-hour window holds.
func (l *limits) fiveHourCapacity(weight float64) float64 {
	first := firstCapacity * weight
	if l.fiveHour == nil {
		return first
	}
	c := &l.fiveHour.Capacity
	return max((first*firstTrust+c.Cost)/(firstTrust+c.Growth), first*1e-3)
}

// resum counts what is reserved from what each sharer has: no rounding stays.
func (l *limits) resum() {
	l.reserved = 0
	for _, a := range l.sharers {
		l.reserved += a.reserved
	}
}

// absorb takes over what o knows better, when both turn out to be one.
func (l *limits) absorb(o *limits, now time.Time) {
	for _, w := range o.windows {
		l.window(w.name).merge(w)
	}
	for name, b := range o.buckets {
		l.mergeBucket(name, b)
	}
	if o.overage.At.After(l.overage.At) {
		l.overage = o.overage
	}
	for _, b := range o.benches {
		l.benches = mergeBench(l.benches, b)
	}
	for family, at := range o.ended {
		l.ended = keepEnded(l.ended, family, at)
	}
	for family, at := range l.ended {
		l.benches = endBenches(l.benches, family, at)
	}
	if l.burn.Sum > 0 || o.burn.Sum > 0 {
		l.burn.add(o.burn.at(now), now)
	}
}

func (l *limits) mergeBucket(name string, b bucket) {
	old, known := l.buckets[name]
	if known && !b.At.After(old.At) || !known && len(l.buckets) >= maxRestored {
		return
	}
	if l.buckets == nil {
		l.buckets = make(map[string]bucket)
	}
	l.buckets[name] = b
}

// mergeBench takes over a bench that was set later than what is known.
func mergeBench(benches []bench, b bench) []bench {
	for i := range benches {
		if benches[i].Family == b.Family {
			if b.Since.After(benches[i].Since) {
				benches[i] = b
			}
			return benches
		}
	}
	if len(benches) >= maxRestored {
		return benches
	}
	return append(benches, b)
}

// join makes the account draw on l.
func (a *account) join(l *limits) {
	if old := a.limits; old != nil {
		old.sharers = slices.DeleteFunc(old.sharers, func(o *account) bool { return o == a })
		old.resum()
		old.changed()
	}
	a.limits = l
	l.sharers = append(l.sharers, a)
	l.resum()
	l.changed()
}

// Identify tells whose limits the account (Member.Key) draws on: accounts of equal
// identity share them, and what is known of each becomes known of all. An identity
// that replaces another is another organisation's: the account leaves what it
// shared and nothing is known of its new limits but what its new sharers know.
// Empty means that nobody can tell. An account that the pool does not have is
// ignored.
func (p *Pool) Identify(key, identity string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.accounts[key]
	if !ok || a.identity == identity {
		return
	}
	now := p.now()
	p.identify(a, identity, now)
	p.changes++
	p.hurry()
	p.dispatch(now)
}

// identify notes whose limits an account draws on since at. mu must be held.
func (p *Pool) identify(a *account, identity string, at time.Time) {
	a.identityAt = at
	if a.identity == identity {
		return
	}
	known, before := a.identity != "", a.limits
	a.identity = identity
	l := p.limits[identity]
	if identity == "" || l == nil {
		if known {
			l = &limits{}
		} else {
			l = before // what is known of it goes with it
		}
		l.identity = identity
		if identity != "" {
			p.limits[identity] = l
		}
	} else if !known {
		l.absorb(before, p.now())
	}
	if l != before {
		a.join(l)
	}
	if before != l && len(before.sharers) == 0 && p.limits[before.identity] == before {
		delete(p.limits, before.identity)
	}
}

// snapshotWindows copies what is told of usage windows, by name.
func (l *limits) snapshotWindows() map[string]*window {
	windows := make(map[string]*window, len(l.windows))
	for _, w := range l.windows {
		copied := *w
		windows[w.name] = &copied
	}
	return windows
}
