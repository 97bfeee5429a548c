package shunt

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKeychainName(t *testing.T) {
	// printf %s /home/ann/shunt | sha256sum
	for folder, want := range map[string]string{"": "Claude Code-credentials", "/home/ann/shunt": "Claude Code-credentials-789d8bda"} {
		if got := keychainName(folder); got != want {
			t.Errorf("%q: %q", folder, got)
		}
		if help := otherPlaces("darwin", folder); !strings.Contains(help, `security find-generic-password -s "`+want+`" -w | caddy shunt import <name> --file -`) {
			t.Errorf("%q: %s", folder, help)
		}
	}
	if help := otherPlaces("linux", ""); strings.Contains(help, "Keychain") {
		t.Error(help)
	}
}

func TestIsEveryday(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	for _, folder := range []string{".claude", "own", ".config/anthropic/credentials"} {
		if err := os.MkdirAll(filepath.Join(home, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, folder, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(home, ".claude"), filepath.Join(home, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(home, ".claude", "file"), filepath.Join(home, "own", "link")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		".claude/file": true, "link/file": true, "own/link": true, ".config/anthropic/credentials/file": true, "own/file": false, ".claude/own/file": false,
	} {
		if got := isEveryday(filepath.Join(home, name)); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestProfileClient(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"configs", "credentials"} {
		if err := os.Mkdir(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "configs", "work.json"), []byte(`{"version":"1.0","authentication":{"type":"user_oauth","client_id":"the-client"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "credentials", "work.json")
	if err := os.WriteFile(path, []byte(`{"version":"1.0","type":"oauth_token","access_token":"a","refresh_token":"r"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := readCredentialsFile(path, false)
	if err != nil || f.record.ClientID != "the-client" || f.body().ClientID != "the-client" {
		t.Errorf("client %q, %v", f.record.ClientID, err)
	}
	if got := profileClient(filepath.Join(folder, "work.json")); got != "" {
		t.Errorf("of another file: %q", got)
	}
	if _, err := readCredentialsFile(path, true); err == nil {
		t.Error("a profile is followed")
	}
}

func TestAdminAddresses(t *testing.T) {
	t.Setenv("ADMIN_TEST", "localhost:7")
	for address, want := range map[string]string{
		"localhost:2019": "localhost:2019", ":2020": ":2020", "{env.ADMIN_TEST}": "localhost:7",
		"unix//run/caddy.sock": "unix//run/caddy.sock", "unix//run/caddy.sock|0220": "unix//run/caddy.sock", "[::1]:2019": "[::1]:2019",
	} {
		c, err := newAdminClient(address)
		if err != nil || c.String() != want {
			t.Errorf("%s: %v, %v", address, c, err)
		}
	}
	for _, address := range []string{"{env.NOT_SET_AT_ALL}", "localhost:1-9"} {
		if _, err := newAdminClient(address); err == nil {
			t.Errorf("%s was taken", address)
		}
	}
}

func TestNotRunning(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	for _, address := range []string{free, "unix/" + filepath.Join(t.TempDir(), "none.sock")} {
		c, err := newAdminClient(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.call(context.Background(), http.MethodGet, "/", nil, nil, nil); !errors.Is(err, errNotRunning) {
			t.Errorf("%s: %v", address, err)
		}
	}
	c, err := newAdminClient("no-such-host.invalid:2019")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.call(context.Background(), http.MethodGet, "/", nil, nil, nil); err == nil || errors.Is(err, errNotRunning) {
		t.Errorf("a name that is not known: %v", err)
	}
}

// ends is a connection with the ends that it is told.
type ends struct {
	net.Conn
	local, remote string
}

func (e ends) LocalAddr() net.Addr  { a, _ := net.ResolveTCPAddr("tcp", e.local); return a }
func (e ends) RemoteAddr() net.Addr { a, _ := net.ResolveTCPAddr("tcp", e.remote); return a }

func TestSameMachine(t *testing.T) {
	for c, want := range map[ends]bool{
		{local: "127.0.0.1:9", remote: "127.0.0.1:2019"}:         true,
		{local: "192.0.2.7:9", remote: "192.0.2.7:2019"}:         true,
		{local: "192.0.2.7:9", remote: "192.0.2.8:2019"}:         false,
		{local: "[::1]:9", remote: "[::1]:2019"}:                 true,
		{local: "[2001:db8::1]:9", remote: "[2001:db8::2]:2019"}: false,
	} {
		if got := sameMachine(c); got != want {
			t.Errorf("%v: %v", c, got)
		}
	}
}

func TestAccountsTable(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.Local)
	var out strings.Builder
	err := printAccounts(&out, []accountLine{
		{Pool: "p", Account: "a", Kind: "oauth", State: stateOK, ReadOnly: true, Follows: "/f", Owners: []string{"ann", "bob"}, Email: "a@\x1b[31mexample.com", Plan: "max",
			TokenExpires: now.Add(time.Hour), LoginExpires: now.Add(48 * time.Hour), LoginExpiresGuessed: true},
		{Pool: "p", Account: "b", Kind: "oauth", State: stateLoginRequired, Reason: "no login is stored"},
		{Pool: "p", Account: "c", Kind: "api_key", State: stateBenched, Until: now.Add(30 * time.Minute), Reason: "too many"},
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	const want = `
POOL  ACCOUNT  KIND     STATE                OWNER    E-MAIL             PLAN  TOKEN ENDS  LOGIN ENDS         REFRESHED
p     a        oauth    ok, read-only        ann bob  a@[31mexample.com  max   13:00       ~2026-07-03 12:00  -
p     b        oauth    login required       -        -                  -     -           -                  -
p     c        api_key  benched until 12:30  -        -                  -     -           -                  -

p/a follows /f
p/b: no login is stored
p/c: too many
`
	if got := "\n" + out.String(); got != want {
		t.Errorf("got%s\nwant%s", got, want)
	}
}

func TestKeyCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "people")
	putFile(t, file, "# the team\nremote_key ann {env.NOT_SET_HERE}\nperson ann {\n\trate 5\n}") // no newline at the end
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (out string, err error) {
		read, write, _ := os.Pipe()
		stdout := os.Stdout
		os.Stdout = write
		cmd := keyCommand()
		cmd.SetArgs(args)
		cmd.SilenceUsage = true
		err = cmd.Execute()
		os.Stdout = stdout
		write.Close()
		text, _ := io.ReadAll(read)
		return string(text), err
	}
	secret, err := run("bob", "--keys", file, "--expires", "90d", "--admin")
	if err != nil {
		t.Fatal(err)
	}
	secret = strings.TrimSpace(secret)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), secret) || !strings.HasPrefix(string(text), "# the team\nremote_key ann {env.NOT_SET_HERE}\n") {
		t.Errorf("the file is now %s", text)
	}
	if info, _ := os.Stat(file); info.Mode().Perm() != 0o640 {
		t.Errorf("its mode is now %v", info.Mode())
	}
	keys, _, err := parseKeys(file, text)
	if err != nil || len(keys) != 2 || keys[1].Secret != hashSecret(secret) || !keys[1].Admin {
		t.Fatalf("%v: %+v", err, keys)
	}
	if end, _ := endOf(keys[1].Expires, time.UTC); time.Until(end).Round(time.Hour) != 90*24*time.Hour {
		t.Errorf("it ends at %v", end)
	}
	again, err := run("bob")
	if err != nil || !strings.HasPrefix(again, "remote_key bob sha256:") || strings.Contains(again, hashSecret(secret)) {
		t.Errorf("%v %s", err, again)
	}
	before := string(text)
	for _, args := range [][]string{
		{"b b", "--keys", file}, {"bob", "--keys", file, "--expires", "2001-01-01"}, {"bob", "--keys", file, "--expires", "soon"},
		{"bob", "--keys", file, "--expires", "-5d"}, {"bob", "--keys", filepath.Join(file, "none")},
	} {
		if out, err := run(args...); err == nil {
			t.Errorf("%v: %s", args, out)
		}
	}
	if text, _ := os.ReadFile(file); string(text) != before {
		t.Error("a refused key changed the file")
	}
	putFile(t, file, "nonsense\n")
	if _, err := run("bob", "--keys", file); err == nil {
		t.Error("a key was added to a file that Caddy would not take")
	}
	fresh := filepath.Join(filepath.Dir(file), "fresh")
	if _, err := run("bob", "--keys", fresh); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(fresh); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a new file: %v %v", info, err)
	}
}
