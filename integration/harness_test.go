// Package integration tests the built binary: a real Caddy in a process of its
// own, in front of the fake upstream.
package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// binary is the Caddy under test.
var binary string

// built are the folders of other Caddys that tests have built.
var built []string

// served counts the answers that came through a pool, so that a run in which
// nothing was tested cannot look green.
var served atomic.Int64

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if binary = os.Getenv("SHUNT_CADDY"); binary == "" {
		folder, err := os.MkdirTemp("", "shunt-integration")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(folder)
		binary = filepath.Join(folder, "caddy")
		fmt.Println("building Caddy with the race detector; this takes minutes the first time")
		build := exec.Command("go", "build", "-race", "-tags", "nobadger,nomysql,nopgx", "-o", binary, "../cmd/caddy")
		build.Stdout, build.Stderr = os.Stdout, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "building Caddy:", err)
			return 1
		}
	}
	code := m.Run()
	for _, folder := range built {
		_ = os.RemoveAll(folder)
	}
	fmt.Printf("integration: %d answers through a real Caddy\n", served.Load())
	if code == 0 && served.Load() == 0 {
		fmt.Fprintln(os.Stderr, "integration: nothing was tested")
		return 1
	}
	return code
}

// upstream is a fake upstream on a port of its own.
type upstream struct {
	*fakeclaude.Server
	url string
}

func startUpstream(t *testing.T, options fakeclaude.Options) *upstream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fake := fakeclaude.New(options)
	server := &http.Server{Handler: fake, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		fake.Close()
		_ = server.Close()
	})
	return &upstream{Server: fake, url: "http://" + listener.Addr().String()}
}

// site is a Caddy process with its own home.
type site struct {
	t      *testing.T
	home   string
	binary string
	attr   *syscall.SysProcAttr // of the process; nil for the usual
	admin  string               // host:port
	url    string
	env    []string
	config string // with the placeholders filled in
	cmd    *exec.Cmd
	exited chan error

	reloaded atomic.Int64 // when the last reload began, in Unix milliseconds
}

// nextPort walks through the ports below those that the system hands out by
// itself. Caddy shares ports, so a port that somebody else got meanwhile would
// not be an error but a mix-up.
var nextPort = 20000 + os.Getpid()%9000

func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		nextPort++
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", nextPort))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// newSite prepares a site. In the Caddyfile %ADMIN%, %SITE%, %HOME% and
// %UPSTREAM% are filled in.
func newSite(t *testing.T, up *upstream, caddyfile string, env ...string) *site {
	t.Helper()
	s := &site{t: t, binary: binary, home: t.TempDir(), admin: freePort(t), env: env}
	address := freePort(t)
	s.url = "http://" + address
	s.config = s.fill(caddyfile, up, address)
	return s
}

func (s *site) fill(caddyfile string, up *upstream, address string) string {
	url := ""
	if up != nil {
		url = up.url
	}
	return strings.NewReplacer("%ADMIN%", s.admin, "%SITE%", "http://"+address, "%HOME%", s.home, "%UPSTREAM%", url).Replace(caddyfile)
}

func (s *site) caddyfile() string { return filepath.Join(s.home, "Caddyfile") }

func (s *site) environment() []string {
	env := []string{"HOME=" + s.home, "XDG_DATA_HOME=" + s.home + "/data", "XDG_CONFIG_HOME=" + s.home + "/config", "PATH=" + os.Getenv("PATH"), "GORACE=halt_on_error=1"}
	return append(env, s.env...)
}

// start runs Caddy and waits until it serves.
func (s *site) start() {
	s.t.Helper()
	if err := os.WriteFile(s.caddyfile(), []byte(s.config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(s.binary, "run", "--config", s.caddyfile(), "--adapter", "caddyfile")
	s.cmd.Env, s.cmd.Dir, s.cmd.SysProcAttr = s.environment(), s.home, s.attr
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan error) { exited <- cmd.Wait() }(s.cmd, s.exited)
	s.t.Cleanup(s.stop)
	deadline := time.Now().Add(30 * time.Second)
	for {
		if s.running() {
			return
		}
		select {
		case err := <-s.exited:
			s.exited <- err
			s.t.Fatalf("Caddy ended: %v\n%s", err, s.logs())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("Caddy does not serve\n%s", s.logs())
		}
	}
}

// running reports whether the site answers and its pools have what storage holds of
// them: requests may come before that, and the admin API lists them after it.
func (s *site) running() bool {
	resp, err := http.Get(s.url + "/health")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	if resp, err = http.Get("http://" + s.admin + "/shunt/status"); err != nil {
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return err == nil && strings.Contains(string(body), `"accounts"`)
}

// end sends a signal and waits for the process. It is a failure when the race
// detector or a panic ended it.
func (s *site) end(signal os.Signal) {
	s.t.Helper()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(signal)
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
		s.t.Error("Caddy did not stop")
	}
	s.cmd = nil
	for _, bad := range []string{"DATA RACE", "panic: "} {
		if strings.Contains(s.logs(), bad) {
			s.t.Errorf("%s in Caddy's log:\n%s", bad, s.logs())
		}
	}
}

func (s *site) stop() { s.end(syscall.SIGTERM) }

func (s *site) logFile() string { return filepath.Join(s.home, "caddy.log") }

func (s *site) logs() string {
	data, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// reload loads another Caddyfile through the admin API, as `caddy reload` does.
func (s *site) reload(config string) error {
	s.t.Helper()
	s.reloaded.Store(time.Now().UnixMilli())
	a := s.do(http.MethodPost, "http://"+s.admin+"/load", config, "Content-Type", "text/caddyfile", "Cache-Control", "must-revalidate")
	if a.err != nil || a.status != http.StatusOK {
		return fmt.Errorf("reload: status %d, %v: %s", a.status, a.err, a.body) //nolint:errorlint // often there is no error to wrap
	}
	return nil
}

// cutByReload reports whether Caddy's own change of listeners lost the request:
// it closes idle connections and the old listening socket, and the kernel resets
// what waits there to be accepted. No handler sees such a request, and clients
// send it again.
func (s *site) cutByReload(err error) bool {
	const changing = 3 * time.Second
	return (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)) &&
		time.Since(time.UnixMilli(s.reloaded.Load())) < changing
}

// command runs a subcommand of the binary in the site's home.
func (s *site) command(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env, cmd.Dir = s.environment(), s.home
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("caddy %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func (s *site) do(method, url, body string, headers ...string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if s.cutByReload(err) {
		// Another idle connection may be about to be closed as well.
		http.DefaultClient.CloseIdleConnections()
		r.Body, _ = r.GetBody()
		resp, err = http.DefaultClient.Do(r)
	}
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusOK {
		served.Add(1)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(data), err: err}
}

// ask posts a message as the person whose key it is.
func (s *site) ask(key, body string, headers ...string) answer {
	s.t.Helper()
	return s.do(http.MethodPost, s.url+"/v1/messages", body, append([]string{"X-Api-Key", key}, headers...)...)
}

func (s *site) status(key string) (status map[string]any) {
	s.t.Helper()
	r := s.do(http.MethodGet, s.url+"/status", "", "X-Api-Key", key)
	if err := json.Unmarshal([]byte(r.body), &status); err != nil || r.status != http.StatusOK {
		s.t.Fatalf("status: %d %v %s", r.status, r.err, r.body)
	}
	return status
}

// goroutines counts the process's goroutines.
func (s *site) goroutines() (n int) {
	s.t.Helper()
	r := s.do(http.MethodGet, "http://"+s.admin+"/debug/pprof/goroutine?debug=1", "")
	if _, err := fmt.Sscanf(r.body, "goroutine profile: total %d", &n); err != nil {
		s.t.Fatalf("reading the goroutine profile: %v %s", err, r.body)
	}
	return n
}

func (a answer) mustServe(t *testing.T) {
	t.Helper()
	if a.err != nil || a.status != http.StatusOK {
		t.Fatalf("status %d, %v: %s", a.status, a.err, a.body)
	}
}

// eventually waits for something that comes in the background.
func eventually(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// filesWith lists the files below a folder that contain the text.
func filesWith(t *testing.T, folder, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(data, []byte(text)) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// lineWith is the line of a file that contains the text.
func lineWith(t *testing.T, file, text string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}
