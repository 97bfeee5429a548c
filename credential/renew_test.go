package credential

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// process stands for the process of its own: another source on the same storage,
// of which this one hears only what it tells.
type process struct {
	cfg   Config
	deaf  bool  // the one that asked is dead
	fails error // it cannot be started
	mu    sync.Mutex
	runs  int
	ended sync.WaitGroup
}

func (p *process) renew(_ context.Context, job Job) (Renewal, error) {
	p.mu.Lock()
	p.runs++
	p.mu.Unlock()
	if p.fails != nil {
		return Renewal{}, p.fails
	}
	told := make(chan Renewal, 1)
	gone := errors.New("broken pipe")
	p.ended.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		_ = Renew(ctx, p.cfg, job, func(r Renewal) error {
			raw, err := json.Marshal(r)
			if err != nil {
				return err
			}
			var copied Renewal
			if err := json.Unmarshal(raw, &copied); err != nil {
				return err
			}
			told <- copied
			if p.deaf {
				return gone
			}
			return nil
		})
	})
	r := <-told
	if p.deaf {
		return Renewal{}, gone
	}
	return r, nil
}

// apart makes a source whose refreshes are made by a process of its own.
func apart(t *testing.T, st *memStorage, srv *tokenServer, log *eventLog) (*OAuth, *process) {
	t.Helper()
	p := &process{cfg: Config{Storage: st, Key: testKey, Transport: direct{srv}}}
	o := start(t, Config{Storage: st, Transport: direct{neverAsked(t)}, Renew: p.renew, OnEvent: log.add})
	t.Cleanup(p.ended.Wait)
	return o, p
}

// neverAsked is the token server of a process that must not ask it.
func neverAsked(t *testing.T) *tokenServer {
	srv := newTokenServer(t, "")
	srv.before = func(int) { t.Error("Caddy's own process asked the token server") }
	return srv
}

func TestRenewedByAProcessOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, srv := newMemStorage(), newTokenServer(t, "refresh-0")
		st.put(t, "access-0", "refresh-0", time.Now().Add(8*time.Hour))
		var log eventLog
		o, p := apart(t, st, srv, &log)
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		go o.Run(ctx)
		c := wantToken(t, o, "access-0")
		fresh, err := o.Refresh(context.Background(), c) // it lives, and is refused
		if err != nil || bearer(t, fresh) != "access-1" {
			t.Fatalf("Refresh: %v", err)
		}
		time.Sleep(7 * time.Hour) // ahead of its end
		wantToken(t, o, "access-2")
		if p.runs != 2 || log.String() != "refreshed refreshed" {
			t.Errorf("%d processes, events %q", p.runs, log.String())
		}
	})
}

// TestRenewerThatFinds: what the other process meets is what this one tells.
func TestRenewerThatFinds(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*testing.T, *memStorage, *tokenServer)
		check   func(*testing.T, *OAuth, error)
	}{
		"a dead refresh token": {
			func(_ *testing.T, _ *memStorage, srv *tokenServer) { srv.valid = "another" },
			func(t *testing.T, o *OAuth, err error) {
				if !errors.Is(err, ErrLoginRequired) || !strings.Contains(err.Error(), "no longer accepts") || !o.Status().LoginRequired {
					t.Errorf("Get: %v", err)
				}
			},
		},
		"a server that asks to be left alone": {
			func(_ *testing.T, _ *memStorage, srv *tokenServer) {
				srv.script = []http.HandlerFunc{answerWith(http.StatusTooManyRequests, "{}", "Retry-After", "600")}
			},
			func(t *testing.T, _ *OAuth, err error) {
				var retry *RetryError
				if !errors.As(err, &retry) || time.Until(retry.Next) < 9*time.Minute || !strings.Contains(err.Error(), "answered 429") {
					t.Errorf("Get: %v", err)
				}
			},
		},
		"another at it": {
			func(t *testing.T, st *memStorage, _ *tokenServer) {
				st.putIntent(t, intent{Token: refreshName("refresh-0"), Since: time.Now(), By: "peer"})
			},
			func(t *testing.T, _ *OAuth, err error) {
				var retry *RetryError
				if !errors.As(err, &retry) || time.Until(retry.Next) > intentLook || !errors.Is(err, errIntent) {
					t.Errorf("Get: %v", err)
				}
			},
		},
		"storage that cannot be locked": {
			func(_ *testing.T, st *memStorage, _ *tokenServer) {
				st.lockFault = func(context.Context) error { return errors.New("down") }
			},
			func(t *testing.T, _ *OAuth, err error) {
				var retry *RetryError
				if !errors.As(err, &retry) || time.Until(retry.Next) > backoffStorage || !strings.Contains(err.Error(), "down") {
					t.Errorf("Get: %v", err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, srv := newMemStorage(), newTokenServer(t, "refresh-0")
				st.put(t, "access-0", "refresh-0", time.Now())
				c.prepare(t, st, srv)
				var log eventLog
				o, _ := apart(t, st, srv, &log)
				_, err := o.Get(context.Background())
				c.check(t, o, err)
			})
		})
	}
}

// TestRenewerCannotStore: both processes have the token until storage does.
func TestRenewerCannotStore(t *testing.T) {
	for name, deaf := range map[string]bool{"Caddy lives": false, "Caddy was killed": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, srv := newMemStorage(), newTokenServer(t, "refresh-0")
				st.put(t, "access-0", "refresh-0", time.Now())
				st.storeFault = func(key string, _ []byte) error {
					if key == testKey {
						return errors.New("no space left")
					}
					return nil
				}
				var log eventLog
				o, p := apart(t, st, srv, &log)
				p.deaf = deaf
				c, err := o.Get(context.Background())
				if !deaf && (err != nil || bearer(t, c) != "access-1" || !o.Status().Unsaved) {
					t.Errorf("Get: %v, status %+v", err, o.Status())
				}
				time.Sleep(10 * time.Minute)
				st.set(func() { st.storeFault = nil })
				time.Sleep(2 * saveMax)
				if r := st.record(t); r.refresh.reveal() != "refresh-1" {
					t.Error("the token was not stored")
				}
				p.ended.Wait()
				// Whoever comes next finds it.
				wantToken(t, start(t, Config{Storage: st, Transport: direct{srv}}), "access-1")
			})
		})
	}
}

// TestRenewerThatCannotBe: the refresh is made here.
func TestRenewerThatCannotBe(t *testing.T) {
	for name, prepare := range map[string]func(*process){
		"started": func(p *process) { p.fails = ErrNoRenewer },
		"of use":  func(p *process) { p.cfg.Storage = newMemStorage() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, srv := newMemStorage(), newTokenServer(t, "refresh-0")
				st.put(t, "access-0", "refresh-0", time.Now())
				p := &process{cfg: Config{Storage: st, Key: testKey, Transport: direct{srv}}}
				prepare(p)
				o := start(t, Config{Storage: st, Transport: direct{srv}, Renew: p.renew})
				wantToken(t, o, "access-1")
				p.ended.Wait()
			})
		})
	}
}

// TestRenewerThatDies tells nothing; storage says whether it had done its work.
func TestRenewerThatDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, srv := newMemStorage(), newTokenServer(t, "refresh-0")
		st.put(t, "access-0", "refresh-0", time.Now())
		var log eventLog
		o, p := apart(t, st, srv, &log)
		p.deaf = true // stored, and not told
		wantToken(t, o, "access-1")
		time.Sleep(7*time.Hour + 30*time.Minute)
		p.fails = errors.New("it ended and did not say how")
		wantToken(t, o, "access-1")
		synctest.Wait()
		if s := o.Status(); s.LoginRequired || s.LastError == "" || s.NextTry.IsZero() {
			t.Errorf("status %+v", s)
		}
		p.fails, p.deaf = nil, false
		time.Sleep(time.Hour)
		wantToken(t, o, "access-2")
	})
}
