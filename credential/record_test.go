package credential

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseClaudeCode(t *testing.T) {
	const both = `"accessToken":"sk-a","refreshToken":"sk-r"`
	at := time.Date(2026, 7, 27, 20, 0, 0, 123e6, time.UTC)
	for _, tc := range []struct {
		name, in string
		want     Record // tokens aside
	}{
		{"whole", `{"claudeAiOauth":{` + both + `,"expiresAt":1785182400123,"refreshTokenExpiresAt":1785182400123,"scopes":["user:inference"],"subscriptionType":"max","rateLimitTier":"default_claude_max_5x","clientId":"c"}}`,
			Record{Expires: at, LoginExpires: at, Scopes: []string{"user:inference"}, Subscription: "max", RateLimitTier: "default_claude_max_5x", ClientID: "c"}},
		{"expiresAt 0", `{"claudeAiOauth":{` + both + `,"expiresAt":0}}`, Record{}},
		{"nothing but tokens", `{"claudeAiOauth":{` + both + `}}`, Record{}},
		{"nulls", `{"claudeAiOauth":{` + both + `,"expiresAt":null,"scopes":null,"subscriptionType":null}}`, Record{}},
		{"negative", `{"claudeAiOauth":{` + both + `,"expiresAt":-5}}`, Record{}},
		{"beyond time", `{"claudeAiOauth":{` + both + `,"expiresAt":1e300,"refreshTokenExpiresAt":1e999}}`, Record{}},
		{"fraction", `{"claudeAiOauth":{` + both + `,"expiresAt":1785182400123.9}}`, Record{Expires: at}},
		{"byte order mark", "\xef\xbb\xbf" + `{"claudeAiOauth":{` + both + `}}`, Record{}},
		{"space around tokens", `{"claudeAiOauth":{"accessToken":"sk-a\n","refreshToken":" sk-r"}}`, Record{}},
	} {
		r, err := ParseClaudeCode([]byte(tc.in))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if r.access.reveal() != "sk-a" || r.refresh.reveal() != "sk-r" {
			t.Errorf("%s: tokens %q %q", tc.name, r.access.reveal(), r.refresh.reveal())
		}
		if !r.Expires.Equal(tc.want.Expires) || !r.LoginExpires.Equal(tc.want.LoginExpires) || !slices.Equal(r.Scopes, tc.want.Scopes) ||
			r.Subscription != tc.want.Subscription || r.RateLimitTier != tc.want.RateLimitTier || r.ClientID != tc.want.ClientID {
			t.Errorf("%s: expires %v, login %v, scopes %q, %q %q %q", tc.name, r.Expires, r.LoginExpires, r.Scopes, r.Subscription, r.RateLimitTier, r.ClientID)
		}
	}
}

func TestParseClaudeCodeKeepsItsUnknownKeysOnly(t *testing.T) {
	r, err := ParseClaudeCode([]byte(`{"claudeAiOauth":{"accessToken":"sk-a","future":{"x":[1,2]}},"mcpOAuth":{"server":{"accessToken":"foreign"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"access_token":"sk-a","claude_code":{"future":{"x":[1,2]}},"version":1}`; string(raw) != want {
		t.Errorf("got  %s\nwant %s", raw, want)
	}
}

func TestParseErrorsNameTheFaultAndNoSecret(t *testing.T) {
	type reader func([]byte) (Record, error)
	for _, tc := range []struct {
		read     reader
		in, says string
	}{
		{ParseClaudeCode, ``, "not valid JSON"},
		{ParseClaudeCode, `{"claudeAiOauth":{"accessToken":"hush"`, "not valid JSON"},
		{ParseClaudeCode, `["hush"]`, "not a JSON object"},
		{ParseClaudeCode, `null`, "not a JSON object"},
		{ParseClaudeCode, `{"mcpOAuth":"hush"}`, "no claudeAiOauth"},
		{ParseClaudeCode, `{"claudeAiOauth":null}`, "no claudeAiOauth"},
		{ParseClaudeCode, `{"claudeAiOauth":"hush"}`, "claudeAiOauth: it is not a JSON object"},
		{ParseClaudeCode, `{"claudeAiOauth":{"expiresAt":1}}`, "neither accessToken nor refreshToken"},
		{ParseClaudeCode, `{"claudeAiOauth":{"accessToken":" ","refreshToken":""}}`, "neither accessToken nor refreshToken"},
		{ParseClaudeCode, `{"claudeAiOauth":{"accessToken":"hush\u0000"}}`, "accessToken: it contains"},
		{ParseClaudeCode, `{"claudeAiOauth":{"accessToken":["hush"]}}`, "accessToken: it is not a text"},
		{ParseClaudeCode, `{"claudeAiOauth":{"accessToken":"hush","refreshToken":"hush hush"}}`, "refreshToken: it contains"},
		{ParseClaudeCode, `{"claudeAiOauth":{"accessToken":"hush","expiresAt":"hush"}}`, "expiresAt: it is not a number"},
		{ParseClaudeCode, `{"claudeAiOauth":{"accessToken":"hush","expiresAt":"1785182400123"}}`, "expiresAt: it is not a number"},
		{ParseClaudeCode, `{"claudeAiOauth":{"accessToken":"hush","scopes":"hush"}}`, "scopes: it is not a list"},
		{ParseClaudeCode, `{"x":"` + strings.Repeat("hush", maxRecord/4) + `"}`, "too large"},
		{ParseRecord, ``, "not valid JSON"},
		{ParseRecord, `{"access_token":"hush"}`, "no version"},
		{ParseRecord, `{"version":"hush","access_token":"hush"}`, "no version"},
		{ParseRecord, `{"version":2,"access_token":"hush"}`, "version is not known"},
		{ParseRecord, `{"version":1}`, "no token"},
		{ParseRecord, `{"version":1,"access_token":7}`, "access_token: it is not a text"},
		{ParseRecord, `{"version":1,"access_token":"hush","expires_at":1785182400123}`, "expires_at: it is not a text"},
		{ParseRecord, `{"version":1,"access_token":"hush","expires_at":"hush"}`, "expires_at: it is not a time"},
		{ParseRecord, `{"version":1,"access_token":"hush","expires_at":"9999-12-31T23:59:59-23:00"}`, "expires_at: it is not a time"},
		{ParseRecord, `{"version":1,"access_token":"hush","scopes":[1]}`, "scopes: it is not a list"},
	} {
		_, err := tc.read([]byte(tc.in))
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%.80s: %v, want an error that says %q and no secret", tc.in, err, tc.says)
		}
	}
	if _, err := ParseRecord([]byte(`{"version":2}`)); !errors.Is(err, errNewerRecord) {
		t.Errorf("a newer version: %v", err)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	in := `{"access_token":"a","account_uuid":"u","client_id":"c","email":"e@x","expires_at":"2026-07-27T20:00:00.123Z","imported_at":"2026-07-01T00:00:00Z",` +
		`"login_expires_at":"2026-08-01T00:00:00Z","login_id":"l","organization":"o","rate_limit_tier":"t","refresh_token":"r","refreshed_at":"2026-07-27T12:00:00Z",` +
		`"scopes":["s"],"subscription":"max","version":1,"zz_future":{"k":[1,null,"v"]}}`
	r, err := ParseRecord([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if string(raw) != in {
		t.Errorf("got  %s\nwant %s", raw, in)
	}
	if _, err := (Record{Expires: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}).Encode(); err == nil {
		t.Error("a year of five digits was encoded")
	}
	if _, err := NewRecord("", " ", time.Time{}); err == nil {
		t.Error("a record without a token was made")
	}
}

func FuzzParseClaudeCode(f *testing.F) {
	for _, s := range []string{
		`{"claudeAiOauth":{"accessToken":"a","refreshToken":"r","expiresAt":1785182400123,"refreshTokenExpiresAt":1e3,"scopes":["s"],"subscriptionType":"max","x":{}}}`,
		`{"claudeAiOauth":{"accessToken":"a","expiresAt":0}}`, `{"claudeAiOauth":null}`, `[]`, ``, "\xef\xbb\xbf{}",
		`{"claudeAiOauth":{"accessToken":"a","expiresAt":-1e999,"scopes":null,"dup":1,"dup":"\ud800"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseClaudeCode(b)
		if err != nil {
			return
		}
		raw, err := r.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be stored: %v", err)
		}
		back, err := ParseRecord(raw)
		if err != nil {
			t.Fatalf("what was stored cannot be read: %v", err)
		}
		if back.tokens() != r.tokens() || !back.Expires.Equal(r.Expires) || !back.LoginExpires.Equal(r.LoginExpires) {
			t.Fatal("storing changed the record")
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, s := range []string{
		`{"version":1,"access_token":"a","refresh_token":"r","expires_at":"2026-07-27T20:00:00Z","scopes":["s"],"future":{"k":[1]}}`,
		`{"version":1,"access_token":"a","expires_at":"0000-01-01T00:00:00Z"}`, `{"version":1.0,"refresh_token":"r","scopes":null}`,
		`{"version":1,"access_token":"a","x":"\u2028<>&","":0}`, `null`, `{"version":2}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			return
		}
		once, err := r.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be stored: %v", err)
		}
		back, err := ParseRecord(once)
		if err != nil {
			t.Fatalf("what was stored cannot be read: %v", err)
		}
		twice, err := back.Encode()
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("the stored form is not stable: %v\n%s\n%s", err, once, twice)
		}
		var in, out map[string]json.RawMessage
		if json.Unmarshal(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), &in) != nil || json.Unmarshal(once, &out) != nil {
			t.Fatal("a record is not an object")
		}
		known := map[string]bool{}
		for _, f := range r.fields() {
			known[f.key] = true
		}
		for k := range in {
			if _, ok := out[k]; !ok && !known[k] {
				t.Fatalf("the unknown key %q was lost", k)
			}
		}
	})
}
