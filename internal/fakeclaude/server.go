// Package fakeclaude is an upstream that speaks the Messages API as clients and
// proxies meet it, and misbehaves on command: windows that fill, tokens that
// expire, streams that break. Unit tests, integration tests, benchmarks and the
// demo run against it; no account and no network is needed.
//
// It shares no code with the packages that it tests, so that an error of
// reading cannot cancel out an error of writing.
package fakeclaude

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Server is the fake upstream. It is an http.Handler and safe for concurrent use.
type Server struct {
	opts Options
	// stop ends every pause, hang and stream.
	stop    chan struct{}
	running sync.WaitGroup

	// mu guards all that follows, including what the pointers lead to.
	mu       sync.Mutex
	closed   bool
	accounts []*account
	sequence uint64
	dice     *rand.Rand
	records  []*Request
	// changed is closed, and replaced, when a record changes while somebody in
	// Await is waiting.
	changed    chan struct{}
	waiting    int
	violations []string
	faults     map[string][]*Fault
	caches     map[cacheKey]*cacheEntry
	// resources are files, batches and containers by id.
	resources map[string]resource
	buckets   map[bucketKey]*bucketSet
}

// account is the living side of an Account.
type account struct {
	Account
	// access maps valid and expired access tokens to their end; the zero time
	// means no end.
	access   map[string]time.Time
	refresh  string
	spent    map[string]bool
	mints    int
	loginEnd time.Time

	fiveHour  window
	week      window
	modelWeek map[string]*window
	extra     float64
	inFlight  int
	ledger    Ledger
}

// New builds the fake upstream. Options that contradict themselves are a
// programming error and panic; see [Options.Validate].
func New(options Options) *Server {
	if err := options.Validate(); err != nil {
		panic(err)
	}
	s := &Server{
		opts:    options.withDefaults(),
		stop:    make(chan struct{}),
		changed: make(chan struct{}),
	}
	now := s.opts.Clock()
	for _, a := range s.opts.Accounts {
		s.accounts = append(s.accounts, newAccount(a, now, &s.opts))
	}
	s.clear()
	return s
}

func newAccount(a Account, now time.Time, o *Options) *account {
	acct := &account{Account: a, access: map[string]time.Time{}, spent: map[string]bool{}}
	if a.AccessToken != "" {
		var end time.Time
		switch {
		case a.ExpiresIn != 0:
			end = now.Add(a.ExpiresIn)
		case a.RefreshToken != "":
			end = now.Add(faster(accessLife, o.Speed))
		}
		acct.access[a.AccessToken] = end
	}
	acct.refresh = a.RefreshToken
	acct.loginEnd = now.Add(o.LoginLife)
	return acct
}

// clear empties everything but credentials, which clients hold copies of.
// The caller holds mu or is alone.
func (s *Server) clear() {
	s.sequence = 0
	s.dice = rand.New(rand.NewPCG(s.opts.Seed, 0x5ca1ab1e))
	s.records = nil
	s.violations = nil
	s.faults = map[string][]*Fault{}
	s.resources = map[string]resource{}
	s.caches = map[cacheKey]*cacheEntry{}
	s.buckets = map[bucketKey]*bucketSet{}
	for _, a := range s.accounts {
		a.ledger = Ledger{}
		a.extra = 0
		a.fiveHour = window{capacity: a.FiveHour, length: faster(fiveHours, s.opts.Speed)}
		a.week = window{capacity: a.Week, length: faster(sevenDays, s.opts.Speed)}
		a.modelWeek = map[string]*window{}
		for family, capacity := range a.ModelWeek {
			a.modelWeek[family] = &window{capacity: capacity, length: faster(sevenDays, s.opts.Speed)}
		}
	}
}

// Reset forgets requests, violations, faults, books, windows and caches.
// Credentials stay as they are, and requests in flight finish undisturbed.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.announce()
}

// Close ends all streams and hangs, waits for the handlers and makes later
// requests fail with 503. It may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
	s.mu.Unlock()
	s.running.Wait()
}

// enter registers a handler unless the server is closed.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	return true
}

// ServeHTTP implements http.Handler. Some faults end in
// panic(http.ErrAbortHandler), which servers of net/http understand.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		http.Error(w, "the fake upstream is closed", http.StatusServiceUnavailable)
		return
	}
	defer s.running.Done()
	if strings.HasPrefix(r.URL.Path, "/_fake/") {
		s.control(w, r)
		return
	}
	ex := s.newExchange(w, r)
	defer ex.end()
	ex.route()
}

func (ex *exchange) route() {
	path, method := ex.r.URL.Path, ex.r.Method
	if ex.resources() {
		return
	}
	switch {
	case path == pathMessages && method == http.MethodPost:
		ex.messages()
	case path == pathCountTokens && method == http.MethodPost:
		ex.countTokens()
	case path == pathModels && method == http.MethodGet:
		ex.listModels()
	case strings.HasPrefix(path, pathModels+"/") && method == http.MethodGet:
		ex.oneModel(strings.TrimPrefix(path, pathModels+"/"))
	case path == pathToken && method == http.MethodPost:
		ex.token()
	case path == pathRevoke && method == http.MethodPost:
		ex.revoke()
	case path == pathUsage && method == http.MethodGet:
		ex.usage()
	case (path == "/" || path == "/api/hello") && method == http.MethodHead:
		ex.open(http.StatusOK)
	case path == pathMessages || path == pathCountTokens || path == pathModels || path == pathToken || path == pathRevoke || path == pathUsage:
		ex.fail(http.StatusMethodNotAllowed, "invalid_request_error", "Method Not Allowed")
	default:
		ex.fail(http.StatusNotFound, "not_found_error", "Not Found")
	}
}

// pause waits in real time; false means that the client left or the server stops.
func (s *Server) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil && !s.stopped()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-s.stop:
		return false
	}
}

func (s *Server) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// find returns the account of that name. The caller holds mu.
func (s *Server) find(name string) *account {
	for _, a := range s.accounts {
		if a.Name == name {
			return a
		}
	}
	return nil
}

const (
	pathMessages    = "/v1/messages"
	pathCountTokens = "/v1/messages/count_tokens"
	pathModels      = "/v1/models"
	pathToken       = "/v1/oauth/token"
	pathRevoke      = "/v1/oauth/token/revoke"
	pathUsage       = "/api/oauth/usage"
)
