package main

import (
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// chooser is a rule at work. Each method belongs to one request of r.
type chooser interface {
	// join sets r.decision and returns true, or returns false when r must wait; then
	// the event joined comes, unless leave is called before.
	join(r *runner, hold time.Duration) bool
	leave(r *runner)
	report(r *runner, a *answer)
	end(r *runner, used anthropic.Usage)
}

// rule is one way of choosing, in a world.
type rule struct {
	name string
	// policy is the name of the pool's; empty for the original's rule.
	policy string
	// free: moving costs nothing in this world.
	free bool
	// change is what is taken away from the policy or from what it is told; nil for
	// nothing.
	change *change
}

// rules are all that are compared by default.
func rules() []rule {
	all := []rule{{name: "original"}}
	for _, name := range []string{"round_robin", "soonest_reset", "fill_first", "least_used", "balanced"} {
		if _, ok := pool.Policies[name]; ok {
			all = append(all, rule{name: name, policy: name})
		}
	}
	all = append(all, rule{name: "round_robin_by_turn", policy: "round_robin", change: &change{noSession: true}})
	if _, ok := pool.Policies["balanced"]; ok {
		all = append(all, rule{name: "free_switching", policy: "balanced", free: true})
	}
	return all
}

func (r *rule) chooser(w *run) chooser {
	if r.policy == "" {
		return newOriginal(w)
	}
	return newPooled(w, r)
}
