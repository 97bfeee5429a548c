package integration

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// TestSealedLogin: a login is encrypted from its import on, over refreshes, a
// restart and a change of keys by reload; its events come, and no token is in a
// file or in the log.
func TestSealedLogin(t *testing.T) {
	const access, refresh = "sk-ant-oat01-first", "sk-ant-ort01-first"
	up := startUpstream(t, fakeclaude.Options{Accounts: []fakeclaude.Account{{Name: "main", AccessToken: access, RefreshToken: refresh, Plan: fakeclaude.Max5}}})
	first, second := make([]byte, 32), make([]byte, 32)
	_, _ = rand.Read(first)
	_, _ = rand.Read(second)
	encrypt := func(keys string) string {
		return strings.Replace(global+loginBlock, "\tshunt {\n", "\tshunt {\n\t\tencrypt "+keys+"\n", 1)
	}
	s := newSite(t, up, encrypt("{env.SEAL_FIRST}"),
		append([]string{"SEAL_FIRST=" + base64.StdEncoding.EncodeToString(first), "SEAL_SECOND=" + base64.RawURLEncoding.EncodeToString(second)}, secrets...)...)
	s.start()
	writeLogin(t, s, access, refresh)
	if _, err := s.command("shunt", "import", "main", "--file", filepath.Join(s.home, "credentials.json"), "--config", s.caddyfile(), "--adapter", "caddyfile"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.home, "credentials.json")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the account serves after the import", 40*time.Second, func() bool { return s.ask(annKey, hello).status == http.StatusOK })
	records, err := filepath.Glob(filepath.Join(s.home, "data", "caddy", "shunt", "default", "credentials", "main.json"))
	if err != nil || len(records) != 1 {
		t.Fatalf("records %v, %v", records, err)
	}
	sealed := func() string { return lineWith(t, records[0], `"sealed":"aes-256-gcm"`) }
	if sealed() == "" {
		t.Error("the imported login is not sealed")
	}

	up.Expire("main")
	s.ask(annKey, hello).mustServe(t)
	s.stop()
	s.start()
	s.ask(annKey, hello).mustServe(t)
	before := sealed()
	if err := s.reload(s.fill(encrypt("{env.SEAL_SECOND} {env.SEAL_FIRST}"), up, strings.TrimPrefix(s.url, "http://"))); err != nil {
		t.Fatal(err)
	}
	keyOf := func(record string) string { _, after, _ := strings.Cut(record, `"key":"`); return after[:12] }
	eventually(t, "the record has the new key", 10*time.Second, func() bool { return keyOf(sealed()) != keyOf(before) })
	s.ask(annKey, hello).mustServe(t)
	up.Expire("main")
	s.ask(annKey, hello).mustServe(t)

	for _, event := range []string{"shunt_login_adopted", "shunt_token_refreshed"} {
		eventually(t, event+" in the log", 5*time.Second, func() bool { return strings.Contains(s.logs(), `"name":"`+event+`"`) })
	}
	for _, want := range []string{`caddy_shunt_login_expires_timestamp_seconds{account="main",kind="oauth",pool="default"}`, `caddy_shunt_login_required{account="main",pool="default"} 0`} {
		if metrics := s.do(http.MethodGet, "http://"+s.admin+"/metrics", "").body; !strings.Contains(metrics, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
	newAccess, newRefresh := up.Tokens("main")
	for _, secret := range []string{access, refresh, newAccess, newRefresh, base64.StdEncoding.EncodeToString(first), base64.RawURLEncoding.EncodeToString(second)} {
		if found := filesWith(t, s.home, secret); len(found) > 0 {
			t.Errorf("a secret is in %v", found)
		}
	}
	if v := up.Violations(); len(v) > 0 {
		t.Errorf("upstream's rules were broken: %v", v)
	}
}
