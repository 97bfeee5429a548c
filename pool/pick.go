package pool

import (
	"slices"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// Request is what choosing an account takes into account.
type Request struct {
	// User is the person, empty for nobody in particular.
	User string
	// Session tells the person's conversations apart; empty for none.
	Session  string
	Model    string
	Endpoint anthropic.Endpoint
	// CacheLife is how long the account's prompt cache stays warm after this request.
	CacheLife time.Duration
	// Refs are the ids of things that the request names and one account holds.
	Refs []string
	// List is true when the request lists such things.
	List bool
	// Home is the account (Member.Name) where things of unknown place are looked for.
	Home string
	// Tried are the accounts (Member.Key) that this request has been to.
	Tried []string
}

func (r *Request) family() string { return anthropic.Family(r.Model) }

// paid reports whether the request draws on the usage windows. Counting tokens
// and listing models do not: they have limits of their own.
func (r *Request) paid() bool { return r.Endpoint == anthropic.EndpointMessages }

// Why an account was chosen.
const (
	ReasonPinned  = "pinned"
	ReasonSession = "session"
	ReasonPolicy  = "policy"
)

// Lease is the right to send one request to one account. End must be called
// exactly once; Report may be called before it for each answer that came.
type Lease struct {
	Member *Member
	// Reason says why this account: one of the Reason constants.
	Reason string

	group *Group
	state *account
	req   Request
	begun time.Time
	ended bool
	// brake is set when this request finds out whether an overload is over.
	brake *brake
}

// Pick chooses an account for the request, or says why there is none.
func (g *Group) Pick(req *Request) (*Lease, *Refusal) {
	g.pool.mu.Lock()
	defer g.pool.mu.Unlock()
	return g.pick(req, g.pool.now())
}

// pick is Pick with the lock held.
func (g *Group) pick(req *Request, now time.Time) (*Lease, *Refusal) {
	p := g.pool
	family := req.family()
	p.scratch, p.indices = p.scratch[:0], p.indices[:0]
	only, refused := g.boundTo(req, now)
	if refused != nil {
		return nil, refused
	}
	if req.paid() {
		if until, busy := p.braked(family, now); busy || !until.IsZero() {
			return nil, g.brakeRefusal(req, family, only, until, busy, now)
		}
	}
	for i, m := range g.members {
		g.states[i].heal(now)
		if g.closed(i, req, family, only, now) == nil {
			p.scratch = append(p.scratch, candidate(m, g.states[i], family, now))
			p.indices = append(p.indices, i)
		}
	}
	if len(p.indices) == 0 {
		return nil, g.refusal(req, family, only, now)
	}
	i, reason := g.choose(req, now)
	m, state := g.members[i], g.states[i]
	p.turns++
	state.turn = p.turns
	state.inFlight++
	state.lastUsed = now
	p.lastUsed = m.Name
	if id := sessionID(req.User, req.Session); id != "" && req.paid() && reason != ReasonPinned {
		p.sessions.put(id, m.Key, now.Add(req.CacheLife))
	}
	lease := &Lease{Member: m, Reason: reason, group: g, state: state, req: *req, begun: now}
	if b := p.brakes[family]; b != nil && b.strikes > 0 && req.paid() {
		lease.brake = b
		b.trying++
	}
	return lease, nil
}

// choose picks one of the candidates in p.scratch: the pinned account, the
// session's, or in the lowest tier the policy's.
func (g *Group) choose(req *Request, now time.Time) (index int, reason string) {
	p := g.pool
	if p.pin != "" {
		for _, i := range p.indices {
			if g.members[i].Name == p.pin {
				return i, ReasonPinned
			}
		}
	}
	if id := sessionID(req.User, req.Session); id != "" {
		if key, ok := p.sessions.get(id, now); ok {
			for _, i := range p.indices {
				if g.members[i].Key == key {
					return i, ReasonSession
				}
			}
		}
	}
	tier := g.members[p.indices[0]].Priority
	for _, i := range p.indices {
		tier = min(tier, g.members[i].Priority)
	}
	n := 0
	for k, i := range p.indices {
		if g.members[i].Priority == tier {
			p.scratch[n], p.indices[n] = p.scratch[k], i
			n++
		}
	}
	if n == 1 {
		return p.indices[0], ReasonPolicy
	}
	chosen := g.policy.Choose(now, req, p.scratch[:n], p.rnd.IntN)
	if chosen < 0 || chosen >= n {
		chosen = 0
	}
	return p.indices[chosen], ReasonPolicy
}

func candidate(m *Member, a *account, family string, now time.Time) Candidate {
	c := Candidate{Name: m.Name, Weight: m.weight(), InFlight: a.inFlight, Turn: a.turn}
	for name, w := range a.windows {
		switch {
		case name == "5h":
			c.FiveHour, c.FiveHourReset = w.used(now), future(w.Reset, now)
		case name == "7d":
			c.SevenDay, c.SevenDayReset = w.used(now), future(w.Reset, now)
		case anthropic.WindowLimits(name, family):
			c.Family = max(c.Family, w.used(now))
		}
	}
	return c
}

func future(t, now time.Time) time.Time {
	if t.After(now) {
		return t
	}
	return time.Time{}
}

// closed says why a member cannot serve the request now; nil when it can. only is
// the key of the one account that may, empty for any.
func (g *Group) closed(i int, req *Request, family, only string, now time.Time) *Closure {
	m, a := g.members[i], g.states[i]
	switch {
	case !m.Allows(req.User):
		return &closureOwner
	case !m.Serves(req.Model):
		return &closureModel
	case only != "" && m.Key != only:
		return &closureBound
	case slices.Contains(req.Tried, m.Key):
		return &closureTried
	}
	if b, benched := a.benchOf(family, now); benched && (req.paid() || b.Login) {
		return &Closure{Kind: ClosedBench, Until: b.Until, Verdict: b.Verdict, Window: b.Window, Login: b.Login, Reason: b.Reason}
	}
	if m.MaxConcurrent > 0 && a.inFlight >= m.MaxConcurrent {
		return &closureFull
	}
	if a.suspect && a.inFlight > 0 {
		return &closureProbe
	}
	return nil
}

// Report tells what an answer, or its absence, meant. limits may be nil.
func (l *Lease) Report(v *anthropic.Verdict, limits *anthropic.Limits) {
	p := l.group.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.changes++
	if limits != nil {
		l.state.learn(limits, now)
	}
	family := l.req.family()
	switch {
	case v.Served():
		l.state.clear(family, l.begun, now)
		if l.req.paid() {
			p.releaseBrake(family)
		}
		if id := sessionID(l.req.User, l.req.Session); id != "" && l.req.paid() && l.Reason != ReasonPinned {
			p.sessions.put(id, l.Member.Key, now.Add(l.req.CacheLife))
		}
	case v.Until.IsZero():
	case !l.req.paid() && !v.Login:
		// The limits of a free endpoint say nothing about the paid one.
	case v.Scope == anthropic.ScopeAccount:
		l.bench(wholeAccount, v, now)
	case v.Scope == anthropic.ScopeFamily, v.Scope == anthropic.ScopeProvider:
		l.bench(family, v, now)
		if v.Scope == anthropic.ScopeProvider {
			p.overloaded(family, l.Member.Key, l.group.others(l), now)
		}
	}
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
		until = now.Add(until.Sub(now) << min(l.state.strikes, maxDoublings))
	}
	l.state.strikes++
	l.state.setBench(family, bench{
		Until: until, Since: now, Verdict: v.Name, Reason: v.Reason, Source: v.Source, Login: v.Login, Window: v.Window,
	})
}

// How long an account rests whose upstream failed while another's served: 5 s,
// doubled each time, at most 60 s.
const (
	blameFirst = 5 * time.Second
	blameMost  = time.Minute
)

// Blame benches the account for a failure of upstream or the network that
// another account did not share: only then is it the account's own.
func (l *Lease) Blame(v *anthropic.Verdict) {
	p := l.group.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.changes++
	rest := min(blameFirst<<min(l.state.strikes, maxDoublings), blameMost)
	l.state.strikes++
	l.state.setBench(wholeAccount, bench{Until: now.Add(rest), Since: now, Verdict: v.Name, Reason: v.Reason, Source: "default"})
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
	l.ended = true
	now := p.now()
	p.changes++
	l.giveBack()
	l.state.totals.Attempts++
	if !used.IsZero() {
		l.state.totals.Usage.Add(used)
		l.state.local.add(used, now)
	}
	p.dispatch(now)
}

// giveBack undoes what a pick counted. mu must be held.
func (l *Lease) giveBack() {
	l.state.inFlight--
	if l.brake != nil {
		l.brake.trying--
	}
}

// Revive ends every bench of the account that a login can end: its credential
// is new.
func (p *Pool) Revive(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.accounts[key]
	if !ok {
		return
	}
	for scope, b := range a.benches {
		if b.Login {
			delete(a.benches, scope)
		}
	}
	a.strikes = 0
	p.changes++
	p.dispatch(p.now())
}
