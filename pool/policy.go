package pool

import (
	"math"
	"time"
)

// Candidate is an account that could serve the request now, as a policy sees it.
type Candidate struct {
	Name string
	// Weight is the account's configured size, at least 1.
	Weight float64
	// FiveHour, SevenDay and Family are the utilization of the windows that limit
	// the request, 0 when nothing is known or the window has started anew.
	FiveHour, SevenDay, Family float64
	// FiveHourReset and SevenDayReset are zero when unknown or past.
	FiveHourReset, SevenDayReset time.Time
	InFlight                     int
	// Turn is the number of the pool's pick that the account last got; 0 if none.
	Turn uint64
}

// Policy chooses among the accounts that could serve a request. Choose is called
// with at least two candidates, in the order of the configuration, under the
// pool's lock: it must be fast, keep no reference and have no state that it does
// not guard itself. random(n) gives an integer in [0, n). The result is an index
// into candidates.
type Policy interface {
	Name() string
	Choose(now time.Time, req *Request, candidates []Candidate, random func(n int) int) int
}

// Policies are the built-in policies by name.
var Policies = map[string]Policy{
	"least_used":    byScore{"least_used", leastUsed},
	"fill_first":    byScore{"fill_first", fillFirst},
	"soonest_reset": byScore{"soonest_reset", soonestReset},
	"round_robin":   byScore{"round_robin", longestIdle},
}

// DefaultPolicy is the name of the policy that serves when none is configured.
const DefaultPolicy = "least_used"

// byScore takes the lowest score; among equals it draws, by weight.
type byScore struct {
	name  string
	score func(now time.Time, c *Candidate) float64
}

func (p byScore) Name() string { return p.name }

// equal is how near two scores count as the same: upstream rounds utilization
// to a hundredth.
const equal = 0.005

func (p byScore) Choose(now time.Time, _ *Request, candidates []Candidate, random func(int) int) int {
	best := math.Inf(1)
	for i := range candidates {
		best = min(best, p.score(now, &candidates[i]))
	}
	total, chosen := 0, 0
	for i := range candidates {
		if p.score(now, &candidates[i]) > best+equal {
			continue
		}
		w := int(candidates[i].Weight)
		total += w
		if random(total) < w {
			chosen = i
		}
	}
	return chosen
}

// inFlightCost is how much of a window a request in flight is taken for, at an
// account of weight 1: what it will burn is not yet told.
const inFlightCost = 0.02

func leastUsed(_ time.Time, c *Candidate) float64 {
	return max(c.FiveHour, c.SevenDay, c.Family) + inFlightCost*float64(c.InFlight)/c.Weight
}

// fillFirst uses up the fullest account before it touches the next.
func fillFirst(_ time.Time, c *Candidate) float64 { return -max(c.FiveHour, c.SevenDay, c.Family) }

// soonestReset uses what would be lost first; accounts whose windows are not
// running come last.
func soonestReset(now time.Time, c *Candidate) float64 {
	const never = 1e9
	left := func(t time.Time) float64 {
		if t.IsZero() {
			return never
		}
		return t.Sub(now).Hours()
	}
	return min(left(c.SevenDayReset), left(c.FiveHourReset)+24*7)
}

func longestIdle(_ time.Time, c *Candidate) float64 { return float64(c.Turn) }
