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
	// Told is true once anything was: the first telling only says where it begins.
	Told bool `json:"told,omitempty"`
}

const (
	// sameWindow is how far apart two tellings of one window's reset may be.
	sameWindow = time.Hour
	// lateAnswer is how far utilization falls back when answers overtake one another.
	lateAnswer = 0.1
	// rounding is how far the difference of two hundredths may be off.
	rounding = 1e-9
)

// told takes note of the window's utilization.
func (c *capacity) told(utilization float64, reset time.Time) {
	growth := utilization - c.Utilization
	switch {
	case !c.Told || reset.Sub(c.Reset).Abs() > sameWindow || growth < -lateAnswer-rounding:
		// Another window, or it started anew: nothing to compare with.
		c.Utilization, c.Reset, c.Spent, c.Told = utilization, reset, 0, true
	case growth > 0:
		c.Cost += c.Spent
		c.Growth += growth
		if c.Growth > memory {
			c.Cost, c.Growth = c.Cost*memory/c.Growth, memory
		}
		c.Utilization, c.Spent = utilization, 0
	}
}

// mostUtilization is more than upstream is believed to tell.
const mostUtilization = 1000

// sane reports whether a record's capacity can be one that was learned here.
func (c *capacity) sane() bool {
	return sane(c.Cost, mostRestored) && sane(c.Spent, mostRestored) && sane(c.Utilization, mostUtilization) &&
		(c.Growth == 0 || c.Growth >= rounding && sane(c.Growth, mostUtilization))
}

// units is the capacity, 0 when nothing was learned.
func (c *capacity) units() float64 {
	if c.Growth <= 0 || c.Cost <= 0 {
		return 0
	}
	return c.Cost / c.Growth
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
	return fade(d.Sum, now.Sub(d.At))
}

// fade is what is left of a sum after so long.
func fade(sum float64, after time.Duration) float64 {
	x := float64(after) / float64(burnMemory)
	switch {
	case x <= 0:
		return sum
	case x > 8:
		return 0
	}
	// The first terms of exp(x): near enough, and a choice among hundreds of accounts
	// has no time for more.
	return sum / (1 + x + x*x/2)
}

func (d *decayed) add(amount float64, now time.Time) {
	d.Sum, d.At = max(0, d.at(now)+amount), now
}

// inFlightLimit learns how many requests an account takes at once: halved when
// it says "too many" while its windows are open, and slowly raised again.
type inFlightLimit struct {
	// Most is the limit, 0 for none.
	Most float64 `json:"most"`
	// At is when it was last halved.
	At time.Time `json:"at,omitzero"`
}

// mostInFlight is where the limit no longer means anything.
const mostInFlight = 100

// burst halves the limit. Requests from before it was halved last say nothing new.
func (l *inFlightLimit) burst(inFlight int, begun, now time.Time) {
	if l.Most > 0 && !begun.After(l.At) {
		return
	}
	n := float64(inFlight)
	if l.Most > 0 {
		n = min(n, l.Most)
	}
	l.Most, l.At = max(1, n/2), now
}

func (l *inFlightLimit) served() {
	if l.Most > 0 {
		if l.Most += 1 / l.Most; l.Most > mostInFlight {
			l.Most = 0
		}
	}
}

func (l *inFlightLimit) reached(inFlight int) bool { return l.Most > 0 && float64(inFlight) >= l.Most }
