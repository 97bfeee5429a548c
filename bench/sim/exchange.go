package main

import (
	"slices"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// What follows does what the handler does (serve.go, attempt.go): the same limits,
// in the same order.

const (
	retries       = 3 // shunt.DefaultRetries
	burstsMost    = 3 // times that an account may say it is busy, in one request
	overloadsMost = 3 // waits for the own account while that is overloaded
	roundTrip     = 300 * time.Millisecond
	clientFirst   = time.Second // what a client waits at least before it sends anew
	clientMost    = 32 * time.Second
)

// request is one request of the client's.
func (w *run) request(r *runner) {
	w.measure.requests++
	r.request = request{want: r.want, arrived: w.clock.now}
	r.want.Tried = r.want.Tried[:0]
	w.join(r)
}

func (w *run) join(r *runner) {
	hold := max(0, holdFor-r.waited)
	r.joined = w.clock.now
	if w.rule.join(r, hold) {
		w.decided(r)
		return
	}
	r.waiting = true
	r.stamp++
	if at := w.deadline(r); at < w.clock.now+hold {
		w.clock.push(event{at: max(at, w.clock.now), kind: impatient, runner: r, stamp: r.stamp})
	}
}

// decided goes on with an account, or with the news that there is none.
func (w *run) decided(r *runner) {
	r.waiting = false
	r.waited += w.clock.now - r.joined
	if r.account >= 0 {
		r.again = false
		w.send(r)
		return
	}
	if w.mayWaitAgain(r) {
		r.want.Tried = r.want.Tried[:0]
		w.join(r)
		return
	}
	if r.tries > 0 && r.last != anthropic.Next {
		w.relay(r)
		return
	}
	if r.reopens == 0 {
		w.relay(r)
		return
	}
	w.comeBack(r, r.reopens)
}

// mayWaitAgain reports whether the accounts that this request has been to will be
// open soon enough to start over.
func (w *run) mayWaitAgain(r *runner) bool {
	if !w.pooled || r.tries == 0 || len(r.want.Tried) == 0 || r.last != anthropic.Next || r.full {
		return false
	}
	if r.failures++; r.failures >= retries {
		return false
	}
	return r.reopens > 0 && r.reopens-w.clock.now < holdFor-r.waited
}

// send is one round trip.
func (w *run) send(r *runner) {
	now := w.clock.now
	r.sending++
	r.failures++
	r.kind, r.retry = w.world.ask(r.account, r.session.model, r.turn, r.sending, now)
	if r.kind != served {
		w.clock.push(event{at: now + roundTrip, kind: refusedNow, runner: r})
		return
	}
	t := &w.demand.turns[r.turn]
	w.measure.admit(w, r, now)
	var charged float64
	r.cached, charged = w.world.serve(r.account, r.session, &r.cache, t, now)
	w.measure.charged += charged
	r.home = r.account
	w.clock.push(event{at: now + t.headAfter(), kind: headCame, runner: r})
	w.clock.push(event{at: now + t.service(), kind: answerOver, runner: r})
}

// read reads the answer that has come.
func (w *run) read(r *runner) {
	w.answer.read(r.kind, &w.world.accounts[r.account], r.session.model, r.retry, w.clock.now)
}

// refused is an answer that serves nobody.
func (w *run) refused(r *runner) {
	w.read(r)
	w.measure.refuse(r.kind)
	r.trouble = r.kind
	w.rule.report(r, &w.answer)
	action := w.answer.verdict.Action
	if action == anthropic.Next {
		r.failures-- // the account's own refusal does not count
	}
	if action == anthropic.Again && !r.again && r.stayed == 0 && r.failures < retries {
		r.again = true
		pause := seconds(0.2 + 0.3*w.world.draw(forPause, r.turn, r.sending))
		w.clock.push(event{at: w.clock.now + pause, kind: retryHere, runner: r})
		return
	}
	w.rule.end(r, anthropic.Usage{})
	r.tries++
	r.last = action
	returns := w.mayReturn(r)
	if !returns {
		r.want.Tried = append(r.want.Tried, accountKeys[r.account])
	}
	if returns || w.mayGoOn(r, action) {
		w.join(r)
		return
	}
	w.relay(r)
}

// mayReturn reports whether the request may come back to the account: after a
// burst a few times, after an overload once where its session is warm.
func (w *run) mayReturn(r *runner) bool {
	if !w.pooled {
		return false
	}
	switch r.kind {
	case overloaded:
		if r.stayed == overloadsMost || !r.warmHere {
			return false
		}
		r.stayed++
		r.failures--
		return true
	case burst:
		if r.bursts == nil {
			r.bursts = make(map[int]int)
		}
		r.bursts[r.account]++
		return r.bursts[r.account] < burstsMost
	}
	return false
}

// mayGoOn reports whether another account may be asked: always after an account's
// own refusal, once after a fault that accounts share.
func (w *run) mayGoOn(r *runner, action anthropic.Action) bool {
	if action == anthropic.Next {
		return true
	}
	if r.hopped || r.failures >= retries {
		return false
	}
	r.hopped = true
	return true
}

// triedAccount reports whether this request has been to the account.
func (r *runner) triedAccount(account int) bool {
	return slices.Contains(r.want.Tried, accountKeys[account])
}

// relay gives the client an error that names no time: it backs off.
func (w *run) relay(r *runner) {
	wait := min(clientFirst<<min(r.backoff, 10), clientMost)
	r.backoff++
	w.comeBack(r, w.clock.now+wait)
}

// comeBack lets the client send anew then, if it still has the patience.
func (w *run) comeBack(r *runner, at time.Duration) {
	at = max(at, w.clock.now+clientFirst) + seconds(2*w.world.draw(forJitter, r.turn, r.returns))
	r.returns++
	kind := sendAgain
	if patient := w.deadline(r); at > patient {
		at, kind = max(patient, w.clock.now), gaveUp
	}
	if at >= w.demand.end {
		w.finish(r, endCut)
		return
	}
	w.clock.push(event{at: at, kind: kind, runner: r})
}
