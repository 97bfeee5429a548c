package terminal

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude/fctest"
)

// world is a Caddy in front of a fake upstream, for one test. Its admin API is on a Unix
// socket, so that no port is mistaken for another's.
type world struct {
	t     *testing.T
	fake  *fakeclaude.Server
	home  string
	url   string
	admin string
	// socket listens for all Caddys of this world: a port that was only found to be free
	// could be another's too, since Caddy shares its ports.
	socket *os.File
	cmd    *exec.Cmd
	done   chan struct{}
	log    *bytes.Buffer // complete once done is closed
}

const annKey = "key-of-ann"

var secrets = map[string]string{"first": "sk-ant-oat01-first", "second": "sk-ant-oat01-second", "spare": "sk-ant-api03-spare"}

func newWorld(t *testing.T) *world {
	t.Helper()
	fake, upstream := fctest.Start(t, fakeclaude.Options{Accounts: []fakeclaude.Account{
		{Name: "first", AccessToken: secrets["first"], Plan: fakeclaude.Max20},
		{Name: "second", AccessToken: secrets["second"], Plan: fakeclaude.Max5},
		{Name: "spare", APIKey: secrets["spare"]},
	}})
	// A short folder: the path of a socket may have some hundred bytes.
	home, err := os.MkdirTemp("", "shunt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	w := &world{t: t, fake: fake, home: home, admin: "unix/" + filepath.Join(home, "admin.sock")}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	w.url = "http://" + listener.Addr().String()
	if w.socket, err = listener.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.socket.Close() })
	config := fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	storage file_system %s
}
%s {
	bind fd/3
	shunt {
		upstream %s
		policy least_used
		remote_key ann %s {
			admin
		}
		account first {
			setup_token %s
			owner *
		}
		account second {
			setup_token %s
			owner *
		}
		account spare {
			api_key %s
			priority 1
		}
	}
}
`, w.admin, filepath.Join(home, "storage"), w.url, upstream, annKey, secrets["first"], secrets["second"], secrets["spare"])
	if err := os.WriteFile(w.caddyfile(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(w.stop)
	return w
}

func (w *world) caddyfile() string { return filepath.Join(w.home, "Caddyfile") }

// environment is without what could be of the person who runs the tests.
func (w *world) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.home, "XDG_DATA_HOME=" + w.home, "XDG_CONFIG_HOME=" + w.home, "GORACE=" + os.Getenv("GORACE"),
		"GOCOVERDIR=" + os.Getenv("GOCOVERDIR"), "TERM=xterm-256color", "LANG=C.UTF-8", "TZ=UTC",
	}
}

// start runs Caddy until stop, and waits until it serves.
func (w *world) start() {
	w.t.Helper()
	w.log, w.done = new(bytes.Buffer), make(chan struct{})
	w.cmd = exec.Command(caddyPath, "run", "--config", w.caddyfile(), "--adapter", "caddyfile")
	w.cmd.Dir, w.cmd.Env = w.home, w.environment()
	w.cmd.Stdout, w.cmd.Stderr = w.log, w.log
	w.cmd.ExtraFiles = []*os.File{w.socket} // file descriptor 3
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(w.cmd, w.done)
	deadline := time.Now().Add(30 * time.Second)
	// The socket takes calls also when no Caddy answers them.
	client := http.Client{Timeout: time.Second}
	for {
		resp, err := client.Get(w.url + "/health")
		if err == nil {
			_ = resp.Body.Close()
			if out, err := w.command("shunt", "status", "--check"); err == nil && strings.Contains(out, "can serve") {
				return
			}
		}
		select {
		case <-w.done:
			w.t.Fatalf("Caddy ended:\n%s", w.log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			w.stop()
			w.t.Fatalf("Caddy does not serve:\n%s", w.log)
		}
	}
}

// stop ends Caddy; it may be stopped already.
func (w *world) stop() {
	w.t.Helper()
	if w.cmd == nil {
		return
	}
	_ = w.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.done:
	case <-time.After(20 * time.Second):
		w.t.Error("Caddy did not stop within 20 s")
		_ = w.cmd.Process.Kill()
		<-w.done
	}
	w.cmd = nil
	for _, bad := range []string{"panic: ", "DATA RACE"} {
		if strings.Contains(w.log.String(), bad) {
			w.t.Errorf("%s in Caddy's log:\n%s", bad, w.log)
		}
	}
}

// ask makes a request, which must be served.
func (w *world) ask() {
	w.t.Helper()
	body := `{"model":"claude-sonnet-5-5","max_tokens":50,"messages":[{"role":"user","content":"hello"}]}`
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", annKey)
	r.Header.Set("Anthropic-Version", "2023-06-01")
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if said, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		w.t.Fatalf("status %d: %s", resp.StatusCode, said)
	}
}

// command runs a command with its output in a pipe.
func (w *world) command(args ...string) (string, error) {
	out, _, err := w.both(args...)
	return out, err
}

func (w *world) both(args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(w.t.Context(), caddyPath, w.args(args)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = w.home, w.environment(), &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// args are the arguments with the address of this world.
func (w *world) args(args []string) []string { return append(args, "--address", w.admin) }
