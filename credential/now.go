package credential

import (
	"context"
	"errors"
	"fmt"
)

// Renewable is a source whose token can be replaced by another before its time.
type Renewable interface {
	Source
	// RenewNow gets another access token although the current one is not due, because
	// somebody asks for it. The current one serves until then, and goes on to when that
	// fails. Errors are those of Refresh, ErrNotRefreshable for a login that another
	// program refreshes, and *RetryError within 30 seconds after a refresh.
	RenewNow(ctx context.Context) (Credential, error)
}

var (
	_ Renewable = (*OAuth)(nil)
	_ Renewable = (*Federation)(nil)

	errJustNow = errors.New("the token is new: it was got less than 30 seconds ago")
)

// RenewNow implements [Renewable].
func (o *OAuth) RenewNow(ctx context.Context) (Credential, error) {
	now, l := o.cfg.Clock(), o.cur.Load()
	if l != nil {
		if l.rec.Follow != "" {
			return Credential{}, fmt.Errorf("%w here: the login is the one in %s, and is refreshed by the program that it belongs to", ErrNotRefreshable, l.rec.Follow)
		}
		if since := now.Sub(l.rec.RefreshedAt); since >= 0 && since < forcedGap {
			return Credential{}, &RetryError{Next: l.rec.RefreshedAt.Add(forcedGap), Err: errJustNow}
		}
		l.asked.Store(true)
		defer l.asked.Store(false)
	}
	if err := o.shut(now); err != nil {
		return Credential{}, err
	}
	return o.await(ctx)
}

// RenewNow implements [Renewable].
func (f *Federation) RenewNow(ctx context.Context) (Credential, error) {
	now, g := f.cfg.Clock(), f.cur.Load()
	if g != nil {
		if since := now.Sub(g.got); since >= 0 && since < forcedGap {
			return Credential{}, &RetryError{Next: g.got.Add(forcedGap), Err: errJustNow}
		}
		g.asked.Store(true)
		defer g.asked.Store(false)
	}
	if err := f.shut(now); err != nil {
		return Credential{}, err
	}
	return f.await(ctx)
}
