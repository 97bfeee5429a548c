package pool

import (
	"container/list"
	"context"
	"time"
)

// Waiting bounds how long and with how many others a request waits.
type Waiting struct {
	// Hold is how long a request waits for an account; 0 means not at all.
	Hold time.Duration
	// Queue is how many requests of the pool may wait; one more is refused at once.
	Queue int
}

// waiter is one request in line. It is guarded by the pool's mutex; ready has
// room for the one lease it may get.
type waiter struct {
	group *Group
	req   *Request
	ready chan *Lease
	// retry ends when the bench does that keeps the waiter out for the least time,
	// which is until.
	retry *time.Timer
	until time.Time
}

// queue is the line of a pool, first come first served among those that an open
// account can serve.
type queue struct{ line list.List }

// Acquire is Pick that waits. It gives up when ctx ends, when w.Hold is over, or
// at once when waiting that long cannot help; then it says why. waited is how
// long the request stood in line.
func (g *Group) Acquire(ctx context.Context, req *Request, w Waiting) (lease *Lease, refused *Refusal, waited time.Duration) {
	p := g.pool
	p.mu.Lock()
	now := p.now()
	p.dispatch(now)
	lease, refused = g.pick(req, now)
	if lease != nil || w.Hold <= 0 || refused.Hopeless() || !refused.Busy && refused.Until.Sub(now) > w.Hold {
		p.mu.Unlock()
		return lease, refused, 0
	}
	if w.Queue > 0 && p.waiting.line.Len() >= w.Queue {
		p.mu.Unlock()
		refused.Full = true
		return nil, refused, 0
	}
	self := &waiter{group: g, req: req, ready: make(chan *Lease, 1)}
	place := p.waiting.line.PushBack(self)
	self.arm(p, refused, now)
	p.mu.Unlock()

	timeout := time.NewTimer(w.Hold)
	defer timeout.Stop()
	select {
	case lease = <-self.ready:
		return lease, nil, p.now().Sub(now)
	case <-ctx.Done():
	case <-timeout.C:
	}
	return g.leave(ctx, self, place, now)
}

// leave takes a waiter out of line. A lease that was granted in the same moment
// is taken, or given back when the client is gone.
func (g *Group) leave(ctx context.Context, self *waiter, place *list.Element, since time.Time) (*Lease, *Refusal, time.Duration) {
	p := g.pool
	p.mu.Lock()
	now := p.now()
	self.disarm()
	p.waiting.line.Remove(place)
	var lease *Lease
	var refused *Refusal
	select {
	case lease = <-self.ready:
	default:
		if ctx.Err() == nil {
			lease, refused = g.pick(self.req, now)
		} else {
			refused = &Refusal{}
		}
	}
	if lease != nil && ctx.Err() != nil {
		lease.release()
		lease, refused = nil, &Refusal{}
		p.dispatch(now)
	}
	p.mu.Unlock()
	return lease, refused, now.Sub(since)
}

// release undoes a pick that was never used. mu must be held.
func (l *Lease) release() {
	l.ended = true
	l.giveBack()
}

// arm wakes the line when the soonest bench that keeps this waiter out ends.
func (w *waiter) arm(p *Pool, refused *Refusal, now time.Time) {
	if w.retry != nil && w.until.Equal(refused.Until) && now.Before(w.until) {
		return
	}
	w.disarm()
	if refused.Until.IsZero() {
		return
	}
	w.until = refused.Until
	w.retry = time.AfterFunc(max(refused.Until.Sub(now), time.Millisecond), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.dispatch(p.now())
	})
}

func (w *waiter) disarm() {
	if w.retry != nil {
		w.retry.Stop()
		w.retry = nil
	}
}

// dispatch hands out what is open to those in line, in order. mu must be held.
func (p *Pool) dispatch(now time.Time) {
	for e := p.waiting.line.Front(); e != nil; {
		next := e.Next()
		w := e.Value.(*waiter)
		lease, refused := w.group.pick(w.req, now)
		if lease != nil {
			w.disarm()
			p.waiting.line.Remove(e)
			w.ready <- lease
		} else {
			w.arm(p, refused, now)
		}
		e = next
	}
}

// Waiting is how many requests stand in line.
func (p *Pool) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting.line.Len()
}
