package credential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTransientFailures(t *testing.T) {
	const body = "sk-ant-oat01-body-of-the-answer"
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		wait   time.Duration
		says   string
	}{
		{"500", answerWith(500, body), backoffFirst, "answered 500"},
		{"529", answerWith(529, body), backoffFirst, "answered 529"},
		{"429", answerWith(429, `{"error":{"type":"rate_limit_error","message":"`+body+`"}}`, "Retry-After", "60"), time.Minute, "answered 429"},
		{"429 for a day", answerWith(429, body, "Retry-After", "86400"), retryAfterMax, "answered 429"},
		{"429 for ages", answerWith(429, body, "Retry-After", "99999999999999"), retryAfterMax, "answered 429"},
		{"429 until a date", answerWith(429, body, "Retry-After", "Sat, 01 Jan 2000 00:02:00 GMT"), 2 * time.Minute, "answered 429"},
		{"429 until a far date", answerWith(429, body, "Retry-After", "Sat, 01 Jan 2050 00:02:00 GMT"), retryAfterMax, "answered 429"},
		{"429 for no time", answerWith(429, body, "Retry-After", "-5"), backoffFirst, "answered 429"},
		{"Cloudflare", answerWith(403, "<html>"+body+"</html>", "Content-Type", "text/html"), backoffFirst, "answered 403"},
		{"400 of another kind", answerWith(400, `{"error":"invalid_client","error_description":"`+body+`"}`), backoffFirst, "answered 400 invalid_client"},
		{"invalid_grant with 403", answerWith(403, `{"error":"invalid_grant"}`), backoffFirst, "answered 403 invalid_grant"},
		{"invalid_grant in HTML", answerWith(400, "<p>invalid_grant "+body), backoffFirst, "answered 400"},
		{"redirect", answerWith(307, body, "Location", "https://elsewhere.example/"), backoffFirst, "answered 307"},
		{"no JSON", answerWith(200, "<html>"+body), backoffFirst, "makes no sense"},
		{"no token", answerWith(200, `{"refresh_token":"`+body+`"}`), backoffFirst, "makes no sense"},
		{"token of a wrong type", answerWith(200, `{"access_token":["`+body+`"]}`), backoffFirst, "makes no sense"},
		{"token with a line break", answerWith(200, `{"access_token":"`+body+`\r\nX: y"}`), backoffFirst, "makes no sense"},
		{"empty", answerWith(200, ""), backoffFirst, "makes no sense"},
		{"too large", answerWith(200, `{"access_token":"`+body+`","x":"`+strings.Repeat("x", maxAnswer)+`"}`), backoffFirst, "makes no sense"},
		{"never", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, backoffFirst, "did not answer: context deadline exceeded"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newMemStorage()
				st.put(t, "access-0", "refresh-0", time.Now().Add(20*time.Second))
				srv := newTokenServer(t, "refresh-0")
				srv.script = []http.HandlerFunc{tc.answer}
				var log eventLog
				o := start(t, Config{Storage: st, Transport: direct{srv}, OnEvent: log.add, PostTimeout: 10 * time.Second, Rand: func() float64 { return 0 }})
				wantToken(t, o, "access-0") // it still lives
				s := o.Status()
				if s.LoginRequired || !strings.Contains(s.LastError, tc.says) || strings.Contains(s.LastError, body) {
					t.Errorf("status %+v, want an error that says %q", s, tc.says)
				}
				if d := time.Until(s.NextTry); d != tc.wait {
					t.Errorf("next try in %v, want %v", d, tc.wait)
				}
				time.Sleep(tc.wait - time.Nanosecond)
				if _, err := o.Get(context.Background()); err != nil && time.Until(s.Expires) > 0 {
					t.Errorf("Get while the token lives: %v", err)
				}
				if n := srv.called(); n != 1 {
					t.Errorf("asked %d times before the back-off was over", n)
				}
				time.Sleep(time.Nanosecond)
				wantToken(t, o, "access-1")
				if s := o.Status(); s.LastError != "" || !s.NextTry.IsZero() {
					t.Errorf("status %+v", s)
				}
				synctest.Wait()
				if got, want := log.String(), "refresh_failed refreshed"; got != want {
					t.Errorf("events %q, want %q", got, want)
				}
			})
		})
	}
}

func TestBackoffDoublesAndTellsTheNextTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now())
		srv := newTokenServer(t, "refresh-0")
		for range 9 {
			srv.script = append(srv.script, answerWith(503, ""))
		}
		o := start(t, Config{Storage: st, Transport: direct{srv}, Rand: func() float64 { return 0 }})
		for i, want := range []int{5, 10, 20, 40, 80, 160, 300, 300, 300} {
			_, err := o.Get(context.Background())
			var retry *RetryError
			if !errors.As(err, &retry) || time.Until(retry.Next) != time.Duration(want)*time.Second {
				t.Fatalf("failure %d: %v", i, err)
			}
			if !strings.Contains(err.Error(), retry.Next.UTC().Format(time.RFC3339)) || !strings.Contains(err.Error(), "503") {
				t.Errorf("the error does not tell: %v", err)
			}
			for range 20 { // meanwhile requests are turned away at once
				if _, err := o.Get(context.Background()); !errors.As(err, &retry) {
					t.Fatalf("Get: %v", err)
				}
			}
			if n := srv.called(); n != i+1 {
				t.Fatalf("%d calls after failure %d", n, i)
			}
			time.Sleep(time.Until(retry.Next))
		}
		wantToken(t, o, "access-1")
	})
}

func TestBackoffJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now())
		srv := newTokenServer(t, "refresh-0")
		srv.script = []http.HandlerFunc{answerWith(503, "")}
		o := start(t, Config{Storage: st, Transport: direct{srv}, Rand: func() float64 { return 0.8 }})
		var retry *RetryError
		if _, err := o.Get(context.Background()); !errors.As(err, &retry) || time.Until(retry.Next) != 4*time.Second {
			t.Errorf("Get: %v", err)
		}
	})
}

func TestBrokenStorageDoesNotShortenABackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now())
		srv := newTokenServer(t, "refresh-0")
		srv.script = []http.HandlerFunc{answerWith(429, "", "Retry-After", "600")}
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		var first, later *RetryError
		if _, err := o.Get(context.Background()); !errors.As(err, &first) {
			t.Fatalf("Get: %v", err)
		}
		st.set(func() { st.loadFault = func(string) error { return errors.New("storage is down") } })
		for range 4 {
			time.Sleep(lookGap)
			if _, err := o.Get(context.Background()); !errors.As(err, &later) || !later.Next.Equal(first.Next) {
				t.Errorf("Get: %v, want a next try at %v", err, first.Next)
			}
		}
		if s := o.Status(); !strings.Contains(s.LastError, "storage is down") {
			t.Errorf("status %+v", s)
		}
	})
}

// endless is a body without an end that counts what is read of it.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	if e.n += len(p); e.n > 1<<20 {
		return 0, errors.New("read too far")
	}
	return len(p), nil
}
func (e *endless) Close() error { return nil }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestEndlessAnswer(t *testing.T) {
	st := newMemStorage()
	st.put(t, "access-0", "refresh-0", time.Now())
	body := &endless{}
	o := start(t, Config{Storage: st, Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: body}, nil
	})})
	if _, err := o.Get(context.Background()); err == nil || body.n > 2*maxAnswer {
		t.Errorf("%d bytes were read: %v", body.n, err)
	}
}

func TestStorageFailuresAreTransientAndCostNoToken(t *testing.T) {
	for _, what := range []string{"load", "lock", "lock is held"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newMemStorage()
				st.put(t, "access-0", "refresh-0", time.Now().Add(time.Hour))
				srv := newTokenServer(t, "refresh-0")
				o := start(t, Config{Storage: st, Transport: direct{srv}})
				c := wantToken(t, o, "access-0")
				st.set(func() {
					switch what {
					case "load":
						st.loadFault = func(string) error { return errors.New("no route to storage") }
					case "lock":
						st.lockFault = func(context.Context) error { return errors.New("no route to storage") }
					default:
						st.lockFault = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
					}
				})
				var retry *RetryError
				if _, err := o.Refresh(context.Background(), c); !errors.As(err, &retry) || errors.Is(err, ErrLoginRequired) {
					t.Fatalf("Refresh: %v", err)
				}
				if srv.called() != 0 {
					t.Error("a refresh without storage")
				}
				for range 20 { // requests that come meanwhile do not lengthen the wait
					time.Sleep(time.Second)
					_, _ = o.Get(context.Background())
				}
				st.set(func() { st.loadFault, st.lockFault = nil, nil })
				time.Sleep(backoffStorage)
				wantToken(t, o, "access-1")
			})
		})
	}
}

func TestLostAnswerIsNamed(t *testing.T) {
	st := newMemStorage()
	st.put(t, "access-0", "refresh-0", time.Now())
	srv := newTokenServer(t, "refresh-0")
	srv.lenient = true
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if srv.called() == 0 { // granted, and cut off
			srv.ServeHTTP(httptest.NewRecorder(), r)
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"access_token":"access-1"`)
			return
		}
		srv.ServeHTTP(w, r)
	}))
	t.Cleanup(hs.Close)
	o := start(t, Config{Storage: st, TokenURL: hs.URL, Transport: hs.Client().Transport})
	var retry *RetryError
	if _, err := o.Get(context.Background()); !errors.As(err, &retry) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("Get: %v", err)
	}
	// The back-off ends without Reload, which would only look.
	o.mu.Lock()
	o.nextTry = time.Time{}
	o.looked = time.Time{}
	o.mu.Unlock()
	if _, err := o.Get(context.Background()); !errors.Is(err, ErrLoginRequired) || !strings.Contains(err.Error(), "got no answer") {
		t.Errorf("Get: %v", err)
	}
}

func TestBrokenServersAreNotQuoted(t *testing.T) {
	st := newMemStorage()
	st.put(t, "access-0", "refresh-0", time.Now())
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body) // or closing would reset the connection
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 2hush OK\r\n\r\n")
		_ = c.Close()
	}))
	t.Cleanup(hs.Close)
	o := start(t, Config{Storage: st, TokenURL: hs.URL, Transport: hs.Client().Transport})
	_, err := o.Get(context.Background())
	if err == nil || !strings.Contains(err.Error(), "did not answer") || strings.Contains(fmt.Sprintf("%+v", err), "hush") || strings.Contains(o.Status().LastError, "hush") {
		t.Errorf("Get: %v", err)
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("within: %v", err)
		}
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	o = start(t, Config{Storage: st, TokenURL: closed.URL, Transport: closed.Client().Transport})
	if _, err := o.Get(context.Background()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("Get with nobody there: %v", err)
	}
}
