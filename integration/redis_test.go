package integration

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// withRedis is a Caddy with the Redis storage and failpoints.
var withRedis = sync.OnceValues(func() (string, error) {
	return build("redis")
})

// redis is a server of Debian's package.
type redis struct {
	t            *testing.T
	folder, port string
	cmd          *exec.Cmd
}

func startRedis(t *testing.T) *redis {
	t.Helper()
	_, port, err := net.SplitHostPort(freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	r := &redis{t: t, folder: t.TempDir(), port: port}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *redis) start() {
	r.t.Helper()
	r.cmd = exec.Command("redis-server", "--port", r.port, "--bind", "127.0.0.1", "--dir", r.folder, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
	if err := r.cmd.Start(); err != nil {
		r.t.Fatalf("redis-server (Debian's package of that name): %v", err)
	}
	eventually(r.t, "Redis answers", 10*time.Second, func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+r.port)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (r *redis) stop() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

// onRedis prepares instances of one pool with one login.
func onRedis(t *testing.T, up *upstream, server *redis, names []string, env ...string) []*site {
	t.Helper()
	binary, err := withRedis()
	if err != nil {
		t.Fatal(err)
	}
	var sites []*site
	for _, name := range names {
		config := strings.Replace(global, "{\n", "{\n\tstorage redis {\n\t\thost 127.0.0.1\n\t\tport "+server.port+"\n\t}\n", 1) + loginBlock
		config = strings.Replace(config, "upstream %UPSTREAM%\n", "upstream %UPSTREAM%\n\t\tinstances {\n\t\t\tname "+name+"\n\t\t}\n", 1)
		s := newSite(t, up, config, append(env, secrets...)...)
		s.binary = binary
		if err := os.WriteFile(s.caddyfile(), []byte(s.config), 0o600); err != nil {
			t.Fatal(err)
		}
		sites = append(sites, s)
	}
	sites[0].importLogin(up)
	for _, s := range sites {
		s.start()
	}
	return sites
}

func oneLogin() fakeclaude.Options {
	return fakeclaude.Options{Accounts: []fakeclaude.Account{{
		Name: "main", AccessToken: "sk-ant-oat01-first", RefreshToken: "sk-ant-ort01-first", Plan: fakeclaude.Max20,
	}}}
}

func refreshesOf(up *upstream) (n int) {
	for _, r := range up.Requests() {
		if strings.HasPrefix(r.URI, "/v1/oauth/token") {
			n++
		}
	}
	return n
}

func mustKeepRules(t *testing.T, up *upstream) {
	t.Helper()
	if v := up.Violations(); len(v) > 0 {
		t.Errorf("upstream's rules were broken: %v", v)
	}
}

// storm asks with many at once, over all sites, and counts what was not served.
func storm(sites []*site, requests int) (failed int64) {
	var count atomic.Int64
	var group sync.WaitGroup
	for i := range requests {
		group.Go(func() {
			if sites[i%len(sites)].ask(annKey, hello).status != http.StatusOK {
				count.Add(1)
			}
		})
	}
	group.Wait()
	return count.Load()
}

// TestThreeInstancesOnRedis: one refresh for 200 requests that are refused together,
// the same pin everywhere, and no trouble when one dies.
func TestThreeInstancesOnRedis(t *testing.T) {
	up := startUpstream(t, oneLogin())
	sites := onRedis(t, up, startRedis(t), []string{"one", "two", "three"})
	eventually(t, "they hear of each other", 30*time.Second, func() bool {
		for _, s := range sites {
			if list, _ := s.status(annKey)["instances"].([]any); len(list) != 3 {
				return false
			}
		}
		return true
	})
	begun := time.Now()
	sites[0].do(http.MethodPost, sites[0].url+"/use", `{"account":"main"}`, "X-Api-Key", annKey).mustServe(t)
	eventually(t, "the pin is known everywhere", 10*time.Second, func() bool {
		return sites[1].status(annKey)["pinned"] == "main" && sites[2].status(annKey)["pinned"] == "main"
	})
	t.Logf("a pin took %v", time.Since(begun).Round(10*time.Millisecond))
	up.Expire("main")
	begun = time.Now()
	failed := storm(sites, 200)
	t.Logf("200 requests at once with an ended token: %d failed, %d refresh, %v", failed, refreshesOf(up), time.Since(begun).Round(10*time.Millisecond))
	if n := refreshesOf(up); failed > 0 || n != 1 {
		t.Errorf("%d of 200 failed, with %d refreshes", failed, n)
	}
	sites[0].end(syscall.SIGKILL)
	if failed := storm(sites[1:], 20); failed > 0 {
		t.Errorf("%d of 20 failed after another instance was killed", failed)
	}
	sites[0].start()
	sites[0].ask(annKey, hello).mustServe(t)
	for _, s := range sites {
		if strings.Contains(s.logs(), "in Caddy's own process") {
			t.Error("the refresh was not made by a process of its own")
		}
	}
	mustKeepRules(t, up)
}

// TestRedisIsGone: requests go on, and so does the login afterwards.
func TestRedisIsGone(t *testing.T) {
	outage := 3 * time.Second
	if n, err := strconv.Atoi(os.Getenv("SHUNT_OUTAGE")); err == nil {
		outage = time.Duration(n) * time.Second
	}
	up := startUpstream(t, oneLogin())
	server := startRedis(t)
	sites := onRedis(t, up, server, []string{"one", "two"})
	if failed := storm(sites, 10); failed > 0 {
		t.Fatalf("%d of 10 failed before", failed)
	}
	server.stop()
	asked, failed := 0, int64(0)
	for end := time.Now().Add(outage); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		asked += 4
		failed += storm(sites, 4)
	}
	server.start()
	t.Logf("Redis was gone for %v: %d of %d requests failed", outage, failed, asked)
	if failed > 0 {
		t.Errorf("%d of %d requests failed while Redis was gone", failed, asked)
	}
	up.Expire("main")
	eventually(t, "the login is refreshed again", 60*time.Second, func() bool { return storm(sites, 2) == 0 })
	mustKeepRules(t, up)
}

// TestPausedRefresher: a refresher that is stopped for longer than its lock lasts,
// with the answer in hand, does not lose the login, nor is its token used again.
func TestPausedRefresher(t *testing.T) {
	points := t.TempDir()
	up := startUpstream(t, oneLogin())
	sites := onRedis(t, up, startRedis(t), []string{"one", "two"}, "SHUNT_FAILPOINTS="+points)
	if failed := storm(sites, 4); failed > 0 {
		t.Fatalf("%d of 4 failed before", failed)
	}
	if err := os.WriteFile(filepath.Join(points, "answered"), []byte("sleep 12s"), 0o600); err != nil {
		t.Fatal(err)
	}
	up.Expire("main")
	begun := time.Now()
	first := make(chan answer, 2)
	for _, s := range sites {
		go func() { first <- s.ask(annKey, hello) }()
	}
	eventually(t, "the refresher has its answer", 20*time.Second, func() bool { return refreshesOf(up) == 1 })
	stopRefresher(t)
	time.Sleep(8 * time.Second) // the lock lasts for five
	contRefresher(t)
	for range sites {
		(<-first).mustServe(t)
	}
	t.Logf("both were served after %v, with %d refresh", time.Since(begun).Round(time.Second), refreshesOf(up))
	if n := refreshesOf(up); n != 1 {
		t.Errorf("%d refreshes", n)
	}
	mustKeepRules(t, up)
}

// refreshers are the processes that refresh logins now.
func refreshers(t *testing.T) []int {
	t.Helper()
	out, err := exec.Command("pgrep", "-f", "shunt renew$").Output()
	if err != nil {
		t.Fatalf("looking for the refresher: %v", err)
	}
	var pids []int
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func stopRefresher(t *testing.T) {
	t.Helper()
	for _, pid := range refreshers(t) {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
}

func contRefresher(t *testing.T) {
	t.Helper()
	for _, pid := range refreshers(t) {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}
