package main

import "time"

// world is upstream, and what is true of it whether or not anybody was told.
type world struct {
	seed      uint64
	accounts  []account
	overloads []episode
	prefixes  prefixCache
	ttl       time.Duration
	// free: moving costs nothing, since caches belong to all accounts.
	free bool
	// watch, when not nil, is called for every request that is admitted and for what
	// is used outside.
	watch func(account int, model uint8, cost float64, now time.Duration)
}

const (
	overloadedShare = 0.6    // of the requests in an overload episode
	backgroundShare = 0.0015 // of those at other times
)

// newWorld copies what a run changes.
func newWorld(s *scenario, accounts []account, free bool) *world {
	w := &world{
		seed: s.Seed, accounts: make([]account, len(accounts)), prefixes: make(prefixCache, len(accounts)), ttl: seconds(60 * s.TTL), free: free,
		overloads: drawEpisodes(newSource(s.Seed, forOverloads, 0), time.Duration(s.Weeks)*week, s.Overloads/float64(week), 30, 240),
	}
	for i, a := range accounts {
		a.windows = append([]window(nil), a.windows...)
		a.minute = append([]time.Duration(nil), a.minute...)
		w.accounts[i] = a
	}
	return w
}

// draw is a number in [0, 1) for one thing about one sending of one turn. It is
// the same for every rule.
func (w *world) draw(p purpose, turn int, sending int) float64 {
	return unit(mix(w.seed, uint64(p), word(turn), word(sending)))
}

// ask is what the account does with the sending of a turn.
func (w *world) ask(index int, model uint8, turn int, sending int, now time.Duration) (kind answerKind, retryAfter time.Duration) {
	a := &w.accounts[index]
	if now >= a.dead {
		return revoked, 0
	}
	if whole, scoped := a.spent(model, now); whole {
		return quotaSpent, 0
	} else if scoped {
		return opusSpent, 0
	}
	bursty := current(&a.bursts, now)
	if bursty != nil && !bursty.told {
		return windowless, 0
	}
	if bursty != nil || a.crowded(now) {
		return burst, 2*time.Second + seconds(6*w.draw(forRetryAfter, turn, sending)).Truncate(time.Second)
	}
	p, share := forBackground, backgroundShare
	if current(&w.overloads, now) != nil {
		p, share = forOverloaded, overloadedShare
	}
	if w.draw(p, turn, sending) < share {
		return overloaded, 0
	}
	return served, 0
}

// serve admits a turn and returns what it cost and how much of it was cached.
func (w *world) serve(index int, s *session, c *sessionCache, t *turn, now time.Duration) (cached int, charged float64) {
	place := index
	if w.free {
		place = 0
	}
	if t.known == 0 {
		c.forget()
	}
	cached = max(min(c.has(place, now), t.known), w.prefixes.has(place, s, now))
	charged = cost(s.model, cached, t.prompt-cached, t.output)
	until := now + t.headAfter() + w.ttl
	c.put(place, t.prompt, until)
	w.prefixes.put(place, s, until)
	w.accounts[index].admit(s.model, charged, now)
	if w.watch != nil {
		w.watch(index, s.model, charged, now)
	}
	return cached, charged
}

// useOutside is a chunk of somebody else's use. It is refused where the account is
// out.
func (w *world) useOutside(index int, c chunk, now time.Duration) {
	a := &w.accounts[index]
	if whole, _ := a.spent(sonnet, now); whole || now >= a.dead {
		return
	}
	a.charge(sonnet, c.cost, now)
	if w.watch != nil {
		w.watch(index, sonnet, c.cost, now)
	}
}
