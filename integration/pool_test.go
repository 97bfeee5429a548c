package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// TestSecretsAreNowhere plants secrets and looks for them in everything that
// Caddy writes or tells.
func TestSecretsAreNowhere(t *testing.T) {
	const accessToken, refreshToken = "sk-ant-oat01-planted-login", "sk-ant-ort01-planted-refresh"
	all := append(accounts(), fakeclaude.Account{Name: "e", AccessToken: accessToken, RefreshToken: refreshToken})
	up := startUpstream(t, fakeclaude.Options{Accounts: all})
	login := `account e {
			oauth {
				token_url %UPSTREAM%/v1/oauth/token
			}
			owner *
		}
		storage file_system {
			root %HOME%/store
		}
		retries 3`
	s := newSite(t, up, global+strings.Replace(block, "retries 3", login, 1), secrets...)
	writeLogin(t, s, accessToken, refreshToken)
	if err := os.WriteFile(s.caddyfile(), []byte(s.config), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := s.command("shunt", "import", "e", "--file", filepath.Join(s.home, "credentials.json"), "--config", s.caddyfile(), "--adapter", "caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.home, "credentials.json")); err != nil {
		t.Fatal(err)
	}
	s.start()
	told := []string{out}
	keep := func(a answer) {
		header, _ := json.Marshal(a.header)
		told = append(told, a.body, string(header))
	}
	for _, fault := range []string{"", fakeclaude.InvalidKey, fakeclaude.TokenExpired, fakeclaude.Overloaded, fakeclaude.ResetBeforeHead, fakeclaude.CutAfterText, fakeclaude.FirstAuth} {
		for _, account := range []string{"a", "c", "e"} {
			up.ClearFaults()
			if fault != "" {
				up.SetFault(account, fakeclaude.Fault{Name: fault})
			}
			s.do(http.MethodPost, s.url+"/use", `{"account":"`+account+`"}`, "X-Api-Key", annKey)
			keep(s.ask(annKey, helloStream))
			keep(s.do(http.MethodPost, s.url+"/v1/messages", hello, "Authorization", "Bearer "+bobKey, "X-Api-Key", "wrong-"+annKey))
		}
	}
	access, refresh := up.Tokens("e")
	if access == accessToken {
		t.Error("the login was never refreshed, so its new tokens were not looked for")
	}
	keep(s.do(http.MethodGet, s.url+"/v1/models", "", "X-Api-Key", annKey))
	keep(s.do(http.MethodGet, s.url+"/status", "", "X-Api-Key", annKey))
	for _, url := range []string{s.url + "/health", "http://" + s.admin + "/config/", "http://" + s.admin + "/metrics", "http://" + s.admin + "/shunt/status"} {
		keep(s.do(http.MethodGet, url, ""))
	}
	s.stop()
	if len(filesWith(t, s.home, `"accounts"`)) == 0 || len(filesWith(t, s.home+"/config", "shunt")) == 0 {
		t.Error("no state or no autosave was written, so nothing was looked at")
	}
	for _, secret := range []string{annKey, bobKey, "sk-ant-api03-planted-a", "sk-ant-api03-planted-b", "sk-ant-oat01-planted-c", "sk-ant-oat01-planted-d", accessToken, refreshToken, access, refresh} {
		for _, file := range filesWith(t, s.home, secret) {
			if !strings.Contains(file, "/store/shunt/default/credentials/") {
				t.Errorf("%s is in %s: %s", secret, file, lineWith(t, file, secret))
			}
		}
		for _, text := range told {
			if strings.Contains(text, secret) {
				t.Errorf("a secret was told: %s", text)
			}
		}
	}
}

func writeLogin(t *testing.T, s *site, access, refresh string) {
	t.Helper()
	data, err := json.Marshal(map[string]any{"claudeAiOauth": map[string]any{
		"accessToken": access, "refreshToken": refresh, "expiresAt": time.Now().Add(8 * time.Hour).UnixMilli(), "subscriptionType": "max", "scopes": []string{"user:inference"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.home, "credentials.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

const loginBlock = `%SITE% {
	shunt {
		remote_key ann {env.ANN_KEY} {
			admin
		}
		remote_key bob {env.BOB_KEY}
		upstream %UPSTREAM%
		account main {
			oauth {
				token_url %UPSTREAM%/v1/oauth/token
			}
			owner ann
		}
	}
}
`

// TestLogin: a login is imported, refreshed on a 401 and ahead of its expiry,
// survives a restart, and a new import revives an account whose login has ended.
func TestLogin(t *testing.T) {
	const access, refresh = "sk-ant-oat01-first", "sk-ant-ort01-first"
	up := startUpstream(t, fakeclaude.Options{Accounts: []fakeclaude.Account{{Name: "main", AccessToken: access, RefreshToken: refresh, Plan: fakeclaude.Max5}}})
	s := newSite(t, up, global+loginBlock, secrets...)
	s.start()
	if a := s.ask(annKey, hello); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "in need of a login") {
		t.Errorf("without a login: %d %s", a.status, a.body)
	}
	importLogin := func() {
		t.Helper()
		access, refresh := up.Tokens("main")
		writeLogin(t, s, access, refresh)
		if _, err := s.command("shunt", "import", "main", "--file", filepath.Join(s.home, "credentials.json"), "--config", s.caddyfile(), "--adapter", "caddyfile"); err != nil {
			t.Fatal(err)
		}
	}
	importLogin()
	eventually(t, "the account serves after the import", 40*time.Second, func() bool { return s.ask(annKey, hello).status == http.StatusOK })

	up.Expire("main")
	const atOnce = 20
	done := make(chan answer, atOnce)
	for range atOnce {
		go func() { done <- s.ask(annKey, hello) }()
	}
	for range atOnce {
		(<-done).mustServe(t)
	}
	refreshes := 0
	for _, r := range up.Requests() {
		if strings.HasPrefix(r.URI, "/v1/oauth/token") {
			refreshes++
		}
	}
	if refreshes != 1 {
		t.Errorf("%d refreshes for one expiry", refreshes)
	}
	for key, may := range map[string]bool{annKey: true, bobKey: false} {
		email := s.status(key)["accounts"].([]any)[0].(map[string]any)["email"]
		if (email != nil) != may {
			t.Errorf("the owner's e-mail is shown as %v, and should be: %v", email, may)
		}
	}
	s.stop()
	s.start()
	s.ask(annKey, hello).mustServe(t)

	up.Revoke("main")
	if a := s.ask(annKey, hello); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "in need of a login") {
		t.Errorf("with a revoked login: %d %s", a.status, a.body)
	}
	account := s.status(annKey)["accounts"].([]any)[0].(map[string]any)
	if account["status"] != "reauth_required" {
		t.Errorf("with a revoked login the account is %v", account)
	}
	if v := up.Violations(); len(v) > 0 {
		t.Errorf("upstream's rules were broken: %v", v)
	}
}

// TestTwoSites: two pools in one process are two; two sites of one pool share it.
func TestTwoSites(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	second, third := freePort(t), freePort(t)
	one := func(address, pool, key string) string {
		return "http://" + address + " {\n\tshunt {\n\t\tpool " + pool + "\n\t\tremote_key ann {env.ANN_KEY} {\n\t\t\tadmin\n\t\t}\n\t\tupstream %UPSTREAM%\n\t\taccount main {\n\t\t\tapi_key {env." + key + "}\n\t\t}\n\t}\n}\n"
	}
	first := strings.Replace(one("x", "one", "KEY_A"), "http://x", "%SITE%", 1)
	s := newSite(t, up, global+first+one(second, "two", "KEY_B")+one(third, "one", "KEY_A"), secrets...)
	s.start()
	s.ask(annKey, hello).mustServe(t)
	s.do(http.MethodPost, "http://"+second+"/v1/messages", hello, "X-Api-Key", annKey).mustServe(t)
	s.do(http.MethodPost, "http://"+third+"/v1/messages", hello, "X-Api-Key", annKey).mustServe(t)
	seen := map[string]int{}
	for _, r := range up.Requests() {
		seen[r.Account]++
	}
	if seen["a"] != 2 || seen["b"] != 1 {
		t.Errorf("upstream saw %v", seen)
	}
	for url, want := range map[string]int{s.url: 2, "http://" + second: 1, "http://" + third: 2} {
		eventually(t, "the requests are recorded", 5*time.Second, func() bool {
			var status struct {
				Recent []any `json:"recent_requests"`
			}
			a := s.do(http.MethodGet, url+"/status", "", "X-Api-Key", annKey)
			return json.Unmarshal([]byte(a.body), &status) == nil && len(status.Recent) == want
		})
	}
	var admin struct {
		Pools []struct {
			Pool string `json:"pool"`
		} `json:"pools"`
	}
	a := s.do(http.MethodGet, "http://"+s.admin+"/shunt/status", "")
	if err := json.Unmarshal([]byte(a.body), &admin); err != nil || len(admin.Pools) != 2 {
		t.Errorf("the admin API shows %s", a.body)
	}
	if use := s.do(http.MethodPost, "http://"+s.admin+"/shunt/use", `{"account":"main"}`); use.status != http.StatusBadRequest || !strings.Contains(use.body, "?pool=") {
		t.Errorf("a pin without a pool: %d %s", use.status, use.body)
	}
	s.do(http.MethodPost, "http://"+s.admin+"/shunt/use?pool=two", `{"account":"main"}`).mustServe(t)
}

// TestAccessLog: the line of a request names the person and what the pool did.
func TestAccessLog(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	s := newSite(t, up, global+strings.Replace(block, "\tlog {", "\theader >X-Placeholders {http.shunt.account}/{http.shunt.attempts}/{http.shunt.model}\n\tlog {", 1), secrets...)
	s.start()
	a := s.ask(annKey, helloStream, "X-Claude-Code-Session-Id", "session-1")
	a.mustServe(t)
	if want := a.header.Get("X-Shunt-Account") + "/1/claude-sonnet-5"; a.header.Get("X-Placeholders") != want || want[0] == '/' {
		t.Errorf("placeholders gave %q, want %q", a.header.Get("X-Placeholders"), want)
	}
	var line map[string]any
	eventually(t, "the access log has the request", 5*time.Second, func() bool {
		for _, text := range strings.Split(s.logs(), "\n") {
			if strings.Contains(text, "/v1/messages") && strings.Contains(text, "http.log.access") {
				return json.Unmarshal([]byte(text), &line) == nil
			}
		}
		return false
	})
	for field, want := range map[string]any{"user_id": "ann", "shunt_model": "claude-sonnet-5", "shunt_verdict": "served", "shunt_attempts": 1.0, "shunt_session": "session-1"} {
		if line[field] != want {
			t.Errorf("%s is %v, want %v", field, line[field], want)
		}
	}
	for _, field := range []string{"shunt_account", "shunt_tokens_in", "shunt_tokens_out", "shunt_tokens_cache_read", "shunt_tokens_cache_write", "shunt_cost_usd", "shunt_request_id"} {
		if line[field] == nil || line[field] == "" {
			t.Errorf("no %s in %v", field, line)
		}
	}
	if key := line["request"].(map[string]any)["headers"].(map[string]any)["X-Api-Key"]; key == nil || strings.Contains(key.([]any)[0].(string), annKey) {
		t.Errorf("the key is logged as %v", key)
	}
}

func TestMetrics(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	s := newSite(t, up, global+block, secrets...)
	s.start()
	up.SetFault("a", fakeclaude.Fault{Name: fakeclaude.Overloaded, Times: -1})
	s.do(http.MethodPost, s.url+"/use", `{"account":"a"}`, "X-Api-Key", annKey)
	s.ask(annKey, helloStream).mustServe(t)
	for _, want := range []string{
		`caddy_shunt_requests_total{endpoint="messages",pool="default",status="200",verdict="served"} 1`,
		`caddy_shunt_attempts_total{account="a",pool="default",verdict="overloaded"} 2`,
		`caddy_shunt_tokens_total{account=`, `kind="output"`, `caddy_shunt_cost_usd_total{`,
		`caddy_shunt_first_byte_seconds_count{endpoint="messages",pool="default"} 1`,
		`caddy_shunt_request_duration_seconds_count{endpoint="messages",pool="default"} 1`,
	} {
		eventually(t, "metrics have "+want, 5*time.Second, func() bool {
			return strings.Contains(s.do(http.MethodGet, "http://"+s.admin+"/metrics", "").body, want)
		})
	}
}

// TestHTTP2CutIsAReset: on HTTP/2 too, an answer that breaks off does not look
// whole.
func TestHTTP2CutIsAReset(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	s := newSite(t, up, strings.Replace(global, "metrics\n", "servers {\n\t\tprotocols h1 h2c\n\t}\n", 1)+block, secrets...)
	s.start()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	h2 := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer h2.CloseIdleConnections()
	for fault, whole := range map[string]bool{"": true, fakeclaude.EndAfterText: false, fakeclaude.CutAfterText: false} {
		up.ClearFaults()
		if fault != "" {
			up.SetFault("*", fakeclaude.Fault{Name: fault})
		}
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/v1/messages", strings.NewReader(helloStream))
		r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
		resp, err := h2.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body := new(strings.Builder)
		_, err = io.Copy(body, resp.Body)
		_ = resp.Body.Close()
		if resp.ProtoMajor != 2 || (err == nil) != whole || strings.Contains(body.String(), "message_stop\"}") != whole {
			t.Errorf("%q over %s ended with %v:\n%s", fault, resp.Proto, err, body)
		}
		if whole {
			served.Add(1)
		}
	}
}

// TestLoginIsRefreshedAheadOfExpiry: a login stays alive without any request.
func TestLoginIsRefreshedAheadOfExpiry(t *testing.T) {
	// An access token of eight hours lives twelve seconds here.
	up := startUpstream(t, fakeclaude.Options{Speed: 2400, Accounts: []fakeclaude.Account{{Name: "main", AccessToken: "sk-ant-oat01-first", RefreshToken: "sk-ant-ort01-first"}}})
	s := newSite(t, up, global+loginBlock, secrets...)
	writeLogin(t, s, "sk-ant-oat01-first", "sk-ant-ort01-first")
	if err := os.WriteFile(s.caddyfile(), []byte(s.config), 0o600); err != nil {
		t.Fatal(err)
	}
	up.Expire("main") // the imported token is already dead, whatever its record says
	if _, err := s.command("shunt", "import", "main", "--file", filepath.Join(s.home, "credentials.json"), "--config", s.caddyfile(), "--adapter", "caddyfile"); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.ask(annKey, hello).mustServe(t)
	first, _ := up.Tokens("main")
	eventually(t, "two refreshes without a request", 30*time.Second, func() bool {
		n := 0
		for _, r := range up.Requests() {
			if strings.HasPrefix(r.URI, "/v1/oauth/token") {
				n++
			}
		}
		return n >= 3
	})
	if now, _ := up.Tokens("main"); now == first {
		t.Error("the token is the old one")
	}
	s.ask(annKey, hello).mustServe(t)
	if v := up.Violations(); len(v) > 0 {
		t.Errorf("upstream's rules were broken: %v", v)
	}
}

// TestCaddysOwnAuthentication: whom Caddy has authenticated needs no key.
func TestCaddysOwnAuthentication(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	// The hash is of "carols-password", by caddy hash-password.
	s := newSite(t, up, global+strings.Replace(block, "\tlog {", "\tbasic_auth /v1/* {\n\t\tcarol %HASH%\n\t}\n\tlog {", 1), secrets...)
	hash, err := s.command("hash-password", "--plaintext", "carols-password")
	if err != nil {
		t.Fatal(err)
	}
	s.config = strings.Replace(s.config, "%HASH%", strings.TrimSpace(hash), 1)
	s.start()
	if a := s.ask(annKey, hello); a.status != http.StatusUnauthorized {
		t.Errorf("without a password: %d", a.status)
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/v1/messages", strings.NewReader(hello))
	r.Header = http.Header{"Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
	r.SetBasicAuth("carol", "carols-password")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("carol: %d", resp.StatusCode)
	}
	served.Add(1)
	eventually(t, "carol is known", 5*time.Second, func() bool {
		for _, person := range s.status(annKey)["people"].([]any) {
			if person.(map[string]any)["name"] == "carol" {
				return true
			}
		}
		return false
	})
	for _, r := range up.Requests() {
		if strings.Contains(r.Header.Get("Authorization"), "Basic") {
			t.Error("the password went upstream")
		}
	}
}
