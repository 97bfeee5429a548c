package shunt

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-shunt/caddy-shunt/internal/doctor"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude/fctest"
)

// patientOf is a configuration that does not run, with a storage of its own. %HOME%
// in it is the folder of its file.
func patientOf(t *testing.T, text string) *patient {
	t.Helper()
	home := t.TempDir()
	text = strings.ReplaceAll("{\nstorage file_system %HOME%/storage\n}\n"+text, "%HOME%", home)
	raw, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	file := filepath.Join(home, "Caddyfile")
	putFile(t, file, text)
	s := &site{config: raw, file: file, stopped: "nothing runs"}
	p, err := s.examine(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	p.caddy = ctx
	return p
}

// told are findings as lines, without the folder of the test.
func (p *patient) told(found []doctor.Finding) string {
	var lines []string
	for _, f := range found {
		lines = append(lines, fmt.Sprintf("%s %s: %s", f.Level, f.Where, f.Found))
		if (f.Level == doctor.Problem || f.Level == doctor.Warning) && f.Change == "" {
			lines = append(lines, "no advice")
		}
	}
	return strings.ReplaceAll(strings.Join(lines, "\n"), filepath.Dir(p.file)+"/", "")
}

// says checks the findings line by line; each line has these parts.
func (p *patient) says(t *testing.T, found []doctor.Finding, want ...string) {
	t.Helper()
	got := strings.Split(p.told(found), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d findings, not %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		for part := range strings.SplitSeq(want[i], "…") {
			if !strings.Contains(got[i], part) {
				t.Errorf("no %q in %q", part, got[i])
			}
		}
	}
}

// TestFreeCall: what upstream says to a credential is told as it is, by a call that
// costs nothing and leaves the pool alone.
func TestFreeCall(t *testing.T) {
	for _, c := range []struct {
		fault, account string
		verdict        string
		level          doctor.Level
		found, change  string
	}{
		{"", "a", "served", doctor.OK, "the credential is accepted (status 200", ""},
		{"", "c", "served", doctor.OK, "the credential is accepted", ""},
		{fakeclaude.InvalidKey, "a", "key_refused", doctor.Problem, "upstream refuses the credential (status 401", "make another key in the Console"},
		{fakeclaude.InvalidBearer, "c", "key_refused", doctor.Problem, "refuses", "claude setup-token"},
		{fakeclaude.TokenRevoked, "c", "revoked", doctor.Problem, "the login was revoked", "claude setup-token"},
		{fakeclaude.OrgDisabled, "a", "organization_disabled", doctor.Problem, "the organization is disabled", "Console"},
		{fakeclaude.Permission, "a", "permission", doctor.Problem, "the account lacks permission (status 403", "workspace"},
		{fakeclaude.Permission, "c", "permission", doctor.Warning, "need not keep it from serving", ""},
		{fakeclaude.CreditBalance, "a", "no_credit", doctor.Problem, "out of credit", "buy credit"},
		{fakeclaude.SpendLimit, "a", "spend_limit", doctor.Problem, "spend limit reached", "Raise the limit"},
		{fakeclaude.Overloaded, "a", "overloaded", doctor.Warning, "overloaded", "Wait"},
		{fakeclaude.Internal, "a", "upstream", doctor.Warning, "status 500", "Wait"},
		{fakeclaude.ResetBeforeHead, "a", "unreachable", doctor.Problem, "could not be reached", "upstream"},
	} {
		t.Run(c.fault+"/"+c.account, func(t *testing.T) {
			b := newFour(t, "")
			if c.fault != "" {
				b.fake.SetFault(c.account, fakeclaude.Fault{Name: c.fault, Path: "/v1/models"})
			}
			before := fmt.Sprint(b.h.group.View().Accounts[0].Benches, b.h.group.View().Accounts[2].Benches)
			r := runningAccount{h: b.h, a: b.h.accounts[map[string]int{"a": 0, "c": 2}[c.account]]}
			answer := r.check(t.Context())
			f := answer.finding()
			if answer.Verdict != c.verdict || f.Level != c.level || !strings.Contains(f.Found, c.found) || !strings.Contains(f.Change, c.change) {
				t.Errorf("%+v\n%+v", answer, f)
			}
			if answer.OK != (c.fault == "") || answer.OK && answer.Organization == "" {
				t.Errorf("%+v", answer)
			}
			if after := fmt.Sprint(b.h.group.View().Accounts[0].Benches, b.h.group.View().Accounts[2].Benches); after != before {
				t.Errorf("the pool's state changed from %s to %s", before, after)
			}
			for name, book := range b.fake.Books() {
				if book.Requests != 0 {
					t.Errorf("account %s was charged", name)
				}
			}
			raw, _ := json.Marshal(answer)
			if strings.Contains(string(raw), "sk-ant") {
				t.Errorf("a secret is told: %s", raw)
			}
		})
	}
}

// TestNotTheAPI: a page that something in between answers with is no sign of a sound
// credential.
func TestNotTheAPI(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>sign in</html>") }))
	defer server.Close()
	h := provision(t, "upstream "+server.URL+fourBlocks)
	r := runningAccount{h: h, a: h.accounts[0]}
	if answer := r.check(t.Context()); answer.OK || !strings.Contains(answer.Words, "something in between") {
		t.Errorf("%+v", answer)
	}
}

// TestCheckOfDeadLogin: without a login nothing is sent, and what helps is said.
func TestCheckOfDeadLogin(t *testing.T) {
	fake, url := fctest.Start(t, fakeclaude.Options{Accounts: fourAccounts()})
	h := provision(t, "upstream "+url+"\naccount x {\noauth\nowner *\n}")
	r := runningAccount{h: h, a: h.accounts[0]}
	answer := r.check(t.Context())
	f := answer.finding()
	if answer.Verdict != "login_required" || !answer.Login || f.Level != doctor.Problem || !strings.Contains(f.Change, "caddy shunt import x") || len(fake.Requests()) != 0 {
		t.Errorf("%+v\n%+v", answer, f)
	}
}

// TestRenews: a token that has just ended is no problem.
func TestRenews(t *testing.T) {
	f := (&checkAnswer{Account: "x", Kind: "oauth", Verdict: "token", Words: "the access token is no longer good", Status: 401, Renews: true}).finding()
	if f.Level != doctor.Warning || !strings.Contains(f.Found, "the next request gets another one") {
		t.Errorf("%+v", f)
	}
}

func TestAdminCheck(t *testing.T) {
	newFour(t, "")
	ask := func(method, body string) (status int, text string) {
		w := httptest.NewRecorder()
		err := adminCheck(w, httptest.NewRequest(method, "/shunt/check", strings.NewReader(body)))
		if refusal, ok := err.(caddy.APIError); ok { //nolint:errorlint // it is returned as it is
			return refusal.HTTPStatus, refusal.Err.Error()
		}
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		method, body string
		status       int
		text         string
	}{
		{http.MethodPost, `{"account": "a"}`, 200, `"account":"a","kind":"api_key","ok":true,"verdict":"served"`},
		{http.MethodPost, `{"account": "c"}`, 200, `"kind":"setup_token","ok":true`},
		{http.MethodPost, `{"account": "none"}`, 404, `there is no "none"`},
		{http.MethodPost, `{"account": "a", "pool": "none"}`, 404, `there is no "a"`},
		{http.MethodPost, `{}`, 400, "expected"},
		{http.MethodPost, `{"acount": "a"}`, 400, "expected"},
		{http.MethodPost, `sk-ant-planted`, 400, "expected"},
		{http.MethodPost, strings.Repeat(" ", maxCheckBody+1), 400, "too large"},
		{http.MethodGet, "", 200, `"caddy":`},
		{http.MethodDelete, "", 405, ""},
	} {
		status, text := ask(c.method, c.body)
		if status != c.status || !strings.Contains(text, c.text) || strings.Contains(text, "sk-ant") {
			t.Errorf("%s %.40s: %d %s", c.method, c.body, status, text)
		}
	}
}

// TestStoppedAccounts: without a running Caddy, keys that the configuration resolves
// are tried, and nothing else.
func TestStoppedAccounts(t *testing.T) {
	fake, url := fctest.Start(t, fakeclaude.Options{Accounts: []fakeclaude.Account{
		{Name: "a", APIKey: "sk-ant-api03-aaaa", Org: "6f4f1a5e-0000-4000-8000-000000000001"},
		{Name: "b", APIKey: "sk-ant-api03-bbbb", Org: "6f4f1a5e-0000-4000-8000-000000000001"},
		{Name: "c", APIKey: "sk-ant-api03-cccc", Org: "6f4f1a5e-0000-4000-8000-000000000002"},
	}})
	t.Setenv("DOCTOR_A", "sk-ant-api03-aaaa")
	t.Setenv("DOCTOR_B", "sk-ant-api03-bbbb")
	t.Setenv("DOCTOR_C", "sk-ant-api03-cccc")
	account := func(name, inside string) string { return "account " + name + " {\n" + inside + "\n}\n" }
	p := patientOf(t, "a.example.com {\nshunt {\nremote_key ann {env.ANN}\nupstream "+url+"\n"+
		account("a", "api_key {env.DOCTOR_A}")+account("b", "api_key {env.DOCTOR_B}")+account("c", "api_key {env.DOCTOR_C}")+
		account("wrong", "api_key sk-ant-api03-unknown")+account("unset", "api_key {env.DOCTOR_NOT_SET}")+account("login", "oauth\nowner ann")+"}\n}")
	p.says(t, p.credentials(t.Context()),
		"ok a (Caddyfile:8): the credential is accepted (status 200", "ok b (Caddyfile:11)", "ok c",
		"problem wrong (Caddyfile:17): upstream refuses the credential (status 401", "problem unset…DOCTOR_NOT_SET",
		"skipped login…Caddy does not run")
	for _, r := range fake.Requests() {
		if r.URI != "/v1/models?limit=1" || r.Method != http.MethodGet {
			t.Errorf("%s %s was sent", r.Method, r.URI)
		}
	}
	p.says(t, p.organisations(t.Context()), "warning a, b: they draw on the limits of one organisation")
	p.says(t, p.logins(t.Context()), "problem login…a login is required: no login is stored")

	p.offline = true
	sent := len(fake.Requests())
	if p.says(t, p.credentials(t.Context()), "skipped : --offline"); len(fake.Requests()) != sent {
		t.Error("upstream was asked")
	}
}

// TestTransportOfApps: a transport that only a running Caddy can make is no problem.
func TestTransportOfApps(t *testing.T) {
	p := patientOf(t, "a.example.com {\nshunt {\nremote_key ann {env.ANN}\naccount a {\napi_key sk-ant-x\n}\ntransport http {\ntls_trust_pool pki_root local\n}\n}\n}")
	p.says(t, p.upstreams().Reach(t.Context()), "skipped https://api.anthropic.com (a): its transport needs the apps")
	p.says(t, p.credentials(t.Context()), "skipped a…needs the apps")
}

// TestOwnTransport: what the accounts' transport trusts is trusted, and what it says
// of a failed dial is understood.
func TestOwnTransport(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"data": []}`) }))
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	putFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	shunt := func(upstream, inside string) *patient {
		return patientOf(t, "a.example.com {\nshunt {\nremote_key ann {env.ANN}\nupstream "+upstream+"\naccount a {\napi_key sk-ant-x\n}\n"+inside+"\n}\n}")
	}
	p := shunt(server.URL, "transport http {\ntls_trust_pool file "+ca+"\n}")
	p.says(t, p.upstreams().Reach(t.Context()), "ok "+server.URL+"…TLS …status 200, certificate until ")
	p.says(t, p.credentials(t.Context()), "ok a")
	p = shunt(server.URL, "")
	p.says(t, p.upstreams().Reach(t.Context()), "problem…an authority that this machine does not trust")
	p.says(t, p.credentials(t.Context()), "problem a…upstream could not be reached")
	p = shunt(server.URL, "transport http {\ntls_trust_pool file "+ca+"\ntls_server_name wrong.example.org\n}")
	p.says(t, p.upstreams().Reach(t.Context()), "problem…its certificate is for another name")
	p = shunt("http://no-such-host.invalid", "")
	p.says(t, p.upstreams().Reach(t.Context()), "problem…the name no-such-host.invalid")
}

func TestLoginFindings(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		line  accountLine
		level doctor.Level // empty for no finding
		text  string
	}{
		{accountLine{State: stateOK, Kind: "oauth", LoginExpires: now.Add(20 * day)}, "", ""},
		{accountLine{State: stateOK, Kind: "oauth", LoginExpires: now.Add(5 * day)}, doctor.Warning, "the login ends in 5 days"},
		{accountLine{State: stateStored, Kind: "oauth", LoginExpires: now.Add(-day), LoginExpiresGuessed: true}, doctor.Problem, "the login probably ended on"},
		{accountLine{State: stateOK, Kind: "setup_token", LoginExpires: now.Add(day / 2)}, doctor.Warning, "the setup token ends within a day"},
		{accountLine{State: stateLoginRequired, Kind: "oauth", Reason: "it was revoked"}, doctor.Problem, "a login is required: it was revoked"},
		{accountLine{State: stateUnsaved, Kind: "oauth", Reason: "disk full"}, doctor.Problem, "disk full"},
		{accountLine{State: stateNoToken, Kind: "federation", Reason: "503"}, doctor.Warning, "there is no token: 503"},
		{accountLine{State: stateBenched, Kind: "api_key", Reason: "spent", Until: now.Add(time.Hour)}, doctor.OK, "it rests until"},
		{accountLine{State: stateConfigured, Kind: "api_key"}, "", ""},
	} {
		f := c.line.loginFinding(now)
		switch {
		case f == nil && c.level != "", f != nil && (f.Level != c.level || !strings.Contains(f.Found, c.text)):
			t.Errorf("%+v: %+v", c.line, f)
		case f != nil && f.Level != doctor.OK && f.Change == "":
			t.Errorf("no advice: %+v", f)
		}
	}
}

// TestNobodyServes: a pool of which every account is out is a problem of its own.
func TestNobodyServes(t *testing.T) {
	p := patientOf(t, "a.example.com {\nshunt {\nremote_key ann {env.ANN}\naccount a {\noauth\nowner ann\n}\naccount b {\noauth\nowner ann\n}\n}\n}")
	p.says(t, p.logins(t.Context()), "problem a (Caddyfile:7)", "problem b", "problem pool default: no account can serve now")
}

func TestVersions(t *testing.T) {
	own := programAnswer{Shunt: "v1.0.0", Caddy: "v2.11.9", Go: "go1.26.8"}
	with := func(change func(*programAnswer)) *programAnswer { other := own; change(&other); return &other }
	for want, there := range map[string]*programAnswer{
		"ok : shunt v1.0.0, Caddy v2.11.9, go1.26.8": nil,
		"ok : shunt v1.0.0, Caddy v2.11.9":           with(func(*programAnswer) {}),
		"what runs is shunt v0.9.0":                  with(func(p *programAnswer) { p.Shunt = "v0.9.0" }),
		"what runs is shunt v1.0.0, Caddy v2.10.0":   with(func(p *programAnswer) { p.Caddy = "v2.10.0" }),
		"shunt v1.0.0, Caddy v2.11.9, go1.25.0":      with(func(p *programAnswer) { p.Go = "go1.25.0" }),
	} {
		p := &patient{site: &site{}}
		if got := p.told(judgeVersions(own, there)); !strings.Contains(got, want) || (there != nil && *there != own) != strings.HasPrefix(got, "warning") {
			t.Errorf("no %q in %q", want, got)
		}
	}
	old := own
	old.Caddy = "v2.9.12"
	if got := judgeVersions(old, nil); got[0].Level != doctor.Warning || !strings.Contains(got[0].Found, "older than "+leastCaddy) {
		t.Errorf("%+v", got)
	}
	for version, want := range map[string]bool{"v2.11.8": true, "v2.11.9": false, "v2.11.10": false, "v3.0.0": false, "v2.11.9-beta.1": false, "(devel)": false, "unknown": false, "": false} {
		if older(version, leastCaddy) != want {
			t.Errorf("%s: %v", version, !want)
		}
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil || !strings.Contains(string(mod), "github.com/caddyserver/caddy/v2 "+leastCaddy+"\n") {
		t.Errorf("go.mod does not ask for %s: %v", leastCaddy, err)
	}
}

func TestConfigurationAndOwners(t *testing.T) {
	p := patientOf(t, "a.example.com {\nshunt {\nremote_key ann {env.ANN}\nkeys %HOME%/keys\naccount a {\nsetup_token {env.T}\nowner ann bob\n}\naccount b {\noauth\nowner *\n}\naccount c {\napi_key {env.K}\nowner carl\n}\n}\n}")
	keys := filepath.Join(filepath.Dir(p.file), "keys")
	putFile(t, keys, "remote_key bob sha256:"+strings.Repeat("0", 64)+"\n")
	p.says(t, p.configuration(t.Context()), "ok : 3 accounts, 1 site")
	p.says(t, p.owners(t.Context()), "warning b…shared with everybody", "warning c…its owner carl has no remote_key")
	if err := os.Remove(keys); err != nil {
		t.Fatal(err)
	}
	p.says(t, p.owners(t.Context()), "warning b") // who has keys is not known

	p.accounts[0].config.Owners = nil
	p.accounts[2].config.Upstream = "ftp://x"
	p.unloaded = true
	p.says(t, p.configuration(t.Context()), "warning Caddyfile: the file is not what runs", "problem a…a subscription login belongs to one person", "problem c…expected http:// or https://")
}

func TestFiles(t *testing.T) {
	secret := "sk-ant-api03-planted"
	p := patientOf(t, "a.example.com {\nshunt {\nremote_key ann sha256:"+strings.Repeat("0", 64)+"\nkeys %HOME%/keys\naccount a {\napi_key {file.%HOME%/key}\n}\naccount b {\napi_key "+secret+"\n}\n}\n}")
	home := filepath.Dir(p.file)
	keys, key := filepath.Join(home, "keys"), filepath.Join(home, "key")
	p.says(t, p.files(t.Context()), "warning b…its api_key is written in the configuration", "problem key: it is named in the configuration and cannot be found", "problem keys")
	putFile(t, keys, "remote_key bob {env.BOB}\n")
	putFile(t, key, secret)
	p.says(t, p.files(t.Context()), "warning b")
	modes := func(mode os.FileMode) {
		for _, path := range []string{p.file, keys, key} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	modes(0o644)
	p.says(t, p.files(t.Context()), "warning b", "problem Caddyfile: it holds secrets, and everybody", "problem key: it holds secrets")
	putFile(t, keys, "remote_key bob in-clear-text {\nadmin\n}\n")
	modes(0o644)
	p.says(t, p.files(t.Context()), "warning b", "problem Caddyfile", "problem key", "problem keys: it holds secrets")
	modes(0o640) // of root, and the group of Caddy
	p.says(t, p.files(t.Context()), "warning b")
	modes(0o660)
	p.says(t, p.files(t.Context()), "warning b", "warning Caddyfile: others than its owner may write it", "warning keys")
	modes(0o600)

	record := filepath.Join(home, "storage", credentialKey("default", "x"))
	if err := os.MkdirAll(filepath.Dir(record), 0o700); err != nil {
		t.Fatal(err)
	}
	putFile(t, record, "{}")
	p.says(t, p.files(t.Context()), "warning b")
	if err := os.Chmod(record, 0o640); err != nil {
		t.Fatal(err)
	}
	p.says(t, p.files(t.Context()), "warning b", "problem storage/shunt/default/credentials: others than their owner may read the logins")

	if got := p.told(p.storages(t.Context())); !strings.Contains(got, " storage: ") {
		t.Errorf("another storage was looked at: %s", got)
	}

	p.text = []byte(strings.ReplaceAll(string(p.text), secret, "{$KEY}"))
	p.says(t, p.files(t.Context())[:1], "warning b…gets into the configuration by {$...}")
	p.accounts = p.accounts[:1]
	modes(0o644)
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	putFile(t, keys, "")
	if got := p.told(p.files(t.Context())); strings.Contains(got, "Caddyfile") || strings.Contains(got, "keys") {
		t.Errorf("nothing is secret there: %s", got)
	}
}

func TestStorageFolder(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, "file")
	putFile(t, file, "")
	for folder, want := range map[string][2]string{
		"./caddy":                   {"problem", "where Caddy happens to be started"},
		file + "/x":                 {"", ""},
		file:                        {"problem", "is not a folder"},
		filepath.Join(home, "none"): {"warning", "lost when the machine starts anew"}, // tests run below /tmp
	} {
		f := folderFinding(folder)
		if want[0] != "" && (string(f.Level) != want[0] || !strings.Contains(f.Found, want[1])) || f.Level == doctor.OK {
			t.Errorf("%s: %+v", folder, f)
		}
	}
	if entries, err := os.ReadDir(home); err != nil || len(entries) != 1 {
		t.Errorf("something was left behind: %v %v", entries, err)
	}
	if os.Geteuid() != 0 {
		locked := filepath.Join(home, "locked")
		if err := os.Mkdir(locked, 0o500); err != nil {
			t.Fatal(err)
		}
		if f := folderFinding(locked); f.Level != doctor.Problem || !strings.Contains(f.Found, "cannot be written") {
			t.Errorf("%+v", f)
		}
	}
	if writable(filepath.Join(home, "none")) || !writable(home) {
		t.Error("a folder that is not there was written, or one that is was not")
	}
	const mounts = "22 1 0:20 / / rw - overlay overlay rw\n23 22 0:21 / /data rw - ext4 /dev/sda rw\n24 22 0:22 / /proc rw - proc proc rw\n"
	for folder, want := range map[string]bool{"/data": true, "/data/caddy": true, "/database": false, "/root/.local/share/caddy": false} {
		if onMount(mounts, folder) != want {
			t.Errorf("%s: %v", folder, !want)
		}
	}
}

// TestDefaultStorage: where the running Caddy has its own is not taken from the
// environment of the command.
func TestDefaultStorage(t *testing.T) {
	p := patientOf(t, "a.example.com {\nshunt {\nremote_key ann {env.ANN}\naccount a {\napi_key {env.K}\n}\n}\n}")
	p.accounts[0].place.StorageRaw = nil
	p.admin = new(adminClient)
	p.says(t, p.storages(t.Context()), "skipped pool default: what runs does not tell where")
	p.dataDir = filepath.Join(filepath.Dir(p.file), "of-caddy")
	if got := p.told(p.storages(t.Context())); !strings.Contains(got, " of-caddy: ") {
		t.Error(got)
	}
}

// TestStyle: signs and colours are for terminals only.
func TestStyle(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if got := styleOf(file); got.Symbols || got.Colours {
		t.Errorf("a file: %+v", got)
	}
	if got := styleOf(device); !got.Symbols || !got.Colours {
		t.Errorf("a device: %+v", got)
	}
	t.Setenv("NO_COLOR", "1")
	if got := styleOf(device); !got.Symbols || got.Colours {
		t.Errorf("NO_COLOR: %+v", got)
	}
	t.Setenv("TERM", "dumb")
	if got := styleOf(device); got.Symbols || got.Colours {
		t.Errorf("dumb: %+v", got)
	}
}

// TestClockOfAnother: what another instance wrote in time to come shows its clock.
func TestClockOfAnother(t *testing.T) {
	p := patientOf(t, "a.example.com {\nshunt {\nremote_key ann {env.ANN}\naccount a {\napi_key {env.K}\n}\n}\n}")
	st, err := p.accounts[0].place.openPlain(p.caddy)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, off := range map[string]time.Duration{"one": time.Minute, "two": 0, "three": -time.Hour} {
		raw, err := json.Marshal(&factsRecord{Version: factsVersion, Instance: name, Boot: "b", Written: now.Add(off)})
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Store(t.Context(), "shunt/default/facts/"+name+".json", raw); err != nil {
			t.Fatal(err)
		}
	}
	p.says(t, aheadOf(t.Context(), st, "default", now), "warning pool default, instance one: its clock is at least 1m0s ahead")
}

// TestNoSecretIsTold runs every check on a configuration that has secrets wherever
// one can be.
func TestNoSecretIsTold(t *testing.T) {
	_, url := fctest.Start(t, fakeclaude.Options{Accounts: fourAccounts()})
	t.Setenv("DOCTOR_PLANTED", "planted-in-the-environment")
	p := patientOf(t, "a.example.com {\nlog\nshunt {\nremote_key ann planted-remote-key\nkeys %HOME%/keys\nupstream "+url+
		"\naccount a {\napi_key sk-ant-planted-key\n}\naccount b {\nsetup_token sk-ant-oat01-planted-token\nowner ann\n}\naccount c {\napi_key {file.%HOME%/key}\n}\naccount d {\napi_key {env.DOCTOR_PLANTED}\n}\n}\n}")
	home := filepath.Dir(p.file)
	putFile(t, filepath.Join(home, "keys"), "remote_key bob planted-other-key\n")
	putFile(t, filepath.Join(home, "key"), "sk-ant-planted-file\n")
	r := p.report()
	r.Run(t.Context(), p.checks())
	var text strings.Builder
	if err := r.Print(&text, doctor.Style{}); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String()+string(raw), "planted") {
		t.Errorf("a secret is told:\n%s", text.String())
	}
	if len(r.Checks) != len(p.checks()) || r.Problems == 0 {
		t.Errorf("%d checks, %d problems", len(r.Checks), r.Problems)
	}
	for _, c := range r.Checks {
		if len(c.Findings) == 0 || c.Looks == "" {
			t.Errorf("%s found nothing", c.Name)
		}
		for _, f := range c.Findings {
			if (f.Level == doctor.Problem || f.Level == doctor.Warning) && f.Change == "" {
				t.Errorf("%s: no advice: %+v", c.Name, f)
			}
		}
	}
}
