package main

import "time"

// The models, and what a token costs with each relative to Sonnet.
const (
	sonnet = iota
	opus
	haiku
	models
)

var (
	modelIDs    = [models]string{"claude-sonnet-5", "claude-opus-5", "claude-haiku-4-5"}
	modelWeight = [models]float64{1, 5.0 / 3, 1.0 / 3}
)

// The kinds of session: each has its own tools and system text, which all
// sessions of the kind and model share.
const (
	mainKind = iota
	agentKind
	kinds
)

var sharedPrefix = [kinds]int{12_000, 7_000}

// cost is what a request costs, in the units of the windows.
func cost(model uint8, cached, uncached, output int) float64 {
	return modelWeight[model] * (0.1*float64(cached) + 1.25*float64(uncached) + 5*float64(output))
}

// turn is one request of a session, with everything about it that chance decides.
type turn struct {
	// gap is from the end of the turn before, and of the agents it started, to this one.
	gap      time.Duration
	patience time.Duration
	// ideal is its cost at full cache: on one account that holds all caches, asked
	// without any delay.
	ideal          float64
	prompt, output int
	// known is how much of the prompt the turn before had, 0 where the session starts
	// anew.
	known int
	// agents are the sessions that it starts, from this one on.
	agents  int
	nAgents int
}

// headAfter is the time from the request to the head of its answer, service that
// to its end.
func (t *turn) headAfter() time.Duration {
	return 1500*time.Millisecond + time.Duration(t.prompt)*12*time.Microsecond
}

func (t *turn) service() time.Duration {
	return t.headAfter() + time.Duration(t.output)*time.Second/75
}

// session is a conversation.
type session struct {
	start  time.Duration // of a main session
	turns  int           // the index of its first turn
	n      int
	person int
	parent int // of an agent's session: the index of the main session, else -1
	model  uint8
	kind   uint8
}
