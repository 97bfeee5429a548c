package shunt

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

const oneLogin = "\naccount main {\noauth\nowner *\n}"

// TestEncrypt walks a login through the life of its keys: in clear, sealed, key
// gone, key back by a reload, new key, old key gone.
func TestEncrypt(t *testing.T) {
	root, first, second := t.TempDir(), sealingKey(t, "SHUNT_TEST_KEY", 1), sealingKey(t, "SHUNT_TEST_KEY2", 2)
	putLogin(t, root, "sealed", "main", "access-main", "refresh-main", nil)
	aside := filepath.Join(root, "shunt", "sealed", "credentials", "main.json.corrupt-5")
	if err := os.WriteFile(aside, []byte(`{"refresh_token":"refresh-old"`), 0o600); err != nil {
		t.Fatal(err)
	}
	step := func(name, encrypt, want string) *started {
		t.Helper()
		s := begin(t, "sealed", root, encrypt+oneLogin)
		soon(t, name+": sealed with "+want, func() bool {
			var form struct{ Sealed, Key string }
			raw := readFile(t, s.record("main"))
			return json.Unmarshal([]byte(raw), &form) == nil && form.Key == want && !strings.Contains(raw, "refresh-main")
		})
		cred, err := s.account("main").source.Get(t.Context())
		if err != nil || cred.Version() == "" {
			t.Errorf("%s: %v", name, err)
		}
		return s
	}
	s := step("plain to sealed", "encrypt {env.SHUNT_TEST_KEY}", first)
	soon(t, "the copy is sealed", func() bool { return !strings.Contains(readFile(t, aside), "refresh-old") })
	soon(t, "the log tells", func() bool { return s.logged("credentials were sealed with the first key") == 1 })
	s.stop()
	before := readFile(t, s.record("main"))

	s = begin(t, "sealed", root, oneLogin)
	_, err := s.account("main").source.Get(t.Context())
	if err == nil || !strings.Contains(err.Error(), first) {
		t.Errorf("without the key: %v; want the key's ID", err)
	}
	status := s.h.status(person{admin: true}).Accounts[0]
	if status.Status != "reauth_required" || !strings.Contains(status.Reason, first) {
		t.Errorf("without the key the account is %s: %s", status.Status, status.Reason)
	}
	if after := readFile(t, s.record("main")); after != before || len(asides(t, s.record("main"))) != 1 {
		t.Errorf("the record that no key opens was touched; copies %v", asides(t, s.record("main")))
	}
	reloaded := begin(t, "sealed", root, "encrypt {env.SHUNT_TEST_KEY}"+oneLogin)
	soon(t, "the login is back with the key", func() bool { return !reloaded.account("main").source.Status().LoginRequired })
	s.stop()
	reloaded.stop()

	step("new key first", "encrypt {env.SHUNT_TEST_KEY2} {env.SHUNT_TEST_KEY}", second).stop()
	step("old key gone", "encrypt {env.SHUNT_TEST_KEY2}", second).stop()
}

// TestEncryptTellsWhichRecord: a record that stays closed is in the log with the
// reason.
func TestEncryptTellsWhichRecord(t *testing.T) {
	root := t.TempDir()
	lost := sealingKey(t, "SHUNT_TEST_KEY", 1)
	putLogin(t, root, "lostkey", "main", "access-main", "refresh-main", nil)
	s := begin(t, "lostkey", root, "encrypt {env.SHUNT_TEST_KEY}"+oneLogin)
	soon(t, "sealed", func() bool { return strings.Contains(readFile(t, s.record("main")), lost) })
	s.stop()
	sealingKey(t, "SHUNT_TEST_KEY", 3)
	s = begin(t, "lostkey", root, "encrypt {env.SHUNT_TEST_KEY}"+oneLogin)
	soon(t, "the log names record and key", func() bool {
		for _, e := range s.logs.FilterMessageSnippet("could not be sealed").All() {
			fields := e.ContextMap()
			return fields["record"] == credentialKey("lostkey", "main") && strings.Contains(fields["error"].(string), lost)
		}
		return false
	})
}

func TestEncryptRefused(t *testing.T) {
	t.Setenv("SHUNT_TEST_BAD", "c2hvcnQtc2VjcmV0")
	for name, c := range map[string]struct{ place, want string }{
		"no value": {"{env.SHUNT_TEST_NOBODY}", "encrypt"}, "not a key": {"{env.SHUNT_TEST_BAD}", "12 bytes"},
		"literal":   {"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "key 1"},
		"half":      {"{env.SHUNT_TEST_BAD}MDEy", "key 1"},
		"no folder": {"{file." + filepath.Join(t.TempDir(), "none") + "}", "encrypt"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &Handler{Pool: "refused", Accounts: []*Account{{Name: "a", APIKey: "sk-ant-api03-aaaa"}}, Encrypt: []string{c.place}}
			err := h.Provision(newContext(t))
			if cerr := h.Cleanup(); cerr != nil {
				t.Error(cerr)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v; want %q", err, c.want)
			}
			for _, secret := range []string{"c2hvcnQ", "MDEy", "short-secret"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error quotes the key: %v", err)
				}
			}
		})
	}
}

// TestEncryptIsOneForThePool: blocks of one pool share its logins.
func TestEncryptIsOneForThePool(t *testing.T) {
	sealingKey(t, "SHUNT_TEST_KEY", 1)
	ctx := newContext(t)
	for i, encrypt := range [][]string{{"{env.SHUNT_TEST_KEY}"}, {"{env.SHUNT_TEST_KEY}"}, nil} {
		h := &Handler{Pool: "shared", Accounts: []*Account{{Name: "a", APIKey: "sk-ant-api03-aaaa"}}, Encrypt: encrypt}
		err := h.Provision(ctx)
		t.Cleanup(func() {
			if err := h.Cleanup(); err != nil {
				t.Error(err)
			}
		})
		if wrong := i == 2; wrong != (err != nil) || wrong && !strings.Contains(err.Error(), "encrypt") {
			t.Errorf("block %d: %v", i, err)
		}
	}
}

// TestBrokenCredentialRecords: what cannot be read stays as it is, whatever is
// asked of the account; a copy is kept of what is corrupt.
func TestBrokenCredentialRecords(t *testing.T) {
	for name, c := range map[string]struct {
		raw    string
		copies int
	}{
		"empty": {"", 1}, "truncated": {`{"version":1,"access_token":"sk-ant-oat01-x","ref`, 1}, "no JSON": {"\x00\x01", 1},
		"newer": {`{"version":2,"access_token":"sk-ant-oat01-x"}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root, poolName := t.TempDir(), "broken"
			path := filepath.Join(root, "shunt", poolName, "credentials", "main.json")
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(c.raw), 0o600); err != nil {
				t.Fatal(err)
			}
			sealingKey(t, "SHUNT_TEST_KEY", 1)
			s := begin(t, poolName, root, "encrypt {env.SHUNT_TEST_KEY}"+oneLogin)
			source := s.account("main").source
			for range 3 {
				if _, err := source.Get(t.Context()); err == nil {
					t.Error("a credential was made of it")
				}
				if _, err := source.Refresh(t.Context(), credential.Credential{}); err == nil {
					t.Error("it was refreshed")
				}
			}
			soon(t, "the log tells", func() bool { return s.logged("a login is required") == 1 })
			s.stop()
			if got := readFile(t, path); got != c.raw {
				t.Errorf("the record is now %q", got)
			}
			if copies := asides(t, path); len(copies) != c.copies {
				t.Errorf("copies: %v", copies)
			}
		})
	}
}

// TestBrokenStateRecords: a state that cannot be read is kept aside, also one of a
// version to come, and the pool goes on with a new one.
func TestBrokenStateRecords(t *testing.T) {
	id, err := caddy.InstanceID()
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{
		"empty": "", "truncated": `{"version":2,"accounts":[{"ke`, "newer": `{"version":999,"accounts":[],"precious":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, "shunt", "brokenstate", "state", id.String()+".json")
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			s := begin(t, "brokenstate", root, "account main {\napi_key sk-ant-api03-aaaa\n}")
			s.h.live.state.Pin("main")
			s.stop()
			copies := asides(t, path)
			if len(copies) != 1 || readFile(t, copies[0]) != raw {
				t.Fatalf("copies: %v", copies)
			}
			if now := readFile(t, path); !strings.Contains(now, `"pin":"main"`) {
				t.Errorf("the new state is %s", now)
			}
		})
	}
}

func TestTendRecordsStopsWithItsContext(t *testing.T) {
	sealingKey(t, "SHUNT_TEST_KEY", 1)
	root := t.TempDir()
	putLogin(t, root, "ended", "main", "access-main", "refresh-main", nil)
	s, err := tryBegin(t, "ended", root, "encrypt {env.SHUNT_TEST_KEY}"+oneLogin)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.h.app.tendRecords(ctx)
	if s.logged("could not be sealed") != 0 {
		t.Error("an end is reported as a failure")
	}
}
