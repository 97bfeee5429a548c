package pool

import "time"

// Upstream tells utilization as a share and never how much a whole window is.
// What an account's requests cost against how its utilization grew says it: the
// unit is [anthropic.Load]'s.

const (
	// firstCapacity is what a five-hour window of an account of weight 1 is taken for
	// until more is known: about a Max 5x plan's.
	firstCapacity = 20e6
	// firstTrust is how much growth of utilization outweighs that guess.
	firstTrust = 0.02
	// memory is how much growth is remembered: older answers fade, since plans change.
	memory = 3
)

// capacity learns how much a window holds.
type capacity struct {
	// Cost and Growth are summed over what was told: their ratio is the capacity.
	Cost   float64 `json:"cost"`
	Growth float64 `json:"growth"`
	// Spent is what has been spent since Utilization was told in the window that ends
	// at Reset.
	Spent       float64   `json:"spent,omitempty"`
	Utilization float64   `json:"utilization"`
	Reset       time.Time `json:"reset,omitzero"`
}

const (
	// sameWindow is how far apart two tellings of one window's reset may be.
	sameWindow = time.Hour
	// lateAnswer is how far utilization falls back when answers overtake one another.
	lateAnswer = 0.02
)

// told takes note of the window's utilization.
func (c *capacity) told(utilization float64, reset time.Time) {
	growth := utilization - c.Utilization
	switch {
	case reset.Sub(c.Reset).Abs() > sameWindow || growth < -lateAnswer:
		// Another window, or it started anew: nothing to compare with.
		c.Utilization, c.Reset, c.Spent = utilization, reset, 0
	case growth > 0:
		c.Cost += c.Spent
		c.Growth += growth
		if c.Growth > memory {
			c.Cost, c.Growth = c.Cost*memory/c.Growth, memory
		}
		c.Utilization, c.Spent = utilization, 0
	}
}

// units is the capacity, 0 when nothing was learned.
func (c *capacity) units() float64 {
	if c.Growth <= 0 || c.Cost <= 0 {
		return 0
	}
	return c.Cost / c.Growth
}

// fiveHourCapacity is what the account's five-hour window holds.
func (a *account) fiveHourCapacity(weight float64) float64 {
	first := firstCapacity * weight
	if a.fiveHour == nil {
		return first
	}
	c := &a.fiveHour.Capacity
	return max((first*firstTrust+c.Cost)/(firstTrust+c.Growth), first*1e-3)
}

// decayed is a sum that fades with burnMemory.
type decayed struct {
	Sum float64   `json:"sum"`
	At  time.Time `json:"at,omitzero"`
}

// burnMemory is the time in which a decayed sum falls to about 1/e. A steady
// rate's sum is what comes in that time, so it also tells what the next ten minutes
// will cost.
const burnMemory = 10 * time.Minute

func (d *decayed) at(now time.Time) float64 {
	if d.Sum == 0 {
		return 0
	}
	x := float64(now.Sub(d.At)) / float64(burnMemory)
	switch {
	case x <= 0:
		return d.Sum
	case x > 8:
		return 0
	}
	// The first terms of exp(x): near enough, and a choice among hundreds of accounts
	// has no time for more.
	return d.Sum / (1 + x + x*x/2)
}

func (d *decayed) add(amount float64, now time.Time) {
	d.Sum, d.At = max(0, d.at(now)+amount), now
}

// inFlightLimit learns how many requests an account takes at once: halved when
// it says "too many" while its windows are open, and slowly raised again. 0 is no
// limit.
type inFlightLimit float64

// mostInFlight is where the limit no longer means anything.
const mostInFlight = 100

func (l *inFlightLimit) burst(inFlight int) {
	n := float64(inFlight)
	if *l > 0 {
		n = min(n, float64(*l))
	}
	*l = inFlightLimit(max(1, n/2))
}

func (l *inFlightLimit) served() {
	if *l > 0 {
		if *l += 1 / *l; *l > mostInFlight {
			*l = 0
		}
	}
}

func (l inFlightLimit) reached(inFlight int) bool { return l > 0 && float64(inFlight) >= float64(l) }
