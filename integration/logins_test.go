package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

const (
	firstAccess, firstRefresh   = "sk-ant-oat01-planted-first", "sk-ant-ort01-planted-first"
	secondAccess, secondRefresh = "sk-ant-oat01-planted-second", "sk-ant-ort01-planted-second"
)

// loginsBlock has two accounts: one with a login, one with a key.
const loginsBlock = `%SITE% {
	shunt {
		remote_key ann {env.ANN_KEY} {
			admin
		}
		upstream %UPSTREAM%
		account main {
			oauth stored-main {
				token_url %UPSTREAM%/v1/oauth/token
			}
			owner ann
		}
		account spare {
			api_key {env.KEY_A}
			priority 1
		}
	}
}
`

func loginAccounts() []fakeclaude.Account {
	return []fakeclaude.Account{
		{Name: "main", AccessToken: firstAccess, RefreshToken: firstRefresh, Plan: fakeclaude.Max5},
		{Name: "other", AccessToken: secondAccess, RefreshToken: secondRefresh, Plan: fakeclaude.Max5},
		{Name: "a", APIKey: "sk-ant-api03-planted-a"},
	}
}

// ran is what a command said.
type ran struct {
	out, err string
	ok       bool
}

func (r ran) all() string { return r.out + r.err }

// shunt runs a subcommand of caddy shunt with something on its standard input.
func (s *site) shunt(stdin string, args ...string) ran {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"shunt"}, args...)...)
	cmd.Env, cmd.Dir, cmd.Stdin = s.environment(), s.home, strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return ran{out.String(), errs.String(), err == nil}
}

func credentials(access, refresh string) string {
	data, _ := json.Marshal(map[string]any{"claudeAiOauth": map[string]any{
		"accessToken": access, "refreshToken": refresh, "expiresAt": time.Now().Add(8 * time.Hour).UnixMilli(), "subscriptionType": "max", "keep": "me",
	}})
	return string(data)
}

// says fails the test unless the command ended as it should and said all that.
func (r ran) says(t *testing.T, ok bool, texts ...string) {
	t.Helper()
	if r.ok != ok {
		t.Fatalf("it ended well: %v\n%s%s", r.ok, r.out, r.err)
	}
	for _, text := range texts {
		if !strings.Contains(strings.ReplaceAll(r.all(), `\"`, `"`), text) {
			t.Errorf("it does not say %q:\n%s%s", text, r.out, r.err)
		}
	}
}

type line struct {
	Pool, Account, Kind, State, Reason, Email, Follows, Login string
	ReadOnly                                                  bool      `json:"read_only"`
	LoginExpires                                              time.Time `json:"login_expires"`
	LoginExpiresGuessed                                       bool      `json:"login_expires_guessed"`
}

func (s *site) lines(args ...string) map[string]line {
	s.t.Helper()
	r := s.shunt("", append([]string{"accounts", "--json"}, args...)...)
	var answer struct{ Accounts []line }
	if err := json.Unmarshal([]byte(r.out), &answer); err != nil || !r.ok {
		s.t.Fatalf("accounts: %v\n%s%s", err, r.out, r.err)
	}
	lines := make(map[string]line)
	for _, l := range answer.Accounts {
		lines[l.Pool+"/"+l.Account] = l
	}
	return lines
}

func (s *site) write(config string) {
	s.t.Helper()
	if err := os.WriteFile(s.caddyfile(), []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) record(pool, login string) string {
	return filepath.Join(s.home, "data", "caddy", "shunt", pool, "credentials", login+".json")
}

// answeredBy asks in a conversation of its own, which no account has served yet, and
// names the account that answered.
func (s *site) answeredBy() string {
	s.t.Helper()
	a := s.ask(annKey, hello, "X-Claude-Code-Session-Id", rand.Text())
	a.mustServe(s.t)
	return a.header.Get("X-Shunt-Account")
}

// TestImportRevivesAtOnce: a login that is imported while Caddy runs serves with
// the next request, though the one before it was found dead.
func TestImportRevivesAtOnce(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	s := newSite(t, up, global+loginsBlock, secrets...)
	s.start()
	if got := s.answeredBy(); got != "spare" {
		t.Fatalf("without a login %s answered", got)
	}
	s.shunt(credentials(firstAccess, firstRefresh), "import", "main", "--file", "-").says(t, true, "The Caddy that runs at", "Account main of pool default serves with it now.")
	if got := s.answeredBy(); got != "main" {
		t.Errorf("after the import %s answered", got)
	}
	up.Revoke("main")
	if got := s.answeredBy(); got != "spare" {
		t.Errorf("with a dead login %s answered", got)
	}
	if l := s.lines()["default/main"]; l.State != "login_required" {
		t.Errorf("with a dead login: %+v", l)
	}
	reloads := strings.Count(s.logs(), "load complete") + strings.Count(s.logs(), "config is unchanged")
	s.shunt(credentials(secondAccess, secondRefresh), "import", "stored-main", "--file", "-").says(t, true, "It replaced the one that was there")
	if got := s.answeredBy(); got != "main" {
		t.Errorf("after the second import %s answered", got)
	}
	l := s.lines()["default/main"]
	if l.State != "ok" || l.Kind != "oauth" || l.Login != "stored-main" || !l.LoginExpiresGuessed || l.LoginExpires.Before(time.Now().Add(27*24*time.Hour)) {
		t.Errorf("after the second import: %+v", l)
	}
	if data, err := os.ReadFile(s.record("default", "stored-main")); err != nil || !strings.Contains(string(data), secondRefresh) || !strings.Contains(string(data), `"keep":"me"`) {
		t.Errorf("the record is %s, %v", data, err)
	}
	if now := strings.Count(s.logs(), "load complete") + strings.Count(s.logs(), "config is unchanged"); now != reloads {
		t.Error("Caddy was reloaded")
	}
	// The e-mail is known from the first refresh on, and told when the login goes.
	up.Expire("other")
	if got := s.answeredBy(); got != "main" {
		t.Errorf("with an expired token %s answered", got)
	}
	s.shunt(credentials(firstAccess, firstRefresh), "import", "main", "--file", "-").says(t, true, "It replaced the one that was there, of other@example.com")
	if v := up.Violations(); len(v) > 0 {
		t.Errorf("upstream's rules were broken: %v", v)
	}
}

// TestSpentFileIsRefused: a file whose tokens were used up since it was imported
// does not replace what came of them.
func TestSpentFileIsRefused(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	s := newSite(t, up, global+loginsBlock, secrets...)
	s.start()
	file := credentials(firstAccess, firstRefresh)
	s.shunt(file, "import", "main", "--file", "-").says(t, true)
	s.shunt(file, "import", "main", "--file", "-").says(t, true, "It replaced")
	up.Expire("main")
	if got := s.answeredBy(); got != "main" {
		t.Errorf("%s answered", got)
	}
	s.shunt(file, "import", "main", "--file", "-").says(t, false, "the tokens in the file are spent")
	s.stop()
	s.shunt(file, "import", "main", "--file", "-").says(t, false, "the tokens in the file are spent")
	s.start()
	if got := s.answeredBy(); got != "main" {
		t.Errorf("%s answered", got)
	}
}

// TestLogout takes a login out of a Caddy that runs, and of one that does not.
func TestLogout(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	s := newSite(t, up, global+loginsBlock, secrets...)
	s.write(s.config)
	s.shunt("", "logout", "main").says(t, false, "has no login at shunt/default/credentials/stored-main.json")
	s.shunt(credentials(firstAccess, firstRefresh), "import", "main", "--file", "-").says(t, true, "No Caddy answers at", "stored as shunt/default/credentials/stored-main.json")
	s.start()
	if got := s.answeredBy(); got != "main" {
		t.Fatalf("%s answered", got)
	}
	s.shunt("", "logout", "main", "--no-revoke").says(t, true, "The Caddy that runs at", "is removed", "It is not revoked")
	if _, refresh := up.Tokens("main"); refresh != firstRefresh {
		t.Error("the login was revoked all the same")
	}
	if got := s.answeredBy(); got != "spare" {
		t.Errorf("after the logout %s answered", got)
	}
	if l := s.lines()["default/main"]; l.State != "login_required" || !strings.Contains(l.Reason, "no login is stored") {
		t.Errorf("after the logout: %+v", l)
	}
	if _, err := os.Stat(s.record("default", "stored-main")); !os.IsNotExist(err) {
		t.Errorf("the record: %v", err)
	}
	s.shunt("", "logout", "main").says(t, false, "no login is stored at")

	s.shunt(credentials(firstAccess, firstRefresh), "import", "main", "--file", "-").says(t, true)
	if got := s.answeredBy(); got != "main" {
		t.Errorf("after the logout and an import %s answered", got)
	}
	s.shunt("", "logout", "main").says(t, true, "The token server has revoked it.")
	if access, refresh := up.Tokens("main"); access != "" || refresh != "" {
		t.Error("the login was not revoked")
	}
	if got := s.answeredBy(); got != "spare" {
		t.Errorf("after the second logout %s answered", got)
	}
	s.stop()

	s.shunt(credentials(secondAccess, secondRefresh), "import", "main", "--file", "-").says(t, true)
	s.shunt("", "logout", "main").says(t, true, "No Caddy answers at", "The token server has revoked it.")
	if _, refresh := up.Tokens("other"); refresh != "" {
		t.Error("the second login was not revoked")
	}
	if _, err := os.Stat(s.record("default", "stored-main")); !os.IsNotExist(err) {
		t.Errorf("the record: %v", err)
	}
}

// TestLogoutWithoutTokenServer: a token server that cannot be reached keeps no
// login in storage.
func TestLogoutWithoutTokenServer(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	s := newSite(t, up, global+strings.Replace(loginsBlock, "token_url %UPSTREAM%", "token_url http://"+freePort(t), 1), secrets...)
	s.start()
	s.shunt(credentials(firstAccess, firstRefresh), "import", "main", "--file", "-").says(t, true)
	s.shunt("", "logout", "main").says(t, true, "It is not revoked", "the token server did not answer: dial: tcp ", "connection refused")
	if l := s.lines()["default/main"]; l.State != "login_required" {
		t.Errorf("%+v", l)
	}
}

// TestUnixSocket: the admin API on a socket in the file system serves as well.
func TestUnixSocket(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	// Paths of sockets are short.
	folder, err := os.MkdirTemp("", "shunt")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	socket := filepath.Join(folder, "admin.sock")
	s := newSite(t, up, global+loginsBlock, secrets...)
	s.start()
	if err := s.reload(strings.Replace(s.config, "admin "+s.admin, "admin unix/"+socket+"|0600", 1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the socket answers", 10*time.Second, func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	s.write(strings.Replace(s.config, "admin "+s.admin, "admin unix/"+socket+"|0600", 1))
	s.shunt(credentials(firstAccess, firstRefresh), "import", "main", "--file", "-").says(t, true, "The Caddy that runs at unix/"+socket+" took it.")
	if got := s.answeredBy(); got != "main" {
		t.Errorf("%s answered", got)
	}
	s.shunt("", "accounts", "--address", "unix/"+socket).says(t, true, "The Caddy that runs at unix/"+socket)
	s.shunt("", "logout", "main").says(t, true, "The token server has revoked it.")
}

// TestSeveralPools: a name that several pools have must say which.
func TestSeveralPools(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	two := strings.Replace(loginsBlock, "%SITE%", "http://"+freePort(t), 1)
	s := newSite(t, up, global+loginsBlock+strings.Replace(two, "shunt {", "shunt {\n\t\tpool two", 1), secrets...)
	s.write(s.config)
	for _, running := range []bool{false, true} {
		if running {
			s.start()
		}
		in := credentials(firstAccess, firstRefresh)
		s.shunt(in, "import", "main", "--file", "-").says(t, false, "several pools have a login \"main\"", "default/stored-main, two/stored-main", "--pool")
		s.shunt(in, "import", "nobody", "--file", "-").says(t, false, "no account with oauth called \"nobody\"; it has default/main, two/main")
		s.shunt(in, "import", "spare", "--file", "-").says(t, false, "no account with oauth called \"spare\"")
		s.shunt(in, "import", "main", "--file", "-", "--pool", "three").says(t, false, "in pool \"three\"")
		s.shunt(in, "import", "main", "--file", "-", "--pool", "two").says(t, true, "shunt/two/credentials/stored-main.json")
		lines := s.lines()
		if len(lines) != 4 || lines["default/main"].State != "login_required" || lines["two/main"].State == "login_required" {
			t.Errorf("running %v: %+v", running, lines)
		}
		if lines = s.lines("--pool", "two"); len(lines) != 2 {
			t.Errorf("of one pool: %+v", lines)
		}
		s.shunt("", "accounts", "--pool", "three").says(t, false, "there is no pool \"three\"")
		s.shunt("", "logout", "main", "--no-revoke", "--pool", "two").says(t, true)
	}
}

// TestOtherConfiguration: a Caddy that runs something else is not talked past,
// unless the configuration is named.
func TestOtherConfiguration(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	s := newSite(t, up, global+loginsBlock, secrets...)
	s.start()
	other := strings.NewReplacer("account main", "account else", "stored-main", "stored-else").Replace(s.config)
	s.write(other)
	in := credentials(firstAccess, firstRefresh)
	s.shunt(in, "import", "else", "--file", "-").says(t, false, "the Caddy that runs at "+s.admin+" has no account with oauth called \"else\"; it has default/main", "--config")
	s.shunt(in, "import", "else", "--file", "-", "--config", s.caddyfile()).says(t, true, "The Caddy that runs at "+s.admin+" has no such login, so the login was put into the storage of")
	if _, err := os.Stat(s.record("default", "stored-else")); err != nil {
		t.Error(err)
	}

	// Something that is no Caddy with shunt.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	s.shunt(in, "import", "else", "--file", "-", "--address", l.Addr().String()).says(t, false, "is not a Caddy with this version of shunt")
	s.shunt("", "logout", "else", "--no-revoke", "--config", s.caddyfile(), "--address", l.Addr().String()).says(t, true, "is not a Caddy with this version of shunt, so the login was removed from the storage of")
}
