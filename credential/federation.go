package credential

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// DefaultFederationURL is where assertions are exchanged (official SDKs,
// config/federation).
const DefaultFederationURL = "https://api.anthropic.com/v1/oauth/token"

// FederationConfig says what a federation source works with. Assertion, Rule,
// Organization and ServiceAccount are required.
type FederationConfig struct {
	// Name is what events call the source.
	Name string
	// Assertion is where the workload's JWT is.
	Assertion Assertion
	// Rule, Organization and ServiceAccount are the ids that the Console shows for
	// the federation rule.
	Rule, Organization, ServiceAccount string
	// Workspace is the id of a workspace, if the token shall be for one in
	// particular.
	Workspace string
	// TokenURL is where assertions are posted to. Anything but a loopback address
	// must be https.
	TokenURL string
	// Transport carries the exchange; nil means http.DefaultTransport. Redirects
	// are not followed.
	Transport http.RoundTripper
	// PostTimeout bounds one exchange; 0 means DefaultPostTimeout.
	PostTimeout time.Duration
	// Clock gives the time; nil means time.Now. Waiting itself is on real timers.
	Clock func() time.Time
	// Rand gives numbers in [0,1) for jitter; nil means math/rand/v2. It is called
	// with a lock held.
	Rand func() float64
	// OnEvent is told what happens, as that of Config is.
	OnEvent func(Event)
}

func (c *FederationConfig) complete() error {
	if err := c.Assertion.check(); err != nil {
		return err
	}
	if c.Rule == "" || c.Organization == "" || c.ServiceAccount == "" {
		return errors.New("a federation rule, an organization and a service account are needed")
	}
	if c.TokenURL == "" {
		c.TokenURL = DefaultFederationURL
	}
	if err := checkTokenURL(c.TokenURL); err != nil {
		return err
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	if c.PostTimeout <= 0 {
		c.PostTimeout = DefaultPostTimeout
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	return nil
}

// Federation is the source of a workload identity: it exchanges the workload's JWT
// for an access token (RFC 7523) and does so again ahead of the token's end. There
// is no refresh token and nothing is stored, so every process exchanges for itself.
// Make it with NewFederation, run Run in a goroutine, and end it with Close.
type Federation struct {
	cfg   FederationConfig
	login string // names the identity in Status

	cur    atomic.Pointer[grant] // what Get hands out; nil until the first exchange
	flight singleflight.Group
	// working is true while an exchange runs, so that requests do not each join it
	// for a result that they do not wait for.
	working atomic.Bool
	// wake tells Run to look at the times anew.
	wake chan struct{}

	stop   context.Context // ends with Close
	cancel context.CancelFunc
	events teller

	mu sync.Mutex // guards all below; never held across I/O or a call out
	trouble
	closed bool
	jobs   sync.WaitGroup // work that Close waits for; added to under mu
}

var _ Source = (*Federation)(nil)

// grant is an access token in use. All but refused and asked is immutable.
type grant struct {
	cred   Credential
	got    time.Time
	life   time.Duration
	due    time.Time // when to exchange again
	scopes []string
	org    string
	// refused is set when the API answered 401 to the token. Such a token is not
	// handed out again.
	refused atomic.Bool
	// asked is set while somebody asks for another one, see RenewNow.
	asked atomic.Bool
}

// usable reports whether the token may be sent at that time.
func (g *grant) usable(at time.Time) bool {
	return g != nil && !g.refused.Load() && at.Before(g.cred.expires)
}

// comfortable reports whether the token lives long enough that nobody need wait for
// the next: 30 seconds, or a quarter of its life if that is less.
func (g *grant) comfortable(now time.Time) bool {
	return g != nil && g.usable(now.Add(min(mandatory, g.life/4)))
}

func (g *grant) fresh(now time.Time) bool {
	return g.usable(now) && now.Before(g.due) && !g.asked.Load()
}

// leadOf is how long before its end a token of that life is replaced: a sixth of its
// life, at least ten minutes, at most half of the life, and up to a quarter of that
// more by r in [0,1), so that accounts and machines do not all ask at once.
func leadOf(life time.Duration, r float64) time.Duration {
	lead := min(max(minLead, life/6), life/2)
	return lead + time.Duration(float64(lead)/4*r)
}

// NewFederation checks the configuration and makes the source. It does no I/O: the
// assertion is read and exchanged at the first Get or turn of Run.
func NewFederation(cfg FederationConfig) (*Federation, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("making a federation source: %w", err)
	}
	f := &Federation{
		cfg: cfg, wake: make(chan struct{}, 1), events: teller{to: cfg.OnEvent},
		login: fingerprint("federation", cfg.Rule, cfg.Organization, cfg.ServiceAccount, cfg.Workspace),
	}
	f.stop, f.cancel = context.WithCancel(context.Background())
	return f, nil
}

// Get returns the access token. It waits for an exchange only when the token is about
// to end or was refused; when that fails and the token still lives, the token is
// returned all the same. A token that is due is replaced behind the caller's back,
// Run or no Run. Errors are ErrLoginRequired when the token server refuses the
// assertion, *RetryError for what may pass, and ErrClosed.
func (f *Federation) Get(ctx context.Context) (Credential, error) {
	now := f.cfg.Clock()
	g := f.cur.Load()
	if g.comfortable(now) {
		if !g.fresh(now) && !f.working.Load() && f.shut(now) == nil {
			f.flight.DoChan("", func() (any, error) { return f.work() })
		}
		return g.cred, nil
	}
	err := f.shut(now)
	if err == nil {
		var c Credential
		if c, err = f.await(ctx); err == nil {
			return c, nil
		}
	}
	if ctx.Err() == nil {
		if g := f.cur.Load(); g.usable(f.cfg.Clock()) {
			return g.cred, nil
		}
	}
	return Credential{}, err
}

// Refresh returns another credential than used, by an exchange only when used is
// still the current one. It does not ask the token server while a back-off runs,
// nor within 30 seconds after an exchange whose token was refused too: then the
// token is not what is wrong.
func (f *Federation) Refresh(ctx context.Context, used Credential) (Credential, error) {
	// Twice: the first flight joined may have decided before this refusal.
	for range 2 {
		now := f.cfg.Clock()
		g := f.cur.Load()
		if g != nil && g.cred.version == used.version {
			g.refused.Store(true)
		} else if g.usable(now) {
			return g.cred, nil
		}
		if err := f.shut(now); err != nil {
			return Credential{}, err
		}
		c, err := f.await(ctx)
		if err != nil {
			return Credential{}, err
		}
		if c.version != used.version {
			return c, nil
		}
	}
	return Credential{}, errors.New("exchanging the assertion for another token: the token did not change")
}

// Proved does nothing: there is nothing before this token to fall back on.
func (f *Federation) Proved(Credential) {}

// Refreshable returns true: the assertion can be exchanged again.
func (f *Federation) Refreshable() bool { return true }

// Status tells how the source is doing. LoginRequired means that the token server
// refuses the assertion; that ends by itself when it no longer does.
func (f *Federation) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Status{
		Kind: KindFederation, Login: f.login, NextTry: f.nextTry, LastError: f.lastErr,
		LoginRequired: f.refused, Organization: f.cfg.Organization,
	}
	if f.refused {
		s.LoginReason = f.lastErr
	}
	if g := f.cur.Load(); g != nil {
		s.Version, s.Expires, s.LastRefresh, s.Scopes = g.cred.version, g.cred.expires, g.got, slices.Clone(g.scopes)
		if g.org != "" {
			s.Organization = g.org
		}
	}
	return s
}

// Close starts nothing more, gives up an exchange under way (nothing is lost with
// it) and waits for its end or for ctx's, whose error it returns. Get then still
// returns the access token while that lives. Close may be called more than once.
func (f *Federation) Close(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	done := make(chan struct{})
	go func() { f.jobs.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing the credential source: %w", ctx.Err())
	}
}
