package shunt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude/fctest"
)

// bench is a handler behind a real HTTP server, in front of a fake upstream.
type bench struct {
	t    *testing.T
	fake *fakeclaude.Server
	h    *Handler
	url  string
	// serving counts the requests that have not been served to their end.
	serving *atomic.Int64
}

const (
	annKey = "key-of-ann"
	bobKey = "key-of-bob"
)

func fourAccounts() []fakeclaude.Account {
	return []fakeclaude.Account{
		{Name: "a", APIKey: "sk-ant-api03-aaaa"},
		{Name: "b", APIKey: "sk-ant-api03-bbbb"},
		{Name: "c", AccessToken: "sk-ant-oat01-cccc", Plan: fakeclaude.Max20},
		{Name: "d", AccessToken: "sk-ant-oat01-dddd", Plan: fakeclaude.Max5},
	}
}

const fourBlocks = `
	account a {
		api_key sk-ant-api03-aaaa
	}
	account b {
		api_key sk-ant-api03-bbbb
	}
	account c {
		setup_token sk-ant-oat01-cccc
		owner *
	}
	account d {
		setup_token sk-ant-oat01-dddd
		owner *
	}`

// newBench serves a shunt block. %UPSTREAM% in it is the fake's URL.
func newBench(t *testing.T, options fakeclaude.Options, block string) *bench {
	t.Helper()
	fake, upstream := fctest.Start(t, options)
	h := provision(t, strings.ReplaceAll(block, "%UPSTREAM%", upstream))
	serving := new(atomic.Int64)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Add(-1)
		serveWith(h, w, r)
	}))
	server.EnableHTTP2 = true
	server.Start()
	t.Cleanup(server.Close)
	return &bench{t: t, fake: fake, h: h, url: server.URL, serving: serving}
}

// newFour is a pool of four sound accounts for ann, an admin, and bob.
func newFour(t *testing.T, extra string) *bench {
	t.Helper()
	return newBench(t, fakeclaude.Options{Accounts: fourAccounts(), KeepBodies: true},
		"remote_key ann "+annKey+" {\nadmin\n}\nremote_key bob "+bobKey+"\nupstream %UPSTREAM%\n"+extra+fourBlocks)
}

// serveWith calls the handler as Caddy's server does.
func serveWith(h *Handler, w http.ResponseWriter, r *http.Request) {
	serveReplacing(h, w, r, caddy.NewReplacer())
}

// serveReplacing serves with placeholders that what comes before the handler has set.
func serveReplacing(h *Handler, w http.ResponseWriter, r *http.Request, repl *caddy.Replacer) {
	r = caddyhttp.PrepareRequest(r, repl, w, &caddyhttp.Server{})
	ctx := context.WithValue(r.Context(), caddyhttp.ExtraLogFieldsCtxKey, new(caddyhttp.ExtraLogFields))
	err := h.ServeHTTP(w, r.WithContext(ctx), caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
	if err != nil {
		var handler caddyhttp.HandlerError
		if errors.As(err, &handler) {
			w.WriteHeader(handler.StatusCode)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	}
}

var poolNumber atomic.Int64

// provisioning guards what Caddy keeps of a configuration for the whole process:
// it never loads two at once.
var provisioning sync.Mutex

func newContext(t testing.TB) caddy.Context {
	t.Helper()
	provisioning.Lock()
	defer provisioning.Unlock()
	ctx, err := caddy.ProvisionContext(&caddy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// provision makes a handler from the inside of a shunt block, in a pool and a
// storage of its own.
func provision(t testing.TB, block string) *Handler {
	t.Helper()
	text := fmt.Sprintf("shunt {\npool test%d\nstorage file_system {\nroot %q\n}\n%s\n}", poolNumber.Add(1), t.TempDir(), block)
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
		t.Fatalf("parsing %s: %v", text, err)
	}
	ctx := newContext(t)
	if err := h.Provision(ctx); err != nil {
		t.Fatalf("provisioning: %v", err)
	}
	if err := h.Validate(); err != nil {
		t.Fatalf("validating: %v", err)
	}
	if err := h.app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.app.Stop(); err != nil {
			t.Error(err)
		}
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// stopApp ends the background work, for tests that put something in place which it
// would look at.
func (b *bench) stopApp() {
	b.t.Helper()
	if err := b.h.app.Stop(); err != nil {
		b.t.Fatal(err)
	}
}

const hello = `{"model":"claude-sonnet-5","max_tokens":100,"messages":[{"role":"user","content":"Hello"}]}`

const helloStream = `{"model":"claude-sonnet-5","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"Hello"}]}`

// reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // how the transfer ended
}

func (b *bench) do(method, path, body string, headers ...string) reply {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", annKey)
	r.Header.Set("Anthropic-Version", "2023-06-01")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		} else {
			r.Header.Add(headers[i], headers[i+1])
		}
	}
	return b.send(r)
}

func (b *bench) send(r *http.Request) reply {
	b.t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return reply{status: resp.StatusCode, header: resp.Header, body: string(data), err: err}
}

func (b *bench) ask(body string, headers ...string) reply {
	b.t.Helper()
	return b.do(http.MethodPost, "/v1/messages", body, headers...)
}

// direct asks the fake itself with an account's key.
func (b *bench) direct(body string) string {
	b.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/v1/messages", strings.NewReader(body))
	r.Header.Set("X-Api-Key", "sk-ant-api03-aaaa")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	b.fake.ServeHTTP(w, r)
	return w.Body.String()
}

// mustServe fails the test unless the answer is a whole 200.
func (r reply) mustServe(t *testing.T, what string) {
	t.Helper()
	if r.err != nil || r.status != http.StatusOK {
		t.Errorf("%s: status %d, %v, %s", what, r.status, r.err, r.body)
	}
	if isEventStream(r.header) && !strings.Contains(r.body, "message_stop") {
		t.Errorf("%s: a stream without its end", what)
	}
}

// mustBeIdle waits until no account has a request in flight and all requests are
// recorded: the last byte reaches the client before the exchange has ended.
func (b *bench) mustBeIdle() {
	b.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		busy := ""
		for _, a := range b.h.group.View().Accounts {
			if a.InFlight != 0 {
				busy = fmt.Sprintf("%s has %d requests in flight after all", a.Member.Name, a.InFlight)
			}
		}
		if n := b.serving.Load(); n != 0 && busy == "" {
			busy = fmt.Sprintf("%d requests are still served", n)
		}
		if busy == "" {
			return
		}
		if time.Now().After(deadline) {
			b.t.Error(busy)
			return
		}
		time.Sleep(time.Millisecond)
	}
}
