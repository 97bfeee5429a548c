package credential

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/caddy-shunt/caddy-shunt/internal/failpoint"
)

// Defaults of Config (the token endpoint and the public client id that Claude
// Code uses; an undocumented contract, hence settings).
const (
	DefaultTokenURL = "https://platform.claude.com/v1/oauth/token"
	DefaultClientID = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
	// DefaultPostTimeout bounds one exchange with the token server.
	//
	// It is long on purpose. When the time runs out, the server may have spent the
	// refresh token while its answer, the only copy of the next one, is lost, and
	// with it the login; so giving up early is what costs logins. Waiting costs
	// nobody: clients wait on their own context, and the access token is usually
	// still good. The storage lock does not speak against it either: Caddy's
	// storages renew the lease while it is held, so only a process that is paused
	// for longer than the lease loses it, and then a second refresher gets
	// invalid_grant, which is not believed before storage was read again.
	DefaultPostTimeout = 30 * time.Second
)

// Config says what an OAuth source works with. Storage and Key are required.
type Config struct {
	// Storage holds the record and the lock. Sources in other processes with the
	// same storage and key share the login.
	Storage Storage
	// Key is where the record is, such as shunt/default/credentials/alice.json.
	Key string
	// TokenURL is where refreshes are posted to. Anything but a loopback address
	// must be https.
	TokenURL string
	// ClientID is sent with a refresh, unless the record names its own client.
	ClientID string
	// Transport carries the exchange; nil means http.DefaultTransport. Redirects
	// are not followed: they could carry the refresh token elsewhere.
	Transport http.RoundTripper
	// PostTimeout bounds one exchange; 0 means DefaultPostTimeout. Lower it (under
	// the lease) only for a storage that does not renew a held lock.
	PostTimeout time.Duration
	// Clock gives the time; nil means time.Now. Waiting itself is on real timers.
	Clock func() time.Time
	// Rand gives numbers in [0,1) for jitter; nil means math/rand/v2. It is called
	// with a lock held.
	Rand func() float64
	// Renew refreshes the login in a process of its own, which survives this one: a
	// process that dies with the answer of the token server takes the login with it.
	// It fails with ErrNoRenewer when there can be no such process; then, and when
	// it is nil, the refresh is made here.
	Renew func(ctx context.Context, job Job) (Renewal, error)
	// OnEvent is told what happens, one event at a time and in order, from a
	// goroutine that holds no lock. It may use the source, but not close it. Until
	// it returns, later events queue up.
	OnEvent func(Event)
}

// OAuth is the source of a login: it hands out the access token, refreshes it in
// time, and shares the login with its peers through storage. Make it with
// NewOAuth, run Run in a goroutine, and end it with Close.
type OAuth struct {
	cfg Config
	// name tells this refresher from others.
	name string

	// cur is what Get hands out; nil until the first record was read. Written by
	// the holder of slot only.
	cur atomic.Pointer[live]

	// replace is the fingerprint of tokens that are to be replaced although they may
	// live; set before the first use and empty but in a process that does only that.
	replace string

	flight singleflight.Group
	// working is true while a refresh runs, so that requests do not each join it
	// for a result that they do not wait for.
	working atomic.Bool
	// slot is held by whoever reads or writes the record in storage. It makes what
	// was read and what is published follow one another; waiters for a credential
	// never hold it.
	slot chan struct{}
	// wake tells Run to look at the times anew.
	wake chan struct{}

	stop   context.Context // ends with Close
	cancel context.CancelFunc

	mu sync.Mutex // guards all below; never held across I/O or a call out
	state
	events  []Event
	telling bool
	closed  bool
	jobs    sync.WaitGroup // work that Close waits for; added to under mu
}

var _ Source = (*OAuth)(nil)

// NewOAuth checks the configuration and makes the source. It does no I/O: the
// record is read at the first Get, Reload or turn of Run.
func NewOAuth(cfg Config) (*OAuth, error) {
	if cfg.Storage == nil || cfg.Key == "" {
		return nil, errors.New("making an OAuth source: a storage and a key are needed")
	}
	if cfg.TokenURL == "" {
		cfg.TokenURL = DefaultTokenURL
	}
	if err := checkTokenURL(cfg.TokenURL); err != nil {
		return nil, fmt.Errorf("making an OAuth source: %w", err)
	}
	if cfg.ClientID == "" {
		cfg.ClientID = DefaultClientID
	}
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport
	}
	if cfg.PostTimeout <= 0 {
		cfg.PostTimeout = DefaultPostTimeout
	}
	if cfg.Clock == nil {
		cfg.Clock = failpoint.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	o := &OAuth{cfg: cfg, name: newName(), slot: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	o.stop, o.cancel = context.WithCancel(context.Background())
	return o, nil
}

// checkTokenURL keeps refresh tokens from going over a network in clear.
func checkTokenURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return errors.New("the token URL is not an absolute URL")
	}
	if u.Scheme == "https" {
		return nil
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return errors.New("the token URL must be https, or http to this machine")
}

// Get returns the access token. It waits for a refresh only when the token has
// less than 30 seconds left or was refused; when that fails and the token still
// lives, the token is returned all the same. A token that is due is refreshed
// behind the caller's back, Run or no Run.
func (o *OAuth) Get(ctx context.Context) (Credential, error) {
	now := o.cfg.Clock()
	l := o.cur.Load()
	if l.usable(now.Add(mandatory)) {
		if l.dueBy(now) {
			o.kick(now)
		}
		return l.cred, nil
	}
	if p := l.previous(now); p != nil {
		o.kick(now)
		return p.cred, nil
	}
	err := o.shut(now)
	if err == nil {
		var c Credential
		if c, err = o.await(ctx); err == nil {
			return c, nil
		}
	}
	if ctx.Err() == nil {
		if l := o.cur.Load(); l.usable(o.cfg.Clock()) {
			return l.cred, nil
		}
	}
	return Credential{}, err
}

// Refresh returns another credential than used, by a refresh only when used is
// still the current one. It does not ask the token server while a back-off runs,
// nor within 30 seconds after a refresh whose token was refused too: then the
// token is not what is wrong.
func (o *OAuth) Refresh(ctx context.Context, used Credential) (Credential, error) {
	// Twice: the first flight joined may have decided before this refusal.
	for range 2 {
		now := o.cfg.Clock()
		l := o.cur.Load()
		l.refuse(used)
		if l.usable(now) {
			return l.cred, nil
		}
		if p := l.previous(now); p != nil {
			return p.cred, nil
		}
		if err := o.shut(now); err != nil {
			return Credential{}, err
		}
		c, err := o.await(ctx)
		if err != nil {
			return Credential{}, err
		}
		if c.version != used.version {
			return c, nil
		}
	}
	return Credential{}, errors.New("refreshing a refused token: the token did not change")
}

// Proved forgets the access token before this one, which is kept until then: a
// token that has just been made may be refused for a moment, and the one before it
// usually still lives.
func (o *OAuth) Proved(used Credential) {
	if l := o.cur.Load(); l != nil && l.prev.Load() != nil && l.cred.version == used.version {
		l.prev.Store(nil)
	}
}

// Refreshable returns true: whether a refresh can work is for Refresh to find
// out, since a new login may have come into storage.
func (o *OAuth) Refreshable() bool { return true }

// Reload reads the record in storage now, adopts it if it changed, and ends a
// back-off. It fails with ErrLoginRequired when a login is still needed, when the
// token of a followed login has ended, and with the storage's error.
func (o *OAuth) Reload(ctx context.Context) error {
	o.mu.Lock()
	o.nextTry, o.failures = time.Time{}, 0
	o.mu.Unlock()
	defer o.nudge()
	if err := o.poll(ctx); err != nil {
		return fmt.Errorf("reloading: %w", err)
	}
	if l := o.cur.Load(); l != nil && l.rec.Follow != "" && !l.usable(o.cfg.Clock()) {
		return followedEnded(l.rec.Follow)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.loginError()
}

// Status tells how the login is doing.
func (o *OAuth) Status() Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := Status{
		Kind: KindOAuth, NextTry: o.nextTry, LastError: o.lastErr, Unsaved: o.unsaved != nil,
		LoginRequired: o.login != "", LoginReason: o.login,
	}
	if l := o.cur.Load(); l != nil {
		s.Version, s.Login, s.Expires = l.cred.version, l.rec.LoginID, l.rec.Expires
		s.LoginExpires, s.LoginExpiresGuessed = l.rec.loginEnd()
		s.Imported, s.LastRefresh = l.rec.ImportedAt, l.rec.RefreshedAt
		s.Email, s.Organization, s.AccountUUID = l.rec.Email, l.rec.Organization, l.rec.AccountUUID
		s.Subscription, s.RateLimitTier = l.rec.Subscription, l.rec.RateLimitTier
		s.Scopes, s.Follows = slices.Clone(l.rec.Scopes), l.rec.Follow
	}
	return s
}

// Close starts nothing more and waits for what runs: an exchange, because its
// answer must not be lost, and one last try at a token that could not be stored
// yet. When ctx ends first, its error is returned and they go on by themselves,
// for no longer than their own deadlines. Get then still returns the access token
// while that lives. Close may be called more than once.
func (o *OAuth) Close(ctx context.Context) error {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cancel()
	done := make(chan struct{})
	go func() { o.jobs.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing the credential source: %w", ctx.Err())
	}
}

// begin counts a job in, so that Close waits for it; end counts it out.
func (o *OAuth) begin() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.jobs.Add(1)
	return true
}

func (o *OAuth) end() { o.jobs.Done() }

// nudge makes Run look at the times anew.
func (o *OAuth) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
