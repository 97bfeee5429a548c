package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

const (
	annKey = "planted-key-of-ann"
	bobKey = "planted-key-of-bob"
)

func accounts() []fakeclaude.Account {
	return []fakeclaude.Account{
		{Name: "a", APIKey: "sk-ant-api03-planted-a"},
		{Name: "b", APIKey: "sk-ant-api03-planted-b"},
		{Name: "c", AccessToken: "sk-ant-oat01-planted-c", Plan: fakeclaude.Max20},
		{Name: "d", AccessToken: "sk-ant-oat01-planted-d", Plan: fakeclaude.Max5},
	}
}

var secrets = []string{
	"ANN_KEY=" + annKey, "BOB_KEY=" + bobKey,
	"KEY_A=sk-ant-api03-planted-a", "KEY_B=sk-ant-api03-planted-b", "TOKEN_C=sk-ant-oat01-planted-c", "TOKEN_D=sk-ant-oat01-planted-d",
}

const global = `{
	admin %ADMIN%
	grace_period 20s
	metrics
	log default {
		level DEBUG
		format filter {
			request>headers>X-Api-Key hash
		}
	}
}
`

const block = `%SITE% {
	log {
		format filter {
			request>headers>X-Api-Key hash
		}
	}
	shunt {
		remote_key ann {env.ANN_KEY} {
			admin
		}
		remote_key bob {env.BOB_KEY}
		upstream %UPSTREAM%
		account a {
			api_key {env.KEY_A}
		}
		account b {
			api_key {env.KEY_B}
		}
		account c {
			setup_token {env.TOKEN_C}
			owner *
		}
		account d {
			setup_token {env.TOKEN_D}
			owner *
		}
		retries 3
	}
}
`

const hello = `{"model":"claude-sonnet-5","max_tokens":100,"messages":[{"role":"user","content":"Hello"}]}`

const helloStream = `{"model":"claude-sonnet-5","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"Hello"}]}`

// TestStreamSurvivesReload: a reload, also one that changes the accounts, cuts
// nobody off.
func TestStreamSurvivesReload(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts(), Pace: 40 * time.Millisecond, OutputTokens: 400})
	s := newSite(t, up, global+block, secrets...)
	s.start()
	type ended struct {
		answer
		took time.Duration
	}
	done := make(chan ended)
	for range 3 {
		go func() {
			begun := time.Now()
			done <- ended{s.ask(annKey, helloStream), time.Since(begun)}
		}()
	}
	time.Sleep(500 * time.Millisecond)
	for _, change := range []string{"retries 4", "retries 5"} {
		if err := s.reload(strings.Replace(s.config, "retries 3", change, 1)); err != nil {
			t.Fatal(err)
		}
	}
	without := strings.Replace(s.config, "account a {\n\t\t\tapi_key {env.KEY_A}\n\t\t}", "", 1)
	if without == s.config {
		t.Fatal("the account was not removed")
	}
	if err := s.reload(without); err != nil {
		t.Fatal(err)
	}
	reloaded := time.Now()
	for range 3 {
		e := <-done
		e.mustServe(t)
		if !strings.Contains(e.body, "message_stop") {
			t.Error("a stream ended without its end")
		}
		if time.Since(reloaded) < 200*time.Millisecond {
			t.Error("the streams were over before the reload, so nothing was tested")
		}
	}
}

// TestThirtyReloads: reloads lose no state and leave nothing behind.
func TestThirtyReloads(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	s := newSite(t, up, global+block, secrets...)
	s.start()
	s.do(http.MethodPost, s.url+"/use", `{"account":"c"}`, "X-Api-Key", annKey).mustServe(t)
	for range 5 {
		s.ask(bobKey, hello).mustServe(t)
	}
	reload := func(i int) {
		if err := s.reload(strings.Replace(s.config, "retries 3", fmt.Sprintf("retries %d", 3+i%2), 1)); err != nil {
			t.Fatal(err)
		}
		s.ask(bobKey, hello).mustServe(t)
	}
	for i := range 3 {
		reload(i)
	}
	http.DefaultClient.CloseIdleConnections()
	time.Sleep(500 * time.Millisecond)
	before := s.goroutines()
	for i := range 30 {
		reload(i)
	}
	eventually(t, fmt.Sprintf("goroutines back to %d", before), 20*time.Second, func() bool {
		http.DefaultClient.CloseIdleConnections()
		return s.goroutines() <= before+3
	})
	st := s.status(annKey)
	if st["pinned"] != "c" {
		t.Errorf("the pin is %v", st["pinned"])
	}
	people := st["people"].([]any)
	if len(people) != 2 || people[1].(map[string]any)["name"] != "bob" || people[1].(map[string]any)["requests"] != 38.0 {
		t.Errorf("people are %v", people)
	}
	if n := len(st["recent_requests"].([]any)); n != 38 {
		t.Errorf("%d recent requests", n)
	}
	metrics := s.do(http.MethodGet, "http://"+s.admin+"/metrics", "").body
	if want := `caddy_shunt_requests_total{endpoint="messages",pool="default",status="200",verdict="served"} 38`; !strings.Contains(metrics, want) {
		t.Errorf("metrics lack %s", want)
	}
}

// TestStateSurvivesRestart: also a process that is killed loses no more than
// the last moments.
func TestStateSurvivesRestart(t *testing.T) {
	for name, signal := range map[string]os.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
			s := newSite(t, up, global+block, secrets...)
			s.start()
			up.SetFault("a", fakeclaude.Fault{Name: fakeclaude.WindowWeek, Times: -1})
			s.do(http.MethodPost, s.url+"/use", `{"account":"a"}`, "X-Api-Key", annKey).mustServe(t)
			s.ask(annKey, hello).mustServe(t)
			s.do(http.MethodPost, s.url+"/use", `{"account":"auto"}`, "X-Api-Key", annKey).mustServe(t)
			home := s.ask(annKey, hello, "X-Claude-Code-Session-Id", "s1").header.Get("X-Shunt-Account")
			s.do(http.MethodPost, s.url+"/use", `{"account":"d"}`, "X-Api-Key", bobKey)
			if signal == syscall.SIGKILL {
				time.Sleep(3 * time.Second) // the write interval is 2 s
			}
			s.end(signal)
			asked := len(up.Requests())
			s.start()
			st := s.status(annKey)
			first := st["accounts"].([]any)[0].(map[string]any)
			if first["status"] != "cooling" || first["cooldown_until_ms"] == nil {
				t.Errorf("account a was benched, and is %v", first)
			}
			if n := len(st["recent_requests"].([]any)); n != 2 {
				t.Errorf("%d recent requests", n)
			}
			again := s.ask(annKey, hello, "X-Claude-Code-Session-Id", "s1")
			again.mustServe(t)
			if got := again.header.Get("X-Shunt-Account"); got != home {
				t.Errorf("the session moved from %s to %s", home, got)
			}
			if n := len(up.Requests()) - asked; n != 1 {
				t.Errorf("%d tries after the restart: the bench is lost", n)
			}
		})
	}
}

func stateFile(t *testing.T, s *site) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.home, "data", "caddy", "shunt", "default", "state", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("state files: %v %v", files, err)
	}
	return files[0]
}

func TestCorruptStateIsSetAside(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	s := newSite(t, up, global+block, secrets...)
	s.start()
	s.ask(annKey, hello).mustServe(t)
	s.stop()
	file := stateFile(t, s)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the state's mode is %v %v", info.Mode(), err)
	}
	const broken = `{"version":1,"accounts":[{"key"`
	if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.ask(annKey, hello).mustServe(t)
	s.stop()
	aside, err := filepath.Glob(file + ".corrupt-*")
	if err != nil || len(aside) != 1 {
		t.Fatalf("set aside: %v %v", aside, err)
	}
	if data, err := os.ReadFile(aside[0]); err != nil || string(data) != broken {
		t.Errorf("the broken record was changed: %s %v", data, err)
	}
	if !strings.Contains(s.logs(), "cannot be read; it was set aside") {
		t.Error("nobody was told")
	}
	if data, err := os.ReadFile(file); err != nil || !strings.Contains(string(data), `"recent"`) {
		t.Errorf("no new state: %s %v\n%s", data, err, s.logs())
	}
}

// TestGracefulStop: a stream that is under way when Caddy is told to stop ends
// as it should.
func TestGracefulStop(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts(), Pace: 40 * time.Millisecond, OutputTokens: 120})
	s := newSite(t, up, global+block, secrets...)
	s.start()
	done := make(chan answer)
	go func() { done <- s.ask(annKey, helloStream) }()
	time.Sleep(500 * time.Millisecond)
	s.stop()
	a := <-done
	a.mustServe(t)
	if !strings.Contains(a.body, "message_stop") {
		t.Error("the stream was cut")
	}
	s.start()
	if n := len(s.status(annKey)["recent_requests"].([]any)); n != 1 {
		t.Errorf("the last request before the end was not saved: %d", n)
	}
}

// TestFailedReload: a configuration that is refused leaves everything as it was,
// the admin API too.
func TestFailedReload(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	s := newSite(t, up, global+block, secrets...)
	s.start()
	s.ask(annKey, hello).mustServe(t)
	err := s.reload(strings.Replace(s.config, "{env.KEY_B}", "{env.NOT_SET}", 1))
	if err == nil || !strings.Contains(err.Error(), `account \"b\": api_key`) {
		t.Errorf("the reload said %v", err)
	}
	s.ask(annKey, hello).mustServe(t)
	eventually(t, "the admin API shows the pool that serves", 5*time.Second, func() bool {
		a := s.do(http.MethodGet, "http://"+s.admin+"/shunt/status", "")
		return a.status == http.StatusOK && strings.Contains(a.body, `"people":[{"name":"ann","requests":2`)
	})
	use := s.do(http.MethodPost, "http://"+s.admin+"/shunt/use", `{"account":"d"}`)
	use.mustServe(t)
	if got := s.ask(annKey, hello).header.Get("X-Shunt-Account"); got != "d" {
		t.Errorf("pinned to d through the admin API, served by %s", got)
	}
	if unknown := s.do(http.MethodPost, "http://"+s.admin+"/shunt/use", `{"account":"z"}`); unknown.status != http.StatusNotFound || !strings.Contains(unknown.body, "expected one of a, b, c, d") {
		t.Errorf("%d %s", unknown.status, unknown.body)
	}
}

// TestLateFailureOfAReload: a configuration that fails only when it is started
// leaves the pool with the storage of the one that goes on.
func TestLateFailureOfAReload(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	s := newSite(t, up, global+strings.Replace(block, "retries 3", "storage file_system {\n\t\t\troot %HOME%/first\n\t\t}", 1), secrets...)
	s.start()
	// Nobody can listen on an address of the documentation's network.
	failing := strings.Replace(s.config, s.home+"/first", s.home+"/second", 1) + "http://203.0.113.7:8081 {\n\tbind 203.0.113.7\n\trespond ok\n}\n"
	for range 8 { // apps start in an order that is drawn
		if err := s.reload(failing); err == nil {
			t.Fatal("the reload did not fail")
		}
	}
	s.ask(annKey, hello, "X-Claude-Code-Session-Id", "after-the-failures").mustServe(t)
	saved := func() bool {
		files, _ := filepath.Glob(filepath.Join(s.home, "first", "shunt", "default", "state", "*.json"))
		return len(files) == 1 && len(filesWith(t, filepath.Dir(files[0]), "after-the-failures")) == 1
	}
	eventually(t, "the state is saved where it belongs", 10*time.Second, saved)
	if _, err := os.Stat(filepath.Join(s.home, "second", "shunt")); err == nil {
		t.Error("the state is saved with the configuration that failed")
	}
}
