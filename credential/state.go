package credential

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// mandatory is the life below which Get waits for a refresh (official SDKs:
	// "mandatory refresh" 30 s before expiry).
	mandatory = 30 * time.Second
	// minLead is how long before its end a token is refreshed at the least.
	minLead = 10 * time.Minute

	backoffFirst = 5 * time.Second
	backoffMax   = 5 * time.Minute
	// backoffStorage bounds the back-off when storage is what failed.
	backoffStorage = 30 * time.Second
	// retryAfterMax bounds what a server's Retry-After can impose.
	retryAfterMax = time.Hour
	// forcedGap is how soon after a refresh a refused token is refreshed again.
	forcedGap = 30 * time.Second
	// lookGap spaces the looks into storage that requests cause while a login is
	// required or a back-off runs.
	lookGap = 10 * time.Second
)

// live is a record in use. All but refused is immutable.
type live struct {
	rec  Record
	cred Credential
	// due is when to refresh; zero for never.
	due time.Time
	// refused is set when the API answered 401 to the token. Such a token is not
	// handed out again.
	refused atomic.Bool
	// asked is set while somebody asks for another one, see RenewNow.
	asked atomic.Bool
	// prev is what was in use before a refresh made this one, until this one has
	// proved good.
	prev atomic.Pointer[live]
}

// previous is the token to send while this one is refused; nil for none.
func (l *live) previous(at time.Time) *live {
	if l == nil || !l.refused.Load() {
		return nil
	}
	if p := l.prev.Load(); p.usable(at.Add(mandatory)) {
		return p
	}
	return nil
}

// refuse notes that the API answered 401 to the credential.
func (l *live) refuse(used Credential) {
	if l == nil {
		return
	}
	if l.cred.version == used.version {
		l.refused.Store(true)
	}
	if p := l.prev.Load(); p != nil && p.cred.version == used.version {
		p.refused.Store(true)
	}
}

// usable reports whether the access token may be sent at that time.
func (l *live) usable(at time.Time) bool {
	return l != nil && !l.rec.access.empty() && !l.refused.Load() && (l.rec.Expires.IsZero() || at.Before(l.rec.Expires))
}

func (l *live) dueBy(now time.Time) bool { return !l.due.IsZero() && !now.Before(l.due) }

// fresh reports whether there is nothing to do about the token.
func (l *live) fresh(now time.Time) bool { return l.usable(now) && !l.dueBy(now) && !l.asked.Load() }

// dueAt says when to refresh a record: a sixth of the token's life before its
// end, at least ten minutes, at most half of the life (so that short-lived tokens
// are not due from the start), and up to a quarter of that earlier by r in [0,1),
// so that peers and accounts do not all refresh at once; the peer that draws the
// earliest time refreshes, the others find its record. Of an import only what is
// left of its life is known, and the half does not bound. An unknown expiry is
// due now, to learn a true one. Without a refresh token it is never due.
func dueAt(rec Record, now time.Time, r float64) time.Time {
	switch {
	case rec.refresh.empty():
		return time.Time{}
	case rec.Expires.IsZero() || rec.access.empty():
		return now
	}
	start := rec.RefreshedAt
	if start.IsZero() || start.After(now) {
		start = now
	}
	life := max(rec.Expires.Sub(start), 0)
	lead := max(minLead, life/6)
	if !rec.RefreshedAt.IsZero() {
		lead = min(lead, life/2)
	}
	return rec.Expires.Add(-lead - time.Duration(float64(lead)/4*r))
}

// state is what a source knows beside the token. OAuth.mu guards it.
type state struct {
	// seen is the fingerprint of the record in storage as last read or written.
	seen string
	// looked is when storage was last read, with or without success.
	looked time.Time

	failures int
	nextTry  time.Time
	lastErr  string
	cause    error // of the back-off

	// login is why a login is required, empty when it is not; dead is the
	// fingerprint of the record that it was said of, empty for a missing one. It
	// holds until storage has another.
	login string
	dead  string
	// unanswered says that an exchange ended without an answer since the last good
	// one: the server may have spent the refresh token.
	unanswered bool
	// intentSeen is when an intent was first seen whose own time is of no use: one that
	// has not come, or is of a newer version.
	intentSeen struct {
		token string
		at    time.Time
	}
	// unsaved is the newest record while storage does not have it.
	unsaved *unsaved
	// renewed says that a new record in storage is our own refresh, made by a process
	// of its own.
	renewed bool
	// saving says that a saver runs.
	saving bool
	// aside is where the unreadable record of fingerprint asideOf was copied to.
	aside, asideOf string
}

// unsaved is a record that could not be stored.
type unsaved struct {
	rec Record
	// base is what storage had when rec was made. While it still has that, rec is
	// the newer one; when it has something else, somebody knows better.
	base string
}

// shut tells why it is no use to look for a token now, nil when it may be: the
// cheap check that keeps requests from queueing up before a closed door. Storage
// is looked into every lookGap all the same, where help would come from.
func (o *OAuth) shut(now time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return ErrClosed
	}
	if since := now.Sub(o.looked); since < 0 || since >= lookGap {
		return nil
	}
	return o.gate(now)
}

// gate tells why the token server is not to be asked now. The caller holds mu.
func (o *OAuth) gate(now time.Time) error {
	if err := o.loginError(); err != nil {
		return err
	}
	if now.Before(o.nextTry) {
		return &RetryError{Next: o.nextTry, Err: o.cause}
	}
	return nil
}

// loginError is the error of a required login. The caller holds mu.
func (o *OAuth) loginError() error {
	if o.login == "" {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrLoginRequired, o.login)
}

// publish puts a record in use. The caller holds slot and mu.
func (o *OAuth) publish(rec Record, now time.Time) {
	old := o.cur.Load()
	l := &live{rec: rec, cred: newCredential(KindOAuth, rec.access, rec.Expires), due: dueAt(rec, now, o.cfg.Rand())}
	switch {
	case old == nil:
	case old.cred.version == l.cred.version:
		l.refused.Store(old.refused.Load())
		l.prev.Store(old.prev.Load())
	case old.rec.LoginID == rec.LoginID:
		last := old.prev.Swap(nil)
		if old.usable(now) {
			last = old
		}
		l.prev.Store(last)
	}
	o.cur.Store(l)
	o.nudge()
}

// settle forgets past failures. The caller holds mu.
func (o *OAuth) settle() {
	o.failures, o.nextTry, o.cause, o.lastErr = 0, time.Time{}, nil, ""
	o.login, o.dead, o.unanswered = "", "", false
}

// accept takes note of a readable record in storage and adopts it if it is not
// the one in use. The caller holds slot.
func (o *OAuth) accept(rec Record, print string) {
	now := o.cfg.Clock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unsaved != nil {
		if rec.tokens() == o.unsaved.base {
			o.seen = print
			o.unblock()
			return
		}
		if rec.tokens() == o.unsaved.rec.tokens() { // the store that failed had arrived
			o.lastErr = ""
			o.emit(Event{Type: EventStored, Time: now})
		}
		o.unsaved = nil
	}
	l := o.cur.Load()
	revived := o.login != "" && print != o.dead
	if l != nil && print == o.seen && !revived {
		return
	}
	o.seen = print
	moved := l == nil || l.rec.tokens() != rec.tokens()
	if moved || revived {
		o.settle()
	}
	o.publish(rec, now)
	switch {
	case o.renewed && moved:
		o.emit(Event{Type: EventRefreshed, Time: now})
	case l != nil && moved || revived:
		o.emit(Event{Type: EventAdopted, Time: now})
	}
}

// unblock forgets a record that could not be read once it is gone from storage,
// for a source that has a newer token than storage ever had. The caller holds mu.
func (o *OAuth) unblock() { o.login, o.dead = "", "" }

// requireLogin notes that only a login helps, as long as storage has the record
// of that fingerprint. The caller holds slot.
func (o *OAuth) requireLogin(print, reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead = print
	if o.login == reason {
		return
	}
	o.login, o.lastErr = reason, reason
	o.failures, o.nextTry, o.cause = 0, time.Time{}, nil
	o.emit(Event{Type: EventLoginRequired, Time: o.cfg.Clock(), Reason: reason})
}

// failStorage is fail for storage that is out of order. It does not lengthen a
// back-off that runs, and makes a short one: the token server has nothing to
// recover from.
func (o *OAuth) failStorage(err error) error {
	err = o.hide(err)
	o.mu.Lock()
	if o.cfg.Clock().Before(o.nextTry) {
		defer o.mu.Unlock()
		o.lastErr = err.Error()
		return &RetryError{Next: o.nextTry, Err: err}
	}
	o.mu.Unlock()
	return o.fail(err, backoffStorage)
}

// hide blanks out the tokens in use, should the text of an error hold one.
func (o *OAuth) hide(err error) error {
	if l := o.cur.Load(); l != nil {
		return hideIn(err, l.rec.access, l.rec.refresh)
	}
	return err
}

// fail starts or lengthens the back-off after a failure that may pass, to at most
// the given time unless the server asks for more, and returns the error to hand
// out.
func (o *OAuth) fail(err error, most time.Duration) error {
	err = o.hide(err)
	now := o.cfg.Clock()
	var ex *exchangeError
	o.mu.Lock()
	defer o.mu.Unlock()
	wait := most
	if o.failures < 10 {
		wait = min(backoffFirst<<o.failures, most)
	}
	wait -= time.Duration(float64(wait) / 4 * o.cfg.Rand())
	if errors.As(err, &ex) {
		wait = max(wait, ex.retryAfter)
		o.unanswered = o.unanswered || ex.unanswered
	}
	o.failures++
	o.nextTry, o.cause, o.lastErr = now.Add(wait), err, err.Error()
	o.emit(Event{Type: EventRefreshFailed, Time: now, Next: o.nextTry, Err: err})
	return &RetryError{Next: o.nextTry, Err: err}
}

// emit queues an event and sees to it that somebody tells it. The caller holds mu
// and is a job counted by begin, so the count cannot rise from zero while Close
// waits.
func (o *OAuth) emit(e Event) {
	if o.cfg.OnEvent == nil {
		return
	}
	e.Key = o.cfg.Key
	if l := o.cur.Load(); l != nil {
		e.Expires = l.rec.Expires
	}
	o.events = append(o.events, e)
	if !o.telling {
		o.telling = true
		o.jobs.Go(o.tell)
	}
}

// tell calls OnEvent for what is queued, in order, with no lock held.
func (o *OAuth) tell() {
	for {
		o.mu.Lock()
		if len(o.events) == 0 {
			o.events, o.telling = nil, false
			o.mu.Unlock()
			return
		}
		e := o.events[0]
		o.events = o.events[1:]
		o.mu.Unlock()
		o.cfg.OnEvent(e)
	}
}
