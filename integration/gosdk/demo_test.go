package gosdk

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go/option"
)

// TestDemo runs the demo as it is, on its own ports, and asks it what a newcomer
// would ask first.
func TestDemo(t *testing.T) {
	demo := os.Getenv("SHUNT_DEMO")
	if demo == "" {
		t.Fatal("SHUNT_DEMO does not name the demo's binary: go build -tags nobadger,nomysql,nopgx -o bin/caddy-demo ./cmd/caddy")
	}
	const url = "http://localhost:8080"
	if resp, err := http.Get(url + "/health"); err == nil {
		_ = resp.Body.Close()
		t.Fatal("something else serves the demo's port 8080 already")
	}
	home := t.TempDir()
	log, err := os.Create(filepath.Join(home, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(demo, "run", "--config", "../../Caddyfile.demo", "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the demo ended with %v", err)
		}
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("the demo said:\n%s", said)
		}
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(url + "/health")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the demo does not serve")
		}
	}
	c := newClient(url, true, option.WithAPIKey("demo-ann-key"))
	if answer := c.stream(t, hello("What is a pool?")); answer.err != nil || answer.text == "" || answer.message.Usage.OutputTokens == 0 {
		t.Errorf("the demo answered %+v", answer.message)
	}
	m, err := c.Messages.New(bounded(t), hello("And not streaming?"))
	if err != nil || textOf(m) == "" {
		t.Errorf("the demo answered %v, %v", m, err)
	}
}
