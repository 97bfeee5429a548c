package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	annKey = "key-of-ann" // marked admin
	bobKey = "key-of-bob"
	eveKey = "key-of-eve"
)

// caddy is a process with its own home. Its sites listen at an inherited socket, its admin
// endpoint at a Unix socket.
type caddy struct {
	spec   *spec
	home   string
	port   int
	site   *http.Client
	admin  *http.Client
	listen string
	log    string
	cmd    *exec.Cmd
}

// start runs Caddy. In the Caddyfile %HOME%, %PORT% and %UPSTREAM% are filled in.
func start(t *testing.T, s *spec, upstream, caddyfile string, prepare func(home string)) *caddy {
	t.Helper()
	// The path of a socket is short: 104 bytes on some systems.
	home, err := os.MkdirTemp("", "shunt-api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	c := &caddy{spec: s, home: home, port: listener.Addr().(*net.TCPAddr).Port, listen: listener.Addr().String(), log: filepath.Join(home, "log")}
	c.site = clientOf("tcp", c.listen)
	c.admin = clientOf("unix", filepath.Join(home, "admin.sock"))
	if prepare != nil {
		prepare(home)
	}
	file := filepath.Join(home, "Caddyfile")
	if err := os.WriteFile(file, []byte(c.fill(upstream, caddyfile)), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(c.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.cmd = exec.Command(binary, "run", "--config", file, "--adapter", "caddyfile")
	c.cmd.Dir, c.cmd.ExtraFiles, c.cmd.Stdout, c.cmd.Stderr = home, []*os.File{socket}, log, log // file descriptor 3
	c.cmd.Env = append(secretsEnv(), "PATH="+os.Getenv("PATH"), "HOME="+home, "XDG_DATA_HOME="+home+"/data", "XDG_CONFIG_HOME="+home+"/config", "GORACE=halt_on_error=1", "GOCOVERDIR="+os.Getenv("GOCOVERDIR"))
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	t.Cleanup(func() {
		_ = c.cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = c.cmd.Process.Kill()
			t.Error("Caddy did not stop")
		}
		text, _ := os.ReadFile(c.log)
		if strings.Contains(string(text), "panic") || strings.Contains(string(text), "DATA RACE") || t.Failed() {
			t.Logf("Caddy's log:\n%s", text)
		}
	})
	eventually(t, "Caddy serves", func() bool {
		resp, err := c.admin.Get("http://127.0.0.1/shunt/status")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return strings.Contains(string(text), `"accounts"`)
	})
	return c
}

func (c *caddy) fill(upstream, caddyfile string) string {
	return strings.NewReplacer("%HOME%", c.home, "%PORT%", fmt.Sprint(c.port), "%UPSTREAM%", upstream).Replace(caddyfile)
}

func clientOf(network, address string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}}
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) kind() string {
	kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	return kind
}

func (a *answer) read(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// send makes a request. url is a path of the admin endpoint's, or of a site's behind its
// host: "main.test/status".
func (c *caddy) send(t *testing.T, method, url, key, body string, header ...string) (*http.Request, *answer) {
	t.Helper()
	client, base := c.admin, "http://127.0.0.1"
	if host, path, _ := strings.Cut(url, "/"); host != "" {
		client, base, url = c.site, fmt.Sprintf("http://%s:%d", host, c.port), "/"+path
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, base+url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	if key != "" {
		r.Header.Set("X-Api-Key", key)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return r, &answer{resp.StatusCode, resp.Header, text}
}

// call makes a request that the file describes. The status must be as expected.
func (c *caddy) call(t *testing.T, status int, method, url, key, body string, header ...string) *answer {
	t.Helper()
	r, a := c.send(t, method, url, key, body, header...)
	if a.status != status {
		t.Errorf("%s %s: expected %d, got %d: %s", method, url, status, a.status, a.body)
	}
	c.spec.check(t, r, []byte(body), a)
	return a
}

func (c *caddy) get(t *testing.T, url, key string) *answer {
	t.Helper()
	return c.call(t, http.StatusOK, http.MethodGet, url, key, "")
}

// ask posts a message to a site.
func (c *caddy) ask(t *testing.T, host, key, body string, header ...string) *answer {
	t.Helper()
	_, a := c.send(t, http.MethodPost, host+"/v1/messages", key, body, header...)
	return a
}

// events reads a stream of server-sent events until enough says so.
func (c *caddy) events(t *testing.T, host, key string, enough func(name string, data []byte) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/dashboard/events", host, c.port), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", key)
	resp, err := c.site.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	c.spec.check(t, r, nil, &answer{resp.StatusCode, resp.Header, nil})
	var text bytes.Buffer
	piece := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(piece)
		text.Write(piece[:n])
		for {
			event, rest, whole := bytes.Cut(text.Bytes(), []byte("\n\n"))
			if !whole {
				break
			}
			name, data, _ := strings.Cut(string(event), "\n")
			name, data = strings.TrimPrefix(name, "event: "), strings.TrimPrefix(data, "data: ")
			if enough(name, []byte(data)) {
				return
			}
			text = *bytes.NewBuffer(bytes.Clone(rest))
		}
		if err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if done() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}
