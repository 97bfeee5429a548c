package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// connectTo runs caddy shunt connect as a person elsewhere does. It gives what was
// printed and the exit code.
func (s *site) connectTo(env []string, args ...string) (out string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, append([]string{"shunt", "connect"}, args...)...)
	cmd.Env, cmd.Dir = append(s.environment(), env...), s.home
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		s.t.Fatal(err)
	}
	return stdout.String() + stderr.String(), cmd.ProcessState.ExitCode()
}

// TestConnect: caddy shunt connect tells what works, and in words what does not.
func TestConnect(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	port := freePort(t)
	port = port[strings.LastIndexByte(port, ':')+1:]
	secure := "https://localhost:" + port
	config := strings.Replace(global, "admin %ADMIN%", "admin %ADMIN%\n\tskip_install_trust\n\tauto_https disable_redirects", 1) + block +
		strings.Replace(strings.Replace(block, "%SITE% {", secure+" {\n\ttls internal", 1), "\tshunt {", "\thandle_path /elsewhere/* {\n\t\trespond \"hello\"\n\t}\n\tshunt {\n\t\tpool second\n\t\thold off", 1)
	s := newSite(t, up, config, secrets...)
	s.start()
	withKey := []string{"SHUNT_KEY=" + bobKey}

	root := filepath.Join(s.home, "data", "caddy", "pki", "authorities", "local", "root.crt")
	eventually(t, "Caddy has its own certificate", 20*time.Second, func() bool {
		conn, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})

	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = target.Host
	}})
	defer proxy.Close()
	for name, c := range map[string]struct {
		url   string
		env   []string
		args  []string
		code  int
		words []string
	}{
		"over http on this machine": {s.url, withKey, nil, 0, []string{
			"with the key from SHUNT_KEY", "export ANTHROPIC_BASE_URL=" + s.url + "\n", "export ANTHROPIC_AUTH_TOKEN=your-key\n", `auth_token=os.environ["SHUNT_KEY"]`, "option.WithBaseURL(", `curl ` + s.url + `/v1/messages`,
		}},
		"for fish":                {s.url, withKey, []string{"--shell", "fish"}, 0, []string{"set -gx ANTHROPIC_AUTH_TOKEN your-key\n"}},
		"an untrusted authority":  {secure, withKey, nil, 2, []string{"failed   tls", "of the Caddy's own authority", "NODE_EXTRA_CA_CERTS", "caddy trust"}},
		"a trusted authority":     {secure, append(withKey, "NODE_EXTRA_CA_CERTS="+root), nil, 0, []string{"trusted because of NODE_EXTRA_CA_CERTS", "export NODE_EXTRA_CA_CERTS=" + root}},
		"trusted by the system":   {secure, append(withKey, "SSL_CERT_FILE="+root), nil, 0, []string{"TLS 1.3, a certificate of Caddy Local Authority"}},
		"not the name":            {"https://127.0.0.1:" + port, append(withKey, "SSL_CERT_FILE="+root), nil, 2, []string{"failed   tls", "the server has no certificate for 127.0.0.1"}},
		"a wrong key":             {s.url, []string{"SHUNT_KEY=shunt-not-anybodys"}, nil, 2, []string{"failed   key", "status 401: the key is not known here"}},
		"no key":                  {s.url, nil, nil, 2, []string{"failed   key", "without a key", "a key is required"}},
		"a model that is none":    {s.url, withKey, []string{"--model", "claude-no-such"}, 2, []string{"failed   key", "let in", "--model names another"}},
		"not shunt":               {secure + "/elsewhere", append(withKey, "SSL_CERT_FILE="+root), nil, 2, []string{"failed   pool", "is not shunt (status 200"}},
		"the admin API":           {"http://" + s.admin, withKey, nil, 2, []string{"failed   pool", "is not shunt (status 404"}},
		"http on the port of TLS": {"http://localhost:" + port, withKey, nil, 2, []string{"failed   pool", "is not shunt (status 400"}},
		"through a proxy": {"http://claude.example.invalid", append(withKey, "HTTP_PROXY="+proxy.URL), nil, 0, []string{
			"note     url", "http is not encrypted", "skipped  dns      the environment names a proxy", "ok       key",
		}},
		"nobody": {"https://" + freePort(t), withKey, nil, 2, []string{"failed   connect", "nothing listens"}},
	} {
		out, code := s.connectTo(c.env, append([]string{c.url}, c.args...)...)
		if code != c.code {
			t.Errorf("%s: exit code %d, expected %d\n%s", name, code, c.code, out)
		}
		for _, words := range c.words {
			if !strings.Contains(out, words) {
				t.Errorf("%s: %q is missing in\n%s", name, words, out)
			}
		}
		for _, secret := range []string{bobKey, "shunt-not-anybodys"} {
			if strings.Contains(out, secret) {
				t.Errorf("%s: the key is in\n%s", name, out)
			}
		}
		if strings.Contains(out, "export ANTHROPIC") && c.code != 0 && name != "a model that is none" {
			t.Errorf("%s: lines to paste, though the key is not known to be right\n%s", name, out)
		}
	}

	// The lines work as they are printed.
	keyFile := filepath.Join(s.home, "key")
	if err := os.WriteFile(keyFile, []byte(bobKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := s.connectTo(nil, s.url, "--key-file", keyFile, "--show-key", "--json", "--shell", "bash")
	var answer struct {
		URL    string
		Works  bool
		Checks []struct{ Name, State, Words string }
		Lines  map[string]string
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != 0 || !answer.Works || len(answer.Checks) != 6 || answer.URL != s.url {
		t.Fatalf("code %d, %v\n%s", code, err, out)
	}
	if !strings.Contains(answer.Lines["claude_code"], "ANTHROPIC_AUTH_TOKEN="+bobKey) {
		t.Errorf("--show-key does not: %s", answer.Lines["claude_code"])
	}
	// In the place of curl, what sends the same.
	pasted := exec.CommandContext(t.Context(), "sh", "-c", answer.Lines["key"]+"curl() { printf '%s\\n' \"$@\"; }\n"+answer.Lines["curl"])
	words, err := pasted.Output()
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Split(string(words), "\n")
	name, value, _ := strings.Cut(said[2], ": ")
	s.do(http.MethodPost, said[0], said[8], name, value).mustServe(t)

	// Everything is spent: the key is right all the same.
	for _, name := range []string{"a", "b", "c", "d"} {
		up.SetFault(name, fakeclaude.Always(fakeclaude.SpendCap))
	}
	for range 4 {
		s.do(http.MethodPost, s.url+"/v1/messages", hello, "X-Api-Key", annKey)
	}
	out, code = s.connectTo(withKey, s.url)
	for _, words := range []string{"failed   pool     a pool, but it cannot serve just now: all 4 accounts are out: 4 at the spend limit until", "ok       key", "export ANTHROPIC_AUTH_TOKEN=your-key"} {
		if !strings.Contains(out, words) || code != 2 {
			t.Errorf("everything is spent: code %d, %q is missing in\n%s", code, words, out)
		}
	}
}

// TestConnectAsks: the key is asked for on a terminal, and does not show there.
func TestConnectAsks(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("script(1) is not installed: there is no terminal to ask on")
	}
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	s := newSite(t, up, global+block, secrets...)
	s.start()
	cmd := exec.CommandContext(t.Context(), script, "-qec", fmt.Sprintf("'%s' shunt connect '%s'", s.binary, s.url), "/dev/null")
	cmd.Env, cmd.Dir = s.environment(), s.home
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	piece := make([]byte, 4096)
	for !strings.Contains(shown.String(), "Your key") {
		n, err := out.Read(piece)
		if err != nil {
			t.Fatalf("%v after\n%s", err, shown.String())
		}
		shown.Write(piece[:n])
	}
	// The echo is turned off right behind the words.
	time.Sleep(300 * time.Millisecond)
	_, _ = io.WriteString(in, bobKey+"\n")
	_, _ = io.Copy(&shown, out)
	if err := cmd.Wait(); err != nil || !strings.Contains(shown.String(), "with the key from the terminal") || strings.Contains(shown.String(), bobKey) {
		t.Errorf("%v\n%s", err, shown.String())
	}
}
