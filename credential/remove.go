package credential

import (
	"context"
	"fmt"
	"time"
)

// Removed tells what Remove took away.
type Removed struct {
	Replaced
	// Follow is the file of a login that was only read along.
	Follow string
	// Revoked is true when the token server has ended the login.
	Revoked bool
	// RevokeError is why it has not, nil when it was not asked.
	RevokeError error
}

// Remove takes a login out of storage, under the key's lock. Before that revoke is
// called with it, unless it is nil, the login is one that is only read along, or
// the record cannot be read; that it fails keeps nothing from being removed. The
// lock is held meanwhile, so that no refresh makes the tokens others. A record that
// cannot be read is copied aside. The error satisfies
// errors.Is(err, fs.ErrNotExist) when there is none.
//
// Sources go on with what they have in memory; see [OAuth.Forget].
func Remove(ctx context.Context, st Storage, key string, revoke func(context.Context, Record) error) (gone Removed, err error) {
	unlock, err := lock(ctx, st, key, lockWait)
	if err != nil {
		return gone, fmt.Errorf("removing %s: %w", key, err)
	}
	defer func() {
		if uerr := unlock(); uerr != nil && err == nil {
			err = fmt.Errorf("removing %s: it is removed, but %w", key, uerr)
		}
	}()
	rec, was, err := found(ctx, st, key)
	gone.Replaced, gone.Follow = was, rec.Follow
	if err != nil {
		return gone, fmt.Errorf("removing %s: %w", key, err)
	}
	hasToken := !rec.access.empty() || !rec.refresh.empty()
	if revoke != nil && hasToken && rec.Follow == "" {
		if rerr := revoke(ctx, rec); rerr != nil {
			gone.RevokeError = hideIn(rerr, rec.access, rec.refresh)
		} else {
			gone.Revoked = true
		}
	}
	// Who wanted to be logged out is not kept from it by leaving now.
	if err := remove(context.WithoutCancel(ctx), st, key); err != nil {
		return gone, fmt.Errorf("removing %s: %w", key, err)
	}
	// A note of a refresh says nothing about another login.
	_ = remove(context.WithoutCancel(ctx), st, intentKey(key))
	return gone, nil
}

// Forget drops the login that is in use, and one that could not be stored yet, and
// looks into storage: a login that was removed from there is not served from
// memory until its access token ends, as one is that only vanished. It fails with
// ErrLoginRequired when storage has none, which after Remove is as it should be.
func (o *OAuth) Forget(ctx context.Context) error {
	release, err := o.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	o.mu.Lock()
	o.unsaved, o.seen = nil, ""
	o.nextTry, o.failures, o.cause = time.Time{}, 0, nil
	o.cur.Store(nil)
	o.mu.Unlock()
	defer o.nudge()
	if err := o.look(ctx); err != nil {
		o.note(err)
		return fmt.Errorf("looking for a login: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.loginError()
}
