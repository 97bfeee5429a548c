package credential

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestInvalidGrantAfterAPeerRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(time.Hour))
		srv := newTokenServer(t, "refresh-0")
		var log eventLog
		o := start(t, Config{Storage: st, Transport: direct{srv}, OnEvent: log.add})
		c := wantToken(t, o, "access-0")
		// A peer that does not hold the lock (it lost its lease) wins the race.
		srv.script = []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			st.put(t, "peer-access", "peer-refresh", time.Now().Add(8*time.Hour))
			invalidGrant(w, r)
		}}
		got, err := o.Refresh(context.Background(), c)
		if err != nil || bearer(t, got) != "peer-access" {
			t.Fatalf("Refresh: %v", err)
		}
		if s := o.Status(); s.LoginRequired || s.LastError != "" {
			t.Errorf("status %+v", s)
		}
		synctest.Wait()
		if log.String() != "adopted" {
			t.Errorf("events %q", log.String())
		}
	})
}

func TestInvalidGrantIsNotBelievedWithoutStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now())
		srv := newTokenServer(t, "refresh-0")
		srv.script = []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			st.set(func() { st.loadFault = func(string) error { return errors.New("storage is down") } })
			invalidGrant(w, r)
		}}
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		if _, err := o.Get(context.Background()); err == nil || errors.Is(err, ErrLoginRequired) {
			t.Errorf("Get: %v", err)
		}
	})
}

func TestLoginRequiredUntilAnImport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "dead", time.Now().Add(time.Hour))
		srv := newTokenServer(t, "refresh-0")
		var log eventLog
		o := start(t, Config{Storage: st, Transport: direct{srv}, OnEvent: log.add})
		wantToken(t, o, "access-0")
		time.Sleep(55 * time.Minute)
		for range 10 { // the refresh behind the scenes fails; the token still lives
			wantToken(t, o, "access-0")
			time.Sleep(10 * time.Second)
		}
		s := o.Status()
		if !s.LoginRequired || !strings.Contains(s.LoginReason, testKey) {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Hour)
		for range 100 {
			if _, err := o.Get(context.Background()); !errors.Is(err, ErrLoginRequired) {
				t.Fatalf("Get: %v", err)
			}
			time.Sleep(time.Second)
		}
		if n := srv.called(); n != 1 {
			t.Errorf("a dead refresh token was sent %d times", n)
		}
		if err := o.Reload(context.Background()); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("Reload: %v", err)
		}
		rec, err := NewRecord("", "refresh-0", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if err := Import(context.Background(), st, testKey, rec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookGap)
		wantToken(t, o, "access-1")
		if s := o.Status(); s.LoginRequired || s.LoginReason != "" || s.LastError != "" || s.Login == "" {
			t.Errorf("status %+v", s)
		}
		synctest.Wait()
		if got, want := log.String(), "login_required adopted refreshed"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

func TestReloadRevivesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "refresh-0")}})
		_, err := o.Get(context.Background())
		if !errors.Is(err, ErrLoginRequired) || !strings.Contains(err.Error(), testKey) {
			t.Fatalf("Get of nothing: %v", err)
		}
		st.put(t, "access-0", "refresh-0", time.Now().Add(time.Hour))
		if _, err := o.Get(context.Background()); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("storage is looked into for every request: %v", err)
		}
		if err := o.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		wantToken(t, o, "access-0")
	})
}

func TestUnreadableRecordIsKeptAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const broken = `{"version":1,"access_token":"hush`
		st := newMemStorage()
		st.data[testKey] = []byte(broken)
		var log eventLog
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "refresh-0")}, OnEvent: log.add})
		began := time.Now()
		for range 50 {
			_, err := o.Get(context.Background())
			if !errors.Is(err, ErrLoginRequired) || !strings.Contains(err.Error(), testKey) || strings.Contains(err.Error(), "hush") {
				t.Fatalf("Get: %v", err)
			}
			time.Sleep(5 * time.Second)
		}
		aside := fmt.Sprintf("%s.corrupt-%d", testKey, began.Unix())
		if string(st.data[aside]) != broken || string(st.data[testKey]) != broken || len(st.data) != 2 {
			t.Errorf("storage holds %d keys", len(st.data))
		}
		if s := o.Status(); !s.LoginRequired || !strings.Contains(s.LoginReason, aside) {
			t.Errorf("status %+v", s)
		}
		rec, err := NewRecord("access-0", "refresh-0", time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if err := Import(context.Background(), st, testKey, rec); err != nil {
			t.Fatal(err)
		}
		if err := o.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		wantToken(t, o, "access-0")
		synctest.Wait()
		if got, want := log.String(), "login_required adopted"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

func TestRecordThatBreaksWhileServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(time.Hour))
		srv := newTokenServer(t, "refresh-0")
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		wantToken(t, o, "access-0")
		sound := st.data[testKey]
		for _, broken := range []string{"broken", `{"version":9,"access_token":"from the future"}`} {
			st.set(func() { st.data[testKey] = []byte(broken) })
			if err := o.Reload(context.Background()); !errors.Is(err, ErrLoginRequired) {
				t.Errorf("Reload: %v", err)
			}
			wantToken(t, o, "access-0")
		}
		st.set(func() { st.data[testKey] = sound }) // restored by hand, as it was
		if err := o.Reload(context.Background()); err != nil {
			t.Errorf("Reload: %v", err)
		}
		time.Sleep(55 * time.Minute)
		wantToken(t, o, "access-0")
		synctest.Wait()
		wantToken(t, o, "access-1")
		if len(st.data) != 2 { // one copy aside, none of the newer version
			t.Errorf("storage holds %d keys", len(st.data))
		}
	})
}
