package pool

import (
	"context"
	"slices"
	"time"
)

// Waiting bounds how long and with how many others a request waits.
type Waiting struct {
	// Hold is how long a request waits for an account; 0 means not at all.
	Hold time.Duration
	// Queue is how many requests of the pool may wait; one more is refused at once.
	// 0 means no bound.
	Queue int
	// Stay is how long a warm session waits for its own account while another could
	// serve, counted from the request's arrival; 0 means not at all. It is also
	// bounded by Hold.
	Stay time.Duration
	// Tick, when not nil, is called by Acquire in the caller's goroutine after First,
	// and then every Every, for as long as the request waits.
	Tick         func()
	First, Every time.Duration
}

// waiter is one request in line. It is guarded by the pool's mutex.
type waiter struct {
	group    *Group
	req      *Request
	stay     time.Duration
	deadline time.Time
	done     func(*Lease, *Refusal)
	// until is when what keeps it out may end, zero when nobody knows.
	until  time.Time
	number uint64  // the order of arrival
	left   bool    // no longer in line
	share  *share  // the person's
	behind *waiter // of the same person; used by dispatch
}

// queue is the line of a pool: first come, first served for each person, and
// among people by weight and what they have had, among requests that an account can
// serve.
type queue struct {
	line   []*waiter // by arrival
	number uint64
	wakeAt time.Time
	stop   func() bool // stops the alarm that is set for wakeAt
	turns  turns       // used by dispatch
	failed []*waiter   // used by dispatch
}

// Join is Pick that waits. done is called once, with a lease or with a refusal:
// before Join returns or later. It runs under the pool's lock and must not call
// the pool, its groups or its leases. leave gives the place in line up; when done
// has not been called by then, it never is.
func (g *Group) Join(req *Request, w Waiting, done func(*Lease, *Refusal)) (leave func()) {
	p := g.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	lease, refused, self := g.join(req, w)
	if self == nil {
		done(lease, refused)
		return func() {}
	}
	self.done = done
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.leave(self)
	}
}

// join gives a lease, a refusal, or a place in line, whose done must be set before
// the lock is given up.
func (g *Group) join(req *Request, w Waiting) (*Lease, *Refusal, *waiter) {
	p := g.pool
	now := p.now()
	p.dispatch(now)
	stay := min(w.Stay, w.Hold)
	lease, refused := g.pick(req, stay, now)
	if lease != nil || w.Hold <= 0 || refused.Hopeless() || !refused.Busy && refused.Until.Sub(now) > w.Hold {
		return lease, refused, nil
	}
	if w.Queue > 0 && len(p.waiting.line) >= w.Queue {
		if refused.Stay {
			// There is no place to wait for the own account, but another may serve.
			if lease, refused = g.pick(req, 0, now); lease != nil {
				return lease, nil, nil
			}
		}
		refused.Full = true
		return nil, refused, nil
	}
	if req.Arrived.IsZero() {
		// Each time it is asked again it would seem to come anew, and stay as long.
		asked := *req
		asked.Arrived = now
		req = &asked
	}
	p.waiting.number++
	sh := p.shares.get(req, now)
	p.shares.join(sh)
	self := &waiter{share: sh, group: g, req: req, stay: stay, deadline: now.Add(w.Hold), until: refused.Until, number: p.waiting.number}
	p.waiting.line = append(p.waiting.line, self)
	p.arm(now)
	return nil, nil, self
}

// leave takes a waiter out of line, if it still is there.
func (p *Pool) leave(w *waiter) {
	if w.left {
		return
	}
	p.quit(w, p.now())
	if i := slices.Index(p.waiting.line, w); i >= 0 {
		p.waiting.line = slices.Delete(p.waiting.line, i, i+1)
	}
}

// quit notes that a waiter is no longer in line.
func (p *Pool) quit(w *waiter, now time.Time) {
	w.left = true
	p.shares.leave(w.share, now)
}

// Acquire is Pick that waits. It gives up when ctx ends, when w.Hold is over, or
// at once when waiting that long cannot help; then it says why. waited is how
// long the request stood in line.
func (g *Group) Acquire(ctx context.Context, req *Request, w Waiting) (lease *Lease, refused *Refusal, waited time.Duration) {
	p := g.pool
	p.mu.Lock()
	since := p.now()
	lease, refused, self := g.join(req, w)
	if self == nil {
		p.mu.Unlock()
		return lease, refused, 0
	}
	ready := make(chan answer, 1)
	self.done = func(l *Lease, r *Refusal) { ready <- answer{l, r} }
	p.mu.Unlock()

	var tick <-chan time.Time
	var timer *time.Timer
	if w.Tick != nil {
		timer = time.NewTimer(w.First)
		defer timer.Stop()
		tick = timer.C
	}
	for {
		select {
		case a := <-ready:
			return a.lease, a.refused, p.now().Sub(since)
		case <-tick:
			w.Tick()
			timer.Reset(w.Every)
		case <-ctx.Done():
			return nil, &Refusal{}, g.giveUp(self, ready).Sub(since)
		}
	}
}

// answer is what a waiter is told.
type answer struct {
	lease   *Lease
	refused *Refusal
}

// giveUp takes a waiter out of line whose client has left, and gives back the
// lease that it was granted in the same moment.
func (g *Group) giveUp(self *waiter, ready <-chan answer) (now time.Time) {
	p := g.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now = p.now()
	p.leave(self)
	select {
	case a := <-ready:
		if a.lease != nil {
			a.lease.giveBack(0, now)
			p.dispatch(now)
		}
	default:
	}
	return now
}

// arm sets the alarm for the soonest time at which anybody in line may be served
// or must be told. mu must be held.
func (p *Pool) arm(now time.Time) {
	q := &p.waiting
	var soonest time.Time
	for _, w := range q.line {
		at := w.deadline
		if !w.until.IsZero() && w.until.Before(at) {
			at = w.until
		}
		if soonest.IsZero() || at.Before(soonest) {
			soonest = at
		}
	}
	if q.stop != nil {
		if soonest.Equal(q.wakeAt) && now.Before(soonest) {
			return
		}
		q.stop()
		q.stop = nil
	}
	if soonest.IsZero() {
		return
	}
	q.wakeAt = soonest
	q.stop = p.clock.AfterFunc(max(soonest.Sub(now), time.Millisecond), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.waiting.stop = nil
		p.dispatch(p.now())
	})
}

// dispatch hands out what is open to those in line and tells those whose time is
// over. mu must be held.
func (p *Pool) dispatch(now time.Time) {
	q := &p.waiting
	if len(q.line) == 0 {
		if q.stop != nil {
			q.stop()
			q.stop = nil
		}
		return
	}
	told := false
	q.failed = q.failed[:0]
	p.serveInTurn(now, func(w *waiter) (served bool) {
		served = p.attend(w, now)
		told = told || w.left
		return served
	})
	if told {
		q.line = slices.DeleteFunc(q.line, func(w *waiter) bool { return w.left })
	}
	p.arm(now)
}

// attend gives the waiter an account if one is open, or tells it that its time is
// over. It reports whether it got one.
func (p *Pool) attend(w *waiter, now time.Time) (served bool) {
	q := &p.waiting
	over := !now.Before(w.deadline)
	if !over && q.alike(w) {
		return false
	}
	stay := w.stay
	if over {
		stay = 0
	}
	lease, refused := w.group.pick(w.req, stay, now)
	switch {
	case lease != nil:
		p.quit(w, now)
		w.done(lease, nil)
		return true
	case over || refused.Hopeless() || !refused.Busy && refused.Until.After(w.deadline):
		p.quit(w, now)
		w.done(nil, refused)
	default:
		w.until = refused.Until
		if !refused.Stay {
			q.failed = append(q.failed, w)
		}
	}
	return false
}

// alike reports whether no account was open just now to a request like this one:
// then there is none for this one either. Otherwise a long line would be asked
// again in full each time that a request ends.
func (q *queue) alike(w *waiter) bool {
	for _, f := range q.failed {
		if f.group == w.group && f.req.Model == w.req.Model && f.req.Endpoint == w.req.Endpoint &&
			len(f.req.Refs) == 0 && len(w.req.Refs) == 0 && slices.Equal(f.req.Tried, w.req.Tried) && f.group.sameReach(f.req, w.req) {
			w.until = f.until
			return true
		}
	}
	return false
}

// sameReach reports whether the people of two requests to one endpoint may use the
// same accounts.
func (g *Group) sameReach(a, b *Request) bool {
	if a.User == b.User {
		return true
	}
	if a.Endpoint.Holds() {
		return false // each person's things are somewhere else
	}
	for _, m := range g.members {
		if len(m.Owners) > 0 && m.Allows(a.User) != m.Allows(b.User) {
			return false
		}
	}
	return true
}

// Waiting is how many requests stand in line.
func (p *Pool) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting.line)
}
