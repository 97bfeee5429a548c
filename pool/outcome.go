package pool

import (
	"slices"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// Verdicts that the pool tells from others: "too many at once" while windows are
// open, and want of capacity of the whole service.
const (
	verdictBurst      = "burst"
	verdictOverloaded = "overloaded"
	// Want of quota.
	verdictAccountWindow = "account_window"
	verdictModelWindow   = "model_window"
	// There is a login, but no token just now.
	verdictCredential = "credential"
)

// Report tells what an answer, or its absence, meant. limits may be nil.
func (l *Lease) Report(v *anthropic.Verdict, limits *anthropic.Limits) {
	p := l.group.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.changes++
	if limits != nil {
		l.state.limits.changed()
		l.state.limits.learn(limits, now)
		l.state.limits.toldBy(limits, l.begun)
	}
	switch {
	case v.Served():
		// A free answer does not show that the paid endpoint serves again.
		if l.req.paid() || l.state.benchOf(l.family, now) == nil {
			if l.state.clear(l.family, l.begun, now) {
				p.hurry()
			}
		}
		if l.req.paid() {
			l.state.limit.served()
			p.releaseBrake(l.family)
		}
		p.settle(l, now)
	case v.Until.IsZero():
	case !l.req.paid() && !v.Login:
		// The limits of a free endpoint say nothing about the paid one.
	case v.Scope == anthropic.ScopeAccount:
		if v.Name == verdictBurst {
			l.state.limit.burst(l.state.inFlight, l.begun, now)
		}
		l.bench(wholeAccount, v, now)
	case v.Scope == anthropic.ScopeFamily, v.Scope == anthropic.ScopeProvider:
		l.bench(l.family, v, now)
		if v.Scope == anthropic.ScopeProvider {
			p.overloaded(l.family, l.Member.Key, l.group.others(l), now)
		}
	}
	// What the lease is used for next begins after this, and after a bench that this set.
	l.tried, l.begun = l.begun, now.Add(1)
	p.dispatch(now)
}

// others counts the accounts besides the lease's that could have had its request.
func (g *Group) others(l *Lease) (n int) {
	for _, m := range g.members {
		if m != l.Member && m.Allows(l.req.User) && m.Serves(l.req.Model) {
			n++
		}
	}
	return n
}

// maxDoublings bounds how far a bench grows whose length is our own guess.
const maxDoublings = 4

func (l *Lease) bench(family string, v *anthropic.Verdict, now time.Time) {
	until := v.Until
	if v.Source == "default" && v.Scope == anthropic.ScopeAccount {
		until = now.Add(until.Sub(now) << l.state.strike(l.begun, now))
	}
	l.state.setBench(bench{
		Family: family, Until: until, Since: now, Verdict: v.Name, Reason: v.Reason, Source: v.Source, Login: v.Login, Window: v.Window,
	})
	l.group.pool.hurry()
}

// How long an account rests whose upstream failed while another's served: 5 s,
// doubled each time, at most 60 s.
const (
	blameFirst = 5 * time.Second
	blameMost  = time.Minute
)

// blamed is when the try was sent that is blamed.
func (l *Lease) blamed() time.Time {
	if l.tried.IsZero() {
		return l.begun
	}
	return l.tried
}

// Blame benches the account for a failure of upstream or the network that
// another account did not share: only then is it the account's own.
func (l *Lease) Blame(v *anthropic.Verdict) {
	p := l.group.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.changes++
	rest := min(blameFirst<<l.state.strike(l.blamed(), now), blameMost)
	l.state.setBench(bench{Family: wholeAccount, Until: now.Add(rest), Since: now, Verdict: v.Name, Reason: v.Reason, Source: "default", Local: true})
}

// End gives the lease back and counts what the request used. Only the first
// call does anything.
func (l *Lease) End(used anthropic.Usage) {
	p := l.group.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.ended {
		return
	}
	now := p.now()
	p.changes++
	cost := l.cost(used)
	l.giveBack(l.shareCost(cost), now)
	l.state.totals.Attempts++
	l.state.limits.changed()
	if !used.IsZero() {
		l.state.totals.Usage.Add(used)
		l.state.local.add(used, now)
		p.charge(l, used, cost, now)
	}
	p.dispatch(now)
}

// cost is what the request drew on the account's windows.
func (l *Lease) cost(used anthropic.Usage) float64 {
	if !l.req.paid() {
		return 0
	}
	return anthropic.Load(l.req.Model, used)
}

// charge counts what the request cost where it matters for the next choice.
func (p *Pool) charge(l *Lease, used anthropic.Usage, cost float64, now time.Time) {
	if cost <= 0 {
		return
	}
	limits := l.state.limits
	for _, w := range limits.windows {
		if w.limits(limits, l.family) {
			w.Capacity.Spent += cost
		}
	}
	limits.burn.add(cost, now)
	limits.recent.add(cost, now)
	if l.state.cost == nil {
		l.state.cost = make(map[string]float64)
	}
	l.state.cost[l.family] += cost
	p.costs.learn(l.family, cost)
	if key, ok := keyOf(l.req, l.family); ok {
		if s := p.sessions.get(key); s != nil {
			s.Tokens = used.PromptTokens()
		}
	}
}

// giveBack undoes what a pick counted. shareCost is what is counted in its place in
// the person's share. mu must be held.
func (l *Lease) giveBack(shareCost float64, now time.Time) {
	l.ended = true
	l.group.pool.shares.end(l.share, l.expected, shareCost, now)
	l.state.inFlight--
	l.state.limits.changed()
	l.state.reserved = max(0, l.state.reserved-l.reserved)
	if l.state.inFlight == 0 {
		l.state.reserved = 0 // what rounding left
	}
	l.state.limits.resum()
	if l.brake != nil {
		l.brake.trying--
	}
	p := l.group.pool
	key, ok := keyOf(l.req, l.family)
	if !ok {
		return
	}
	if s := p.sessions.get(key); s != nil && s.Unproved && s.Account == l.state.key && l.Reason == ReasonPolicy {
		// It was not served there, so nothing is warm there.
		s.Until = time.Time{}
	}
}

// Revive ends every bench of the account that a credential can end: it has a new
// one.
func (p *Pool) Revive(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.accounts[key]
	if !ok {
		return
	}
	now := p.now()
	a.benches = slices.DeleteFunc(a.benches, func(b bench) bool {
		over := b.Login || b.Verdict == verdictCredential
		if over {
			a.ended = keepEnded(a.ended, b.Family, now)
			p.hurry()
		}
		return over
	})
	a.limits.changed()
	a.strikes = 0
	p.changes++
	p.dispatch(now)
}
