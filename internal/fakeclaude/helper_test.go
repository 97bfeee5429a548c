package fakeclaude_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"go.uber.org/goleak"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude/fctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

const (
	tokenA  = "sk-ant-oat01-setup-a"
	tokenB  = "sk-ant-oat01-login-b"
	renewB  = "sk-ant-ort01-login-b"
	keyK    = "sk-ant-api03-key-k"
	modelID = "claude-sonnet-5"
)

// world is a fake on a listener with its clock and a client.
type world struct {
	*testing.T
	fake   *fakeclaude.Server
	url    string
	clock  *clock
	client *http.Client
}

func accounts() []fakeclaude.Account {
	return []fakeclaude.Account{
		{Name: "a", AccessToken: tokenA, Plan: fakeclaude.Pro},
		{Name: "b", AccessToken: tokenB, RefreshToken: renewB, Plan: fakeclaude.Max5},
		{Name: "k", APIKey: keyK},
	}
}

func start(t *testing.T, options fakeclaude.Options) *world {
	t.Helper()
	w := &world{T: t, clock: newClock()}
	if options.Accounts == nil {
		options.Accounts = accounts()
	}
	if options.Clock == nil {
		options.Clock = w.clock.Now
	}
	w.fake, w.url = fctest.Start(t, options)
	// Compression is the test's business, so the client must not undo it; a
	// redirect is what upstream said.
	transport := &http.Transport{DisableCompression: true}
	w.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(transport.CloseIdleConnections)
	return w
}

// call is a request to be sent; header lines win over the usual ones and an
// empty value removes one.
type call struct {
	method, path, body string
	bearer, key        string
	header             map[string]string
	ctx                context.Context
}

func (w *world) request(c call) *http.Request {
	w.Helper()
	if c.ctx == nil {
		c.ctx = w.Context()
	}
	if c.method == "" {
		c.method = http.MethodPost
	}
	if c.path == "" {
		c.path = "/v1/messages"
	}
	r, err := http.NewRequestWithContext(c.ctx, c.method, w.url+c.path, strings.NewReader(c.body))
	if err != nil {
		w.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	switch {
	case c.key != "":
		r.Header.Set("X-Api-Key", c.key)
	case c.bearer != "":
		r.Header.Set("Authorization", "Bearer "+c.bearer)
		r.Header.Set("Anthropic-Beta", "oauth-2025-04-20")
	}
	for name, value := range c.header {
		if value == "" {
			r.Header.Del(name)
		} else {
			r.Header.Set(name, value)
		}
	}
	return r
}

// answer is a response that has been read as far as it went.
type answer struct {
	*http.Response
	body string
	// broken is why reading stopped before the end.
	broken error
}

func (w *world) do(c call) answer {
	w.Helper()
	a, err := w.try(c)
	if err != nil {
		w.Fatal(err)
	}
	return a
}

// try returns an error when there was no head.
func (w *world) try(c call) (answer, error) {
	w.Helper()
	response, err := w.client.Do(w.request(c))
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response, string(body), err}, nil
}

func (a answer) get(path string) gjson.Result { return gjson.Get(a.body, path) }

// sse is one event as a client reads it.
type sse struct{ name, data string }

func (a answer) events() []sse {
	var all []sse
	var current sse
	lines := bufio.NewScanner(strings.NewReader(a.body))
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		line := strings.TrimSuffix(lines.Text(), "\r")
		switch field, value, _ := strings.Cut(line, ": "); {
		case line == "":
			if current != (sse{}) {
				all = append(all, current)
			}
			current = sse{}
		case field == "event":
			current.name = value
		case field == "data":
			current.data += value
		}
	}
	return all
}

// names lists the event names, runs of deltas as one.
func (a answer) names() string {
	var names []string
	for _, e := range a.events() {
		if e.name != "content_block_delta" || len(names) == 0 || names[len(names)-1] != e.name {
			names = append(names, e.name)
		}
	}
	return strings.Join(names, " ")
}

func (a answer) last(name string) gjson.Result {
	var found string
	for _, e := range a.events() {
		if e.name == name {
			found = e.data
		}
	}
	return gjson.Parse(found)
}

// text puts the text of a stream together.
func (a answer) text() string {
	var text string
	for _, e := range a.events() {
		text += gjson.Get(e.data, "delta.text").String()
	}
	return text
}

// ask builds a body with one user message.
func ask(model string, stream bool, text string) string {
	return `{"model":"` + model + `","max_tokens":1000,"stream":` + strconv.FormatBool(stream) +
		`,"messages":[{"role":"user","content":"` + text + `"}]}`
}

func (w *world) equal(what string, got, want any) {
	w.Helper()
	if got != want {
		w.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func unified(a answer, suffix string) string {
	return a.Header.Get("Anthropic-Ratelimit-Unified-" + suffix)
}

// refused checks an error envelope and that body and header name one request.
func (w *world) refused(a answer, status int, kind, text string) {
	w.Helper()
	w.equal("status", a.StatusCode, status)
	w.equal("type", a.get("type").String(), "error")
	w.equal("error.type", a.get("error.type").String(), kind)
	if !strings.Contains(a.get("error.message").String(), text) {
		w.Errorf("error.message: got %q, want %q in it", a.get("error.message"), text)
	}
	w.equal("request_id", a.get("request_id").String(), a.Header.Get("Request-Id"))
	if !strings.HasPrefix(a.Header.Get("Request-Id"), "req_") {
		w.Errorf("request-id: got %q", a.Header.Get("Request-Id"))
	}
}

// soon gives what happens in the background a generous bound.
func (w *world) soon() context.Context {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	w.Cleanup(cancel)
	return ctx
}

func (w *world) await(match func(fakeclaude.Request) bool) fakeclaude.Request {
	w.Helper()
	r, err := w.fake.Await(w.soon(), match)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

func done(r fakeclaude.Request) bool { return r.Done }
