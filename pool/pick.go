package pool

import (
	"math"
	"slices"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// Request is what choosing an account takes into account. The pool reads it until
// the lease has ended.
type Request struct {
	// User is the person, empty for nobody in particular.
	User string
	// Weight is the person's share of a short pool relative to the others'; 0 means 1.
	Weight float64
	// Session tells the person's conversations apart; empty for none.
	Session string
	// Parent is the session that started this one; empty for none.
	Parent string
	// Prefix names the beginning of the prompt that sessions share, its tools and
	// system text; 0 for none.
	Prefix   uint64
	Model    string
	Endpoint anthropic.Endpoint
	// Tokens is an estimate of the prompt's size.
	Tokens int64
	// CacheLife is how long the account's prompt cache stays warm after this request.
	CacheLife time.Duration
	// Bound is true when only the account that served the session before can read
	// all of it: cold is no reason to move then.
	Bound bool
	// Arrived is when the client's request came; zero for now.
	Arrived time.Time
	// Refs are the ids of things that the request names and one account holds.
	Refs []string
	// List is true when the request lists such things.
	List bool
	// Home is the account (Member.Name) where things of unknown place are looked for.
	Home string
	// Tried are the accounts (Member.Key) that this request must not go to again.
	Tried []string
	// Trace, when not nil, keeps the decisions and lends the leases.
	Trace *Trace
}

func (r *Request) family() string { return anthropic.Family(r.Model) }

// paid reports whether the request draws on the usage windows. Counting tokens
// and listing models do not: they have limits of their own.
func (r *Request) paid() bool { return r.Endpoint == anthropic.EndpointMessages }

// spends reports whether the request may cost something: a message, or a new batch.
func (r *Request) spends() bool {
	return r.paid() || r.Endpoint == anthropic.EndpointBatches && !r.List && len(r.Refs) == 0
}

// life is how long the session stays with the account that serves this request.
func (r *Request) life() time.Duration {
	if r.Bound {
		return max(r.CacheLife, BoundLife)
	}
	return r.CacheLife
}

// Why an account was chosen, or none.
const (
	ReasonPinned  = "pinned"
	ReasonSession = "session"
	ReasonPolicy  = "policy"
	// ReasonStay: the session waits for its own account, which is cheaper than a move.
	ReasonStay = "stay"
	// ReasonNone: no account can serve the request now.
	ReasonNone = "none"
)

// Lease is the right to send one request to one account. End must be called
// exactly once; Report may be called before it for each answer that came.
type Lease struct {
	Member *Member
	// Reason says why this account: ReasonPinned, ReasonSession or ReasonPolicy.
	Reason string

	group    *Group
	state    *account
	req      *Request
	family   string
	begun    time.Time // when the try was sent that is under way
	tried    time.Time // when the one was sent that was reported last
	reserved float64
	ended    bool
	// share is the person's, and expected what is counted there until the lease ends.
	share    *share
	expected float64
	// brake is set when this request finds out whether an overload is over.
	brake *brake
}

// Pick chooses an account for the request, or says why there is none.
func (g *Group) Pick(req *Request) (*Lease, *Refusal) {
	g.pool.mu.Lock()
	defer g.pool.mu.Unlock()
	return g.pick(req, 0, g.pool.now())
}

// pick is Pick with the lock held. A warm session waits for its own account for
// at most stay.
func (g *Group) pick(req *Request, stay time.Duration, now time.Time) (*Lease, *Refusal) {
	family := req.family()
	d := req.Trace.decision(now)
	i, reason, refused := g.decide(req, family, stay, d, now)
	if refused != nil {
		d.refuse(refused)
		return nil, refused
	}
	d.choose(g.members[i].Name, reason)
	return g.lend(i, reason, req, family, now), nil
}

// decide finds the member for the request or says why there is none. It changes
// nothing but d, which may be nil.
func (g *Group) decide(req *Request, family string, stay time.Duration, d *Decision, now time.Time) (index int, reason string, refused *Refusal) {
	only, refused := g.boundTo(req, now)
	if refused != nil {
		return -1, ReasonNone, refused
	}
	if req.paid() {
		if until, busy := g.pool.braked(family, now); busy || !until.IsZero() {
			return -1, ReasonNone, g.brakeRefusal(req, family, only, until, busy, now)
		}
	}
	index, reason, refused = g.choose(req, family, only, stay, d, now)
	if index < 0 && refused == nil {
		refused = g.refusal(req, family, only, now)
	}
	return index, reason, refused
}

// maxCompared is how many accounts a pool may have for a choice that the policy
// does not decide to be compared with all others, only to be shown: with hundreds
// that would cost more than everything else.
const maxCompared = 64

// choose finds the member for the request: the pinned one, the session's, or in
// the lowest open tier the policy's; a negative index for none. A refusal says
// that the session waits for its own.
func (g *Group) choose(req *Request, family, only string, stay time.Duration, d *Decision, now time.Time) (index int, reason string, refused *Refusal) {
	p := g.pool
	index = -1
	key, named := keyOf(req, family)
	var own *place
	if named {
		own = p.sessions.get(key)
	}
	if i, ok := g.byName[p.pin]; ok && g.closedBy(i, req, family, only, now) == Open {
		index, reason = i, ReasonPinned
	} else if own.livesAt(now) {
		if i, ok := g.byKey[own.Account]; ok {
			if kind := g.closedBy(i, req, family, only, now); kind == Open {
				index, reason = i, ReasonSession
			} else if stay > 0 {
				refused = g.stays(i, kind, req, family, own, stay, now)
				reason = ReasonStay
			}
		}
	}
	decided := index >= 0 || refused != nil
	if decided && (d == nil || len(g.members) > maxCompared) {
		return index, reason, refused
	}
	best := g.score(req, family, only, own, d, now)
	if decided {
		return index, reason, refused
	}
	if best < 0 {
		return -1, ReasonNone, nil
	}
	return best, ReasonPolicy, nil
}

// score asks the policy about every open account of the lowest open tier and
// returns the best one, negative for none.
func (g *Group) score(req *Request, family, only string, own *place, d *Decision, now time.Time) int {
	p := g.pool
	policy := g.policyNow()
	p.stamps++
	p.prefixes.stamp(req.Prefix, p.stamps, now)
	if a := p.accounts[own.homeOf(now)]; a != nil {
		a.homeStamp = p.stamps
	}
	if req.Parent != "" {
		if parent := p.sessions.get(sessionKey{User: req.User, Session: req.Parent, Family: family}); parent.livesAt(now) {
			if a := p.accounts[parent.Account]; a != nil {
				a.parentStamp = p.stamps
			}
		}
	}
	second := now.Unix()
	tier, top := math.MaxInt, math.Inf(-1)
	p.scores = p.scores[:0]
	d.begin(policy.Name())
	for i, m := range g.members {
		kind, mine := g.closedBy(i, req, family, only, now), m.tier(req.User)
		if d == nil && (kind != Open || mine > tier) {
			continue
		}
		c, score := g.rate(i, policy, req, family, now, second)
		if d != nil {
			d.add(g, i, c, score, kind, family, now)
			d.Accounts[len(d.Accounts)-1].Own = mine < 0
		}
		if kind != Open || mine > tier {
			continue
		}
		if mine < tier {
			tier, top = mine, math.Inf(-1)
			p.scores = p.scores[:0]
		}
		if score >= top-Equal || math.IsInf(top, -1) {
			p.scores = append(p.scores, scored{i, score})
			top = max(top, score)
		}
	}
	best := p.scores[:0]
	for _, s := range p.scores {
		if s.score >= top-Equal {
			best = append(best, s)
		}
	}
	if key, ok := keyOf(req, family); ok {
		return g.draw(best, &key)
	}
	return g.draw(best, nil)
}

// scored is a member with its score.
type scored struct {
	index int
	score float64
}

// followUps is how many requests' cost one in flight stands for: its session will
// soon send more.
const followUps = 3

// candidate fills c with what the account is to the policy now. Marks of this
// number are those of this request.
func (a *account) candidate(c *Candidate, m *Member, family string, stamp uint64, now time.Time) {
	c.Name, c.Weight = m.Name, m.weight()
	limits := a.limits
	c.FiveHour, c.SevenDay, c.Family = limits.fiveHour.standing(now), limits.sevenDay.standing(now), Window{}
	if limits.untouched() {
		// It may have windows: nothing was asked of it yet.
		c.FiveHour.Idle, c.SevenDay.Idle = true, true
	}
	c.InFlight, c.Turn = a.inFlight, a.turn
	c.WarmPrefix, c.Home, c.Parent = a.prefixStamp == stamp, a.homeStamp == stamp, a.parentStamp == stamp
	c.Burn, c.Bucket = 0, 0
	if ahead := followUps*(limits.reserved+limits.reservedElsewhere) + limits.burn.at(now) + limits.elsewhere.at(now); ahead > 0 {
		c.Burn = ahead / limits.fiveHourCapacity(c.Weight)
	}
	for _, w := range limits.windows {
		if w == limits.fiveHour || w == limits.sevenDay || !anthropic.WindowLimits(w.name, family) {
			continue
		}
		if s := w.standing(now); c.Family == (Window{}) || s.Head(0) < c.Family.Head(0) {
			c.Family = s
		}
	}
	for _, b := range limits.buckets {
		c.Bucket = max(c.Bucket, b.used(now))
	}
}

// lend hands out the account.
func (g *Group) lend(i int, reason string, req *Request, family string, now time.Time) *Lease {
	p := g.pool
	m, state := g.members[i], g.states[i]
	p.turns++
	state.turn = p.turns
	state.inFlight++
	state.limits.changed()
	state.lastUsed = now
	p.lastUsed = m.Name
	lease := req.Trace.lease()
	*lease = Lease{Member: m, Reason: reason, group: g, state: state, req: req, family: family, begun: now}
	lease.share, lease.expected = p.shares.get(req, now), p.expects(req, family)
	p.shares.begin(lease.share, lease.expected)
	if !req.paid() {
		return lease
	}
	lease.reserved = lease.expected
	state.reserved += lease.reserved
	state.limits.reserved += lease.reserved
	if key, ok := keyOf(req, family); ok && reason == ReasonPolicy {
		// Requests of the same session that come before the answer go along.
		s := p.sessions.put(key)
		if !s.livesAt(now) || s.Unproved {
			s.Account, s.Until, s.Unproved = m.Key, now.Add(req.life()), true
		}
	}
	if b := p.brakes[family]; b != nil && b.strikes > 0 {
		lease.brake = b
		b.trying++
	}
	return lease
}

// closedBy says what keeps a member from serving the request now; Open when
// nothing does. only is the key of the one account that may, empty for any.
func (g *Group) closedBy(i int, req *Request, family, only string, now time.Time) ClosureKind {
	m, a := g.members[i], g.states[i]
	switch {
	case len(m.Owners) > 0 && !m.Allows(req.User):
		return ClosedOwner
	case len(m.Models) > 0 && !m.Serves(req.Model):
		return ClosedModel
	case only != "" && m.Key != only:
		return ClosedBound
	case len(req.Tried) > 0 && slices.Contains(req.Tried, m.Key):
		return ClosedTried
	case a.ordered && a.order.closes(now):
		return ClosedOrder
	}
	if a.benched() {
		a.heal(now)
		if b := a.benchOf(family, now); b != nil && (req.paid() || a.needsLogin(family, now)) {
			return ClosedBench
		}
	}
	if m.MaxConcurrent > 0 && a.inFlight >= m.MaxConcurrent || req.paid() && a.limit.reached(a.inFlight) {
		return ClosedFull
	}
	if m.PlanOnly && req.paid() || !a.closedUntil.IsZero() && now.Before(a.closedUntil) && req.spends() {
		if b, busy := g.closing(i, family, now); b != nil {
			return ClosedLimit
		} else if busy {
			return ClosedFull
		}
	}
	if a.suspect && a.inFlight > 0 {
		return ClosedProbe
	}
	return Open
}

// needsLogin reports whether one of the benches that keep the account from serving
// the family now, which need not be the longest, is for want of a login.
func (a *account) needsLogin(family string, now time.Time) bool {
	return slices.ContainsFunc(a.benches, func(b bench) bool {
		return b.Login && (b.Family == wholeAccount || b.Family == family) && now.Before(b.Until)
	})
}
