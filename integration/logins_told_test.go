package integration

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// TestReadOnly: the record of a login that is followed holds the path and nothing
// secret, and a logout leaves the login alone.
func TestReadOnly(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	s := newSite(t, up, global+loginsBlock, secrets...)
	s.write(s.config)
	folder := filepath.Join(s.home, ".claude")
	file := filepath.Join(folder, ".credentials.json")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(credentials(firstAccess, firstRefresh)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.shunt("", "import", "main", "--read-only")
	r.says(t, true, "It is read-only", file)
	if strings.Contains(r.all(), "Warning") {
		t.Errorf("a warning:\n%s", r.all())
	}
	data, err := os.ReadFile(s.record("default", "stored-main"))
	if err != nil || !strings.Contains(string(data), `"follow":"`+file+`"`) || strings.Contains(string(data), "sk-ant") {
		t.Errorf("the record is %s, %v", data, err)
	}
	if l := s.lines()["default/main"]; l.State != "stored" || !l.ReadOnly || l.Follows != file {
		t.Errorf("%+v", l)
	}
	s.shunt("", "accounts").says(t, true, "stored, read-only", "default/main follows "+file)
	s.shunt("", "logout", "main").says(t, true, "It was read-only and is not revoked")
	if _, refresh := up.Tokens("main"); refresh != firstRefresh {
		t.Error("somebody else's login was revoked")
	}
	s.shunt("", "import", "main").says(t, true, "Warning: this is the login that the programs of this user work with", "CLAUDE_CONFIG_DIR=~/shunt-stored-main claude", "--read-only")
	s.shunt("x", "import", "main", "--read-only", "--file", "-").says(t, false, "--read-only follows a file")

	s.env = append(s.env, "CLAUDE_CONFIG_DIR="+filepath.Join(s.home, "own"))
	s.shunt("", "import", "main").says(t, false, "there are no credentials of Claude Code", filepath.Join(s.home, "own", ".credentials.json"))
	if err := os.Mkdir(filepath.Join(s.home, "own"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.home, "own", ".credentials.json"), []byte(credentials(secondAccess, secondRefresh)), 0o600); err != nil {
		t.Fatal(err)
	}
	own := s.shunt("", "import", "main")
	own.says(t, true, "Do not use the same login elsewhere")
	if strings.Contains(own.all(), "Warning") {
		t.Errorf("a warning:\n%s", own.all())
	}
}

// TestLoginsAreNotTold plants tokens and looks for them in all that is said, logged
// and shown.
func TestLoginsAreNotTold(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	s := newSite(t, up, global+loginsBlock, secrets...)
	s.write(s.config)
	var told []string
	run := func(in string, args ...string) { told = append(told, s.shunt(in, args...).all()) }
	api := func(method, path, body string) answer {
		a := s.do(method, "http://"+s.admin+path, body)
		header, _ := json.Marshal(a.header)
		told = append(told, a.body, string(header))
		return a
	}
	broken := []string{
		strings.Replace(credentials(firstAccess, firstRefresh), `"sk-ant-oat01-planted-first"`, `{"x":"sk-ant-oat01-planted-first"}`, 1),
		strings.TrimSuffix(credentials(firstAccess, firstRefresh), "}"),
		`"` + firstAccess + `"`, firstAccess,
		strings.Replace(credentials(firstAccess, firstRefresh), firstAccess, firstAccess+` `+firstRefresh, 1),
	}
	all := func() {
		for _, in := range broken {
			run(in, "import", "main", "--file", "-")
		}
		run(credentials(firstAccess, firstRefresh), "import", "main", "--file", "-")
		run("", "accounts")
		run("", "accounts", "--json")
	}
	all()
	s.start()
	all()
	for _, in := range broken {
		body, _ := json.Marshal(map[string]string{"credentials": in})
		if a := api(http.MethodPost, "/shunt/login?account=main", string(body)); a.status != http.StatusBadRequest || !strings.Contains(a.body, "credentials: ") {
			t.Errorf("%d %s", a.status, a.body)
		}
		api(http.MethodPost, "/shunt/login?account=main", in)
	}
	up.Expire("main")
	if got := s.answeredBy(); got != "main" {
		t.Errorf("%s answered", got)
	}
	access, refresh := up.Tokens("main")
	api(http.MethodGet, "/shunt/accounts", "")
	api(http.MethodGet, "/shunt/status", "")
	api(http.MethodGet, "/config/", "")
	run("", "accounts", "--json")
	for _, secret := range []string{access, refresh} {
		if len(filesWith(t, s.home, secret)) == 0 {
			t.Fatal("the tokens are nowhere, so nothing was looked for")
		}
	}
	run("", "logout", "main")
	s.stop()
	for _, secret := range []string{firstAccess, firstRefresh, access, refresh} {
		for _, file := range filesWith(t, s.home, secret) {
			t.Errorf("%s is in %s: %s", secret, file, lineWith(t, file, secret))
		}
		for _, text := range told {
			if strings.Contains(text, secret) {
				t.Errorf("a secret was told: %s", text)
			}
		}
	}
}

// TestLoginAPI: what the admin API refuses, and how it says so.
func TestLoginAPI(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	s := newSite(t, up, global+loginsBlock, secrets...)
	s.start()
	good, _ := json.Marshal(map[string]string{"credentials": credentials(firstAccess, firstRefresh)})
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/shunt/login", string(good), 400, "account: missing"},
		{"POST", "/shunt/login?account=nobody", string(good), 404, "account: the configuration has no account with oauth called"},
		{"POST", "/shunt/login?account=main&pool=two", string(good), 404, "in pool"},
		{"POST", "/shunt/login?account=main", `[]`, 400, "the body is not a JSON object"},
		{"POST", "/shunt/login?account=main", `{}`, 400, "credentials, follow: just one is needed"},
		{"POST", "/shunt/login?account=main", `{"credentials":"x","follow":"/x"}`, 400, "credentials, follow: just one is needed"},
		{"POST", "/shunt/login?account=main", `{"credentials":7}`, 400, "credentials: not a text"},
		{"POST", "/shunt/login?account=main", `{"credentials":null}`, 400, "credentials: not a text"},
		{"POST", "/shunt/login?account=main", `{"follow":"x"}`, 400, "follow: following a credentials file: the path is not absolute"},
		{"POST", "/shunt/login?account=main", `{"follow":"/x","token":"y"}`, 400, "a field that is not known"},
		{"POST", "/shunt/login?account=main", `{"credentials":"` + strings.Repeat("x", 7<<20) + `"}`, 413, "too large"},
		{"DELETE", "/shunt/login?account=main&revoke=perhaps", "", 400, "revoke: expected true or false"},
		{"DELETE", "/shunt/login?account=main", "", 404, "no login is stored"},
		{"PUT", "/shunt/login?account=main", "", 405, "takes POST, DELETE only"},
		{"POST", "/shunt/accounts", "", 405, "takes GET, HEAD only"},
		{"GET", "/shunt/accounts?pool=two", "", 404, "is not running"},
		{"POST", "/shunt/login?account=main", string(good), 200, `"replaced":false`},
		{"GET", "/shunt/accounts?pool=default", "", 200, `"state":"ok"`},
		{"DELETE", "/shunt/login?account=stored-main&pool=default", "", 200, `"revoked":true`},
	} {
		a := s.do(c.method, "http://"+s.admin+c.path, c.body)
		if a.status != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("%s %s %.60s: %d %s; want %d and %s", c.method, c.path, c.body, a.status, a.body, c.status, c.want)
		}
	}
}
