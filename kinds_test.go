package shunt

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude/fctest"
)

// writeFile makes a file in a folder of the test's own and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	rewrite(t, path, text)
	return path
}

func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func assertion(t *testing.T, claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return writeFile(t, "token", part([]byte(`{"alg":"RS256"}`))+"."+part([]byte(claims))+"."+part([]byte("signature"))+"\n")
}

func workloads() []fakeclaude.Account {
	return []fakeclaude.Account{{Name: "cluster", ServiceAccount: "svac_1", Org: "org_1", Workspace: "wrkspc_1"}}
}

func federationBlock(upstream, file string) string {
	return fmt.Sprintf(`
	account cluster {
		federation {
			rule fdrl_1
			organization org_1
			service_account svac_1
			workspace wrkspc_1
			token_file %q
			token_url %s/v1/oauth/token
		}
	}`, file, upstream)
}

// exchanges counts the calls of the token endpoint.
func (b *bench) exchanges() (n int) {
	for _, r := range b.fake.Requests() {
		if r.URI == "/v1/oauth/token" {
			n++
		}
	}
	return n
}

func (b *bench) statusOf(account string) gjson.Result {
	b.t.Helper()
	r := b.do(http.MethodGet, "/status", "")
	return gjson.Get(r.body, `accounts.#(name=="`+account+`")`)
}

// until waits for a condition, for at most ten seconds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestFederationAccountServes(t *testing.T) {
	file := assertion(t, `{"sub":"system:serviceaccount:prod:app"}`)
	// Tokens live for two seconds.
	b := newBench(t, fakeclaude.Options{Accounts: workloads(), Speed: 1800},
		"upstream %UPSTREAM%\n"+federationBlock("%UPSTREAM%", file))
	for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(20 * time.Millisecond) {
		b.ask(hello).mustServe(t, "while tokens are renewed")
	}
	if n := b.exchanges(); n < 3 || n > 8 {
		t.Errorf("%d exchanges in five seconds", n)
	}
	for _, r := range b.fake.Requests() {
		if r.Status == http.StatusUnauthorized {
			t.Error("a token that had ended was sent")
			break
		}
	}
	s := b.statusOf("cluster")
	if s.Get("kind").String() != "federation" || s.Get("status").String() != "available" || s.Get("token_expires_ms").Int() == 0 {
		t.Errorf("status: %s", s.Raw)
	}
	if v := b.fake.Violations(); len(v) > 0 {
		t.Errorf("violations: %v", v)
	}
}

func TestFederationRefused(t *testing.T) {
	for name, test := range map[string]struct {
		claims string
		status string
		says   string
	}{
		"expired": {`{"exp":1700000000}`, "available", "ended at 2023-11-14"},
		"refused": {`{"exp":1` + strings.Repeat("0", 12) + `}`, "reauth_required", "invalid_grant"},
	} {
		file := assertion(t, test.claims)
		accounts := workloads()
		accounts[0].Workspace = "wrkspc_2"
		b := newBench(t, fakeclaude.Options{Accounts: accounts}, "hold off\nupstream %UPSTREAM%\n"+federationBlock("%UPSTREAM%", file))
		until(t, name, func() bool { return b.statusOf("cluster").Get("refresh_error").String() != "" })
		s := b.statusOf("cluster")
		if s.Get("status").String() != test.status || !strings.Contains(s.Get("refresh_error").String(), test.says) || !strings.Contains(s.Get("refresh_error").String(), file) {
			t.Errorf("%s: %s", name, s.Raw)
		}
		if r := b.ask(hello); r.status == http.StatusOK || r.status == http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
}

// TestFederationLivesThroughReloads: a configuration that is loaded anew gets no token
// of its own, and the one before may go.
func TestFederationLivesThroughReloads(t *testing.T) {
	file := assertion(t, `{}`)
	fake, upstream := fctest.Start(t, fakeclaude.Options{Accounts: workloads()})
	root, block := t.TempDir(), "upstream "+upstream+"\n"+federationBlock(upstream, file)
	token := func(h *Handler) string {
		c, err := h.accounts[0].source.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c.Version()
	}
	h, stop := provisionAt(t, root, block)
	first := token(h)
	for range 3 {
		next, stopNext := provisionAt(t, root, block)
		stop()
		if h, stop = next, stopNext; token(h) != first {
			t.Error("another token after a reload")
		}
	}
	stop()
	if n := len(fake.Requests()); n != 1 {
		t.Errorf("%d exchanges", n)
	}
	h, stop = provisionAt(t, root, block) // all had let go
	defer stop()
	if token(h) == first {
		t.Error("the token outlived the last configuration")
	}
}

const newKey = "sk-ant-api03-new-key"

// newFileBench is a pool of one key in a file, which upstream does not know.
func newFileBench(t *testing.T, extra string) (b *bench, file string) {
	t.Helper()
	file = writeFile(t, "key", "sk-ant-api03-old\n")
	b = newBench(t, fakeclaude.Options{Accounts: []fakeclaude.Account{{Name: "a", APIKey: newKey}}},
		extra+"upstream %UPSTREAM%\naccount a {\napi_key {file."+file+"}\n}")
	return b, file
}

func TestKeyFileIsReadAtOnceOn401(t *testing.T) {
	b, file := newFileBench(t, "hold off\n")
	rewrite(t, file, newKey)
	b.ask(hello).mustServe(t, "the first request after the change")
	var statuses []int
	for _, r := range b.fake.Requests() {
		statuses = append(statuses, r.Status)
	}
	if fmt.Sprint(statuses) != "[401 200]" && fmt.Sprint(statuses) != "[200]" {
		t.Errorf("upstream answered %v", statuses)
	}
}

func TestKeyFileIsFollowed(t *testing.T) {
	b, file := newFileBench(t, "hold off\n")
	if r := b.ask(hello); r.status == http.StatusOK {
		t.Fatal("upstream took an unknown key")
	}
	if s := b.statusOf("a"); s.Get("benches.0.verdict").String() != "key_refused" {
		t.Errorf("after a refusal: %s", s.Raw)
	}
	asked := len(b.fake.Requests())
	b.ask(hello)
	if n := len(b.fake.Requests()); n != asked {
		t.Error("a refused key was tried again")
	}
	rewrite(t, file, newKey+"\n")
	until(t, "the account serves with the new key", func() bool { return b.ask(hello).status == http.StatusOK })

	// While it serves: nobody notices.
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				b.ask(hello).mustServe(t, "while the file is away")
			}
		}
	}()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	until(t, "the loss is told", func() bool { return b.statusOf("a").Get("refresh_error").String() != "" })
	rewrite(t, file, newKey)
	until(t, "the loss is forgotten", func() bool { return b.statusOf("a").Get("refresh_error").String() == "" })
	close(stop)
	<-done
}

// TestAccountKeepsItsRecordWhenItsFileChanges: the pool knows a secret in a file by its
// setting, and others by their value.
func TestAccountKeepsItsRecordWhenItsFileChanges(t *testing.T) {
	key := func(secret string) string {
		return provision(t, "account a {\napi_key "+secret+"\n}").accounts[0].member.Key
	}
	file := writeFile(t, "key", "sk-ant-api03-one")
	first := key("{file." + file + "}")
	rewrite(t, file, "sk-ant-api03-two")
	if key("{file."+file+"}") != first {
		t.Error("another secret in the file is another account")
	}
	if key("{file."+writeFile(t, "key", "sk-ant-api03-two")+"}") == first {
		t.Error("another file is the same account")
	}
	t.Setenv("SHUNT_TEST_KEY", "sk-ant-api03-one")
	env := key("{env.SHUNT_TEST_KEY}")
	t.Setenv("SHUNT_TEST_KEY", "sk-ant-api03-two")
	if key("{env.SHUNT_TEST_KEY}") == env {
		t.Error("another secret in the environment is the same account")
	}
}

func TestFilesOf(t *testing.T) {
	for raw, want := range map[string]string{
		"{file./run/a}":                      "[/run/a]",
		"x{file./run/a}{file.rel/b}{env.X}":  "[/run/a rel/b]",
		"{file./run/a}{file./run/a}":         "[/run/a]",
		"{env.X} sk-ant-api03-{not a holder": "[]",
		"":                                   "[]",
	} {
		if got := fmt.Sprint(filesOf(raw)); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

func TestSetupTokenEnd(t *testing.T) {
	made := time.Now().AddDate(0, -1, 0).UTC().Truncate(24 * time.Hour)
	b := newBench(t, fakeclaude.Options{}, "upstream %UPSTREAM%\naccount told {\nsetup_token sk-ant-oat01-told {\nmade "+made.Format(time.DateOnly)+
		"\n}\nowner *\n}\naccount guessed {\nsetup_token sk-ant-oat01-guessed\nowner *\n}")
	if s := b.statusOf("told"); s.Get("login_expires_ms").Int() != made.AddDate(0, 0, 365).UnixMilli() || s.Get("login_expires_guessed").Bool() {
		t.Errorf("told: %s", s.Raw)
	}
	until(t, "the end is guessed", func() bool { return b.statusOf("guessed").Get("login_expires_ms").Int() != 0 })
	s := b.statusOf("guessed")
	if end := time.Until(time.UnixMilli(s.Get("login_expires_ms").Int())); !s.Get("login_expires_guessed").Bool() || end < 364*24*time.Hour || end > 365*24*time.Hour {
		t.Errorf("guessed: %s", s.Raw)
	}
	stored := b.h.storage.Exists(t.Context(), "shunt/"+b.h.Pool+"/credentials/guessed~first-seen.json")
	if !stored || b.h.storage.Exists(t.Context(), "shunt/"+b.h.Pool+"/credentials/told~first-seen.json") {
		t.Error("the wrong dates are kept")
	}
}

// TestOneHeaderBuilder: every call for every kind of credential carries that one
// credential, with the beta value that its kind needs.
func TestOneHeaderBuilder(t *testing.T) {
	file := assertion(t, `{}`)
	accounts := append(fourAccounts()[:1], workloads()...)
	accounts = append(accounts, fakeclaude.Account{Name: "c", AccessToken: "sk-ant-oat01-cccc"}, fakeclaude.Account{Name: "f", APIKey: newKey})
	b := newBench(t, fakeclaude.Options{Accounts: accounts}, "remote_key ann "+annKey+" {\nadmin\n}\nupstream %UPSTREAM%\n"+
		"account a {\napi_key sk-ant-api03-aaaa\n}\naccount c {\nsetup_token sk-ant-oat01-cccc\nowner *\n}\n"+
		"account f {\napi_key {file."+writeFile(t, "key", newKey)+"}\n}\n"+federationBlock("%UPSTREAM%", file))
	calls := [][3]string{
		{http.MethodPost, "/v1/messages", hello}, {http.MethodPost, "/v1/messages", helloStream},
		{http.MethodPost, "/v1/messages/count_tokens", hello}, {http.MethodGet, "/v1/models", ""},
		{http.MethodGet, "/v1/files", ""}, {http.MethodGet, "/v1/messages/batches", ""},
	}
	served := make(map[string]int)
	for _, account := range []string{"a", "c", "f", "cluster"} {
		b.do(http.MethodPost, "/use", `{"account":"`+account+`"}`).mustServe(t, "pin")
		for _, call := range calls {
			before := len(b.fake.Requests())
			b.do(call[0], call[1], call[2], "Authorization", "Bearer "+annKey, "Anthropic-Beta", "oauth-2025-04-20", "Anthropic-Beta", "files-api-2025-04-14")
			for _, r := range b.fake.Requests()[before:] {
				if r.URI == "/v1/oauth/token" {
					continue
				}
				served[account]++
				bearer := account == "c" || account == "cluster"
				keys, bearers, betas := r.Header.Values("X-Api-Key"), r.Header.Values("Authorization"), strings.Join(r.Header.Values("Anthropic-Beta"), ",")
				if (len(bearers) == 1) != bearer || (len(keys) == 1) == bearer || strings.Contains(betas, "oauth-2025-04-20") != bearer || !strings.Contains(betas, "files-api-2025-04-14") {
					t.Errorf("%s %s by %s: %d keys, %d bearers, betas %q", call[0], call[1], account, len(keys), len(bearers), betas)
				}
				if strings.Contains(fmt.Sprint(r.Header), annKey) {
					t.Errorf("%s %s by %s carries the client's key", call[0], call[1], account)
				}
			}
		}
		if served[account] < 4 {
			t.Errorf("%s was asked %d times only", account, served[account])
		}
	}
	if v := b.fake.Violations(); len(v) > 0 {
		t.Errorf("violations: %v", v)
	}
}

// TestNobodyElseWritesCredentialHeaders: the source has one place that writes them.
func TestNobodyElseWritesCredentialHeaders(t *testing.T) {
	write := regexp.MustCompile(`(?i)(\.(Set|Add)\(|\[)\s*("authorization"|"x-api-key"|"anthropic-beta"|betaHeader)\s*(,|\]\s*=[^=])`)
	places := make(map[string]int)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == "internal" || path == "integration" || path == "bench" || strings.HasPrefix(d.Name(), ".") && path != ".") {
			return fs.SkipDir // not part of what users build, or tests
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		places[filepath.ToSlash(path)] = len(write.FindAll(text, -1))
		return err
	})
	if err != nil || len(places) < 50 {
		t.Fatalf("%d files: %v", len(places), err)
	}
	for path, n := range places {
		// connect.go is a client: it sends a person's key to a pool.
		if want := map[string]int{"credential/credential.go": 2, "credential/beta.go": 1, "connect.go": 1}[path]; n != want {
			t.Errorf("%s writes a credential header in %d places, want %d", path, n, want)
		}
	}
}
