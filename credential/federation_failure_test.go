package credential

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestFederationAnswers: what an answer means is told by whether the source says that
// a person must help, and when it asks again.
func TestFederationAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		answer  http.HandlerFunc
		refused bool
		next    time.Duration
	}{
		"invalid grant":     {invalidGrant, true, time.Minute},
		"invalid request":   {answerWith(400, `{"error":"invalid_request","error_description":"SECRET"}`), true, time.Minute},
		"API's envelope":    {answerWith(401, `{"type":"error","error":{"type":"authentication_error","message":"SECRET"}}`), true, time.Minute},
		"no such rule":      {answerWith(404, `{"type":"error","error":{"type":"not_found_error","message":"SECRET"}}`), true, time.Minute},
		"not permitted":     {answerWith(403, `{"type":"error","error":{"type":"permission_error","message":"SECRET"}}`), true, time.Minute},
		"asks for patience": {answerWith(400, `{"error":"invalid_grant"}`, "Retry-After", "600"), true, 10 * time.Minute},
		"edge block":        {answerWith(403, "error code: 1010"), false, 5 * time.Second},
		"bad gateway":       {answerWith(502, "<html>SECRET"), false, 5 * time.Second},
		"too many":          {answerWith(429, `{"type":"error","error":{"type":"rate_limit_error"}}`, "Retry-After", "120"), false, 2 * time.Minute},
		"redirect":          {answerWith(307, "", "Location", "https://example.com/"), false, 5 * time.Second},
		"nonsense":          {answerWith(200, "SECRET"), false, 5 * time.Second},
		"no token":          {answerWith(200, `{"token_type":"Bearer"}`), false, 5 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := newFederationServer(t)
			srv.script = []http.HandlerFunc{tc.answer}
			w := newWorkload(t, srv, nil)
			began := time.Now()
			w.runs(t)
			_, err := w.Get(context.Background())
			var retry *RetryError
			if errors.Is(err, ErrLoginRequired) != tc.refused || errors.As(err, &retry) == tc.refused {
				t.Errorf("%s: Get: %v", name, err)
			}
			s := w.Status()
			if s.LoginRequired != tc.refused || !s.NextTry.Equal(began.Add(tc.next)) || s.LastError == "" {
				t.Errorf("%s: status %+v", name, s)
			}
			if strings.Contains(err.Error()+s.LastError, "SECRET") {
				t.Errorf("%s: the server's words are repeated: %v", name, err)
			}
			if tc.refused && (!strings.Contains(s.LoginReason, w.file) || !strings.Contains(w.events.String(), "login_required")) {
				t.Errorf("%s: reason %q, events %s", name, s.LoginReason, &w.events)
			}
			time.Sleep(tc.next - time.Second)
			synctest.Wait()
			if srv.called() != 1 {
				t.Errorf("%s: asked again before its time", name)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			w.want(t, "fed-1")
			if s := w.Status(); s.LastError != "" || s.LoginRequired || !s.NextTry.IsZero() {
				t.Errorf("%s: after recovery: %+v", name, s)
			}
		})
	}
}

func TestFederationServesTheOldTokenWhileItLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		w := newWorkload(t, srv, nil)
		w.runs(t)
		w.want(t, "fed-1")
		srv.set(func() { srv.refused[jwt("one", time.Time{})] = true })
		time.Sleep(59*time.Minute + 50*time.Second)
		w.want(t, "fed-1")
		if s := w.Status(); !s.LoginRequired {
			t.Errorf("status %+v", s)
		}
		time.Sleep(11 * time.Second)
		if _, err := w.Get(context.Background()); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("Get after the token's end: %v", err)
		}
	})
}

func TestFederationBacksOffAndDoublesTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		for range 4 {
			srv.script = append(srv.script, answerWith(503, ""))
		}
		w := newWorkload(t, srv, nil)
		w.runs(t)
		time.Sleep(time.Hour)
		synctest.Wait()
		for i, want := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second} {
			if gap := srv.at[i+1].Sub(srv.at[i]); gap != want {
				t.Errorf("wait %d was %v, want %v", i+1, gap, want)
			}
		}
	})
}

func TestFederationTriesAnotherAssertionAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		srv.refused[jwt("one", time.Time{})] = true
		w := newWorkload(t, srv, nil)
		w.runs(t)
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if n := srv.called(); n != 5 { // after 0, 1, 3, 7 and 15 minutes
			t.Errorf("%d tries with the same assertion, want 5", n)
		}
		w.write(t, jwt("two", time.Time{}))
		time.Sleep(assertionGap)
		synctest.Wait()
		w.want(t, "fed-1")
		if got := w.events.String(); strings.Count(got, "login_required") != 1 || !strings.HasSuffix(got, "refreshed") {
			t.Errorf("events: %s", got)
		}
	})
}

// TestFederationHonoursRetryAfter: a new assertion is no reason to come back early to
// a server that asked for patience.
func TestFederationHonoursRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		srv.script = []http.HandlerFunc{answerWith(429, "", "Retry-After", "300")}
		w := newWorkload(t, srv, nil)
		w.runs(t)
		if err := os.Remove(w.file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		_, _ = w.Get(context.Background())
		w.write(t, jwt("two", time.Time{}))
		time.Sleep(3 * time.Minute)
		_, _ = w.Get(context.Background())
		if srv.called() != 1 {
			t.Errorf("%d calls within the time that the server asked for", srv.called())
		}
		time.Sleep(time.Minute + time.Second)
		w.want(t, "fed-1")
	})
}

func TestFederationAssertionProblems(t *testing.T) {
	part := strings.Split(jwt("x", time.Time{}), ".")
	for name, tc := range map[string]struct {
		text string
		want string
	}{
		"empty":         {" \n", "it is empty"},
		"no JWT":        {"sk-ant-secret", "not a signed JWT"},
		"two parts":     {part[0] + "." + part[1], "not a signed JWT"},
		"no signature":  {part[0] + "." + part[1] + ".", "not a signed JWT"},
		"not base64":    {part[0] + ".%%%." + part[2], "not a signed JWT"},
		"claims no doc": {part[0] + "." + part[0][:8] + "." + part[2], "not a signed JWT"},
		"header inside": {jwt("x\r\ny", time.Time{}) + "\r\nX: y", "not a signed JWT"},
		"too long":      {strings.Repeat("a", maxAssertion+1), "too long"},
		"ended":         {jwt("x", time.Now().Add(-2*assertionLeeway)), "ended at "},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := newFederationServer(t)
			w := newWorkload(t, srv, nil)
			text := tc.text
			if name == "ended" {
				text = jwt("x", time.Now().Add(-2*assertionLeeway))
			}
			w.write(t, text)
			w.runs(t)
			_, err := w.Get(context.Background())
			var retry *RetryError
			if !errors.As(err, &retry) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), w.file) {
				t.Errorf("%s: %v", name, err)
			}
			if strings.Contains(err.Error(), "secret") || srv.called() != 0 {
				t.Errorf("%s: %d calls, %v", name, srv.called(), err)
			}
			w.write(t, jwt("good", time.Time{}))
			time.Sleep(assertionGap)
			synctest.Wait()
			w.want(t, "fed-1")
		})
	}
}

func TestFederationMissingAssertion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		w := newWorkload(t, srv, nil)
		w.runs(t)
		used := w.want(t, "fed-1")
		if err := os.Remove(w.file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(51 * time.Minute)
		if w.want(t, "fed-1"); !strings.Contains(w.Status().LastError, w.file) {
			t.Errorf("status %+v", w.Status())
		}
		if n := strings.Count(w.events.String(), "refresh_failed"); n > 5 {
			t.Errorf("%d events in a minute", n)
		}
		if _, err := w.Refresh(context.Background(), used); err == nil {
			t.Error("a refused token was given out again")
		}
		w.write(t, jwt("back", time.Time{}))
		time.Sleep(assertionGap)
		synctest.Wait()
		w.want(t, "fed-2")
	})
}

func TestAssertionIsReadFromARegularFileOnly(t *testing.T) {
	if _, err := (Assertion{File: t.TempDir()}).read(time.Now()); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("reading a folder: %v", err)
	}
}

func TestAssertionIsNotPrinted(t *testing.T) {
	text := jwt("hidden", time.Time{})
	t.Setenv("SHUNT_TEST_ASSERTION", text)
	s, err := Assertion{Env: "SHUNT_TEST_ASSERTION"}.read(time.Now())
	if err != nil || s.reveal() != text {
		t.Fatal(err)
	}
	if out := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(out, text) {
		t.Errorf("printed: %s", out)
	}
}

func TestFederationClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		w := newWorkload(t, srv, nil)
		w.runs(t)
		used := w.want(t, "fed-1")
		srv.set(func() { srv.before = func() { time.Sleep(20 * time.Second) } })
		time.Sleep(50*time.Minute + time.Second) // an exchange is under way
		began := time.Now()
		if err := w.Close(context.Background()); err != nil || time.Since(began) > time.Second {
			t.Errorf("Close: %v after %v", err, time.Since(began))
		}
		w.want(t, "fed-1")
		if _, err := w.Refresh(context.Background(), used); !errors.Is(err, ErrClosed) {
			t.Errorf("Refresh: %v", err)
		}
		time.Sleep(time.Hour)
		if _, err := w.Get(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("Get: %v", err)
		}
	})
}

// TestFederationFileFlickers: a refused assertion that is away and back is the same one.
func TestFederationFileFlickers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		srv.refused[jwt("one", time.Time{})] = true
		w := newWorkload(t, srv, nil)
		w.runs(t)
		for range 2 {
			if err := os.Remove(w.file); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * assertionGap)
			w.write(t, jwt("one", time.Time{}))
			time.Sleep(2 * assertionGap)
		}
		synctest.Wait()
		if s := w.Status(); srv.called() != 1 || !s.LoginRequired {
			t.Errorf("%d calls, status %+v", srv.called(), s)
		}
	})
}

func TestFederationConfigErrors(t *testing.T) {
	good := FederationConfig{Assertion: Assertion{Env: "X"}, Rule: "r", Organization: "o", ServiceAccount: "s"}
	for name, change := range map[string]func(*FederationConfig){
		"no assertion":       func(c *FederationConfig) { c.Assertion = Assertion{} },
		"two assertions":     func(c *FederationConfig) { c.Assertion.File = "/x" },
		"no rule":            func(c *FederationConfig) { c.Rule = "" },
		"no organization":    func(c *FederationConfig) { c.Organization = "" },
		"no service account": func(c *FederationConfig) { c.ServiceAccount = "" },
		"clear http":         func(c *FederationConfig) { c.TokenURL = "http://example.com/token" },
	} {
		cfg := good
		change(&cfg)
		if _, err := NewFederation(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if f, err := NewFederation(good); err != nil || f.cfg.TokenURL != "https://api.anthropic.com/v1/oauth/token" {
		t.Errorf("a good configuration: %v", err)
	}
}
