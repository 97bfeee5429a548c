package credential

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/failpoint"
)

// await joins the refresh in flight or starts one, and waits for its end or for
// ctx. Whoever leaves ends only the wait: the work belongs to no request.
func (o *OAuth) await(ctx context.Context) (Credential, error) {
	select {
	case r := <-o.flight.DoChan("", func() (any, error) { return o.work() }):
		c, _ := r.Val.(Credential)
		return c, r.Err
	case <-ctx.Done():
		return Credential{}, fmt.Errorf("waiting for a token refresh: %w", ctx.Err())
	}
}

// kick starts a refresh that nobody waits for, unless it is known to be no use.
func (o *OAuth) kick(now time.Time) {
	if !o.working.Load() && o.shut(now) == nil {
		o.flight.DoChan("", func() (any, error) { return o.work() })
	}
}

// work brings the token up to date: from storage if a peer or an import was
// first, else by a refresh. It runs at most once at a time in this process, on no
// request's context; every step has a deadline of its own.
func (o *OAuth) work() (Credential, error) {
	if !o.begin() {
		return Credential{}, ErrClosed
	}
	defer o.end()
	o.working.Store(true)
	defer o.working.Store(false)
	o.slot <- struct{}{}
	defer func() { <-o.slot }()

	if c, ok := o.current(); ok {
		return c, nil
	}
	if err := o.look(o.stop); err != nil {
		return Credential{}, o.failStorage(err)
	}
	if c, ok := o.current(); ok {
		return c, nil
	}
	if err := o.mayExchange(); err != nil {
		return Credential{}, err
	}
	if c, done, err := o.outside(); done {
		return c, err
	}
	unlock, err := lock(o.stop, o.cfg.Storage, o.cfg.Key, lockWait)
	if err != nil {
		return Credential{}, o.failStorage(err)
	}
	defer func() {
		// A lock that cannot be given back goes stale by itself.
		if err := unlock(); err != nil {
			o.note(err)
		}
		failpoint.Pass("unlocked")
	}()
	return o.locked()
}

// locked refreshes under the storage lock. Storage is read again first, as the
// Locker contract asks: whoever held the lock before may have done the work.
func (o *OAuth) locked() (Credential, error) {
	failpoint.Pass("locked")
	// Twice: a peer that lost its lease may refresh between our look and our
	// exchange, and its record may be old already when we find it.
	for range 2 {
		if err := o.look(o.stop); err != nil {
			return Credential{}, o.failStorage(err)
		}
		failpoint.Pass("loaded")
		if c, ok := o.current(); ok {
			return c, nil
		}
		if err := o.mayExchange(); err != nil {
			return Credential{}, err
		}
		used := o.cur.Load().rec
		if err := o.announce(used); err != nil {
			return Credential{}, err
		}
		failpoint.Pass("intended")
		got, err := o.exchange(used)
		if err == nil {
			failpoint.Pass("answered")
			return o.commit(used, got), nil
		}
		o.settleIntent(used, err)
		var ex *exchangeError
		if !errors.As(err, &ex) || !ex.invalidGrant {
			return Credential{}, o.fail(err, backoffMax)
		}
		if err := o.look(o.stop); err != nil {
			return Credential{}, o.fail(fmt.Errorf("confirming that the refresh token is dead: %w", err), backoffMax)
		}
		if o.cur.Load().rec.refresh.reveal() == used.refresh.reveal() {
			return Credential{}, o.bury()
		}
	}
	return Credential{}, o.fail(errors.New("refreshing: the refresh token was replaced in storage again and again"), backoffMax)
}

// bury believes an invalid_grant.
func (o *OAuth) bury() error {
	reason := "the token server no longer accepts the refresh token stored at " + o.cfg.Key
	o.mu.Lock()
	if o.unanswered {
		reason += "; an earlier refresh got no answer, and may have spent it"
	}
	// What was not stored is dead too; storing it would look like a new login.
	o.unsaved = nil
	seen := o.seen
	if o.login != "" { // storage has just said why a login is needed, and knows better
		reason, seen = o.login, o.dead
	}
	o.mu.Unlock()
	o.requireLogin(seen, reason)
	return fmt.Errorf("%w: %s", ErrLoginRequired, reason)
}

// current returns the credential if there is nothing to do about it.
func (o *OAuth) current() (Credential, bool) {
	if l := o.cur.Load(); l.fresh(o.cfg.Clock()) && l.rec.tokens() != o.replace {
		return l.cred, true
	}
	return Credential{}, false
}

// mayExchange tells why the token server is not to be asked, nil when it may be.
// The caller holds slot.
func (o *OAuth) mayExchange() error {
	now := o.cfg.Clock()
	o.mu.Lock()
	err, l, seen := o.gate(now), o.cur.Load(), o.seen
	if err == nil && l != nil && l.refused.Load() {
		if since := now.Sub(l.rec.RefreshedAt); since >= 0 && since < forcedGap {
			o.cause = errors.New("the API refused a token that had just been refreshed")
			o.nextTry, o.lastErr = l.rec.RefreshedAt.Add(forcedGap), o.cause.Error()
			err = &RetryError{Next: o.nextTry, Err: o.cause}
			o.nudge()
		}
	}
	o.mu.Unlock()
	switch {
	case err != nil:
		return err
	case l == nil:
		return errors.New("refreshing: there is no record")
	case l.rec.Follow != "":
		return o.standBack(followedEnded(l.rec.Follow), followLook, now)
	case l.rec.refresh.empty():
		reason := "the record at " + o.cfg.Key + " has no refresh token, and its access token has ended"
		o.requireLogin(seen, reason)
		return fmt.Errorf("%w: %s", ErrLoginRequired, reason)
	}
	return nil
}

// look reads the record in storage and takes note of it. A record that is
// missing or cannot be read is noted too, as a login that is required; an error
// means that storage could not be read. The caller holds slot.
func (o *OAuth) look(ctx context.Context) error {
	raw, err := load(ctx, o.cfg.Storage, o.cfg.Key)
	now := o.cfg.Clock()
	o.mu.Lock()
	o.looked = now
	ahead := o.unsaved != nil
	missing := errors.Is(err, fs.ErrNotExist)
	if ahead && missing {
		o.unblock()
	}
	o.mu.Unlock()
	switch {
	case missing:
		if !ahead {
			o.requireLogin("", "no login is stored at "+o.cfg.Key)
		}
		return nil
	case err != nil:
		return o.hide(err)
	}
	print := fingerprint("record", string(raw))
	rec, err := ParseRecord(raw)
	if err == nil && rec.Follow != "" {
		return o.follow(rec, print)
	}
	if err != nil {
		o.requireLogin(print, o.unreadable(ctx, raw, print, err, now))
		return nil
	}
	o.accept(rec, print)
	return nil
}

// unreadable copies a record that cannot be read aside, once, and says what is
// wrong. The record itself stays as it is: people may still save something, and
// only Import replaces it.
func (o *OAuth) unreadable(ctx context.Context, raw []byte, print string, err error, now time.Time) string {
	reason := fmt.Sprintf("the record at %s cannot be used (%v)", o.cfg.Key, err)
	if kept(err) {
		return reason
	}
	o.mu.Lock()
	aside := o.aside
	if o.asideOf != print {
		aside = ""
	}
	o.mu.Unlock()
	if aside == "" {
		var err error
		if aside, err = setAside(ctx, o.cfg.Storage, o.cfg.Key, raw, now); err != nil {
			return reason + "; copying it aside failed"
		}
		o.mu.Lock()
		o.aside, o.asideOf = aside, print
		o.mu.Unlock()
	}
	return reason + "; a copy is at " + aside
}

// hold takes the slot on the caller's time, as a job that Close waits for. The
// caller owes release.
func (o *OAuth) hold(ctx context.Context) (release func(), err error) {
	if !o.begin() {
		return nil, ErrClosed
	}
	select {
	case o.slot <- struct{}{}:
		return func() { <-o.slot; o.end() }, nil
	case <-ctx.Done():
		o.end()
		return nil, fmt.Errorf("waiting for a refresh to end: %w", ctx.Err())
	}
}

// poll looks into storage on the caller's time.
func (o *OAuth) poll(ctx context.Context) error {
	release, err := o.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err = o.look(ctx); err != nil {
		o.note(err)
	}
	return err
}

// note keeps an error for Status that changes nothing else.
func (o *OAuth) note(err error) {
	err = o.hide(err)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lastErr = err.Error()
}
