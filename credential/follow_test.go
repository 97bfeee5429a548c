package credential

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func writeFollowed(t *testing.T, file, access string, expires time.Time) {
	t.Helper()
	text := fmt.Sprintf(`{"claudeAiOauth":{"accessToken":%q,"refreshToken":"not-ours","expiresAt":%d,"subscriptionType":"max"}}`, access, expires.UnixMilli())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFollowedLogin(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".credentials.json")
	synctest.Test(t, func(t *testing.T) {
		writeFollowed(t, file, "access-0", time.Now().Add(time.Hour))
		st := newMemStorage()
		rec, err := Following(file)
		if err != nil {
			t.Fatal(err)
		}
		st.putRecord(t, rec)
		srv := newTokenServer(t, "not-ours")
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		go o.Run(ctx)
		c := wantToken(t, o, "access-0")
		if s := o.Status(); s.Follows != file || s.Subscription != "max" {
			t.Errorf("status %+v", s)
		}
		if !o.cur.Load().rec.refresh.empty() {
			t.Error("the refresh token of somebody else is held")
		}
		// Its owner refreshes.
		writeFollowed(t, file, "access-1", time.Now().Add(2*time.Hour))
		if fresh, err := o.Refresh(context.Background(), c); err != nil || bearer(t, fresh) != "access-1" {
			t.Errorf("after a 401: %v", err)
		}
		writeFollowed(t, file, "access-2", time.Now().Add(2*time.Hour))
		time.Sleep(followLook + time.Second)
		wantToken(t, o, "access-2")
		// A file that is being written costs nothing.
		if err := os.WriteFile(file, []byte(`{"claudeAi`), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(followLook + time.Second)
		wantToken(t, o, "access-2")
		if s := o.Status(); !strings.Contains(s.LastError, file) || s.LoginRequired {
			t.Errorf("status %+v", s)
		}
		// The owner is away and the token ends: that is nobody's death.
		writeFollowed(t, file, "access-3", time.Now().Add(time.Minute))
		time.Sleep(2 * time.Minute)
		var retry *RetryError
		if _, err := o.Get(context.Background()); !errors.As(err, &retry) || errors.Is(err, ErrLoginRequired) {
			t.Errorf("Get: %v", err)
		}
		if err := o.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("Reload: %v", err)
		}
		writeFollowed(t, file, "access-4", time.Now().Add(time.Hour))
		time.Sleep(followLook + time.Second)
		wantToken(t, o, "access-4")
		if n := srv.called(); n != 0 {
			t.Errorf("the token server was asked %d times", n)
		}
		raw, err := st.Load(context.Background(), testKey)
		if err != nil || strings.Contains(string(raw), "access-") {
			t.Errorf("the record has a token: %v", err)
		}
	})
}

func TestFollowedFileThatIsGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".credentials.json")
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		rec, err := Following(file)
		if err != nil {
			t.Fatal(err)
		}
		st.putRecord(t, rec)
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "")}})
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		go o.Run(ctx)
		if _, err := o.Get(context.Background()); !errors.Is(err, ErrLoginRequired) || !strings.Contains(err.Error(), file) {
			t.Errorf("Get: %v", err)
		}
		writeFollowed(t, file, "access-0", time.Now().Add(time.Hour))
		time.Sleep(pollLogin + time.Second)
		wantToken(t, o, "access-0")
	})
}

func TestFollowingWantsAnAbsolutePath(t *testing.T) {
	if _, err := Following("credentials.json"); err == nil {
		t.Error("a relative path was taken")
	}
}
