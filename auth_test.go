package shunt

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/people"
)

func TestWhoMayAsk(t *testing.T) {
	b := newFour(t, "")
	for _, test := range []struct {
		name    string
		headers []string
		status  int
		user    string
	}{
		{"x-api-key", []string{"X-Api-Key", "", "X-Api-Key", annKey}, 200, "ann"},
		{"bearer", []string{"X-Api-Key", "", "Authorization", "Bearer " + bobKey}, 200, "bob"},
		{"both, one of them ours", []string{"X-Api-Key", "", "X-Api-Key", "other", "Authorization", "Bearer " + bobKey}, 200, "bob"},
		{"none", []string{"X-Api-Key", ""}, 401, ""},
		{"wrong", []string{"X-Api-Key", "", "X-Api-Key", annKey + "x"}, 401, ""},
		{"Anthropic's", []string{"X-Api-Key", "", "Authorization", "Bearer sk-ant-oat01-users-own"}, 401, ""},
		{"basic", []string{"X-Api-Key", "", "Authorization", "Basic " + annKey}, 401, ""},
	} {
		before := len(b.fake.Requests())
		r := b.ask(hello, test.headers...)
		if r.status != test.status {
			t.Errorf("%s: %d %s", test.name, r.status, r.body)
		}
		if test.status == 401 {
			if r.header.Get("X-Should-Retry") != "false" || !strings.Contains(r.body, `"authentication_error"`) || len(b.fake.Requests()) != before {
				t.Errorf("%s: %v %s", test.name, r.header, r.body)
			}
			continue
		}
		b.mustBeIdle()
		if got := b.h.group.View().Recent[0].User; got != test.user {
			t.Errorf("%s: taken for %q", test.name, got)
		}
	}
}

func TestOpenOnlyToADirectLoopbackClient(t *testing.T) {
	b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:1]}, "upstream %UPSTREAM%\naccount a {\napi_key sk-ant-api03-aaaa\n}")
	for _, test := range []struct {
		name, remote, host string
		header             http.Header
		status             int
	}{
		{"direct", "127.0.0.1:5000", "localhost:8080", nil, 200},
		{"direct, IPv6", "[::1]:5000", "[::1]:8080", nil, 200},
		{"a key does no harm", "127.0.0.1:5000", "127.0.0.1", http.Header{"X-Api-Key": {"dummy"}}, 200},
		{"from elsewhere", "10.0.0.7:5000", "localhost:8080", nil, 401},
		{"through a proxy", "127.0.0.1:5000", "localhost:8080", http.Header{"X-Forwarded-For": {"127.0.0.1"}}, 401},
		{"another host name", "127.0.0.1:5000", "evil.example.com", nil, 401},
		{"a page elsewhere", "127.0.0.1:5000", "localhost:8080", http.Header{"Origin": {"https://evil.example.com"}}, 401},
		{"a page elsewhere, no origin", "127.0.0.1:5000", "localhost:8080", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 401},
	} {
		r := httptest.NewRequest(http.MethodPost, "/v1/messages", strings.NewReader(hello))
		r.RemoteAddr, r.Host = test.remote, test.host
		r.Header = http.Header{"Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
		for name, values := range test.header {
			r.Header[name] = values
		}
		w := httptest.NewRecorder()
		serveWith(b.h, w, r)
		if w.Code != test.status {
			t.Errorf("%s: %d %s", test.name, w.Code, w.Body)
		}
	}
}

// TestAPageElsewhereSpendsNothing: a browser sends what Caddy knows people by along
// with any page's request, so such a request must come from our own site.
func TestAPageElsewhereSpendsNothing(t *testing.T) {
	b := newFour(t, "")
	for _, test := range []struct {
		name   string
		header http.Header
		status int
	}{
		{"a program", nil, 200},
		{"our own page", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://pool.example"}}, 200},
		{"a page elsewhere", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{"a page of a sibling", http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		{"a page elsewhere, in an old browser", http.Header{"Origin": {"https://elsewhere.example"}}, 403},
		{"a page without an origin", http.Header{"Origin": {"null"}}, 403},
		{"a page elsewhere that sends a key", http.Header{"Origin": {"https://elsewhere.example"}, "X-Api-Key": {annKey}}, 200},
	} {
		before := len(b.fake.Requests())
		r := httptest.NewRequest(http.MethodPost, "https://pool.example/v1/messages", strings.NewReader(hello))
		r.Header = http.Header{"Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
		for name, values := range test.header {
			r.Header[name] = values
		}
		repl := caddy.NewReplacer()
		repl.Set("http.auth.user.id", "ann")
		w := httptest.NewRecorder()
		serveReplacing(b.h, w, r, repl)
		if w.Code != test.status || test.status == 403 && !strings.Contains(w.Body.String(), `"permission_error"`) {
			t.Errorf("%s: %d %s", test.name, w.Code, w.Body)
		}
		if served := len(b.fake.Requests()) > before; served != (test.status == 200) {
			t.Errorf("%s: went upstream: %v", test.name, served)
		}
	}
}

func TestProviderModule(t *testing.T) {
	p := &RemoteKeys{Keys: []*RemoteKey{{Name: "ann", Secret: hashSecret(annKey)}}}
	if err := p.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if _, ok, err := p.Authenticate(nil, r); ok || err != nil {
		t.Error("nobody got in")
	}
	r.Header.Set("X-Api-Key", annKey)
	if user, ok, err := p.Authenticate(nil, r); !ok || err != nil || user.ID != "ann" {
		t.Errorf("%+v %v %v", user, ok, err)
	}
	if err := new(RemoteKeys).Provision(caddy.Context{}); err == nil {
		t.Error("no keys at all")
	}
}

func TestRoster(t *testing.T) {
	for name, keys := range map[string][]*RemoteKey{
		"empty":       {{Name: "ann", Secret: "{env.SHUNT_TEST_NOT_SET}"}},
		"bad hash":    {{Name: "ann", Secret: "sha256:abc"}},
		"anthropic's": {{Name: "ann", Secret: "sk-ant-api03-x"}},
		"shared":      {{Name: "ann", Secret: "the-same-key"}, {Name: "bob", Secret: "the-same-key"}},
		"bad name":    {{Name: "a b", Secret: "a-good-key"}},
		"short":       {{Name: "ann", Secret: "ann"}},
		"twice":       {{Name: "ann", Secret: "a-good-key"}, {Name: "ann", Secret: "a-good-key"}},
		"bad date":    {{Name: "ann", Secret: "a-good-key", Expires: "soon"}},
		"bad glob":    {{Name: "ann", Secret: "a-good-key", Limits: people.Limits{Models: []string{"["}}}},
		"two limits":  {{Name: "ann", Secret: "a-good-key", Limits: people.Limits{Rate: 5}}, {Name: "ann", Secret: "another-key", Limits: people.Limits{Rate: 6}}},
	} {
		if _, err := newRoster(keys, nil, time.UTC); err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "sk-ant") || strings.Contains(err.Error(), "the-same-key") {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
	}
	ring, err := newRoster([]*RemoteKey{{Name: "ann", Secret: "first-key", Limits: people.Limits{Rate: 5}}, {Name: "ann", Secret: "second-key", Admin: true}}, nil, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	if entry := ring.find("second-key"); entry == nil || entry.name != "ann" || !entry.admin || ring.limits("ann").Rate != 5 {
		t.Error("a person's second key is not known")
	}
	if ring.find("third-key") != nil {
		t.Error("a key is known that was never given")
	}
}

// TestSecretsMustResolve: a missing secret is an error that names the account.
func TestSecretsMustResolve(t *testing.T) {
	folder := t.TempDir()
	empty := filepath.Join(folder, "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"{env.SHUNT_TEST_NOT_SET}", "{file." + filepath.Join(folder, "missing") + "}", "{file." + empty + "}", "{nonsense.x}"} {
		h := new(Handler)
		text := "shunt {\npool secrets\naccount main {\napi_key " + secret + "\n}\n}"
		if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
			t.Fatal(err)
		}
		if err := h.Provision(newContext(t)); err == nil || !strings.Contains(err.Error(), `account "main": api_key`) {
			t.Errorf("%s: %v", secret, err)
		}
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
		if _, exists := livePools.References("secrets"); exists {
			t.Error("a failed handler holds on to its pool")
		}
	}
}

func TestPoolsOfOneConfiguration(t *testing.T) {
	ctx := newContext(t)
	make := func(pool, key string) (*Handler, error) {
		h := &Handler{Pool: pool, Accounts: []*Account{{Name: "main", APIKey: key}}}
		err := h.Provision(ctx)
		t.Cleanup(func() { _ = h.Cleanup() })
		return h, err
	}
	first, err := make("shared", "sk-1")
	if err != nil {
		t.Fatal(err)
	}
	second, err := make("shared", "sk-1")
	if err != nil || second.live != first.live {
		t.Errorf("two sites of one pool do not share it: %v", err)
	}
	if other, err := make("other", "sk-2"); err != nil || other.live == first.live {
		t.Errorf("two pools are one: %v", err)
	}
	if _, err := make("shared", "sk-3"); err == nil || !strings.Contains(err.Error(), `account "main"`) {
		t.Errorf("one name for two credentials: %v", err)
	}
}

// TestNamesOfCaddysArePlain: a name from a certificate or an identity provider must not
// command the terminal that shows it, nor pass for another's.
func TestNamesOfCaddysArePlain(t *testing.T) {
	for name, want := range map[string]string{
		"Änne O'Hara <ann@x.example>": "Änne O'Hara <ann@x.example>",
		"ann\u202e":                   `ann\u202e`,
		"ann\x1b[2J":                  `ann\x1b[2J`,
		"ann\u009b2J":                 `ann\u009b2J`,
		"a\nb":                        `a\nb`,
		"a\xffb":                      `a\xffb`,
	} {
		if got := personName(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	if got := personName(strings.Repeat("x", 500)); len(got) != mostPersonName {
		t.Errorf("%d bytes of a name", len(got))
	}
}

// TestLogsCommandNoTerminal: JSON lets C1 controls and the marks of reading direction
// through.
func TestLogsCommandNoTerminal(t *testing.T) {
	hostile := "a\u009b31mb\u202ec\x1b[2J\u2028d\n"
	const plain = "a31mbc[2Jd"
	if got := truncate(hostile); got != plain {
		t.Errorf("a client's word is %q", got)
	}
	if got := logError(errors.New(hostile)).String; got != plain {
		t.Errorf("an error is %q", got)
	}
}
