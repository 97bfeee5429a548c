package main

import (
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// run is one rule in one scenario.
type run struct {
	clock   clock
	world   *world
	demand  *demand
	rule    chooser
	answer  answer // of the event that is being handled
	started int    // of the main sessions
	active  int    // sessions that have begun and not ended
	measure measure
	pooled  bool
	// ended, when not nil, is called when a turn ends.
	ended func(turn int, how ending)
}

// ending is how a turn ended.
type ending uint8

const (
	endServed  ending = iota
	endGivenUp        // its session was given up, at this turn or before
	endCut            // the scenario was over
)

func newRun(s *scenario, d *demand, accounts []account, r *rule) *run {
	w := &run{world: newWorld(s, accounts, r.free), demand: d, pooled: r.policy != ""}
	w.measure = newMeasure(d)
	w.rule = r.chooser(w)
	for i := range w.world.accounts {
		w.nextOutside(i)
	}
	return w
}

// play goes through all events.
func (w *run) play() *measure {
	c := &w.clock
	for {
		if w.started < len(w.demand.main) {
			index := w.demand.main[w.started]
			if at := w.demand.sessions[index].start; len(c.events) == 0 || at <= c.events[0].at {
				c.now = at
				w.started++
				w.begin(index, nil)
				continue
			}
		}
		if len(c.events) == 0 || w.active == 0 && w.started == len(w.demand.main) {
			return &w.measure
		}
		e := c.pop()
		c.now = e.at
		w.handle(&e)
	}
}

func (w *run) handle(e *event) {
	r := e.runner
	switch e.kind {
	case turnDue:
		w.arrive(r)
	case sendAgain:
		w.request(r)
	case joined:
		w.decided(r)
	case retryHere:
		w.send(r)
	case refusedNow:
		w.refused(r)
	case headCame:
		w.read(r)
		w.rule.report(r, &w.answer)
	case answerOver:
		w.over(r)
	case impatient:
		// A decision of the same moment comes first, since it holds a lease.
		if r.stamp == e.stamp && r.waiting && r.account == undecided {
			w.rule.leave(r)
			r.waiting = false
			w.giveUp(r)
		}
	case gaveUp:
		w.giveUp(r)
	case alarmRings:
		if ring := e.alarm.ring; ring != nil {
			e.alarm.ring = nil
			ring()
		}
	case outsideUse:
		index := e.stamp
		a := &w.world.accounts[index]
		w.world.useOutside(index, a.outside[0], w.clock.now)
		a.outside = a.outside[1:]
		w.nextOutside(index)
	}
}

func (w *run) nextOutside(index int) {
	if list := w.world.accounts[index].outside; len(list) > 0 {
		w.clock.push(event{at: list[0].at, kind: outsideUse, stamp: index})
	}
}

// begin starts a session.
func (w *run) begin(index int, parent *runner) {
	s := &w.demand.sessions[index]
	if s.n == 0 {
		return
	}
	r := &runner{session: s, index: index, turn: s.turns, left: s.n, parent: parent, home: nobody}
	w.active++
	w.measure.begin(s)
	if parent != nil {
		parent.agents++
	}
	w.arrive(r)
}

// next is when the client sends the next turn.
func (w *run) next(r *runner) {
	at := w.clock.now + w.demand.turns[r.turn].gap
	if at >= w.demand.end {
		w.finish(r, endCut)
		return
	}
	w.clock.push(event{at: at, kind: turnDue, runner: r})
}

// over ends a turn that was served.
func (w *run) over(r *runner) {
	t := &w.demand.turns[r.turn]
	w.world.accounts[r.account].inFlight--
	w.rule.end(r, anthropic.Usage{
		CacheReadTokens: int64(r.cached), CacheWriteTokens: int64(t.prompt - r.cached), OutputTokens: int64(t.output),
	})
	w.measure.serve(r.session, t)
	if w.ended != nil {
		w.ended(r.turn, endServed)
	}
	r.turn++
	r.left--
	r.agents++ // so that it does not go on before all have begun
	for a := t.agents; a < t.agents+t.nAgents; a++ {
		w.begin(a, r)
	}
	if r.agents--; r.agents == 0 {
		w.goOn(r)
	}
}

// goOn goes to the next turn, when the agents of the last have ended.
func (w *run) goOn(r *runner) {
	if r.left == 0 {
		w.finish(r, endServed)
		return
	}
	w.next(r)
}

// giveUp ends a session with which the client has lost patience.
func (w *run) giveUp(r *runner) {
	w.measure.giveUp(r.session)
	w.finish(r, endGivenUp)
}

// finish ends a session, with the turns that are left.
func (w *run) finish(r *runner, how ending) {
	w.active--
	for ; r.left > 0; r.left-- {
		w.lose(r.turn, how)
		r.turn++
	}
	if p := r.parent; p != nil {
		if p.agents--; p.agents == 0 {
			w.goOn(p)
		}
	}
}

// lose ends a turn that is never sent, and those of the agents that it would have
// started.
func (w *run) lose(index int, how ending) {
	t := &w.demand.turns[index]
	if w.ended == nil {
		return
	}
	w.ended(index, how)
	for a := t.agents; a < t.agents+t.nAgents; a++ {
		s := &w.demand.sessions[a]
		for i := range s.n {
			w.ended(s.turns+i, how)
		}
	}
}

// arrive is the client's first sending of a turn.
func (w *run) arrive(r *runner) {
	r.first, r.sending, r.returns, r.backoff, r.trouble = w.clock.now, 0, 0, 0, served
	w.request(r)
}

func (w *run) deadline(r *runner) time.Duration {
	return r.first + w.demand.turns[r.turn].patience
}
