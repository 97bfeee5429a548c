package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is Caddy with its home, which outlives kills.
type process struct {
	t          *testing.T
	home       string
	url, admin string
	env        []string
	log        *os.File
	mu         sync.Mutex
	cmd        *exec.Cmd
	done       chan struct{}
}

// nextPort walks through the ports below those that the system hands out by itself:
// Caddy shares its ports, so one that somebody else got meanwhile would be a mix-up.
var nextPort = 11000 + os.Getpid()%8000

func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		nextPort++
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", nextPort)); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

func newProcess(t *testing.T, env ...string) *process {
	t.Helper()
	p := &process{t: t, home: t.TempDir(), url: "http://" + freeAddress(t), admin: "http://" + freeAddress(t), env: env}
	var err error
	if p.log, err = os.OpenFile(filepath.Join(p.home, "caddy.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
		p.log.Close()
	})
	return p
}

func (p *process) configFile() string { return filepath.Join(p.home, "Caddyfile") }

func (p *process) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Dir = p.home
	cmd.Env = append([]string{
		"HOME=" + p.home, "XDG_DATA_HOME=" + p.home + "/data", "XDG_CONFIG_HOME=" + p.home + "/config",
		"PATH=" + os.Getenv("PATH"), "GORACE=halt_on_error=1",
	}, p.env...)
	return cmd
}

func (p *process) start() error {
	cmd := p.command("run", "--config", p.configFile(), "--adapter", "caddyfile")
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting Caddy: %w", err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	deadline := time.Now().Add(60 * time.Second)
	for {
		if resp, err := http.Get(p.admin + "/shunt/status"); err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if bytes.Contains(body, []byte(`"accounts"`)) {
				return nil
			}
		}
		select {
		case <-done:
			return errors.New("caddy ended by itself: " + tail(p.logs(), 3000))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return errors.New("caddy does not serve: " + tail(p.logs(), 3000))
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// alive reports whether the process has not ended by itself.
func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop ends Caddy as an operator would.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(40 * time.Second):
		p.kill()
		return errors.New("caddy did not stop")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("caddy ended with code %d", code)
	}
	return nil
}

func (p *process) reload(config string) error {
	if err := os.WriteFile(p.configFile(), []byte(config), 0o600); err != nil {
		return err
	}
	resp, err := p.post("/load", "text/caddyfile", config)
	if err != nil {
		return err
	}
	if resp.status != http.StatusOK {
		return fmt.Errorf("reload: %d %s", resp.status, resp.body)
	}
	return nil
}

type plainAnswer struct {
	status int
	body   string
}

func (p *process) post(path, kind, body string) (plainAnswer, error) {
	r, err := http.NewRequest(http.MethodPost, p.admin+path, strings.NewReader(body))
	if err != nil {
		return plainAnswer{}, err
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Cache-Control", "must-revalidate")
	return fetch(r)
}

func (p *process) get(url, key string) (plainAnswer, error) {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return plainAnswer{}, err
	}
	if key != "" {
		r.Header.Set("X-Api-Key", key)
	}
	return fetch(r)
}

func fetch(r *http.Request) (plainAnswer, error) {
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return plainAnswer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return plainAnswer{resp.StatusCode, string(body)}, err
}

func (p *process) logs() string {
	data, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(data)
}
