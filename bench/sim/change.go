package main

import (
	"time"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

// change takes something away from a policy, to see what it buys. The pool has no
// switches for this: what is told to it, and what the policy sees, is changed.
type change struct {
	noSession, noPrefix, noStay bool
	// lifeShare is how much of the cache's life the pool is told; 0 for all.
	lifeShare float64
	// blind takes facts out of a candidate.
	blind func(*pool.Candidate)
	// retell changes an answer before the pool is told.
	retell func(a *answer, now time.Time)
}

// blinded is a policy that does not see everything.
type blinded struct {
	pool.Policy
	blind func(*pool.Candidate)
	seen  pool.Candidate // kept, so that a decision costs no memory
}

func (b *blinded) Score(now time.Time, req *pool.Request, c *pool.Candidate) float64 {
	b.seen = *c
	b.blind(&b.seen)
	return b.Policy.Score(now, req, &b.seen)
}

// ablations are balanced without one part each.
func ablations() []rule {
	idle := pool.Window{Left: 1}
	all := []rule{
		{name: "no stickiness", change: &change{noSession: true}},
		{name: "no waiting in place", change: &change{noStay: true}},
		{name: "no weekly term", change: &change{blind: func(c *pool.Candidate) { c.SevenDay = idle }}},
		{name: "no 5h term", change: &change{blind: func(c *pool.Candidate) { c.FiveHour, c.Burn = idle, 0 }}},
		{name: "flat 60 s cooldowns", change: &change{retell: flatCooldown}},
		{name: "no prefix bonus", change: &change{noPrefix: true}},
		{name: "no home bonus", change: &change{blind: func(c *pool.Candidate) { c.Home = false }}},
		{name: "no burn projection", change: &change{blind: func(c *pool.Candidate) { c.Burn = 0 }}},
		{name: "idle windows as on pace", change: &change{blind: func(c *pool.Candidate) { c.FiveHour.Idle, c.SevenDay.Idle = false, false }}},
		{name: "no learned in-flight limit", change: &change{retell: unnamedBurst}},
		{name: "half the cache life", change: &change{lifeShare: 0.5}},
	}
	for i := range all {
		all[i].policy = "balanced"
	}
	return all
}

// flatCooldown closes an account that is out for a minute, whatever its reset is.
func flatCooldown(a *answer, now time.Time) {
	if a.kind == quotaSpent || a.kind == opusSpent {
		a.verdict.Until, a.verdict.Source = now.Add(time.Minute), "retry-after"
	}
}

// unnamedBurst closes an account that was asked too much at once, without teaching
// the pool how much that is.
func unnamedBurst(a *answer, _ time.Time) {
	if a.kind == burst {
		a.verdict.Name = "busy"
	}
}
