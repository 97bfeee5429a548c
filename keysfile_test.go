package shunt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// putFile writes a file as an editor does, with a time of its own.
func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func keysBench(t *testing.T, path, extra string) *bench {
	t.Helper()
	return newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:1]}, "keys "+path+"\nupstream %UPSTREAM%\n"+extra+"\naccount a {\napi_key sk-ant-api03-aaaa\n}")
}

// mustBecome waits until a request with the key is answered with the status.
func (b *bench) mustBecome(status int, key, what string) reply {
	b.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		r := b.ask(hello, "X-Api-Key", "", "X-Api-Key", key)
		if r.status == status {
			return r
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: %d %s", what, r.status, r.body)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestPeopleComeAndGo without a reload, and a file that is wrong changes nothing.
func TestPeopleComeAndGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "people")
	putFile(t, path, "# the team\nremote_key ann "+annKey+"\n")
	b := keysBench(t, path, "")
	b.mustBecome(200, annKey, "ann at the start")
	b.mustBecome(401, bobKey, "bob before he came")

	putFile(t, path, "remote_key ann "+annKey+" {\n\tmodels claude-haiku-*\n}\nremote_key bob "+hashSecret(bobKey)+"\nperson bob {\n\tadmin\n}\n")
	b.mustBecome(200, bobKey, "bob once he has come")
	if r := b.mustBecome(400, annKey, "ann's new limit"); !strings.Contains(r.body, "claude-haiku-*") {
		t.Errorf("ann is told %s", r.body)
	}
	if r := b.do("POST", "/use", `{"account":"auto"}`, "X-Api-Key", "", "X-Api-Key", bobKey); r.status != 200 {
		t.Errorf("bob is no admin: %d %s", r.status, r.body)
	}

	putFile(t, path, "remote_key bob "+bobKey+"x\nnonsense\n")
	time.Sleep(2500 * time.Millisecond)
	b.mustBecome(200, bobKey, "bob after a file that is wrong")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	b.mustBecome(200, bobKey, "bob after the file has gone")
	putFile(t, path, "remote_key ann "+annKey+"\n")
	b.mustBecome(401, bobKey, "bob after he has left")
	b.mustBecome(200, annKey, "ann")
}

// TestAnEmptyFileOfKeysLetsNobodyIn: it is not the same as no keys at all.
func TestAnEmptyFileOfKeysLetsNobodyIn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "people")
	putFile(t, path, "")
	b := keysBench(t, path, "")
	b.mustBecome(401, annKey, "anybody")
}

func TestKeysFileErrorsNameTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"remote_key ann good-enough\nkey bob x":                                       `/people:2`,
		"remote_key ann good-enough {\n\tlimit 5\n}":                                  `/people:2`,
		"remote_key ann good-enough\nperson ann {\n\tbudget 5eur per day\n}":          `/people:3`,
		"remote_key ann short":                                                        `/people:1`,
		"person ann {\n\trate 5":                                                      `people`,
		"remote_key ann good-enough\n\nremote_key a good-enough {\n\texpires soon\n}": `/people:3`,
	} {
		_, _, err := parseKeys("/etc/caddy/people", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
}

func TestKeysFileAtLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "people")
	for _, text := range []string{"-", "nonsense", "remote_key ann good-enough\nremote_key bob good-enough"} {
		if text != "-" {
			putFile(t, path, text)
		}
		h := &Handler{KeysFile: path, Accounts: []*Account{{Name: "main", APIKey: "sk-1"}}}
		if err := h.Provision(newContext(t)); err == nil || !strings.HasPrefix(err.Error(), "keys: ") && !strings.Contains(err.Error(), "bob") {
			t.Errorf("%q: %v", text, err)
		}
		_ = h.Cleanup()
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("remote_key ann sha256:6d2a7ac976a9dbaf83ecf34e846e0234fe75dda5988090334e3ff4fc5314c4d0 {\n\tadmin\n\texpires 2027-01-31\n\tbudget 5usd per day\n}\nperson * {\n\trate 5\n}\n")
	f.Add("person \"a b\" {\n\tmodels claude-*\n\tweight 3\n}")
	f.Fuzz(func(t *testing.T, text string) {
		keys, persons, err := parseKeys("people", []byte(text))
		if err != nil {
			return
		}
		for _, k := range keys {
			if err := k.check(); err != nil {
				t.Errorf("a key was taken that is not good: %v", err)
			}
		}
		for _, p := range persons {
			if err := p.check(); err != nil {
				t.Errorf("a person was taken that is not good: %v", err)
			}
		}
	})
}
