package credential

import (
	"context"
	"time"
)

const (
	// pollEvery is how often Run looks for what peers and imports wrote.
	pollEvery = 5 * time.Minute
	// pollLogin is how often it does while a login is required.
	pollLogin = 30 * time.Second
	// turnGap is the least time between two turns, whatever the clocks say.
	turnGap = time.Second
)

// Run keeps the token fresh until ctx ends or the source is closed: it reads the
// record at the start, refreshes when that is due (requests or none), tries again
// after failures, and looks into storage now and then. It blocks; what it finds
// is told by Status and OnEvent. A refresh that runs when ctx ends goes on; Close
// waits for it.
func (o *OAuth) Run(ctx context.Context) {
	var floor time.Time
	for {
		at, refresh := o.nextTurn()
		if at.Before(floor) {
			at = floor
		}
		timer := time.NewTimer(max(0, at.Sub(o.cfg.Clock())))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-o.stop.Done():
			timer.Stop()
			return
		case <-o.wake:
			timer.Stop()
			continue
		case <-timer.C:
		}
		// Failures are kept in the status and told as events.
		if refresh {
			_, _ = o.await(ctx)
		} else {
			_ = o.poll(ctx)
		}
		floor = o.cfg.Clock().Add(turnGap)
	}
}

// nextTurn says when Run has something to do next, and whether that is a refresh
// or only a look.
func (o *OAuth) nextTurn() (at time.Time, refresh bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.cur.Load()
	switch {
	case o.login != "":
		return o.looked.Add(pollLogin), false
	case !o.nextTry.IsZero():
		return o.nextTry, true
	case l == nil:
		return o.cfg.Clock(), true
	}
	look := o.looked.Add(pollEvery)
	if l.rec.Follow != "" {
		look = o.looked.Add(followLook)
	}
	if !l.due.IsZero() && !l.due.After(look) {
		return l.due, true
	}
	return look, false
}
