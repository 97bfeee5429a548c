package credential

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReplaceTellsWhatWasThere(t *testing.T) {
	ctx, st := context.Background(), newMemStorage()
	first, _ := NewRecord("a1", "r1", time.Time{})
	first.Email = "ann@example.com"
	was, err := Replace(ctx, st, testKey, first)
	if err != nil || was.Found {
		t.Fatalf("into nothing: %+v, %v", was, err)
	}
	// The same again does no harm as long as nobody has refreshed it.
	if was, err = Replace(ctx, st, testKey, first); err != nil || !was.Found || was.Email != "ann@example.com" {
		t.Fatalf("the same again: %+v, %v", was, err)
	}
	refreshed := st.record(t).after(answer{access: first.access, life: time.Hour}, time.Now())
	st.putRecord(t, refreshed)
	if _, err = Replace(ctx, st, testKey, first); !errors.Is(err, ErrSpent) {
		t.Fatalf("a spent file: %v", err)
	}
	if st.record(t).RefreshedAt.IsZero() {
		t.Error("a spent file has replaced the login")
	}
	second, _ := NewRecord("a2", "r2", time.Time{})
	if was, err = Replace(ctx, st, testKey, second); err != nil || !was.Found {
		t.Fatalf("another login: %+v, %v", was, err)
	}
	st.set(func() { st.data[testKey] = []byte("broken") })
	if was, err = Replace(ctx, st, testKey, second); err != nil || !was.Found || string(st.data[was.Aside]) != "broken" {
		t.Fatalf("over a broken record: %+v, %v", was, err)
	}
	if len(st.held) != 0 {
		t.Error("the lock is kept")
	}
}

func TestFollowing(t *testing.T) {
	if _, err := Following("x/y"); err == nil {
		t.Error("a path that is not absolute was taken")
	}
	rec, err := Following("/home/ann/.claude/../.claude/.credentials.json")
	if err != nil || rec.Follow != "/home/ann/.claude/.credentials.json" {
		t.Fatalf("%q, %v", rec.Follow, err)
	}
	st := newMemStorage()
	if err := Import(context.Background(), st, testKey, rec); err != nil {
		t.Fatal(err)
	}
	if got := st.record(t); got.Follow != rec.Follow || got.LoginID == "" || got.ImportedAt.IsZero() {
		t.Errorf("stored: follow %q, login %q, at %v", got.Follow, got.LoginID, got.ImportedAt)
	}
	if end, guessed := st.record(t).loginEnd(); guessed || !end.IsZero() {
		t.Error("an end is guessed of a login that somebody else refreshes")
	}
}

func TestRemoveTakesTheNoteOfARefreshToo(t *testing.T) {
	ctx, st := context.Background(), newMemStorage()
	st.put(t, "a", "r", time.Time{})
	st.putIntent(t, intent{Token: refreshName("r"), Since: time.Now(), By: "peer"})
	if _, err := Remove(ctx, st, testKey, nil); err != nil {
		t.Fatal(err)
	}
	if len(st.data) != 0 {
		t.Errorf("%d records are left", len(st.data))
	}
}

func TestRemove(t *testing.T) {
	ctx, st := context.Background(), newMemStorage()
	var asked []string
	revoke := func(err error) func(context.Context, Record) error {
		return func(_ context.Context, r Record) error {
			if len(st.held) != 1 {
				t.Error("the lock is not held while the login is revoked")
			}
			asked = append(asked, r.refresh.reveal())
			return err
		}
	}
	if _, err := Remove(ctx, st, testKey, revoke(nil)); !errors.Is(err, fs.ErrNotExist) || len(asked) != 0 {
		t.Errorf("of nothing: %v", err)
	}
	for _, c := range []struct {
		name    string
		put     func()
		revoke  func(context.Context, Record) error
		asked   int
		revoked bool
	}{
		{"good", func() { st.put(t, "a", "r", time.Time{}) }, revoke(nil), 1, true},
		{"refused", func() { st.put(t, "a", "r", time.Time{}) }, revoke(errors.New("no to r-secret")), 1, false},
		{"not asked for", func() { st.put(t, "a", "r", time.Time{}) }, nil, 0, false},
		{"followed", func() { rec, _ := Following("/x"); st.putRecord(t, rec) }, revoke(nil), 0, false},
		{"followed, with tokens", func() {
			rec, _ := NewRecord("a", "r", time.Time{})
			rec.Follow = "/x"
			st.putRecord(t, rec)
		}, revoke(nil), 0, false},
		{"unreadable", func() { st.set(func() { st.data[testKey] = []byte("broken") }) }, revoke(nil), 0, false},
	} {
		asked = nil
		c.put()
		gone, err := Remove(ctx, st, testKey, c.revoke)
		if err != nil || len(asked) != c.asked || gone.Revoked != c.revoked || !gone.Found || (gone.RevokeError != nil) != (c.asked > 0 && !c.revoked) {
			t.Errorf("%s: %+v, %v, asked %d times", c.name, gone, err, len(asked))
		}
		if st.Exists(ctx, testKey) || len(st.held) != 0 {
			t.Errorf("%s: it is still there, or still locked", c.name)
		}
		if c.name == "unreadable" && string(st.data[gone.Aside]) != "broken" {
			t.Errorf("%s: it was not kept", c.name)
		}
	}
}

func TestRevoke(t *testing.T) {
	var path, kind string
	var form url.Values
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		path, kind, form = r.URL.Path, r.Header.Get("Content-Type"), r.PostForm
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "you sent "+r.PostForm.Get("token"))
	}))
	defer srv.Close()
	v := Revoker{TokenURL: srv.URL + "/v1/oauth/token", Transport: srv.Client().Transport}
	full, _ := NewRecord("access-secret", "refresh-secret", time.Time{})
	if err := v.Revoke(context.Background(), full); err != nil {
		t.Fatal(err)
	}
	if path != "/v1/oauth/token/revoke" || kind != "application/x-www-form-urlencoded" || form.Get("token") != "refresh-secret" ||
		form.Get("token_type_hint") != "refresh_token" || form.Get("client_id") != DefaultClientID || len(form) != 3 {
		t.Errorf("%s %s %v", path, kind, form)
	}
	half, _ := NewRecord("access-secret", "", time.Time{})
	half.ClientID = "own"
	if err := v.Revoke(context.Background(), half); err != nil || form.Get("token") != "access-secret" || form.Get("token_type_hint") != "access_token" || form.Get("client_id") != "own" {
		t.Errorf("%v, %v", form, err)
	}
	for _, status = range []int{302, 400, 429, 503} {
		if err := v.Revoke(context.Background(), full); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("status %d: %v", status, err)
		}
	}
	for _, bad := range []string{"http://example.com/token", "nonsense", "http://127.0.0.1:1/token"} {
		if err := (Revoker{TokenURL: bad}).Revoke(context.Background(), full); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestRevokeGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := direct{http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })}
		rec, _ := NewRecord("a", "r", time.Time{})
		began := time.Now()
		err := Revoker{Transport: silent}.Revoke(context.Background(), rec)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != revokeTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := context.Background(), newMemStorage()
		srv := newTokenServer(t, "r1")
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		st.put(t, "a1", "r1", time.Now().Add(time.Hour))
		c := wantToken(t, o, "a1")
		if _, err := Remove(ctx, st, testKey, nil); err != nil {
			t.Fatal(err)
		}
		if err := o.Reload(ctx); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("Reload: %v", err)
		}
		wantToken(t, o, "a1") // a record that vanished does not take the token along
		if err := o.Forget(ctx); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("Forget: %v", err)
		}
		if _, err := o.Get(ctx); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("Get: %v", err)
		}
		if _, err := o.Refresh(ctx, c); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("Refresh: %v", err)
		}
		st.put(t, "a2", "r2", time.Now().Add(time.Hour))
		if err := o.Reload(ctx); err != nil {
			t.Errorf("Reload: %v", err)
		}
		wantToken(t, o, "a2")
		if srv.called() != 0 {
			t.Error("the token server was asked")
		}
	})
}

// TestForgetUnsaved: a token that could not be stored does not bring a removed
// login back.
func TestForgetUnsaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := context.Background(), newMemStorage()
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "r1")}})
		st.put(t, "a1", "r1", time.Now())
		st.set(func() {
			st.storeFault = func(key string, _ []byte) error {
				if key == testKey {
					return errors.New("disk full")
				}
				return nil
			}
		})
		wantToken(t, o, "access-1")
		if !o.Status().Unsaved {
			t.Fatal("the token was stored, so nothing is tested")
		}
		if _, err := Remove(ctx, st, testKey, nil); err != nil {
			t.Fatal(err)
		}
		if err := o.Forget(ctx); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("Forget: %v", err)
		}
		st.set(func() { st.storeFault = nil })
		time.Sleep(10 * time.Minute)
		if st.Exists(ctx, testKey) || o.Status().Unsaved {
			t.Error("the login came back")
		}
	})
}

func TestDescribe(t *testing.T) {
	ctx, st := context.Background(), newMemStorage()
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	describe := func() (Status, time.Time, bool) {
		t.Helper()
		s, err := Describe(ctx, st, testKey, now)
		if err != nil {
			t.Fatal(err)
		}
		return s, s.LoginExpires, s.LoginExpiresGuessed
	}
	if s, _, _ := describe(); !s.LoginRequired || !strings.Contains(s.LoginReason, "no login is stored") {
		t.Errorf("of nothing: %+v", s)
	}
	rec, _ := NewRecord("a", "r", now.Add(-time.Hour))
	rec.Email, rec.Subscription, rec.ImportedAt = "ann@example.com", "max", now
	st.putRecord(t, rec)
	if s, end, guessed := describe(); s.LoginRequired || s.Email != "ann@example.com" || s.Subscription != "max" || !guessed || !end.Equal(now.Add(28*24*time.Hour)) {
		t.Errorf("of a login: %+v, %v %v", s, end, guessed)
	}
	rec.LoginExpires = now
	st.putRecord(t, rec)
	if s, end, guessed := describe(); !s.LoginRequired || guessed || !end.Equal(now) {
		t.Errorf("of one that has ended: %+v, %v %v", s, end, guessed)
	}
	st.put(t, "a", "", now)
	if s, _, _ := describe(); !s.LoginRequired {
		t.Errorf("of one without a refresh token: %+v", s)
	}
	st.set(func() { st.data[testKey] = []byte(`{"version":1,"access_token":7}`) })
	if s, _, _ := describe(); !s.LoginRequired || !strings.Contains(s.LoginReason, "access_token: it is not a text") {
		t.Errorf("of a broken record: %+v", s)
	}
	st.set(func() { st.loadFault = func(string) error { return errors.New("down") } })
	if _, err := Describe(ctx, st, testKey, now); err == nil {
		t.Error("storage that is down")
	}
}

func TestParseFile(t *testing.T) {
	const expires = 1785182400
	profile := `{"version":"1.0","type":"oauth_token","access_token":"a","refresh_token":"r","expires_at":1785182400,"scope":"x"}`
	r, err := ParseFile([]byte(profile), "client")
	if err != nil || r.access.reveal() != "a" || r.refresh.reveal() != "r" || r.Expires.Unix() != expires || r.ClientID != "client" {
		t.Fatalf("a profile: %v, expires %v, client %q", err, r.Expires, r.ClientID)
	}
	if raw, err := r.Encode(); err != nil || !strings.Contains(string(raw), `"profile":{"scope":"x"}`) {
		t.Errorf("unknown keys: %v", err)
	}
	if r, err = ParseFile([]byte(`{"claudeAiOauth":{"accessToken":"a","clientId":"own"}}`), "client"); err != nil || r.ClientID != "own" {
		t.Errorf("Claude Code's: %v, client %q", err, r.ClientID)
	}
	for text, want := range map[string]string{
		`{"type":"oauth_token"}`:                                        "neither access_token nor refresh_token",
		`{"type":"oauth_token","access_token":"a\nsecret"}`:             "access_token: it contains",
		`{"type":"oauth_token","access_token":"a","expires_at":"soon"}`: "expires_at: it is not a number",
		`{"type":"other","version":"1.0","access_token":"secret"}`:      `type: it is not "oauth_token"`,
		`{"type":"oauth_token","version":2,"access_token":"secret"}`:    `version: it is not "1.0"`,
		`{"version":1,"access_token":"secret"}`:                         "there is no claudeAiOauth",
		`"secret"`:                                                      "not a JSON object",
	} {
		if _, err := ParseFile([]byte(text), ""); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
