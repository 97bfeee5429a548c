package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// A JWT as far as anybody but its issuer can tell: header and claims are JSON.
const workloadJWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6c2h1bnQifQ.c2lnbmF0dXJl"

// TestKindsInTheirFiles: a federation serves with what it got for its JWT, says what
// is wrong as long as there is none, and a key that changes in its file is used
// without a reload.
func TestKindsInTheirFiles(t *testing.T) {
	const org = "01234567-89ab-cdef-0123-456789abcdef"
	up := startUpstream(t, fakeclaude.Options{Accounts: []fakeclaude.Account{
		{Name: "workload", ServiceAccount: "svac_1", Org: org},
		{Name: "old", APIKey: "sk-ant-api03-old-key"},
		{Name: "new", APIKey: "sk-ant-api03-new-key"},
	}})
	s := newSite(t, up, global+`%SITE% {
	shunt {
		remote_key ann {env.ANN_KEY} {
			admin
		}
		upstream %UPSTREAM%
		hold off
		account workload {
			federation {
				rule fdrl_1
				organization `+org+`
				service_account svac_1
				token_file %HOME%/jwt
				token_url %UPSTREAM%/v1/oauth/token
			}
		}
		account filed {
			api_key {file.%HOME%/key}
			priority 1
		}
	}
}
`, secrets...)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(s.home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	lastAccount := func() string {
		t.Helper()
		asked++ // each a conversation of its own: a warm one would stay where it is
		s.ask(annKey, hello, "X-Claude-Code-Session-Id", fmt.Sprintf("0b54e6a6-6a3c-4a4e-9d5c-%012d", asked)).mustServe(t)
		all := up.Requests()
		return all[len(all)-1].Account
	}
	write("key", "sk-ant-api03-old-key\n")
	s.start()
	if got := lastAccount(); got != "old" {
		t.Errorf("without a JWT %q answered", got)
	}
	table, err := s.command("shunt", "accounts", "--address", s.admin)
	if err != nil || !strings.Contains(lineOf(table, "workload"), "no token") || !strings.Contains(table, "jwt") {
		t.Errorf("%v\n%s", err, table)
	}
	write("jwt", workloadJWT)
	begun := time.Now()
	eventually(t, "the federation serves", 60*time.Second, func() bool { return lastAccount() == "workload" })
	t.Logf("the federation served %v after its JWT came", time.Since(begun).Round(100*time.Millisecond))
	table, err = s.command("shunt", "accounts", "--address", s.admin)
	if err != nil || strings.Contains(lineOf(table, "workload"), "no token") {
		t.Errorf("%v\n%s", err, table)
	}
	s.do(http.MethodPost, s.url+"/use", `{"account":"filed"}`, "X-Api-Key", annKey).mustServe(t)
	write("key", "sk-ant-api03-new-key\n")
	eventually(t, "the new key is used", 20*time.Second, func() bool { return lastAccount() == "new" })
	for _, secret := range []string{"sk-ant-api03-old-key", "sk-ant-api03-new-key", workloadJWT} {
		if strings.Contains(s.logs(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
	mustKeepRules(t, up)
}

// lineOf is the line of a table that has the word.
func lineOf(table, word string) string {
	for line := range strings.Lines(table) {
		if strings.Contains(line, " "+word+" ") {
			return line
		}
	}
	return ""
}

// TestLoginThatEndsSoon is told in the log, the status and the metrics.
func TestLoginThatEndsSoon(t *testing.T) {
	up := startUpstream(t, oneLogin())
	s := newSite(t, up, global+loginBlock, secrets...)
	if err := os.WriteFile(s.caddyfile(), []byte(s.config), 0o600); err != nil {
		t.Fatal(err)
	}
	access, refresh := up.Tokens("main")
	ends := time.Now().Add(36 * time.Hour)
	data, err := json.Marshal(map[string]any{"claudeAiOauth": map[string]any{
		"accessToken": access, "refreshToken": refresh, "expiresAt": time.Now().Add(8 * time.Hour).UnixMilli(), "refreshTokenExpiresAt": ends.UnixMilli(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.home, "credentials.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.command("shunt", "import", "main", "--file", file, "--config", s.caddyfile(), "--adapter", "caddyfile"); err != nil {
		t.Fatal(err)
	}
	s.start()
	const words = "the login ends in 2 days"
	eventually(t, "the log says so", 60*time.Second, func() bool { return strings.Contains(s.logs(), words) })
	account := s.status(annKey)["accounts"].([]any)[0].(map[string]any)
	if warning, _ := account["login_warning"].(string); !strings.HasPrefix(warning, words) {
		t.Errorf("the status says %q", warning)
	}
	want := fmt.Sprintf(`caddy_shunt_login_expires_timestamp_seconds{account="main",kind="oauth",pool="default"} %.8e`, float64(ends.Unix()))
	metrics := s.do(http.MethodGet, "http://"+s.admin+"/metrics", "").body
	if !strings.Contains(metrics, want[:len(want)-6]) {
		t.Errorf("metrics lack %s", want)
	}
}
