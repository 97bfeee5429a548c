package main

import (
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// runner is a session on its way: the client with its turn, and what the handler
// knows of the request.
type runner struct {
	session *session
	index   int
	turn    int // of the demand's turns
	left    int // turns that have not ended, this one with them
	parent  *runner
	agents  int // sessions it started that have not ended

	cache   sessionCache
	home    int           // the account that served it last, nobody for none
	first   time.Duration // when the turn was sent first
	sending int           // round trips of this turn
	trouble answerKind    // the last refusal of this turn, served for none
	returns int           // of the client with this turn
	backoff int           // of these, those after an error that named no time

	request
	// stamp tells an alarm of impatience whether the wait that it was for still lasts.
	stamp int

	rule ruleState
}

// request is what the handler knows of one request of the client's: serve.go's
// exchange.
type request struct {
	want    pool.Request
	arrived time.Duration
	joined  time.Duration // when it went in line
	waited  time.Duration // in line
	waiting bool

	failures int // round trips that count against retries
	hopped   bool
	again    bool
	stayed   int         // waits for the own account while that was overloaded
	bursts   map[int]int // how often each account said that it was busy
	last     anthropic.Action
	tries    int // accounts asked
	kind     answerKind
	retry    time.Duration
	cached   int

	decision
}

const (
	nobody    = -1
	undecided = -2
)

// decision is what the rule said: an account, or nobody and when to come back.
type decision struct {
	account int
	// reopens is when an account may serve again, 0 when nobody knows.
	reopens time.Duration
	full    bool
	// lease is the pool's, nil for other rules.
	lease *pool.Lease
	// warmHere tells that the account is the one where the session is warm.
	warmHere bool
}

// ruleState is what a rule keeps of a session or request.
type ruleState struct {
	leave func()
	done  func(*pool.Lease, *pool.Refusal)
	// inJoin is true while the rule decides; a decision that comes later makes an event.
	inJoin bool
	// stuck is the account that the original's rule keeps the session on until then.
	stuck      int
	stuckUntil time.Duration
}
