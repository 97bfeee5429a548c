package credential

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// jwt makes an assertion; the server of the tests looks at its subject only.
func jwt(subject string, ends time.Time) string {
	part := base64.RawURLEncoding.EncodeToString
	claims := map[string]any{"sub": subject}
	if !ends.IsZero() {
		claims["exp"] = ends.Unix()
	}
	raw, _ := json.Marshal(claims)
	return part([]byte(`{"alg":"RS256"}`)) + "." + part(raw) + "." + part([]byte("signature"))
}

// federationServer grants tokens for assertions that it does not refuse.
type federationServer struct {
	t  testing.TB
	mu sync.Mutex
	// refused are the assertions that get invalid_grant.
	refused map[string]bool
	// script holds answers for the next calls; nil ones are served properly.
	script []http.HandlerFunc
	before func()
	life   int // in the answer; 0: none in it
	// workspace is what calls must have, empty for none.
	workspace string
	same      bool // every grant is the same token
	n, calls  int
	at        []time.Time
	last      string // the last assertion
}

func newFederationServer(t testing.TB) *federationServer {
	return &federationServer{t: t, refused: map[string]bool{}, life: 3600}
}

func (s *federationServer) set(f func()) { s.mu.Lock(); f(); s.mu.Unlock() }

func (s *federationServer) called() int { s.mu.Lock(); defer s.mu.Unlock(); return s.calls }

func (s *federationServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body map[string]string
	want := map[string]string{
		"grant_type":         "urn:ietf:params:oauth:grant-type:jwt-bearer",
		"federation_rule_id": "fdrl_1", "organization_id": "org_1", "service_account_id": "svac_1",
	}
	err := json.NewDecoder(r.Body).Decode(&body)
	s.mu.Lock()
	if s.workspace != "" {
		want["workspace_id"] = s.workspace
	}
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" ||
		strings.Join(r.Header.Values("Anthropic-Beta"), ";") != "oauth-2025-04-20,oidc-federation-2026-04-01" ||
		r.Header.Get("Authorization") != "" || r.Header.Get("X-Api-Key") != "" || len(body) != len(want)+1 {
		s.t.Errorf("not a federation call: %s %v %d keys", r.Method, r.Header, len(body))
	}
	for k, v := range want {
		if body[k] != v {
			s.t.Errorf("%s is %q, want %q", k, body[k], v)
		}
	}
	s.calls++
	s.at = append(s.at, time.Now())
	s.last = body["assertion"]
	before := s.before
	var scripted http.HandlerFunc
	if len(s.script) > 0 {
		scripted, s.script = s.script[0], s.script[1:]
	}
	refused := s.refused[body["assertion"]]
	s.mu.Unlock()
	if before != nil {
		before()
	}
	switch {
	case scripted != nil:
		scripted(w, r)
		return
	case refused:
		invalidGrant(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.same {
		s.n++
	}
	answer := map[string]any{
		"access_token": fmt.Sprintf("fed-%d", s.n), "token_type": "Bearer", "scope": "workspace:inference",
		"organization": map[string]string{"name": "Example"},
	}
	if s.life > 0 {
		answer["expires_in"] = s.life
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// workload is a federation source in front of srv whose assertion is in file.
type workload struct {
	*Federation
	srv    *federationServer
	file   string
	events eventLog
}

func newWorkload(t *testing.T, srv *federationServer, change func(*FederationConfig)) *workload {
	t.Helper()
	w := &workload{srv: srv, file: filepath.Join(t.TempDir(), "token")}
	w.write(t, jwt("one", time.Time{})+"\n")
	cfg := FederationConfig{
		Name: "cluster", Assertion: Assertion{File: w.file}, Rule: "fdrl_1", Organization: "org_1", ServiceAccount: "svac_1",
		Transport: direct{srv}, Rand: func() float64 { return 0 }, OnEvent: w.events.add,
	}
	if change != nil {
		change(&cfg)
	}
	f, err := NewFederation(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Federation = f
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := f.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return w
}

func (w *workload) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runs starts Run, which ends with the test.
func (w *workload) runs(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
}

func (w *workload) want(t *testing.T, token string) Credential {
	t.Helper()
	c, err := w.Get(context.Background())
	if err != nil {
		t.Fatalf("Get: %v; want the token %s", err, token)
	}
	if got := bearer(t, c); got != token {
		t.Fatalf("Get gave %s, want %s", got, token)
	}
	return c
}

func TestFederationExchangesAnAssertion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		srv.workspace = "wrkspc_1"
		w := newWorkload(t, srv, func(c *FederationConfig) { c.Workspace = "wrkspc_1" })
		c := w.want(t, "fed-1")
		if c.Kind() != KindFederation || !c.Bearer() || !c.Expires().Equal(time.Now().Add(time.Hour)) {
			t.Errorf("the credential is of kind %s and ends at %v", c.Kind(), c.Expires())
		}
		if srv.last != jwt("one", time.Time{}) {
			t.Error("the assertion was not sent as it is in the file, without the space around it")
		}
		h := http.Header{"X-Api-Key": {"client"}, "Anthropic-Beta": {"a-1"}}
		c.Apply(h)
		if h.Get("Authorization") != "Bearer fed-1" || h.Get("X-Api-Key") != "" || h.Get("Anthropic-Beta") != "a-1,oauth-2025-04-20" {
			t.Errorf("applied: %v", h)
		}
		s := w.Status()
		if s.Kind != KindFederation || s.Version != c.Version() || !s.Expires.Equal(c.Expires()) || s.Organization != "Example" ||
			s.LoginRequired || s.LastError != "" || s.Login == "" || len(s.Scopes) != 1 {
			t.Errorf("status %+v", s)
		}
		if srv.called() != 1 {
			t.Errorf("%d calls", srv.called())
		}
	})
}

func TestFederationTakesAnHourWhenNoLifeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		srv.life = 0
		w := newWorkload(t, srv, nil)
		if c := w.want(t, "fed-1"); !c.Expires().Equal(time.Now().Add(time.Hour)) {
			t.Errorf("ends in %v", time.Until(c.Expires()))
		}
	})
}

func TestFederationAssertionFromTheEnvironment(t *testing.T) {
	t.Setenv("SHUNT_TEST_ASSERTION", " "+jwt("env", time.Time{})+"\n")
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		w := newWorkload(t, srv, func(c *FederationConfig) { c.Assertion = Assertion{Env: "SHUNT_TEST_ASSERTION"} })
		w.want(t, "fed-1")
		if srv.last != jwt("env", time.Time{}) {
			t.Error("another assertion was sent")
		}
	})
}

func TestFederationRunRenewsAheadWhenIdle(t *testing.T) {
	for _, tc := range []struct {
		life int
		r    float64
		want time.Duration // from one exchange to the next
	}{
		{3600, 0, 50 * time.Minute},
		{3600, 0.999, 50*time.Minute - 2*time.Minute - 29*time.Second},
		{86400, 0, 20 * time.Hour},
		{60, 0, 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := newFederationServer(t)
			srv.life = tc.life
			w := newWorkload(t, srv, func(c *FederationConfig) { c.Rand = func() float64 { return tc.r } })
			w.runs(t)
			time.Sleep(3*tc.want + tc.want/2)
			synctest.Wait()
			if len(srv.at) != 4 {
				t.Fatalf("life %d: %d exchanges, want 4", tc.life, len(srv.at))
			}
			for i := range 3 {
				if gap := srv.at[i+1].Sub(srv.at[i]); (gap - tc.want).Abs() > time.Second {
					t.Errorf("life %d: renewed after %v, want %v", tc.life, gap, tc.want)
				}
			}
			w.want(t, "fed-4")
		})
	}
}

func TestFederationReadsTheAssertionAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		w := newWorkload(t, srv, nil)
		w.runs(t)
		w.write(t, jwt("two", time.Now().Add(time.Hour)))
		time.Sleep(51 * time.Minute)
		synctest.Wait()
		if w.want(t, "fed-2"); srv.last != jwt("two", time.Now().Add(9*time.Minute)) {
			t.Error("the old assertion was sent")
		}
	})
}

func TestFederationOneExchangeForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		srv.before = func() { time.Sleep(time.Second) }
		w := newWorkload(t, srv, nil)
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() { w.want(t, "fed-1") })
		}
		all.Wait()
		used := w.want(t, "fed-1")
		time.Sleep(time.Minute)
		for range 200 { // 200 answers of 401 at once
			all.Go(func() {
				if c, err := w.Refresh(context.Background(), used); err != nil || bearer(t, c) != "fed-2" {
					t.Errorf("Refresh: %v", err)
				}
			})
		}
		all.Wait()
		// A 401 that comes late speaks of the token before.
		if c, err := w.Refresh(context.Background(), used); err != nil || bearer(t, c) != "fed-2" {
			t.Errorf("Refresh: %v", err)
		}
		if srv.called() != 2 {
			t.Errorf("%d exchanges, want 2", srv.called())
		}
	})
}

func TestFederationWaiterLeavesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		srv.before = func() { time.Sleep(5 * time.Second) }
		w := newWorkload(t, srv, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := w.Get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get: %v", err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		w.want(t, "fed-1")
		if srv.called() != 1 {
			t.Errorf("%d exchanges: the one under way was cancelled", srv.called())
		}
	})
}

func TestFederationHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		srv.before = func() { time.Sleep(10 * time.Minute) }
		w := newWorkload(t, srv, nil)
		began := time.Now()
		var retry *RetryError
		if _, err := w.Get(context.Background()); !errors.As(err, &retry) || time.Since(began) != DefaultPostTimeout {
			t.Errorf("Get: %v after %v", err, time.Since(began))
		}
		time.Sleep(10 * time.Minute) // the server's handler ends
	})
}

func TestFederationRefusedAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		w := newWorkload(t, srv, nil)
		used := w.want(t, "fed-1")
		var retry *RetryError
		if _, err := w.Refresh(context.Background(), used); !errors.As(err, &retry) {
			t.Errorf("Refresh of a token just got: %v", err)
		}
		time.Sleep(forcedGap)
		if c, err := w.Refresh(context.Background(), used); err != nil || bearer(t, c) != "fed-2" {
			t.Errorf("Refresh: %v", err)
		}
	})
}

func TestFederationSameTokenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		srv.same = true
		w := newWorkload(t, srv, nil)
		used := w.want(t, "fed-0")
		time.Sleep(time.Minute)
		if c, err := w.Refresh(context.Background(), used); err == nil {
			t.Errorf("Refresh gave the refused token again: %s", bearer(t, c))
		}
		if srv.called() > 2 {
			t.Errorf("%d calls", srv.called())
		}
	})
}

func TestFederationGetWaitsOnlyNearTheEnd(t *testing.T) {
	for _, tc := range []struct {
		life  int
		after time.Duration
		waits bool
	}{
		{3600, 59*time.Minute + 29*time.Second, false},
		{3600, 59*time.Minute + 31*time.Second, true},
		{60, 44 * time.Second, false}, // a quarter of a short life
		{60, 46 * time.Second, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := newFederationServer(t)
			srv.life = tc.life
			w := newWorkload(t, srv, nil) // nobody runs it: Get alone renews
			w.want(t, "fed-1")
			srv.set(func() { srv.before = func() { time.Sleep(time.Second) } })
			time.Sleep(tc.after)
			began, token := time.Now(), "fed-1"
			if tc.waits {
				token = "fed-2"
			}
			w.want(t, token)
			if waited := time.Since(began) > 0; waited != tc.waits {
				t.Errorf("life %d, after %v: waited %v", tc.life, tc.after, waited)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			w.want(t, "fed-2")
		})
	}
}
