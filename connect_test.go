package shunt

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const connectSecret = "shunt-a-key-of-bobs"

// tested runs connect's test against a URL.
func tested(t *testing.T, address string) *connection {
	t.Helper()
	c := &connection{key: clientKey{secret: connectSecret, from: "SHUNT_KEY"}, model: connectModel, ended: func(*connectCheck) {}}
	c.test(context.Background(), address)
	return c
}

// failure is the last check, which must have failed.
func (c *connection) failure(t *testing.T, name string) string {
	t.Helper()
	last := c.checks[len(c.checks)-1]
	if last.Name != name || last.State != checkFailed || c.works {
		t.Errorf("expected %s to fail, got %+v, works %v", name, c.checks, c.works)
	}
	return last.Words
}

func TestConnectURL(t *testing.T) {
	for address, words := range map[string]string{
		"https://":                                  "not a URL",
		"ftp://claude.example.com":                  "clients speak https",
		"https://ann:pw@claude.example.com":         "leave it out",
		"https://claude.example.com/?key=1":         "query",
		"https://claude.example.com/v1":             "leave it out: https://claude.example.com",
		"https://claude.example.com/team/v1/":       "leave it out: https://claude.example.com/team",
		"https://claude.example.com/v1/messages":    "leave it out: https://claude.example.com",
		"https://claude.example.com\n":              "not a URL",
		"https://claude.example.com/x#fragment":     "fragment",
		"https://claude.example.com/v1?a=b":         "query",
		"https://ann:hunter2@claude.example.com/v1": "leave it out",
	} {
		got := tested(t, address).failure(t, "url")
		if !strings.Contains(got, words) || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %s", address, got)
		}
	}
	for address, base := range map[string]string{
		"claude.example.invalid":              "https://claude.example.invalid",
		"claude.example.invalid:8443/":        "https://claude.example.invalid:8443",
		"https://claude.example.invalid/team": "https://claude.example.invalid/team",
	} {
		if c := tested(t, address); c.base != base || c.checks[0].State != checkOK {
			t.Errorf("%s: %q, %+v", address, c.base, c.checks)
		}
	}
	if c := tested(t, "http://claude.example.invalid"); c.checks[0].State != checkNote || !strings.Contains(c.checks[0].Words, "not encrypted") {
		t.Errorf("http: %+v", c.checks)
	}
}

// TestConnectElsewhere: what is not a pool never gets the key.
func TestConnectElsewhere(t *testing.T) {
	pool := `{"status":"ok"}`
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		check   string
		words   string
		getsKey bool
	}{
		"a web page": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "<html>\x1b[31m")
		}, check: "pool", words: "is not shunt (status 200, text/html)"},
		"Caddy without a handler": {answer: func(http.ResponseWriter, *http.Request) {}, check: "pool", words: "is not shunt (status 200)"},
		"a redirect": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example.com/health", http.StatusFound)
		}, check: "pool", words: "sends elsewhere: https://elsewhere.example.com/health"},
		"a password": {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, check: "pool", words: "something else lets people in"},
		"a proxy":    {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, check: "pool", words: "a proxy answered"},
		"shunt, but not at this path": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"type":"error","error":{"type":"not_found_error","message":"nothing is served at this path"}}`)
		}, check: "pool", words: "no pool at"},
		"another health": {answer: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/health" {
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, "you sent "+r.Header.Get("Authorization")+"\x1b[31m")
				return
			}
			_, _ = io.WriteString(w, pool)
		}, check: "key", words: "is not shunt (status 404", getsKey: true},
		"a server that shows the key": {answer: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/health" {
				w.Header().Set("X-Shunt-Request-Id", "1")
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, `{"type":"error","error":{"type":"permission_error","message":"\u001b[31mnot with `+r.Header.Get("Authorization")+`"}}`)
				return
			}
			_, _ = io.WriteString(w, pool)
		}, check: "key", words: "[31mnot with Bearer [key]", getsKey: true},
	} {
		sent := false
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, values := range r.Header {
				sent = sent || strings.Contains(strings.Join(values, " "), connectSecret)
			}
			c.answer(w, r)
		}))
		tried := tested(t, server.URL)
		server.Close()
		words := tried.failure(t, c.check)
		if !strings.Contains(words, c.words) || strings.Contains(words, connectSecret) || strings.Contains(words, "\x1b") {
			t.Errorf("%s: %s", name, words)
		}
		if tried.keyRight || sent != c.getsKey {
			t.Errorf("%s: key sent %v, believed right %v", name, sent, tried.keyRight)
		}
	}
}

// TestConnectRefused: who was let in is told so, and gets the lines.
func TestConnectRefused(t *testing.T) {
	for status, words := range map[int]string{
		http.StatusTooManyRequests: "let in with the key from SHUNT_KEY, but nothing can be served just now. status 429: used up (again in 7 s)",
		http.StatusNotFound:        "not served with the model " + connectModel + " (--model names another). status 404: used up",
		http.StatusBadGateway:      "let in with the key from SHUNT_KEY, but not served. status 502: used up",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/health" {
				_, _ = io.WriteString(w, `{"status":"ok"}`)
				return
			}
			w.Header().Set("X-Shunt-Request-Id", "1")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"type":"error","error":{"type":"some_error","message":"used up"}}`)
		}))
		tried := tested(t, server.URL)
		server.Close()
		if got := tried.failure(t, "key"); !strings.Contains(got, words) || !tried.keyRight {
			t.Errorf("%d: %s, key right %v", status, got, tried.keyRight)
		}
	}
}

func TestConnectTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	if words := tested(t, server.URL).failure(t, "tls"); !strings.Contains(words, "the certificate is of Acme Co, which this machine does not trust") || !strings.Contains(words, "NODE_EXTRA_CA_CERTS") {
		t.Error(words)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	if words := tested(t, strings.Replace(plain.URL, "http:", "https:", 1)).failure(t, "tls"); !strings.Contains(words, "does not speak TLS") {
		t.Error(words)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if words := tested(t, "https://"+l.Addr().String()).failure(t, "connect"); !strings.Contains(words, "nothing listens") {
		t.Error(words)
	}
	if words := tested(t, "https://no-such-name.invalid").failure(t, "dns"); !strings.Contains(words, "no-such-name.invalid") {
		t.Error(words)
	}
}

func TestConnectKey(t *testing.T) {
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, name := range keyVariables {
		t.Setenv(name, "")
	}
	good := file("good", connectSecret+"\n")
	if key, err := findKey(good); err != nil || key.secret != connectSecret || key.from != good {
		t.Errorf("%+v, %v", key, err)
	}
	for _, path := range []string{
		file("empty", " \n"), file("long", strings.Repeat("k", maxKeyFile+1)), file("two", connectSecret+" "+connectSecret), file("accent", connectSecret+"é"),
		file("anthropic", "sk-ant-api03-"+connectSecret), filepath.Join(folder, "none"),
	} {
		if _, err := findKey(path); err == nil || strings.Contains(err.Error(), connectSecret) {
			t.Errorf("%s: %v", path, err)
		}
	}
	// A credential of Anthropic's that happens to be set is not for us.
	t.Setenv("SHUNT_KEY", "sk-ant-api03-"+connectSecret)
	t.Setenv("ANTHROPIC_API_KEY", connectSecret)
	if key, err := findKey(""); err != nil || key.secret != connectSecret || key.from != "ANTHROPIC_API_KEY" {
		t.Errorf("%+v, %v", key, err)
	}
}

// TestConnectLines: what is printed sets the variables in a real shell.
func TestConnectLines(t *testing.T) {
	odd := `a'b"c$HOME\d`
	c := &client{base: "https://claude.example.com/team", key: clientKey{secret: odd, from: "SHUNT_KEY"}, model: `odd'"model`, extraCAs: "/tmp/with space.crt"}
	lines := linesOf(snippets(shellBash, c, true))
	script := strings.TrimSuffix(lines["claude_code"], "claude\n") + lines["key"] +
		`curl() { for word; do printf '%s\n' "$word"; done; }` + "\n" + lines["curl"] + `printf '%s\n' "$ANTHROPIC_BASE_URL" "$ANTHROPIC_AUTH_TOKEN" "$NODE_EXTRA_CA_CERTS" "$SSL_CERT_FILE" "$SHUNT_KEY"`
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := []string{
		c.base + "/v1/messages", "-H", "x-api-key: " + odd, "-H", "anthropic-version: 2023-06-01", "-H", "content-type: application/json",
		"-d", `{"model": "odd'\"model", "max_tokens": 1000, "messages": [{"role": "user", "content": "hello"}]}`,
		c.base, odd, c.extraCAs, c.extraCAs, odd,
	}
	if got := strings.Join(want, "\n") + "\n"; string(out) != got {
		t.Errorf("the shell made of it\n%s\nexpected\n%s", out, got)
	}
	var settings struct{ Env map[string]string }
	if err := json.Unmarshal([]byte(lines["claude_code_settings"]), &settings); err != nil || settings.Env["ANTHROPIC_AUTH_TOKEN"] != odd || settings.Env["ANTHROPIC_BASE_URL"] != c.base {
		t.Errorf("%v: %s", err, lines["claude_code_settings"])
	}
	for _, shell := range shells {
		for _, s := range snippets(shell, c, false) {
			if strings.Contains(s.text, `a'b`) || strings.Contains(s.text, "HOME") {
				t.Errorf("%s: the key is in %s", shell, s.text)
			}
		}
	}
	fish := linesOf(snippets(shellFish, c, true))["key"]
	if !strings.HasPrefix(fish, `set -gx SHUNT_KEY 'a\'b"c$HOME\\d'`+"\n") {
		t.Error(fish)
	}
	powershell := linesOf(snippets(shellPowershell, c, true))
	if !strings.HasPrefix(powershell["key"], `$env:SHUNT_KEY = 'a''b"c$HOME\d'`+"\n") || !strings.Contains(powershell["curl"], `'{"model": "odd''\"model"`) {
		t.Error(powershell)
	}
}

func TestShellHere(t *testing.T) {
	for given, want := range map[[2]string]string{
		{"windows", ""}: shellPowershell, {"linux", "/usr/bin/fish"}: shellFish, {"linux", "/bin/zsh"}: shellBash, {"darwin", ""}: shellBash,
	} {
		if got := shellHere(given[0], given[1]); got != want {
			t.Errorf("%v: %s", given, got)
		}
	}
}
