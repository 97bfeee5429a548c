package main

import (
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// original is the rule of the proxy that shunt follows: a session stays for ten
// minutes from its choice, then goes to the least five-hour use; a refusal closes
// the account for a flat time, and nobody waits.
type original struct {
	run      *run
	accounts []told
}

// told is what the rule knows of an account.
type told struct {
	used   float64
	reset  time.Time
	closed time.Duration // until then
}

const (
	stickFor          = 10 * time.Minute
	coolAfter429      = time.Minute
	coolAfter529      = 30 * time.Second
	coolAfterRefusal  = 30 * time.Minute
	originalTolerance = 1e-9
)

func newOriginal(w *run) *original {
	return &original{run: w, accounts: make([]told, len(w.world.accounts))}
}

func (o *original) join(r *runner, _ time.Duration) bool {
	now := o.run.clock.now
	open := func(i int) bool {
		return now >= o.accounts[i].closed && !r.triedAccount(i)
	}
	r.decision = decision{account: nobody}
	if now < r.rule.stuckUntil && open(r.rule.stuck) {
		r.account, r.rule.stuckUntil = r.rule.stuck, now+stickFor
		return true
	}
	best := 0.0
	for i := range o.accounts {
		a := &o.accounts[i]
		if !open(i) {
			if r.reopens == 0 || a.closed < r.reopens {
				r.reopens = a.closed
			}
			continue
		}
		used := a.used
		if !epoch.Add(now).Before(a.reset) {
			used = 0
		}
		if r.account < 0 || used < best-originalTolerance {
			r.account, best = i, used
		}
	}
	if r.account >= 0 {
		r.rule.stuck, r.rule.stuckUntil = r.account, now+stickFor
	}
	return true
}

func (o *original) leave(*runner) {}

func (o *original) report(r *runner, a *answer) {
	t := &o.accounts[r.account]
	for i := range a.limits.Windows {
		if w := &a.limits.Windows[i]; w.Name == "5h" {
			t.used, t.reset = w.Utilization, w.Reset
		}
	}
	now := o.run.clock.now
	switch a.kind {
	case quotaSpent, opusSpent, burst, windowless:
		t.closed = now + coolAfter429
	case overloaded:
		t.closed = now + coolAfter529
	case revoked:
		t.closed = now + coolAfterRefusal
	}
	// Whatever it was, the next account is asked.
	a.verdict.Action = anthropic.Next
}

func (o *original) end(*runner, anthropic.Usage) {}
