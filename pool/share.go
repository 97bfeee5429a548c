package pool

import (
	"math"
	"time"
)

// maxShares bounds how many people's shares are kept.
const maxShares = 10_000

// share is what one person has had of the pool, so that a short one can be shared by
// weight: start-time fair queueing, in units of anthropic.Load. It is guarded by the
// pool's mutex.
type share struct {
	// weight is that of the person's last request.
	weight float64
	// finished is what the person's requests cost, divided by their weight, and
	// running what those in flight are expected to. Together they say how far the
	// person is: who is least far is served first.
	finished, running float64
	// owed is how much less far than virtual the person may be: others went first
	// because requests in flight were expected to cost more than they did.
	owed float64
	// leases and waiting count the requests in flight and in line: with none of both
	// the person is idle, since idleAt.
	leases, waiting int
	idleAt          time.Time
	// recent decides between people who are equally far.
	recent decayed

	// Used by dispatch: the person's waiters that were not asked yet, and what they
	// are put against others by.
	first, last  *waiter
	rank, lately float64
}

// shares are people's shares by name.
type shares struct {
	of map[string]*share
	// virtual is how far whoever was served last had come by finished requests. Nobody
	// counts as less far, but for what they are owed: who comes anew, or was idle, is next, but has saved up nothing.
	virtual float64
	// active counts the people who are not idle.
	active int
}

const (
	// freeCost is what a request that draws on no window is taken for, so that a flood
	// of them has its place behind others, too.
	freeCost = firstCost / 10
	// unserved is the part of its expected cost that a request is counted for that used
	// nothing: it had its turn.
	unserved = 0.1
	// The range of weights.
	leastWeight, mostShareWeight = 1e-3, 1e6
)

// get is the share of the request's person.
func (s *shares) get(req *Request, now time.Time) *share {
	sh := s.of[req.User]
	if sh == nil {
		if len(s.of) >= maxShares {
			s.forget(now)
		}
		sh = &share{finished: s.virtual}
		s.of[req.User] = sh
	}
	sh.weight = 1
	if req.Weight > 0 {
		sh.weight = min(max(req.Weight, leastWeight), mostShareWeight)
	}
	if sh.idle() {
		sh.owed = 0
	}
	if sh.idle() && sh.finished > s.virtual {
		// Having been ahead fades as all recent use does.
		sh.finished = s.virtual + fade(sh.finished-s.virtual, now.Sub(sh.idleAt))
		sh.idleAt = now
	}
	return sh
}

func (sh *share) idle() bool { return sh.leases == 0 && sh.waiting == 0 }

// far is how far the person is.
func (s *shares) far(sh *share) float64 {
	return max(s.virtual-sh.owed, sh.finished+sh.running/sh.weight)
}

// begin counts a request that is expected to cost so much.
func (s *shares) begin(sh *share, cost float64) {
	far := s.far(sh)
	sh.finished = far - sh.running/sh.weight
	sh.owed = max(0, s.virtual-far)
	s.virtual = max(s.virtual, sh.finished)
	s.wake(sh)
	sh.leases++
	sh.running += cost
}

// end counts what a request cost that was expected to cost something else.
func (s *shares) end(sh *share, expected, cost float64, now time.Time) {
	sh.leases--
	sh.running = max(0, sh.running-expected)
	if sh.leases == 0 {
		sh.running = 0 // what rounding left
	}
	sh.finished += cost / sh.weight
	sh.owed += max(0, expected-cost) / sh.weight
	sh.recent.add(cost, now)
	s.rest(sh, now)
}

// join puts one of the person's requests in line.
func (s *shares) join(sh *share) {
	s.wake(sh)
	sh.waiting++
}

// leave takes one of the person's requests out of line.
func (s *shares) leave(sh *share, now time.Time) {
	sh.waiting--
	s.rest(sh, now)
}

// wake and rest count who is idle. wake comes before the request is counted, rest
// after.
func (s *shares) wake(sh *share) {
	if sh.idle() {
		s.active++
	}
}

func (s *shares) rest(sh *share, now time.Time) {
	if !sh.idle() {
		return
	}
	sh.idleAt = now
	if s.active--; s.active == 0 {
		// What somebody has used while nobody else wanted it takes nothing from others.
		s.virtual = max(s.virtual, sh.finished)
	}
}

// forget drops those who are idle and used nothing that matters, or else all who are
// idle: that only makes them equal.
func (s *shares) forget(now time.Time) {
	for user, sh := range s.of {
		if sh.idle() && now.Sub(sh.idleAt) > 6*burnMemory {
			delete(s.of, user)
		}
	}
	if len(s.of) < maxShares {
		return
	}
	for user, sh := range s.of {
		if sh.idle() {
			delete(s.of, user)
		}
	}
}

// costs is what a request costs on average, by model family.
type costs map[string]*float64

// firstCost is what a request is taken to cost before any has.
const firstCost = 20e3

func (c costs) expect(family string) float64 {
	if mean := c[family]; mean != nil {
		return *mean
	}
	return firstCost
}

func (c costs) learn(family string, cost float64) {
	mean := c[family]
	if mean == nil {
		first := firstCost
		mean = &first
		c[family] = mean
	}
	*mean += (cost - *mean) / 50
}

// expects is what the request is expected to cost in its person's share.
func (p *Pool) expects(req *Request, family string) float64 {
	if req.paid() {
		return p.costs.expect(family)
	}
	return freeCost
}

// shareCost is what the lease's request counts for in its person's share.
func (l *Lease) shareCost(cost float64) float64 {
	if cost > 0 && !math.IsInf(cost, 0) {
		return cost
	}
	return l.expected * unserved
}
