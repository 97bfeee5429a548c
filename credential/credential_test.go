package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestApply(t *testing.T) {
	const key, token = "sk-ant-api03-key", "sk-ant-oat01-token"
	withKey := []string{key}
	withToken := []string{"Bearer " + token}
	for _, tc := range []struct {
		name string
		kind Kind
		in   http.Header
		beta []string // of all lines, in the order of the header
	}{
		{"key on nothing", KindAPIKey, http.Header{}, nil},
		{"key replaces both", KindAPIKey, http.Header{"Authorization": {"Bearer x", "Basic y"}, "X-Api-Key": {"a", "b"}}, nil},
		{"key replaces odd spellings", KindAPIKey, http.Header{"authorization": {"Bearer x"}, "x-API-key": {"a"}}, nil},
		{"key keeps betas byte for byte", KindAPIKey, http.Header{"Anthropic-Beta": {"a , b,", ""}}, []string{"a , b,", ""}},
		{"key drops the oauth beta only", KindAPIKey, http.Header{"Anthropic-Beta": {"a,oauth-2025-04-20, b", " OAuth-2025-04-20 ", "c ,d"}}, []string{"a, b", "c ,d"}},
		{"key drops the header with it", KindAPIKey, http.Header{"Anthropic-Beta": {"oauth-2025-04-20"}}, nil},
		{"token on nothing", KindOAuth, http.Header{}, []string{"oauth-2025-04-20"}},
		{"setup token", KindSetupToken, http.Header{"X-Api-Key": {"a"}}, []string{"oauth-2025-04-20"}},
		{"token replaces both", KindOAuth, http.Header{"Authorization": {"Bearer x"}, "x-api-key": {"a"}}, []string{"oauth-2025-04-20"}},
		{"token appends to a line", KindOAuth, http.Header{"Anthropic-Beta": {"a,b"}}, []string{"a,b,oauth-2025-04-20"}},
		{"token keeps several lines", KindOAuth, http.Header{"Anthropic-Beta": {"a", "b , c"}}, []string{"a", "b , c,oauth-2025-04-20"}},
		{"token after a trailing comma", KindOAuth, http.Header{"Anthropic-Beta": {"a, "}}, []string{"a,oauth-2025-04-20"}},
		{"token on an empty line", KindOAuth, http.Header{"Anthropic-Beta": {""}}, []string{"oauth-2025-04-20"}},
		{"token on no lines", KindOAuth, http.Header{"Anthropic-Beta": {}}, []string{"oauth-2025-04-20"}},
		{"token never twice", KindOAuth, http.Header{"Anthropic-Beta": {"a", "b,\tOAUTH-2025-04-20 ", "c"}}, []string{"a", "b,\tOAUTH-2025-04-20 ", "c"}},
		{"a longer value is another", KindOAuth, http.Header{"Anthropic-Beta": {"oauth-2025-04-201"}}, []string{"oauth-2025-04-201,oauth-2025-04-20"}},
		{"token with an odd spelling", KindOAuth, http.Header{"anthropic-beta": {"a"}}, []string{"a,oauth-2025-04-20"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			secretText := token
			if tc.kind == KindAPIKey {
				secretText = key
			}
			s, err := newSecret(secretText)
			if err != nil {
				t.Fatal(err)
			}
			c := newCredential(tc.kind, s, time.Time{})
			shared := tc.in.Clone() // what another holder of the slices sees
			h := http.Header{}
			for k, v := range tc.in {
				h[k] = v
			}
			for range 2 { // applying again changes nothing
				c.Apply(h)
				var auth, keys, beta []string
				for name, lines := range h {
					switch strings.ToLower(name) {
					case "authorization":
						auth = append(auth, lines...)
					case "x-api-key":
						keys = append(keys, lines...)
					case "anthropic-beta":
						beta = append(beta, lines...)
					}
				}
				if tc.kind == KindAPIKey && (auth != nil || !slices.Equal(keys, withKey)) {
					t.Errorf("authorization %q, x-api-key %q", auth, keys)
				}
				if tc.kind != KindAPIKey && (keys != nil || !slices.Equal(auth, withToken)) {
					t.Errorf("authorization %q, x-api-key %q", auth, keys)
				}
				if !slices.Equal(beta, tc.beta) {
					t.Errorf("anthropic-beta %q, want %q", beta, tc.beta)
				}
			}
			if !reflect.DeepEqual(tc.in, shared) {
				t.Errorf("the shared value slices were written to: %q, were %q", tc.in, shared)
			}
		})
	}
	h := http.Header{"Authorization": {"Bearer x"}, "X-Api-Key": {"a"}, "Anthropic-Beta": {"b"}}
	Credential{}.Apply(h)
	if !reflect.DeepEqual(h, http.Header{"Anthropic-Beta": {"b"}}) {
		t.Errorf("no credential left %q", h)
	}
}

func TestNothingPrintsSecrets(t *testing.T) {
	const access, refresh, extra = "sk-ant-oat01-hush", "sk-ant-ort01-hush", "sk-extra-hush"
	rec, err := ParseRecord([]byte(`{"version":1,"access_token":"` + access + `","refresh_token":"` + refresh + `","other":"` + extra + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	cred := newCredential(KindOAuth, rec.access, time.Time{})
	static, err := Static(KindAPIKey, access)
	if err != nil {
		t.Fatal(err)
	}
	st := newMemStorage()
	st.putRecord(t, rec)
	o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, refresh)}})
	if err := o.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	type hidden struct { // fmt does not call methods behind unexported fields
		c  Credential
		r  Record
		pc *Credential
	}
	secrets := []string{"hush", fmt.Sprintf("%x", "hush"), fmt.Sprintf("%X", "hush"), "104 117 115 104"}
	check := func(what, text string) {
		t.Helper()
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s prints the secret: %s", what, text)
			}
		}
	}
	for _, v := range []any{
		cred, &cred, rec, &rec, hidden{cred, rec, &cred}, []any{cred, rec}, map[string]any{"c": cred, "r": rec},
		static, o.cur.Load(), &o.state, o.Status(), static.Status(), rec.access, &unsaved{rec: rec},
		struct{ C Credential }{cred}, struct{ R *Record }{&rec},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			check(fmt.Sprintf("%s of %T", verb, v), fmt.Sprintf(verb, v))
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
		check(fmt.Sprintf("slog of %T", v), log.String())
		if raw, err := json.Marshal(v); err == nil {
			check(fmt.Sprintf("json of %T", v), string(raw))
		}
	}
	for _, v := range []any{cred, rec} {
		raw, err := xml.Marshal(v)
		if err != nil || !strings.Contains(string(raw), redacted) {
			t.Errorf("xml: %s, %v", raw, err)
		}
		if raw, err := json.Marshal(map[string]any{"v": v}); err != nil || string(raw) != `{"v":"REDACTED"}` {
			t.Errorf("json: %s, %v", raw, err)
		}
		if got := fmt.Sprintf("%v %+v %#v %s", v, v, v, v); got != "REDACTED REDACTED REDACTED REDACTED" {
			t.Errorf("fmt: %s", got)
		}
	}
	check("an error", hideIn(fmt.Errorf("storage said %s", access), rec.refresh, rec.access).Error())
	check("the version", cred.Version())
}

func TestVersion(t *testing.T) {
	of := func(kind Kind, text string) string {
		s, err := newSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		return newCredential(kind, s, time.Now()).Version()
	}
	if a, b := of(KindOAuth, "one"), of(KindOAuth, "one"); a != b || len(a) != 12 {
		t.Errorf("one secret has the versions %q and %q", a, b)
	}
	if of(KindOAuth, "one") == of(KindOAuth, "two") {
		t.Error("two secrets share a version")
	}
	if (Credential{}).Version() != "" {
		t.Error("no credential has a version")
	}
}

func TestStatic(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []Kind{KindAPIKey, KindSetupToken} {
		s, err := Static(kind, " the-secret\n")
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Get(ctx)
		if err != nil || c.Kind() != kind || c.Bearer() != (kind == KindSetupToken) || !c.Expires().IsZero() {
			t.Errorf("%s: %v, %v, bearer %v", kind, err, c.Kind(), c.Bearer())
		}
		h := http.Header{}
		c.Apply(h)
		if got := h.Get("X-Api-Key") + h.Get("Authorization"); strings.TrimPrefix(got, "Bearer ") != "the-secret" {
			t.Errorf("%s sends %q", kind, got)
		}
		if _, err := s.Refresh(ctx, c); !errors.Is(err, ErrNotRefreshable) || s.Refreshable() {
			t.Errorf("%s: refreshing gave %v", kind, err)
		}
		if st := s.Status(); st.Kind != kind || st.LoginRequired || st.Version != c.Version() {
			t.Errorf("%s: status %+v", kind, st)
		}
	}
	for _, tc := range []struct {
		kind Kind
		text string
	}{
		{KindOAuth, "hush"}, {"", "hush"}, {KindAPIKey, " \n"}, {KindAPIKey, "hush hush"}, {KindAPIKey, "hush\r\nX: y"},
		{KindSetupToken, "hüsh-hush"}, {KindAPIKey, strings.Repeat("hush", maxSecret)},
	} {
		if _, err := Static(tc.kind, tc.text); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("Static(%q, %.20q): %.200v", tc.kind, tc.text, err)
		}
	}
}
