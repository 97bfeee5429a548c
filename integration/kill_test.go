package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// failing is a Caddy that can be made to die at a named step of a refresh.
var failing = sync.OnceValues(func() (string, error) {
	return build("../cmd/caddy")
})

// build makes another Caddy with failpoints, of the program in that folder.
func build(program string) (string, error) {
	folder, err := os.MkdirTemp("", "shunt-caddy")
	if err != nil {
		return "", err
	}
	built = append(built, folder)
	file := filepath.Join(folder, "caddy")
	out, err := exec.Command("go", "build", "-C", program, "-tags", "nobadger,nomysql,nopgx,shuntfail", "-o", file, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building Caddy of %s: %w\n%s", program, err, out)
	}
	return file, nil
}

func failingBinary(t *testing.T) string {
	t.Helper()
	file, err := failing()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// refreshSteps are the failpoints of a refresh in their order.
var refreshSteps = []string{"asked", "started", "locked", "loaded", "intended", "answered", "stored", "unlocked", "told"}

// loginSite is a stopped site with a login of the fake upstream's in its storage.
func loginSite(t *testing.T, up *upstream, caddyfile string, env ...string) *site {
	t.Helper()
	s := newSite(t, up, caddyfile, append(env, secrets...)...)
	s.binary = failingBinary(t)
	if err := os.WriteFile(s.caddyfile(), []byte(s.config), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) importLogin(up *upstream) {
	s.t.Helper()
	access, refresh := up.Tokens("main")
	writeLogin(s.t, s, access, refresh)
	if _, err := s.command("shunt", "import", "main", "--file", filepath.Join(s.home, "credentials.json"), "--config", s.caddyfile(), "--adapter", "caddyfile"); err != nil {
		s.t.Fatal(err)
	}
}

// launch starts the process and does not wait until it serves.
func (s *site) launch() *exec.Cmd {
	s.t.Helper()
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(s.binary, "run", "--config", s.caddyfile(), "--adapter", "caddyfile")
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = s.environment(), s.home, log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return cmd
}

// TestKilledAtEachStepOfARefresh: the login outlives Caddy, wherever it dies.
func TestKilledAtEachStepOfARefresh(t *testing.T) {
	for _, step := range refreshSteps {
		t.Run(step, func(t *testing.T) {
			up := startUpstream(t, fakeclaude.Options{Accounts: []fakeclaude.Account{{
				Name: "main", AccessToken: "sk-ant-oat01-first", RefreshToken: "sk-ant-ort01-first", Plan: fakeclaude.Max5,
			}}})
			points := t.TempDir()
			s := loginSite(t, up, global+loginBlock, "SHUNT_FAILPOINTS="+points)
			s.importLogin(up)
			up.Expire("main")
			if err := os.WriteFile(filepath.Join(points, step), []byte("kill-caddy"), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := s.launch()
			died := make(chan error, 1)
			go func() { died <- cmd.Wait() }()
			eventually(t, "Caddy serves or dies", 20*time.Second, func() bool {
				a := s.ask(annKey, hello)
				return a.err == nil && a.status != http.StatusOK || len(died) > 0
			})
			select {
			case <-died:
			case <-time.After(30 * time.Second):
				_ = cmd.Process.Kill()
				t.Fatalf("Caddy was not killed at %s\n%s", step, s.logs())
			}
			s.start()
			eventually(t, "the account serves after the kill", 20*time.Second, func() bool { return s.ask(annKey, hello).status == http.StatusOK })
			_, refresh := up.Tokens("main")
			eventually(t, "the refresh token that works is in storage", 20*time.Second, func() bool {
				return len(filesWith(t, filepath.Join(s.home, "data"), refresh)) == 1
			})
			if v := up.Violations(); len(v) > 0 {
				t.Errorf("upstream's rules were broken: %v", v)
			}
		})
	}
}

// TestRandomKills: two instances on one storage, whose tokens live for seconds, are
// killed at random again and again. SHUNT_KILLS says how often.
func TestRandomKills(t *testing.T) {
	rounds := 15
	if n, err := strconv.Atoi(os.Getenv("SHUNT_KILLS")); err == nil {
		rounds = n
	}
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("SHUNT_SEED"), 10, 64); err == nil {
		seed = n
	}
	dice := rand.New(rand.NewPCG(seed, 1))
	t.Logf("%d rounds, seed %d", rounds, seed)
	up := startUpstream(t, fakeclaude.Options{Speed: 12_000, LoginLife: 28 * 24 * time.Hour, Accounts: []fakeclaude.Account{{
		Name: "main", AccessToken: "sk-ant-oat01-first", RefreshToken: "sk-ant-ort01-first", Plan: fakeclaude.Max5,
	}}})
	shared := t.TempDir()
	onShared := strings.Replace(global, "{\n", "{\n\tstorage file_system "+shared+"\n", 1)
	sites := []*site{loginSite(t, up, onShared+loginBlock), loginSite(t, up, onShared+loginBlock)}
	sites[0].importLogin(up)
	for _, s := range sites {
		s.start()
	}
	asked, failed := 0, 0
	for round := range rounds {
		time.Sleep(time.Duration(dice.IntN(700)) * time.Millisecond)
		victims := [][]*site{{sites[0]}, {sites[1]}, sites}[dice.IntN(3)]
		for _, s := range victims {
			s.end(syscall.SIGKILL)
		}
		for _, s := range victims {
			s.start()
		}
		for _, s := range sites {
			asked++
			if a := s.ask(annKey, hello); a.status != http.StatusOK {
				failed++
				t.Logf("round %d: status %d %v %s", round, a.status, a.err, a.body)
			}
		}
		for _, s := range sites {
			if st := s.status(annKey)["accounts"].([]any)[0].(map[string]any); st["status"] == "reauth_required" {
				t.Fatalf("round %d: the login is lost: %v", round, st)
			}
		}
	}
	refreshes := 0
	for _, r := range up.Requests() {
		if strings.HasPrefix(r.URI, "/v1/oauth/token") {
			refreshes++
		}
	}
	for _, s := range sites {
		eventually(t, "the account serves in the end", 90*time.Second, func() bool { return s.ask(annKey, hello).status == http.StatusOK })
	}
	if v := up.Violations(); len(v) > 0 {
		t.Errorf("upstream's rules were broken: %v", v)
	}
	t.Logf("%d rounds of kills, %d refreshes, 0 logins lost, %d of %d requests failed", rounds, refreshes, failed, asked)
	if refreshes < rounds/4 {
		t.Errorf("%d refreshes in %d rounds: too few to show anything", refreshes, rounds)
	}
}
