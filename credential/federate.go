package credential

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	grantJWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"

	// assertionGap is how often a failing source looks whether the assertion has
	// been replaced.
	assertionGap = 5 * time.Second
	// refusedFirst is the first back-off after the token server has refused the
	// assertion; it doubles up to refusedMax. It is slow because the same assertion
	// mostly gets the same answer; only a rule that is put right changes that.
	refusedFirst = time.Minute
	refusedMax   = 15 * time.Minute
)

// trouble is what a federation source knows of its failures. Federation.mu guards it.
type trouble struct {
	// looked is when the assertion was last read, with or without success.
	looked   time.Time
	failures int
	nextTry  time.Time
	lastErr  string
	cause    error // of the back-off
	// refused says that the token server refused the assertion with the fingerprint
	// print; another one is tried at once.
	refused bool
	print   string
	// local says that the assertion could not be read, which costs nothing to try
	// again.
	local bool
}

// await joins the exchange in flight or starts one, and waits for its end or for
// ctx. Whoever leaves ends only the wait.
func (f *Federation) await(ctx context.Context) (Credential, error) {
	select {
	case r := <-f.flight.DoChan("", func() (any, error) { return f.work() }):
		c, _ := r.Val.(Credential)
		return c, r.Err
	case <-ctx.Done():
		return Credential{}, fmt.Errorf("waiting for a token exchange: %w", ctx.Err())
	}
}

// shut tells why it is no use to look for a token now, nil when it may be: the cheap
// check that keeps requests from reading the assertion each.
func (f *Federation) shut(now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	if since := now.Sub(f.looked); (f.refused || f.local) && (since < 0 || since >= assertionGap) {
		return nil
	}
	return f.gate(now)
}

// gate is the error of a back-off that runs. The caller holds mu.
func (f *Federation) gate(now time.Time) error {
	if !now.Before(f.nextTry) {
		return nil
	}
	return f.standing()
}

// standing is the error of the failure that the source is in. The caller holds mu.
func (f *Federation) standing() error {
	if f.refused {
		return fmt.Errorf("%w: %w", ErrLoginRequired, f.cause)
	}
	return &RetryError{Next: f.nextTry, Err: f.cause}
}

// work gets a token. It runs at most once at a time, on no request's context.
func (f *Federation) work() (Credential, error) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return Credential{}, ErrClosed
	}
	f.jobs.Add(1)
	f.mu.Unlock()
	defer f.jobs.Done()
	f.working.Store(true)
	defer f.working.Store(false)

	now := f.cfg.Clock()
	if g := f.cur.Load(); g.fresh(now) {
		return g.cred, nil
	}
	assertion, err := f.cfg.Assertion.read(now)
	if err != nil {
		return Credential{}, f.unread(err, now)
	}
	print := fingerprint("assertion", assertion.reveal())
	if err := f.mayExchange(print, now); err != nil {
		return Credential{}, err
	}
	got, err := f.exchange(assertion)
	if err != nil {
		if f.stop.Err() != nil {
			return Credential{}, ErrClosed
		}
		return Credential{}, f.fail(hideIn(err, assertion), err, print)
	}
	return f.publish(got), nil
}

// mayExchange tells why the token server is not to be asked, nil when it may be.
func (f *Federation) mayExchange(print string, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked = now
	if f.local || f.refused && print != f.print {
		return nil
	}
	if err := f.gate(now); err != nil {
		return err
	}
	if g := f.cur.Load(); g != nil && g.refused.Load() {
		if since := now.Sub(g.got); since >= 0 && since < forcedGap {
			f.cause = errors.New("the API refused a token that had just been got for the assertion")
			f.nextTry, f.lastErr = g.got.Add(forcedGap), f.cause.Error()
			return f.standing()
		}
	}
	return nil
}

// exchange posts the assertion. It is cancelled by its deadline and by Close.
func (f *Federation) exchange(assertion secret) (answer, error) {
	ctx, cancel := context.WithTimeout(f.stop, f.cfg.PostTimeout)
	defer cancel()
	body := map[string]string{
		"grant_type": grantJWT, "assertion": assertion.reveal(), "federation_rule_id": f.cfg.Rule,
		"organization_id": f.cfg.Organization, "service_account_id": f.cfg.ServiceAccount,
	}
	if f.cfg.Workspace != "" {
		body["workspace_id"] = f.cfg.Workspace
	}
	got, err := post(ctx, &tokenCall{
		url: f.cfg.TokenURL, transport: f.cfg.Transport, clock: f.cfg.Clock,
		body: body, betas: []string{oauthBeta, federationBeta},
	})
	if ex := (*exchangeError)(nil); errors.As(err, &ex) {
		ex.doing = "exchanging the assertion for a token"
	}
	return got, err
}

// publish puts a token in use and forgets past failures.
func (f *Federation) publish(got answer) Credential {
	now := f.cfg.Clock()
	f.mu.Lock()
	defer f.mu.Unlock()
	g := &grant{
		cred: newCredential(KindFederation, got.access, now.Add(got.life)), got: now, life: got.life,
		scopes: got.scopes, org: got.org,
	}
	g.due = g.cred.expires.Add(-leadOf(got.life, f.cfg.Rand()))
	if old := f.cur.Load(); old != nil && old.cred.version == g.cred.version {
		g.refused.Store(old.refused.Load())
	}
	f.cur.Store(g)
	f.trouble = trouble{looked: f.looked}
	f.emit(Event{Type: EventRefreshed, Time: now})
	f.nudge()
	return g.cred
}

// unread notes that there is no assertion to exchange. Reading it again is cheap, so
// the wait is short, and the same failure is told once for each of its waits.
func (f *Federation) unread(err error, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked = now
	if now.Before(f.nextTry) && (!f.local || f.lastErr == err.Error()) {
		return f.standing() // what the server asked for holds whatever becomes of the file
	}
	f.refused, f.print = false, ""
	f.local = true
	f.back(err, backoffFirst, backoffMax, 0, now)
	return f.standing()
}

// fail notes that an exchange failed. What the server says of the assertion or of the
// settings is told apart from what may pass by itself.
func (f *Federation) fail(shown, err error, print string) error {
	now := f.cfg.Clock()
	var ex *exchangeError
	f.mu.Lock()
	defer f.mu.Unlock()
	f.local = false
	if errors.As(err, &ex) && ex.refusesAssertion() {
		if f.print != print {
			f.failures = 0
		}
		news := !f.refused
		f.refused, f.print = true, print
		shown = fmt.Errorf("%w: %s, the federation rule, organization, service account and workspace do not fit together, or one of them has ended", shown, f.cfg.Assertion)
		f.back(shown, refusedFirst, refusedMax, ex.retryAfter, now)
		if news {
			f.emit(Event{Type: EventLoginRequired, Time: now, Reason: f.lastErr})
		}
		return f.standing()
	}
	if f.refused || f.print != "" {
		f.failures = 0
	}
	f.refused, f.print = false, ""
	var after time.Duration
	if ex != nil {
		after = ex.retryAfter
	}
	f.back(shown, backoffFirst, backoffMax, after, now)
	return f.standing()
}

// refusesAssertion reports whether the answer is about what was asked: the same
// question then gets the same answer. A 403 without a known code is an edge's block,
// and 429 and 5xx say nothing of the question.
func (e *exchangeError) refusesAssertion() bool {
	switch e.status {
	case 400, 401, 403, 404, 422:
		return e.code != ""
	}
	return false
}

// back starts or lengthens the back-off. The caller holds mu.
func (f *Federation) back(err error, first, most, after time.Duration, now time.Time) {
	wait := most
	if f.failures < 10 {
		wait = min(first<<f.failures, most)
	}
	wait -= time.Duration(float64(wait) / 4 * f.cfg.Rand())
	f.failures++
	f.nextTry, f.cause, f.lastErr = now.Add(max(wait, after)), err, err.Error()
	f.emit(Event{Type: EventRefreshFailed, Time: now, Next: f.nextTry, Err: err})
}

// emit tells an event. The caller holds mu.
func (f *Federation) emit(e Event) {
	e.Key = f.cfg.Name
	if g := f.cur.Load(); g != nil {
		e.Expires = g.cred.expires
	}
	f.events.tell(e)
}

func (f *Federation) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run keeps the token fresh until ctx ends or the source is closed: it exchanges the
// assertion at the start and ahead of each token's end (requests or none), tries
// again after failures, and sees when a refused assertion is replaced. It blocks;
// what it finds is told by Status and OnEvent.
func (f *Federation) Run(ctx context.Context) {
	var floor time.Time
	for {
		at := f.nextTurn()
		if at.Before(floor) {
			at = floor
		}
		// A clock that jumps is noticed at the next turn.
		timer := time.NewTimer(min(max(0, at.Sub(f.cfg.Clock())), pollEvery))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-f.stop.Done():
			timer.Stop()
			return
		case <-f.wake:
			timer.Stop()
			continue
		case <-timer.C:
		}
		if now := f.cfg.Clock(); !now.Before(at) {
			_, _ = f.await(ctx) // failures are kept in the status and told as events
			floor = f.cfg.Clock().Add(turnGap)
		}
	}
}

// nextTurn says when Run has something to do next.
func (f *Federation) nextTurn() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.cur.Load()
	switch {
	case f.refused || f.local:
		if look := f.looked.Add(assertionGap); look.Before(f.nextTry) {
			return look
		}
		return f.nextTry
	case !f.nextTry.IsZero():
		return f.nextTry
	case g == nil:
		return f.cfg.Clock()
	}
	return g.due
}
