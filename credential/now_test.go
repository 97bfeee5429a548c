package credential

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// TestRenewNow: a token that is not due is replaced once, not twice in a row, and it goes
// on to serve when that fails.
func TestRenewNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(8*time.Hour))
		srv := newTokenServer(t, "refresh-0")
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		wantToken(t, o, "access-0")
		time.Sleep(time.Minute)
		if _, err := o.RenewNow(context.Background()); err != nil {
			t.Fatal(err)
		}
		wantToken(t, o, "access-1")
		var retry *RetryError
		if _, err := o.RenewNow(context.Background()); !errors.As(err, &retry) || !errors.Is(retry.Err, errJustNow) {
			t.Errorf("twice in a row: %v", err)
		}
		time.Sleep(forcedGap)
		down := start(t, Config{Storage: st, Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("no network") })})
		wantToken(t, down, "access-1")
		if _, err := down.RenewNow(context.Background()); !errors.As(err, &retry) {
			t.Errorf("without a network: %v", err)
		}
		wantToken(t, down, "access-1")
		if srv.called() != 1 {
			t.Errorf("%d refreshes", srv.called())
		}
		if _, err := start(t, Config{Storage: newMemStorage(), Transport: direct{srv}}).RenewNow(context.Background()); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("without a login: %v", err)
		}
	})
}

func TestRenewNowOfAFollowedLogin(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".credentials.json")
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		rec, err := Following(file)
		if err != nil {
			t.Fatal(err)
		}
		writeFollowed(t, file, "access-0", time.Now().Add(time.Hour))
		st.putRecord(t, rec)
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "")}})
		wantToken(t, o, "access-0")
		if _, err := o.RenewNow(context.Background()); !errors.Is(err, ErrNotRefreshable) {
			t.Errorf("%v", err)
		}
	})
}

func TestFederationRenewNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFederationServer(t)
		w := newWorkload(t, srv, nil)
		w.want(t, "fed-1")
		var retry *RetryError
		if _, err := w.RenewNow(context.Background()); !errors.As(err, &retry) {
			t.Errorf("of a new token: %v", err)
		}
		time.Sleep(forcedGap)
		if _, err := w.RenewNow(context.Background()); err != nil {
			t.Error(err)
		}
		w.want(t, "fed-2")
	})
}
