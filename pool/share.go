package pool

import "time"

// maxShares bounds how many people's recent use is kept.
const maxShares = 10_000

// shares is what each person used lately, in units of anthropic.Load: when the
// pool is short, who used least is served first.
type shares map[string]*decayed

func (s shares) charge(user string, cost float64, now time.Time) {
	d := s[user]
	if d == nil {
		if len(s) >= maxShares {
			s.forget(now)
		}
		d = &decayed{}
		s[user] = d
	}
	d.add(cost, now)
}

func (s shares) used(user string, now time.Time) float64 {
	if d := s[user]; d != nil {
		return d.at(now)
	}
	return 0
}

// forget drops those who used nothing that matters, or else everybody: that only
// makes all equal.
func (s shares) forget(now time.Time) {
	for user, d := range s {
		if now.Sub(d.At) > 6*burnMemory {
			delete(s, user)
		}
	}
	if len(s) >= maxShares {
		clear(s)
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
