package pool

import "time"

// brake holds back requests for a model family while the whole service is
// overloaded: walking through the accounts would only add to the load. It is
// guarded by the pool's mutex.
type brake struct {
	seen    map[string]time.Time // when each account last said so, by key
	until   time.Time            // nobody asks before
	strikes int
	trying  int // requests in flight that find out whether it is over
}

const (
	// brakeMemory is how near in time two accounts' overloads must be to count as
	// one of the service.
	brakeMemory = 10 * time.Second
	brakeFirst  = time.Second
	brakeMost   = 15 * time.Second
)

// overloaded notes that an account was refused for want of capacity. others is
// how many accounts serve the family: when there is but one, its word is enough.
func (p *Pool) overloaded(family, key string, others int, now time.Time) {
	b := p.brakes[family]
	if b == nil {
		b = &brake{seen: make(map[string]time.Time)}
		p.brakes[family] = b
	}
	b.seen[key] = now
	for other, at := range b.seen {
		if now.Sub(at) > brakeMemory {
			delete(b.seen, other)
		}
	}
	if len(b.seen) < 2 && others > 0 && b.strikes == 0 || now.Before(b.until) {
		return
	}
	rest := min(brakeFirst<<min(b.strikes, maxDoublings), brakeMost)
	// Not all instances of a team shall come back in the same moment.
	b.until = now.Add(rest + time.Duration(p.rnd.Int64N(int64(rest)/4)))
	b.strikes++
}

// braked says until when requests for the family are held back; busy is true
// when the time is over and a request is finding out whether the overload is.
func (p *Pool) braked(family string, now time.Time) (until time.Time, busy bool) {
	b := p.brakes[family]
	if b == nil || b.strikes == 0 {
		return time.Time{}, false
	}
	if b.until.Sub(now) > 2*brakeMost {
		b.until = now // the clock went back
	}
	if now.Before(b.until) {
		return b.until, false
	}
	return time.Time{}, b.trying > 0
}

// releaseBrake ends the brake: the family was served.
func (p *Pool) releaseBrake(family string) { delete(p.brakes, family) }
