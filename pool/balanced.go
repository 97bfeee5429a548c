package pool

const (
	// bonusPrefix and bonusHome are how much more a place is worth whose cache has
	// the beginning of the prompt, or may still have some of this conversation.
	bonusPrefix = 1.0
	bonusHome   = 0.5
	// bonusParent only decides between equals.
	bonusParent = 0.02
	// noRoom is the room below which an account is as good as full.
	noRoom = 0.01
	// idleWeek is the head of a weekly window that is not running, idleFive how much
	// more an account is worth whose five hours are not: until something is asked of
	// it, its time does not run, and the next quota comes no nearer.
	idleWeek = 2
	idleFive = 1.25
	// soonest keeps the pace finite at the very end of a window.
	soonest = 0.005
)

// Head is how a window stands against its time: 1 is exactly on pace, above it
// quota will be lost unless it is used faster. ahead is what is as good as used.
func (w *Window) Head(ahead float64) float64 {
	if w.Idle {
		return (1 - ahead) * idleWeek
	}
	return (1 - w.Used - ahead) / max(w.Left, soonest)
}

// Room is how far short windows hold the account back: 1 not at all, 0 or less
// when it is full.
func (c *Candidate) Room() float64 {
	return min(1, c.FiveHour.Head(c.Burn), 1-c.Bucket)
}

// Bonus is what is gained where some of the prompt is warm.
func (c *Candidate) Bonus() (b float64) {
	if c.WarmPrefix {
		b += bonusPrefix
	}
	if c.Home {
		b += bonusHome
	}
	if c.Parent {
		b += bonusParent
	}
	return b
}

// balanced lets the week decide and the short windows hold back: quota that would
// be lost at a reset draws requests by itself, and an account that burns faster
// than its five hours allow is spared before it is closed.
func balanced(c *Candidate) float64 {
	room, week := c.Room(), min(c.SevenDay.Head(0), c.Family.Head(0))
	if room < noRoom || week <= 0 {
		// All but full: the less overdrawn the better, and after all that have room.
		return min(room, week) - 1e6
	}
	score := week * room * (1 + c.Bonus()*room)
	if c.FiveHour.Idle {
		score *= idleFive
	}
	return score
}
