package check

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// world is what a real Caddy told after traffic that makes each of shunt's metrics
// appear. It is made once for all tests.
var world struct {
	once    sync.Once
	scrapes [2][]sample // before the last requests, and after
	types   map[string]string
	err     error
	stop    func()
}

const (
	annKey       = "key-of-ann"
	loginAccess  = "sk-ant-oat01-login"
	loginRefresh = "sk-ant-ort01-login"
)

func options() fakeclaude.Options {
	return fakeclaude.Options{HangLimit: 10 * time.Second, Accounts: []fakeclaude.Account{
		{Name: "key", APIKey: "sk-ant-api03-key"},
		{Name: "plan", AccessToken: "sk-ant-oat01-plan", Plan: fakeclaude.Max5},
		{Name: "login", AccessToken: loginAccess, RefreshToken: loginRefresh, Plan: fakeclaude.Max5},
		{Name: "spent", APIKey: "sk-ant-api03-spent"},
		{Name: "broke", APIKey: "sk-ant-api03-broke"},
		{Name: "refused", APIKey: "sk-ant-api03-refused"},
	}}
}

// site has three pools: one that serves, one whose accounts are all out, and one that
// serves one request at a time.
const site = `{
	admin %ADMIN%
	persist_config off
	auto_https off
	grace_period 1s
	storage file_system %HOME%/store
}
http://%SITE% {
	handle_path /out/* {
		shunt {
			pool out
			remote_key ann key-of-ann {
				admin
			}
			upstream %UPSTREAM%
			hold off
			account spent {
				api_key sk-ant-api03-spent
			}
			account broke {
				api_key sk-ant-api03-broke
			}
			account refused {
				api_key sk-ant-api03-refused
			}
		}
	}
	handle_path /narrow/* {
		shunt {
			pool narrow
			remote_key ann key-of-ann
			upstream %UPSTREAM%
			account key {
				api_key sk-ant-api03-key
				max_concurrent 1
			}
		}
	}
	handle {
		shunt {
			pool main
			remote_key ann key-of-ann {
				admin
				budget 5G tokens per day
			}
			upstream %UPSTREAM%
			stall_timeout 1s
			account key {
				api_key sk-ant-api03-key
				budget 1000usd per month
			}
			account plan {
				setup_token sk-ant-oat01-plan
				owner *
			}
			account login {
				oauth {
					token_url %UPSTREAM%/v1/oauth/token
				}
				owner *
			}
		}
	}
}
`

// caddy is a running Caddy in front of a fake upstream.
type caddy struct {
	fake             *fakeclaude.Server
	url, admin, home string
	err              error // the first thing that went wrong
}

// told makes the world, and ends the test if that failed.
func told(t *testing.T) (last []sample, types map[string]string) {
	t.Helper()
	world.once.Do(func() { world.err = makeWorld() })
	if world.err != nil {
		t.Fatal(world.err)
	}
	return world.scrapes[1], world.types
}

func makeWorld() error {
	c, err := start()
	if err != nil {
		return err
	}
	c.traffic()
	if c.err != nil {
		return c.err
	}
	for i := range world.scrapes {
		c.more()
		if world.scrapes[i], world.types, err = c.scrape(); err != nil {
			return err
		}
	}
	return c.err
}

// nextPort walks through the ports below those that the system hands out by itself:
// Caddy shares its ports, so one that somebody else got meanwhile would be a mix-up.
var nextPort = 11000 + os.Getpid()%9000

func freeAddress() (string, error) {
	for range 1000 {
		nextPort++
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", nextPort)); err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
	}
	return "", errors.New("no free port")
}

// upstreamOf is the fake with one model more, that no price table knows.
func upstreamOf(fake *fakeclaude.Server) *httptest.Server {
	behind := httptest.NewServer(fake)
	target, err := url.Parse(behind.URL)
	if err != nil {
		panic(err) // httptest makes true URLs
	}
	proxy := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), FlushInterval: -1, ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			if r.Out.Body == nil {
				return
			}
			body, _ := io.ReadAll(r.Out.Body)
			body = bytes.Replace(body, []byte("claude-nobody-1"), []byte("claude-sonnet-5"), 1)
			r.Out.Body, r.Out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}}
	front := httptest.NewServer(proxy)
	stop := world.stop
	world.stop = func() {
		if stop != nil {
			stop()
		}
		fake.Close()
		front.CloseClientConnections()
		front.Close()
		behind.Close()
	}
	return front
}

func start() (*caddy, error) {
	home, err := os.MkdirTemp("", "shunt-contrib")
	if err != nil {
		return nil, err
	}
	world.stop = func() { _ = os.RemoveAll(home) }
	c := &caddy{fake: fakeclaude.New(options()), home: home}
	upstream := upstreamOf(c.fake).URL
	if c.admin, err = freeAddress(); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	c.url = "http://" + address
	config := filepath.Join(home, "Caddyfile")
	text := strings.NewReplacer("%ADMIN%", c.admin, "%SITE%", address, "%HOME%", home, "%UPSTREAM%", upstream).Replace(site)
	login := fmt.Sprintf(`{"claudeAiOauth":{"accessToken":%q,"refreshToken":%q,"expiresAt":%d}}`, loginAccess, loginRefresh, time.Now().Add(8*time.Hour).UnixMilli())
	for path, content := range map[string]string{config: text, filepath.Join(home, "login.json"): login} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	if out, err := c.command("shunt", "import", "login", "--file", filepath.Join(home, "login.json"), "--config", config, "--adapter", "caddyfile").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("importing the login: %w: %s", err, out)
	}
	cmd := c.command("run", "--config", config, "--adapter", "caddyfile")
	said := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting Caddy: %w", err)
	}
	stop := world.stop
	world.stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		stop()
	}
	for range 1000 {
		if resp, err := http.Get("http://" + c.admin + "/shunt/status"); err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if strings.Contains(string(body), `"accounts"`) {
				return c, nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, fmt.Errorf("Caddy does not serve: %s", said)
}

func (c *caddy) command(args ...string) *exec.Cmd {
	cmd := exec.Command(caddyPath, args...)
	cmd.Dir = c.home
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.home, "XDG_DATA_HOME=" + c.home, "XDG_CONFIG_HOME=" + c.home}
	return cmd
}

const (
	hello  = `{"model":"claude-sonnet-5","max_tokens":50,"messages":[{"role":"user","content":"Hello"}]}`
	stream = `{"model":"claude-sonnet-5","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"Hello"}]}`
	cached = `{"model":"claude-sonnet-5","max_tokens":50,"system":[{"type":"text","text":"Be kind to everybody.","cache_control":{"type":"ephemeral","ttl":"1h"}}],` +
		`"messages":[{"role":"user","content":[{"type":"text","text":"Hello","cache_control":{"type":"ephemeral"}}]}]}`
	search   = `{"model":"claude-sonnet-5","max_tokens":4000,"stream":true,"tools":[{"type":"web_search_20250305","name":"web_search"}],"messages":[{"role":"user","content":"search for it"}]}`
	unpriced = `{"model":"claude-nobody-1","max_tokens":50,"messages":[{"role":"user","content":"Hello"}]}`
)

// ask sends a request and reads its answer, however that ends.
func (c *caddy) ask(path, body string) (status int) {
	r, err := http.NewRequest(http.MethodPost, c.url+path, strings.NewReader(body))
	if err != nil {
		c.err = err
		return 0
	}
	r.Header.Set("X-Api-Key", annKey)
	r.Header.Set("Anthropic-Version", "2023-06-01")
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// pinned sends a request to an account that misbehaves in that way.
func (c *caddy) pinned(prefix, account, fault, body string) {
	if status := c.ask(prefix+"/use", `{"account":"`+account+`"}`); status != http.StatusOK && c.err == nil {
		c.err = fmt.Errorf("pinning %s: status %d", account, status)
	}
	if fault != "" {
		c.fake.SetFault(account, fakeclaude.Once(fault))
	}
	c.ask(prefix+"/v1/messages", body)
	c.fake.ClearFaults()
}

// traffic makes everything happen that has a name in the alerts or on the dashboard.
func (c *caddy) traffic() {
	c.pinned("/out", "spent", fakeclaude.SpendLimit, hello)
	c.pinned("/out", "broke", fakeclaude.CreditBalance, hello)
	c.pinned("/out", "refused", fakeclaude.InvalidKey, hello)
	c.ask("/out/v1/messages", hello)
	c.pinned("", "login", "", cached)
	c.pinned("", "login", fakeclaude.TokenExpired, cached)
	c.pinned("", "plan", fakeclaude.CutAfterText, stream)
	c.pinned("", "plan", fakeclaude.StallAfterText, stream)
	c.pinned("", "key", fakeclaude.Overloaded, hello)
	c.pinned("", "key", fakeclaude.Internal, hello)
	time.Sleep(6 * time.Second) // whom another account has put to blame rests for 5 s
	c.pinned("", "key", fakeclaude.ResetBeforeHead, hello)
}

// more is the work of every day.
func (c *caddy) more() {
	c.pinned("", "plan", "", hello)
	c.pinned("", "plan", "", search)
	c.pinned("", "plan", "", unpriced)
	c.pinned("", "login", "", cached)
	c.ask("/out/v1/messages", hello)
	c.fake.SetFault("key", fakeclaude.Fault{Name: fakeclaude.SlowHead, Times: 2, Delay: 200 * time.Millisecond})
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { c.ask("/narrow/v1/messages", hello) })
	}
	both.Wait()
	time.Sleep(100 * time.Millisecond) // the last byte comes before the last count
}
