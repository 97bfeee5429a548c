package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// steady is the account that is well but for the rounds in which all are sick.
const steady = "steady"

var (
	people     = []string{"ann", "bob", "cyd"}
	personKeys = map[string]string{"ann": "key-of-ann-3f1c9a", "bob": "key-of-bob-77d20e", "cyd": "key-of-cyd-b5580c", "root": "key-of-root-0c41d8"}
	apiNames   = []string{steady, "k1", "k2", "k3"}
	logins     = []string{"l1", "l2"}
	faulty     = []string{"k1", "k2", "k3", "l1", "l2"}
)

// world is everything that a run needs.
type world struct {
	t        *testing.T
	fake     *fakeclaude.Server
	recorder *recorder
	doors    map[string]*door
	tokens   *door // the token endpoint's own way
	caddy    *process
	truth    *truth
	orgs     map[string]string // organisation to account
	secrets  map[string]string // secret to owner
	variant  int
}

// speed makes access tokens live for six seconds.
const speed = 4800

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, truth: newTruth(), doors: map[string]*door{}, orgs: map[string]string{}, secrets: map[string]string{}}
	env := []string{}
	for person, key := range personKeys {
		w.secrets[key] = person
		env = append(env, "KEY_"+strings.ToUpper(person)+"="+key)
	}
	const plenty = 1 << 50
	var accounts []fakeclaude.Account
	for i, name := range append(append([]string{}, apiNames...), logins...) {
		a := fakeclaude.Account{Name: name, Org: fmt.Sprintf("00000000-0000-4000-8000-%012d", i),
			RPM: plenty, ITPM: plenty, OTPM: plenty, FiveHour: plenty, Week: plenty}
		if strings.HasPrefix(name, "l") {
			a.AccessToken, a.RefreshToken, a.Plan = "sk-ant-oat01-chaos-"+name, "sk-ant-ort01-chaos-"+name, fakeclaude.Max20
			w.secrets[a.AccessToken], w.secrets[a.RefreshToken] = name, name
		} else {
			a.APIKey = "sk-ant-api03-chaos-" + name + "-5d1e"
			w.secrets[a.APIKey] = name
			env = append(env, "ACCOUNT_"+strings.ToUpper(name)+"="+a.APIKey)
		}
		w.orgs[a.Org] = name
		accounts = append(accounts, a)
	}
	w.fake = fakeclaude.New(fakeclaude.Options{
		Accounts: accounts, Seed: *chaosSeed, Pace: time.Millisecond, KeepRequests: 500_000,
		Speed: speed, LoginLife: 28 * 24 * time.Hour, CacheLife: 5 * time.Minute, HangLimit: 20 * time.Second,
	})
	t.Cleanup(w.fake.Close)
	w.recorder = &recorder{fake: w.fake, attempts: map[string]*attempt{}}
	for _, key := range personKeys {
		w.recorder.secrets = append(w.recorder.secrets, key)
	}
	w.tokens = openDoor(t, w.recorder, false)
	w.doors[steady] = openDoor(t, w.recorder, false)
	for _, name := range faulty {
		w.doors[name] = openDoor(t, w.recorder, true)
	}
	w.caddy = newProcess(t, env...)
	return w
}

func (w *world) nameOf(org string) string { return w.orgs[org] }

func (w *world) secretIn(text []byte) string {
	for secret, owner := range w.secrets {
		if bytes.Contains(text, []byte(secret)) {
			return owner
		}
	}
	// Tokens that the fake mints are not known beforehand; none belongs anywhere else.
	for _, prefix := range []string{"sk-ant-oat01-", "sk-ant-ort01-", "sk-ant-api03-"} {
		if bytes.Contains(text, []byte(prefix)) {
			return "an account (" + prefix + ")"
		}
	}
	return ""
}

var policies = []string{"balanced", "round_robin", "least_used"}

// config is one of the configurations that reloads go through: they differ in the
// policy, in the order of the accounts, in their weights, and in whether k3 is there.
func (w *world) config(variant int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n\tadmin %s\n\tpersist_config off\n\tskip_install_trust\n\tauto_https off\n\tgrace_period 20s\n}\n%s {\n\tshunt {\n\t\tpool chaos\n",
		strings.TrimPrefix(w.caddy.admin, "http://"), w.caddy.url)
	for _, person := range people {
		fmt.Fprintf(&b, "\t\tremote_key %s {env.KEY_%s}\n", person, strings.ToUpper(person))
	}
	b.WriteString("\t\tremote_key root {env.KEY_ROOT} {\n\t\t\tadmin\n\t\t}\n\t\texpose_account\n\t\thold 10s\n\t\tstall_timeout 2s\n")
	fmt.Fprintf(&b, "\t\tpolicy %s\n", policies[variant%len(policies)])
	names := append([]string{steady}, faulty...)
	for i := range names {
		name := names[(i+variant)%len(names)]
		if name == "k3" && variant%2 == 1 {
			continue
		}
		fmt.Fprintf(&b, "\t\taccount %s {\n\t\t\tupstream %s\n\t\t\tweight %d\n", name, w.doors[name].url, 1+(i*7+variant)%4)
		if strings.HasPrefix(name, "l") {
			fmt.Fprintf(&b, "\t\t\toauth {\n\t\t\t\ttoken_url %s/v1/oauth/token\n\t\t\t}\n\t\t\towner *\n", w.tokens.url)
		} else {
			fmt.Fprintf(&b, "\t\t\tapi_key {env.ACCOUNT_%s}\n", strings.ToUpper(name))
		}
		b.WriteString("\t\t}\n")
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// begin puts the logins into the storage and starts Caddy.
func (w *world) begin() {
	w.t.Helper()
	if err := os.WriteFile(w.caddy.configFile(), []byte(w.config(0)), 0o600); err != nil {
		w.t.Fatal(err)
	}
	for _, name := range logins {
		access, refresh := w.fake.Tokens(name)
		data, err := json.Marshal(map[string]any{"claudeAiOauth": map[string]any{
			"accessToken": access, "refreshToken": refresh, "expiresAt": time.Now().Add(6 * time.Second).UnixMilli(),
			"scopes": []string{"user:inference"}, "subscriptionType": "max",
		}})
		if err != nil {
			w.t.Fatal(err)
		}
		file := filepath.Join(w.caddy.home, "credentials.json")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			w.t.Fatal(err)
		}
		out, err := w.caddy.command("shunt", "import", name, "--pool", "chaos", "--file", file, "--config", w.caddy.configFile(), "--adapter", "caddyfile").CombinedOutput()
		if err != nil {
			w.t.Fatalf("importing %s: %v\n%s", name, err, out)
		}
		_ = os.Remove(file)
	}
	if err := w.caddy.start(); err != nil {
		w.t.Fatal(err)
	}
}
