package pool

import "time"

// Window is a usage window of a candidate as it stands now. One that nothing is
// known of is as one that is not running.
type Window struct {
	// Used is the share that is used up, as last told; 0 once the window has started anew.
	Used float64
	// Left is the share of the window's time that is left, 1 when it is not running.
	Left float64
	// ResetIn is the time until it starts anew, 0 when it is not running.
	ResetIn time.Duration
	// Idle tells that the window is not running and the next request would start it.
	// It is false where the account does not tell of such windows.
	Idle bool
	// Capacity is what the whole window was found to hold, in units of
	// anthropic.Load; 0 when it is not known yet.
	Capacity float64
}

// Candidate is what a policy knows of an account for one request.
type Candidate struct {
	Name string
	// Weight is the account's configured size, at least 1.
	Weight float64
	// FiveHour and SevenDay limit every request. Family is, of those that limit the
	// request's model family only, the one with the least head; the zero Window where
	// there is none, whose head is no limit.
	FiveHour, SevenDay, Family Window
	// Burn is the share of the five-hour window that is expected to be used within
	// ten minutes beyond what was told: by the sessions that live there, at the rate
	// learned, and by the requests in flight.
	Burn float64
	// Bucket is the fullest classic limit (requests, tokens a minute), as a share
	// used; 0 without any.
	Bucket   float64
	InFlight int
	// WarmPrefix tells that another session left the same tools and system text in
	// the account's prompt cache, Home that this session lived there within six
	// hours, Parent that the session does which started this one.
	WarmPrefix, Home, Parent bool
	// Turn is the number of the pool's pick that the account last got; 0 if none.
	Turn uint64
}

// Policy chooses among the accounts that could serve a request: the one with the
// largest score gets it. Scores that differ by less than [Equal] count as the
// same; among those the pool draws, by weight. Score is called under the pool's
// lock: it must be fast, must not change or keep the candidate, and must give the
// same result for the same arguments.
type Policy interface {
	Name() string
	Score(now time.Time, req *Request, c *Candidate) float64
}

// Equal is how near two scores count as the same: upstream rounds utilization to
// a hundredth.
const Equal = 0.005

// Policies are the built-in policies by name.
var Policies = map[string]Policy{
	"balanced":      builtin{"balanced", balanced},
	"least_used":    builtin{"least_used", leastUsed},
	"fill_first":    builtin{"fill_first", fillFirst},
	"soonest_reset": builtin{"soonest_reset", soonestReset},
	"round_robin":   builtin{"round_robin", longestIdle},
}

// DefaultPolicy is the name of the policy that serves when none is configured.
const DefaultPolicy = "balanced"

type builtin struct {
	name  string
	score func(c *Candidate) float64
}

func (p builtin) Name() string { return p.name }

func (p builtin) Score(_ time.Time, _ *Request, c *Candidate) float64 { return p.score(c) }

// inFlightCost is how much of a window a request in flight is taken for, at an
// account of weight 1: what it will burn is not yet told.
const inFlightCost = 0.02

// leastUsed takes the emptiest account, over all windows.
func leastUsed(c *Candidate) float64 {
	return -max(c.FiveHour.Used, c.SevenDay.Used, c.Family.Used, c.Bucket) - inFlightCost*float64(c.InFlight)/c.Weight
}

// fillFirst uses up the fullest account before it touches the next.
func fillFirst(c *Candidate) float64 {
	return max(c.FiveHour.Used, c.SevenDay.Used, c.Family.Used, c.Bucket)
}

// soonestReset uses what would be lost first, in hours; accounts whose windows
// are not running come last.
func soonestReset(c *Candidate) float64 {
	const never = 1e9
	hours := func(w *Window) float64 {
		if w.ResetIn <= 0 {
			return never
		}
		return w.ResetIn.Hours()
	}
	return -min(hours(&c.SevenDay), hours(&c.FiveHour)+24*7)
}

// longestIdle goes round.
func longestIdle(c *Candidate) float64 { return -float64(c.Turn) }
