package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "shunt/default/credentials/alice.json"

// memStorage is a Storage in memory with true locks and faults on demand.
type memStorage struct {
	mu      sync.Mutex
	data    map[string][]byte
	locks   map[string]chan struct{}
	lockLog []string
	// faults; nil for none
	storeFault func(key string, value []byte) error
	loadFault  func(key string) error
	lockFault  func(ctx context.Context) error
	held       map[string]context.Context
}

func newMemStorage() *memStorage {
	return &memStorage{data: map[string][]byte{}, locks: map[string]chan struct{}{}, held: map[string]context.Context{}}
}

func (s *memStorage) set(f func()) { s.mu.Lock(); f(); s.mu.Unlock() }

func (s *memStorage) Store(ctx context.Context, key string, value []byte) error {
	s.mu.Lock()
	fault := s.storeFault
	s.mu.Unlock()
	if fault != nil {
		if err := fault(key, value); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.set(func() { s.data[key] = bytes.Clone(value) })
	return nil
}

func (s *memStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loadFault != nil {
		if err := s.loadFault(key); err != nil {
			return nil, err
		}
	}
	v, ok := s.data[key]
	if !ok {
		return nil, fmt.Errorf("memory: %w", fs.ErrNotExist)
	}
	return bytes.Clone(v), nil
}

func (s *memStorage) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.data, key)
	return nil
}

func (s *memStorage) Exists(_ context.Context, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.data[key]
	return ok
}

func (s *memStorage) Lock(ctx context.Context, name string) error {
	s.mu.Lock()
	l, ok := s.locks[name]
	if !ok {
		l = make(chan struct{}, 1)
		s.locks[name] = l
	}
	s.lockLog = append(s.lockLog, name)
	fault := s.lockFault
	s.mu.Unlock()
	if fault != nil {
		if err := fault(ctx); err != nil {
			return err
		}
	}
	select {
	case l <- struct{}{}:
		s.set(func() { s.held[name] = ctx })
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *memStorage) Unlock(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.locks[name]:
		delete(s.held, name)
		return nil
	default:
		return errors.New("memory: unlock of an unlocked lock")
	}
}

// put stores a record as a peer or an import would have left it.
func (s *memStorage) put(t *testing.T, access, refresh string, expires time.Time) {
	t.Helper()
	r, err := NewRecord(access, refresh, expires)
	if err != nil {
		t.Fatal(err)
	}
	s.putRecord(t, r)
}

func (s *memStorage) putRecord(t *testing.T, r Record) {
	t.Helper()
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.data[testKey] = raw })
}

func (s *memStorage) record(t *testing.T) Record {
	t.Helper()
	raw, err := s.Load(context.Background(), testKey)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tokenServer rotates single-use refresh tokens and fails the test when one comes
// twice, or anything but a proper refresh call comes.
type tokenServer struct {
	t  testing.TB
	mu sync.Mutex
	// valid is the refresh token that works; spent are those that did.
	valid string
	spent map[string]bool
	n     int // refreshes granted
	calls int // calls of any outcome
	// script holds answers for the next calls; a nil one, and those after the
	// last, are served properly.
	script []http.HandlerFunc
	// before runs ahead of each call, without the lock.
	before func(n int)
	// fields are merged into good answers; a nil value takes a field out.
	fields map[string]any
	// lenient makes reuse an invalid_grant rather than a failed test.
	lenient bool
}

func newTokenServer(t testing.TB, valid string) *tokenServer {
	return &tokenServer{t: t, valid: valid, spent: map[string]bool{}}
}

func (s *tokenServer) granted() int { s.mu.Lock(); defer s.mu.Unlock(); return s.n }
func (s *tokenServer) called() int  { s.mu.Lock(); defer s.mu.Unlock(); return s.calls }

func (s *tokenServer) set(f func()) { s.mu.Lock(); f(); s.mu.Unlock() }

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	var body map[string]string
	if err := json.Unmarshal(raw, &body); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" ||
		r.Header.Get("Anthropic-Beta") != "oauth-2025-04-20" || body["grant_type"] != "refresh_token" || body["client_id"] == "" || len(body) != 3 {
		s.t.Errorf("not a refresh call: %s %v %d keys", r.Method, r.Header, len(body))
	}
	s.mu.Lock()
	s.calls++
	n, before := s.calls, s.before
	var scripted http.HandlerFunc
	if len(s.script) > 0 {
		scripted, s.script = s.script[0], s.script[1:]
	}
	s.mu.Unlock()
	if before != nil {
		before(n)
	}
	if scripted != nil {
		scripted(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	used := body["refresh_token"]
	if s.spent[used] && !s.lenient {
		s.t.Errorf("refresh token used twice")
	}
	if used != s.valid {
		invalidGrant(w, r)
		return
	}
	s.spent[used] = true
	s.n++
	s.valid = fmt.Sprintf("refresh-%d", s.n)
	answer := map[string]any{
		"access_token": fmt.Sprintf("access-%d", s.n), "refresh_token": s.valid, "token_type": "Bearer", "expires_in": 28800,
		"scope": "user:inference user:profile", "refresh_token_expires_in": 2419200,
		"account":      map[string]string{"uuid": "acc-1", "email_address": "alice@example.com"},
		"organization": map[string]string{"uuid": "org-1", "name": "Example"},
	}
	for k, v := range s.fields {
		if answer[k] = v; v == nil {
			delete(answer, k)
		}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func invalidGrant(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusBadRequest)
	_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"Refresh token not found or invalid"}`)
}

func answerWith(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// direct is a round tripper without a network, for tests in a synctest bubble.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	type result struct{ rec *httptest.ResponseRecorder }
	done := make(chan result, 1)
	go func() {
		rec := httptest.NewRecorder()
		d.ServeHTTP(rec, r)
		done <- result{rec}
	}()
	select {
	case res := <-done:
		return res.rec.Result(), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// eventLog collects events.
type eventLog struct {
	mu  sync.Mutex
	all []Event
}

func (l *eventLog) add(e Event) { l.mu.Lock(); l.all = append(l.all, e); l.mu.Unlock() }

func (l *eventLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var types []string
	for _, e := range l.all {
		types = append(types, string(e.Type))
	}
	return strings.Join(types, " ")
}

// start makes a source that is closed with the test.
func start(t *testing.T, cfg Config) *OAuth {
	t.Helper()
	if cfg.Key == "" {
		cfg.Key = testKey
	}
	o, err := NewOAuth(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeSource(t, o) })
	return o
}

func closeSource(t *testing.T, o *OAuth) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := o.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// networked makes a source that talks to srv over HTTP.
func networked(t *testing.T, srv http.Handler, cfg Config) *OAuth {
	t.Helper()
	hs := httptest.NewServer(srv)
	t.Cleanup(hs.Close)
	cfg.TokenURL, cfg.Transport = hs.URL+"/v1/oauth/token", hs.Client().Transport
	return start(t, cfg)
}

func bearer(t *testing.T, c Credential) string {
	t.Helper()
	h := http.Header{}
	c.Apply(h)
	return strings.TrimPrefix(h.Get("Authorization"), "Bearer ")
}

func wantToken(t *testing.T, o *OAuth, token string) Credential {
	t.Helper()
	c, err := o.Get(context.Background())
	if err != nil {
		t.Fatalf("Get: %v; want the token %s", err, token)
	}
	if got := bearer(t, c); got != token {
		t.Fatalf("Get gave %s, want %s", got, token)
	}
	return c
}
