package gosdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude/fctest"
)

const (
	annKey = "key-of-ann" // marked admin
	bobKey = "key-of-bob"
	// referenceKey is of an account that no pool has: what it is told directly is
	// what the pool must tell. It shares no cache with the pool's accounts.
	referenceKey = "sk-ant-api03-reference"
)

// members are the pool's accounts: two of each kind.
var members = []string{"a", "b", "c", "d"}

var secrets = map[string]string{
	"a": "sk-ant-api03-aaaa", "b": "sk-ant-api03-bbbb", "c": "sk-ant-oat01-cccc", "d": "sk-ant-oat01-dddd",
}

func isSubscription(member string) bool { return member == "c" || member == "d" }

func world() fakeclaude.Options {
	return fakeclaude.Options{
		Accounts: []fakeclaude.Account{
			{Name: "a", APIKey: secrets["a"]},
			{Name: "b", APIKey: secrets["b"]},
			{Name: "c", AccessToken: secrets["c"], Plan: fakeclaude.Max20},
			{Name: "d", AccessToken: secrets["d"], Plan: fakeclaude.Max5},
			{Name: "reference", APIKey: referenceKey},
		},
		KeepBodies: true,
		HangLimit:  20 * time.Second,
	}
}

// pool is one pool of a stage, with an upstream to itself.
type pool struct {
	fake     *fakeclaude.Server
	upstream string
	url      string
}

// stage is one Caddy process with several pools. A case takes a fresh one, since
// what an account did in one case must not bench it in the next.
type stage struct {
	mu    sync.Mutex
	pools []*pool
	taken int
}

// newStage starts a Caddy with that many pools. The first one is at the root of
// the site, as people have it; the others are mounted under /pool/<n>. extra goes
// into every shunt block.
func newStage(t *testing.T, count int, extra string) *stage {
	t.Helper()
	s := &stage{}
	for range count {
		fake, upstream := fctest.Start(t, world())
		s.pools = append(s.pools, &pool{fake: fake, upstream: upstream})
	}
	c := startCaddy(t, func(port int) string { return s.caddyfile(port, extra) })
	for i, p := range s.pools {
		p.url = c.url
		if i > 0 {
			p.url = fmt.Sprintf("%s/pool/%d", c.url, i)
		}
	}
	return s
}

// fresh is a pool that nothing has happened to.
func (s *stage) fresh(t testing.TB) *pool {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken == len(s.pools) {
		t.Fatalf("this stage has only %d pools", len(s.pools))
	}
	s.taken++
	return s.pools[s.taken-1]
}

func (s *stage) caddyfile(port int, extra string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tgrace_period 2s\n}\n")
	fmt.Fprintf(&b, "http://127.0.0.1:%d {\n\tbind fd/3\n", port)
	for i := len(s.pools) - 1; i >= 0; i-- {
		route := "handle"
		if i > 0 {
			route = fmt.Sprintf("handle_path /pool/%d/*", i)
		}
		fmt.Fprintf(&b, "\t%s {\n\t\tshunt {\n\t\t\tpool pool%d\n\t\t\tupstream %s\n", route, i, s.pools[i].upstream)
		fmt.Fprintf(&b, "\t\t\tremote_key ann {env.KEY_ANN} {\n\t\t\t\tadmin\n\t\t\t}\n\t\t\tremote_key bob {env.KEY_BOB}\n")
		for _, m := range members {
			kind, owner := "api_key", ""
			if isSubscription(m) {
				kind, owner = "setup_token", "\t\t\t\towner *\n"
			}
			fmt.Fprintf(&b, "\t\t\taccount %s {\n\t\t\t\t%s {env.SECRET_%s}\n%s\t\t\t}\n", m, kind, strings.ToUpper(m), owner)
		}
		fmt.Fprintf(&b, "\t\t\t%s\n\t\t}\n\t}\n", extra)
	}
	b.WriteString("}\n")
	return b.String()
}

// caddy is the process under test.
type caddy struct {
	url string
	cmd *exec.Cmd
	// log is complete once done is closed.
	log  *lockedBuffer
	done chan struct{}
	err  error // how the process ended
}

// lockedBuffer is what the process writes to and a failing test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startCaddy runs a Caddy until the test ends. It inherits a socket that listens
// already: Caddy shares its ports with others (SO_REUSEPORT), so that a number
// that was only found to be free could be given to two of them unnoticed.
func startCaddy(t *testing.T, caddyfile func(port int) string) *caddy {
	t.Helper()
	c := launch(t, caddyfile)
	if err := c.ready(); err != nil {
		c.kill()
		t.Fatalf("Caddy did not start: %v\n%s", err, c.log)
	}
	t.Cleanup(func() { c.stop(t) })
	return c
}

// launch starts the process. Its socket is nobody else's once launch is over: a
// Caddy that ends leaves a port where nobody listens.
func launch(t *testing.T, caddyfile func(port int) string) *caddy {
	t.Helper()
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
	port := listener.Addr().(*net.TCPAddr).Port
	home := t.TempDir()
	path := filepath.Join(home, "Caddyfile")
	if err := os.WriteFile(path, []byte(caddyfile(port)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &caddy{
		url:  fmt.Sprintf("http://127.0.0.1:%d", port),
		cmd:  exec.Command(caddyPath, "run", "--config", path, "--adapter", "caddyfile"),
		log:  new(lockedBuffer),
		done: make(chan struct{}),
	}
	c.cmd.Dir = home
	c.cmd.ExtraFiles = []*os.File{socket} // file descriptor 3
	// A proxy or a credential of the person's who runs the tests stays outside.
	c.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "GOCOVERDIR=" + os.Getenv("GOCOVERDIR"), "GORACE=" + os.Getenv("GORACE"),
		"HOME=" + home, "XDG_DATA_HOME=" + home, "XDG_CONFIG_HOME=" + home,
		"KEY_ANN=" + annKey, "KEY_BOB=" + bobKey,
	}
	for m, secret := range secrets {
		c.cmd.Env = append(c.cmd.Env, "SECRET_"+strings.ToUpper(m)+"="+secret)
	}
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", caddyPath, err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c
}

// ready waits until the pool at the root says that it can serve.
func (c *caddy) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/health", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-c.done:
			return fmt.Errorf("it ended: %w", c.err)
		case <-ctx.Done():
			return errors.New("it was not ready within 30 s")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *caddy) kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}

// stop ends Caddy as an operator would, and looks at what it leaves behind: an
// orderly end, no panic, and no secret in its log.
func (c *caddy) stop(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Errorf("Caddy was gone before the end of the test: %v", err)
	}
	select {
	case <-c.done:
	case <-time.After(15 * time.Second):
		t.Error("Caddy did not stop within 15 s")
		c.kill()
	}
	log := c.log.String()
	if c.err != nil {
		t.Errorf("Caddy ended with %v", c.err)
	}
	if strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
		t.Errorf("Caddy panicked or raced:\n%s", log)
	}
	for _, secret := range []string{annKey, bobKey, secrets["a"], secrets["b"], secrets["c"], secrets["d"]} {
		if strings.Contains(log, secret) {
			t.Errorf("Caddy logged the secret %s", secret)
		}
	}
	if t.Failed() {
		t.Logf("Caddy's log:\n%s", log)
	}
}

// pin makes a member the first that is asked.
func (p *pool) pin(t testing.TB, member string) {
	t.Helper()
	r, err := http.NewRequestWithContext(bounded(t), http.MethodPost, p.url+"/use", strings.NewReader(`{"account":"`+member+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", annKey)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("pinning %s: status %d", member, resp.StatusCode)
	}
}

// last is the latest request that upstream saw.
func (p *pool) last(t testing.TB) fakeclaude.Request {
	t.Helper()
	all := p.fake.Requests()
	if len(all) == 0 {
		t.Fatal("upstream saw no request")
	}
	return all[len(all)-1]
}

// mustBehave fails the test for what no correct client of upstream does, and
// when a key of the pool's own got out.
func (p *pool) mustBehave(t testing.TB) {
	t.Helper()
	for _, v := range p.fake.Violations() {
		t.Errorf("upstream's rules were broken: %s", v)
	}
	for _, r := range p.fake.Requests() {
		for name, values := range r.Header {
			for _, key := range []string{annKey, bobKey} {
				if strings.Contains(strings.Join(values, " "), key) {
					t.Errorf("upstream got the client's key in %s", name)
				}
			}
		}
	}
}
