package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/failpoint"
)

// Job is a refresh that is to be made in a process of its own.
type Job struct {
	// Tokens is the fingerprint of the tokens that are to be replaced. When storage
	// has others, there is nothing to do.
	Tokens string `json:"tokens"`
}

// Renewal is what a refresh in a process of its own came to. The zero value means
// that storage has a new token.
type Renewal struct {
	// Error is what went wrong; it holds no secret.
	Error string `json:"error,omitempty"`
	// LoginRequired says that nothing but a new login helps.
	LoginRequired bool `json:"login_required,omitempty"`
	// Blind says that the process found no login where it looked.
	Blind bool `json:"blind,omitempty"`
	// Storage says that storage is what is out of order.
	Storage bool `json:"storage,omitempty"`
	// Unanswered says that the token server may have spent the refresh token.
	Unanswered bool `json:"unanswered,omitempty"`
	// RetryAfter is how long the token server asked to be left alone.
	RetryAfter time.Duration `json:"retry_after,omitempty"`
	// StandBack is how long to wait since another process is at it.
	StandBack time.Duration `json:"stand_back,omitempty"`
	// Record is the new login, tokens and all, when it could not be stored. Whoever
	// gets it must keep it secret.
	Record json.RawMessage `json:"record,omitempty"`
}

// ErrNoRenewer means that a refresh cannot be made in a process of its own.
var ErrNoRenewer = errors.New("there is no process of its own for a refresh")

// renewWait bounds the wait for the other process: longer than all its deadlines
// together.
const renewWait = lockWait + DefaultPostTimeout + 8*storageTimeout

// newName makes a name for a refresher.
func newName() string {
	return strconv.FormatUint(rand.Uint64(), 36)
}

// outside has the refresh made by a process of its own. done is false when it must
// be made here. The caller holds slot.
func (o *OAuth) outside() (c Credential, done bool, err error) {
	o.mu.Lock()
	unsaved := o.unsaved != nil
	o.mu.Unlock()
	if o.cfg.Renew == nil || unsaved {
		// Storage has an old token then, which the other process would spend again.
		return Credential{}, false, nil
	}
	used := o.cur.Load().rec
	ctx, cancel := context.WithTimeout(context.Background(), renewWait)
	defer cancel()
	failpoint.Pass("asked")
	r, err := o.cfg.Renew(ctx, Job{Tokens: used.tokens()})
	failpoint.Pass("told")
	if errors.Is(err, ErrNoRenewer) {
		return Credential{}, false, nil
	}
	if err != nil {
		r = Renewal{Error: err.Error(), Unanswered: true}
	}
	if r.Blind && o.sees(used) {
		o.note(errors.New("the process that refreshes logins does not see what is stored here; the login is refreshed without it"))
		return Credential{}, false, nil
	}
	c, err = o.take(used, r)
	return c, true, err
}

// sees reports whether storage still has these tokens.
func (o *OAuth) sees(used Record) bool {
	if o.look(o.stop) != nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.login == "" && o.cur.Load().rec.tokens() == used.tokens()
}

// take takes note of how the other process's refresh ended.
func (o *OAuth) take(used Record, r Renewal) (Credential, error) {
	now := o.cfg.Clock()
	if r.Record != nil {
		rec, err := ParseRecord(r.Record)
		if err != nil {
			return Credential{}, o.fail(fmt.Errorf("refreshing: the new token could not be stored, and not be read: %w", err), backoffMax)
		}
		return o.keep(used, rec, errors.New(r.Error)), nil
	}
	o.mu.Lock()
	o.renewed = r.Error == ""
	o.mu.Unlock()
	// Whatever it told: what storage has is what counts.
	err := o.look(o.stop)
	o.mu.Lock()
	o.renewed = false
	o.mu.Unlock()
	if err != nil {
		return Credential{}, o.failStorage(err)
	}
	if c, ok := o.current(); ok {
		return c, nil
	}
	switch {
	case r.LoginRequired:
		o.mu.Lock()
		seen, reason := o.seen, r.Error
		if o.login != "" {
			reason, seen = o.login, o.dead
		}
		o.mu.Unlock()
		o.requireLogin(seen, reason)
		return Credential{}, fmt.Errorf("%w: %s", ErrLoginRequired, reason)
	case r.StandBack > 0:
		return Credential{}, o.standBack(errIntent, r.StandBack, now)
	case r.Storage:
		return Credential{}, o.failStorage(errors.New(r.Error))
	case r.Error == "":
		r.Error = "refreshing: the other process says that it is done, but the stored token is the old one"
	}
	return Credential{}, o.fail(&exchangeError{what: r.Error, unanswered: r.Unanswered, retryAfter: r.RetryAfter, told: true}, backoffMax)
}

// Renew makes the refresh of the job as the process of its own that Config.Renew
// stands for, with everything that a refresh needs: lock, second look, one
// exchange, store. It reports by tell and ends when nothing is left to lose: a token
// that cannot be stored is kept until it is, or until ctx ends.
func Renew(ctx context.Context, cfg Config, job Job, tell func(Renewal) error) error {
	failpoint.Pass("started")
	cfg.Renew, cfg.OnEvent = nil, nil
	o, err := NewOAuth(cfg)
	if err != nil {
		return errors.Join(err, tell(Renewal{Error: err.Error()}))
	}
	o.replace = job.Tokens
	_, err = o.work()
	r := o.renewal(err)
	// Nobody may be listening any more, which changes nothing.
	told := tell(r)
	for o.Status().Unsaved && ctx.Err() == nil {
		timer := time.NewTimer(saveFirst)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return errors.Join(o.Close(context.Background()), told)
}

// renewal says what a refresh came to.
func (o *OAuth) renewal(err error) Renewal {
	now := o.cfg.Clock()
	o.mu.Lock()
	defer o.mu.Unlock()
	var r Renewal
	if o.unsaved != nil {
		r.Error = o.lastErr
		if raw, err := o.unsaved.rec.Encode(); err == nil {
			r.Record = raw
		}
		return r
	}
	if err == nil {
		return r
	}
	var retry *RetryError
	var ex *exchangeError
	r.Error, r.Unanswered, r.Blind = err.Error(), o.unanswered, o.cur.Load() == nil
	if errors.As(err, &retry) {
		r.Error = retry.Err.Error()
	}
	switch {
	case errors.Is(err, errIntent):
		r.StandBack = max(retry.Next.Sub(now), 100*time.Millisecond)
	case errors.Is(err, ErrLoginRequired):
		r.LoginRequired, r.Error = true, o.login
	case errors.As(err, &ex):
		r.RetryAfter = max(0, ex.retryAfter)
	default:
		r.Storage = true
	}
	return r
}
