package credential

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestParallel401sRefreshOnce(t *testing.T) {
	st := newMemStorage()
	st.put(t, "access-0", "refresh-0", time.Now().Add(8*time.Hour))
	srv := newTokenServer(t, "refresh-0")
	srv.before = func(int) { time.Sleep(50 * time.Millisecond) }
	o := networked(t, srv, Config{Storage: st})
	used := wantToken(t, o, "access-0")

	var wg sync.WaitGroup
	go_ := make(chan struct{})
	for i := range 200 {
		wg.Go(func() {
			<-go_
			if i%4 == 3 { // some learn of their 401 when all is over
				time.Sleep(100 * time.Millisecond)
			}
			c, err := o.Refresh(context.Background(), used)
			if err != nil || bearer(t, c) != "access-1" {
				t.Errorf("Refresh: %v", err)
			}
		})
	}
	close(go_)
	wg.Wait()
	if n := srv.called(); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	if r := st.record(t); r.access.reveal() != "access-1" || r.refresh.reveal() != "refresh-1" {
		t.Error("storage does not have the new tokens")
	}
}

func TestSourcesSharingStorageRefreshOnce(t *testing.T) {
	st := newMemStorage()
	st.put(t, "access-0", "refresh-0", time.Now().Add(8*time.Hour))
	srv := newTokenServer(t, "refresh-0")
	srv.before = func(int) { time.Sleep(20 * time.Millisecond) }
	var sources []*OAuth
	for range 4 {
		sources = append(sources, networked(t, srv, Config{Storage: st}))
	}
	for round := range 3 {
		var used []Credential
		for _, o := range sources {
			if err := o.Reload(context.Background()); err != nil {
				t.Fatal(err)
			}
			c, err := o.Get(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			used = append(used, c)
		}
		// What is refused must not look as if it had just been refreshed.
		r := st.record(t)
		r.RefreshedAt = time.Now().Add(-time.Hour)
		st.putRecord(t, r)
		for _, o := range sources {
			if err := o.Reload(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				if _, err := sources[i%4].Refresh(context.Background(), used[i%4]); err != nil {
					t.Errorf("Refresh: %v", err)
				}
			})
		}
		wg.Wait()
		if n := srv.called(); n != round+1 {
			t.Fatalf("%d refreshes after round %d", n, round)
		}
	}
}

func TestLeavingDoesNotCancelTheRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(-time.Minute))
		srv := newTokenServer(t, "refresh-0")
		srv.before = func(int) { time.Sleep(10 * time.Second) }
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := o.Get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get: %v", err)
		}
		if d := time.Since(began); d != time.Second {
			t.Errorf("Get stayed for %v", d)
		}
		time.Sleep(10 * time.Second)
		wantToken(t, o, "access-1")
		if n := srv.called(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

func TestGetWaitsOnlyWhenItMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(time.Hour))
		srv := newTokenServer(t, "refresh-0")
		srv.before = func(int) { time.Sleep(5 * time.Second) }
		o := start(t, Config{Storage: st, Transport: direct{srv}, Rand: func() float64 { return 0 }})
		wantToken(t, o, "access-0")
		time.Sleep(49*time.Minute + 59*time.Second)
		wantToken(t, o, "access-0")
		synctest.Wait()
		if n := srv.called(); n != 0 {
			t.Fatal("refreshed before it was due")
		}
		time.Sleep(time.Second)
		began := time.Now()
		for range 100 {
			wantToken(t, o, "access-0")
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("a token with ten minutes left made requests wait for %v", d)
		}
		time.Sleep(6 * time.Second)
		wantToken(t, o, "access-1")
		if n := srv.called(); n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
	})
}

func TestGetBlocksInTheLastThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(time.Hour))
		srv := newTokenServer(t, "refresh-0")
		srv.before = func(int) { time.Sleep(5 * time.Second) }
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		wantToken(t, o, "access-0")
		time.Sleep(time.Hour - 29*time.Second)
		wantToken(t, o, "access-1")
		// Expires is what the answer said, not what the record had.
		if c := wantToken(t, o, "access-1"); time.Until(c.Expires()) != 8*time.Hour {
			t.Errorf("expires in %v", time.Until(c.Expires()))
		}
	})
}

func TestAnswersThatLeaveThingsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		rec, err := NewRecord("access-0", "refresh-0", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		rec.LoginExpires, rec.Scopes, rec.Email = time.Now().Add(100*time.Hour), []string{"kept"}, "kept@example.com"
		rec.Subscription, rec.ClientID, rec.LoginID = "max", "client-of-the-login", "login"
		st.putRecord(t, rec)
		client := ""
		srv := newTokenServer(t, "refresh-0")
		srv.fields = map[string]any{"refresh_token": nil, "expires_in": nil, "scope": nil, "account": nil, "organization": nil, "refresh_token_expires_in": nil}
		spy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := r.GetBody()
			buf := make([]byte, 1<<10)
			n, _ := body.Read(buf)
			client = string(buf[:n])
			srv.ServeHTTP(w, r)
		})
		o := start(t, Config{Storage: st, Transport: direct{spy}})
		if c := wantToken(t, o, "access-1"); time.Until(c.Expires()) != time.Hour {
			t.Errorf("without expires_in the token lives for %v", time.Until(c.Expires()))
		}
		if !strings.Contains(client, `"client_id":"client-of-the-login"`) {
			t.Errorf("the login's own client was not named")
		}
		r := st.record(t)
		if r.refresh.reveal() != "refresh-0" || !r.LoginExpires.Equal(rec.LoginExpires) || r.Scopes[0] != "kept" || r.Email != "kept@example.com" || r.Subscription != "max" {
			t.Error("what the answer left out was lost")
		}
		if s := o.Status(); s.Login != "login" || !s.LastRefresh.Equal(time.Now()) {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAnswersThatTellAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "", "refresh-0", time.Time{})
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "refresh-0")}})
		wantToken(t, o, "access-1")
		s := o.Status()
		if s.Email != "alice@example.com" || s.Organization != "Example" || s.AccountUUID != "acc-1" || len(s.Scopes) != 2 ||
			time.Until(s.LoginExpires) != 28*24*time.Hour || time.Until(s.Expires) != 8*time.Hour || s.LoginRequired || s.LastError != "" || s.Kind != KindOAuth {
			t.Errorf("status %+v", s)
		}
	})
}

func TestUnknownExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Time{})
		srv := newTokenServer(t, "refresh-0")
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		if err := o.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		wantToken(t, o, "access-0") // usable, and refreshed behind the scenes
		synctest.Wait()
		wantToken(t, o, "access-1")
	})
	synctest.Test(t, func(t *testing.T) { // and with no refresh token it serves until a 401
		st := newMemStorage()
		st.put(t, "access-0", "", time.Time{})
		srv := newTokenServer(t, "")
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		c := wantToken(t, o, "access-0")
		time.Sleep(1000 * time.Hour)
		wantToken(t, o, "access-0")
		if _, err := o.Refresh(context.Background(), c); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("Refresh: %v", err)
		}
		if _, err := o.Get(context.Background()); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("Get: %v", err)
		}
		if srv.called() != 0 {
			t.Error("the token server was asked without a refresh token")
		}
	})
}

func TestRefreshComparesWithTheTokenUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(8*time.Hour))
		srv := newTokenServer(t, "refresh-0")
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		first := wantToken(t, o, "access-0")
		second, err := o.Refresh(context.Background(), first)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // late news of the old token's 401
			if c, err := o.Refresh(context.Background(), first); err != nil || c.Version() != second.Version() {
				t.Errorf("Refresh with an old token: %v", err)
			}
		}
		if n := srv.called(); n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
		// A new token that is refused as well is not refreshed in a loop.
		var retry *RetryError
		if _, err := o.Refresh(context.Background(), second); !errors.As(err, &retry) || time.Until(retry.Next) != forcedGap {
			t.Errorf("Refresh of a new token: %v", err)
		}
		if _, err := o.Get(context.Background()); !errors.As(err, &retry) {
			t.Errorf("Get of a refused token: %v", err)
		}
		if n := srv.called(); n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
		// Nor does it become good because somebody touched the record.
		r := st.record(t)
		r.Email = "new@example.com"
		st.putRecord(t, r)
		_ = o.Reload(context.Background())
		if o.Status().Email != "new@example.com" {
			t.Error("the touched record was not read")
		}
		if _, err := o.Get(context.Background()); !errors.As(err, &retry) {
			t.Errorf("Get of a refused token: %v", err)
		}
		time.Sleep(forcedGap)
		wantToken(t, o, "access-2")
	})
}

func TestStoredBeforePublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(time.Minute))
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "refresh-0")}})
		if err := o.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		stored := false
		st.set(func() {
			st.storeFault = func(string, []byte) error {
				stored = true
				if got := bearer(t, o.cur.Load().cred); got != "access-0" {
					t.Errorf("%s is in use before it is stored", got)
				}
				for name, ctx := range st.held { // the lease is renewed while this lives
					if name != lockName(testKey) || ctx.Err() != nil {
						t.Errorf("stored under the lock %s, %v", name, ctx.Err())
					}
				}
				if len(st.held) != 1 {
					t.Error("stored without the lock")
				}
				return nil
			}
		})
		time.Sleep(45 * time.Second)
		wantToken(t, o, "access-1")
		if !stored {
			t.Error("nothing was stored")
		}
	})
}

func TestCloseWaitsForTheExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(time.Hour))
		srv := newTokenServer(t, "refresh-0")
		srv.before = func(int) { time.Sleep(5 * time.Second) }
		var log eventLog
		o := start(t, Config{Storage: st, Transport: direct{srv}, OnEvent: log.add})
		c := wantToken(t, o, "access-0")
		go func() { _, _ = o.Refresh(context.Background(), c) }()
		synctest.Wait()
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := o.Close(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close in a hurry: %v", err)
		}
		if err := o.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if st.record(t).refresh.reveal() != "refresh-1" {
			t.Error("Close lost the login")
		}
		if log.String() != "refreshed" {
			t.Errorf("events %q", log.String())
		}
		wantToken(t, o, "access-1") // what is there still serves
		time.Sleep(9 * time.Hour)
		if _, err := o.Get(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("Get after Close: %v", err)
		}
		if err := o.Reload(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("Reload after Close: %v", err)
		}
	})
}

func TestNewOAuthChecksItsConfig(t *testing.T) {
	st := newMemStorage()
	for _, cfg := range []Config{
		{}, {Storage: st}, {Key: "k"},
		{Storage: st, Key: "k", TokenURL: "http://example.com/token"},
		{Storage: st, Key: "k", TokenURL: "/token"},
		{Storage: st, Key: "k", TokenURL: "ftp://localhost/token"},
		{Storage: st, Key: "k", TokenURL: "::"},
	} {
		if _, err := NewOAuth(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg.TokenURL)
		}
	}
	for _, u := range []string{"", "https://example.com/token", "http://127.0.0.1:9/t", "http://[::1]:9/t", "http://localhost/t"} {
		if _, err := NewOAuth(Config{Storage: st, Key: "k", TokenURL: u}); err != nil {
			t.Errorf("%q: %v", u, err)
		}
	}
}
