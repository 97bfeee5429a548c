package shunt

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/tidwall/gjson"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// upstreamsPing is a ping as the API's documentation shows it.
const upstreamsPing = "event: ping\ndata: {\"type\": \"ping\"}\n\n"

// secondsBurst closes an account for a second.
var secondsBurst = fakeclaude.Fault{Name: fakeclaude.Burst, RetryAfter: time.Second}

// newPatient is newFour with pings every 200 ms. Each account refuses the first
// request for a second, and does then what the faults say.
func newPatient(t *testing.T, hold time.Duration, then ...fakeclaude.Fault) *bench {
	t.Helper()
	b := newFour(t, "hold 30s {\nkeepalive\n}\n")
	b.h.pingEvery, b.h.Hold.Timeout = 200*time.Millisecond, caddy.Duration(hold)
	for _, a := range fourAccounts() {
		b.fake.SetFault(a.Name, append([]fakeclaude.Fault{secondsBurst}, then...)...)
	}
	return b
}

// afterPings checks the head and the pings of an answer that was waited for, and
// returns what came after them.
func (r reply) afterPings(t *testing.T) string {
	t.Helper()
	rest, pings := r.body, 0
	for strings.HasPrefix(rest, upstreamsPing) {
		rest, pings = rest[len(upstreamsPing):], pings+1
	}
	if r.status != http.StatusOK || pings < 3 || pings > 6 {
		t.Errorf("status %d and %d pings in a second, one every 200 ms:\n%s", r.status, pings, r.body)
	}
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "Request-Id": "", "X-Shunt-Attempts": "", "X-Shunt-Account": ""} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %q, expected %q", name, got, want)
		}
	}
	if r.header.Get("X-Shunt-Request-Id") == "" {
		t.Error("the answer has no id")
	}
	return rest
}

// lastError returns the data of the error event that is all of rest.
func lastError(t *testing.T, rest string) gjson.Result {
	t.Helper()
	data, isEvent := strings.CutPrefix(rest, "event: error\ndata: ")
	data, ends := strings.CutSuffix(data, "\n\n")
	if !isEvent || !ends || strings.Contains(data, "\n") || !gjson.Valid(data) || gjson.Get(data, "type").Str != "error" {
		t.Errorf("not one error event: %q", rest)
	}
	return gjson.Parse(data)
}

// recent is the record of the only request.
func (b *bench) recent() pool.Record {
	b.t.Helper()
	b.mustBeIdle()
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		if r := b.h.group.View().Recent; len(r) == 1 {
			return r[0]
		}
		time.Sleep(time.Millisecond)
	}
	b.t.Fatal("not one request was recorded")
	return pool.Record{}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	b := newPatient(t, 10*time.Second)
	r := b.ask(helloStream)
	rest := r.afterPings(t)
	if want := b.direct(helloStream); r.err != nil || rest != want {
		t.Errorf("%v, after the pings came\n%s\ndirectly\n%s", r.err, rest, want)
	}
	if got := b.recent(); got.Status != 200 || got.Verdict != "served" || got.Waited < 900 || got.Usage.OutputTokens == 0 || got.FirstByte < 900 {
		t.Errorf("recorded as %+v", got)
	}
}

// TestKeepAliveMovesOn: pings are nothing of the answer, so another account may
// still be asked.
func TestKeepAliveMovesOn(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{fakeclaude.WindowWeek, fakeclaude.TokenRevoked, fakeclaude.FirstAuth} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b := newPatient(t, 10*time.Second, fakeclaude.Always(fault))
			b.fake.SetFault("c", secondsBurst)
			r := b.ask(helloStream)
			rest := r.afterPings(t)
			b.fake.ClearFaults()
			if r.err != nil || rest != b.direct(helloStream) {
				t.Errorf("%v, after the pings came\n%s", r.err, rest)
			}
			if got := b.recent(); got.Account != "c" || got.Verdict != "served" || got.Attempts < 5 {
				t.Errorf("recorded as %+v", got)
			}
		})
	}
}

func TestKeepAliveInVain(t *testing.T) {
	t.Parallel()
	b := newPatient(t, 1500*time.Millisecond, fakeclaude.Fault{Name: fakeclaude.Burst, Times: -1, RetryAfter: 3 * time.Second})
	r := b.ask(helloStream)
	e := lastError(t, r.afterPings(t))
	message := e.Get("error.message").Str
	if r.err != nil || e.Get("error.type").Str != "rate_limit_error" || !strings.Contains(message, "4 briefly rate-limited until ") || !strings.HasSuffix(message, " UTC") {
		t.Errorf("ended with %v, and said %s", r.err, e)
	}
	if id := e.Get("request_id").Str; id != r.header.Get("X-Shunt-Request-Id") {
		t.Errorf("the error is of request %q", id)
	}
	if got := b.recent(); got.Status != 200 || got.Verdict != verdictExhausted || got.Reason != message {
		t.Errorf("recorded as %+v", got)
	}
}

// TestKeepAliveTellsRefusals: what would have been the answer's status is an error
// event, in upstream's words where they are the client's business.
func TestKeepAliveTellsRefusals(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]struct{ kind, says, verdict string }{
		fakeclaude.InvalidRequest:  {"invalid_request_error", "", "caller"},
		fakeclaude.ExtraUsageLong:  {"rate_limit_error", "Extra usage is required for long context requests.", "extra_usage"},
		fakeclaude.Overloaded:      {"overloaded_error", "Overloaded", "overloaded"},
		fakeclaude.FirstOverloaded: {"overloaded_error", "Overloaded", "overloaded"},
		fakeclaude.BadGateway:      {"api_error", "upstream answered 502", "upstream"},
		fakeclaude.ResetBeforeHead: {"api_error", "could not be reached", "unreachable"},
		fakeclaude.TokenRevoked:    {"api_error", "in need of a login", verdictExhausted},
		fakeclaude.Edge1010:        {"api_error", "no account of this pool could serve", "edge_refused"},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b := newPatient(t, 10*time.Second, fakeclaude.Always(fault))
			r := b.ask(helloStream)
			e := lastError(t, r.afterPings(t))
			if r.err != nil || e.Get("error.type").Str != want.kind || !strings.Contains(e.Get("error.message").Str, want.says) || e.Get("error.message").Str == "" {
				t.Errorf("ended with %v, and said %s", r.err, e)
			}
			if id := e.Get("request_id").Str; fault == fakeclaude.InvalidRequest && !strings.HasPrefix(id, "req_") {
				t.Errorf("the error is of request %q, not of upstream's", id)
			}
			if got := b.recent(); got.Status != 200 || got.Verdict != want.verdict {
				t.Errorf("recorded as %+v", got)
			}
		})
	}
}

// answering is an upstream that answers every request so.
func answering(t *testing.T, b *bench, contentType, encoding, body string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.fake.Faults("a") != nil {
			b.fake.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", contentType)
		if encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	for _, a := range b.h.accounts {
		a.base.host = strings.TrimPrefix(server.URL, "http://")
	}
}

// TestKeepAliveWithoutAStream: an answer that cannot go on in the stream.
func TestKeepAliveWithoutAStream(t *testing.T) {
	document := `{"type":"message","id":"msg_1","content":[{"type":"text","text":"` + strings.Repeat("x", 9000) + `"}],"usage":{"input_tokens":7,"output_tokens":2250}}`
	for name, test := range map[string]struct{ contentType, encoding, body, kind, says string }{
		"a document":         {"application/json", "", document, "api_error", "not an event stream"},
		"a short document":   {"application/json", "", `{"type":"message","content":[]}`, "api_error", "not an event stream"},
		"an error as a 200":  {"application/json", "", "{\"type\": \"error\",\n \"error\": {\"type\": \"timeout_error\", \"message\": \"so late\"}}", "timeout_error", "so late"},
		"an unread encoding": {"text/event-stream", "x-odd", "\x01\x02\x03", "api_error", "not an event stream"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:1]}, "remote_key ann "+annKey+"\nupstream %UPSTREAM%\nhold 30s {\nkeepalive\n}\naccount a {\napi_key sk-ant-api03-aaaa\n}")
			b.h.pingEvery = 200 * time.Millisecond
			b.fake.SetFault("a", secondsBurst)
			answering(t, b, test.contentType, test.encoding, test.body)
			r := b.ask(helloStream)
			e := lastError(t, r.afterPings(t))
			if r.err != nil || e.Get("error.type").Str != test.kind || !strings.Contains(e.Get("error.message").Str, test.says) {
				t.Errorf("ended with %v, and said %s", r.err, e)
			}
			got := b.recent()
			if got.Status != 200 || got.Verdict != "upstream" || test.body == document && got.Usage.OutputTokens != 2250 {
				t.Errorf("recorded as %+v", got)
			}
		})
	}
}

func TestKeepAliveDoesNotHideACut(t *testing.T) {
	t.Parallel()
	b := newPatient(t, 10*time.Second, fakeclaude.Always(fakeclaude.CutAfterText))
	r := b.ask(helloStream)
	if rest := r.afterPings(t); r.err == nil || !strings.Contains(rest, "message_start") || strings.Contains(rest, "event: error") {
		t.Errorf("a cut answer ended with %v:\n%s", r.err, r.body)
	}
	if got := b.recent(); got.Verdict != "cut" {
		t.Errorf("recorded as %+v", got)
	}
}

// TestKeepAliveIsForStreams: other answers have no room for a ping, and keep
// their status.
func TestKeepAliveIsForStreams(t *testing.T) {
	t.Parallel()
	b := newPatient(t, 1500*time.Millisecond, fakeclaude.Fault{Name: fakeclaude.Burst, Times: -1, RetryAfter: 3 * time.Second})
	r := b.ask(hello)
	if r.status != http.StatusTooManyRequests || r.header.Get("Retry-After") == "" || r.header.Get("Content-Type") != "application/json" || strings.Contains(r.body, "ping") {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
}

// TestNoKeepAlive: nobody gets a ping who did not ask for it.
func TestNoKeepAlive(t *testing.T) {
	t.Parallel()
	b := newPatient(t, 10*time.Second)
	b.h.Hold.KeepAlive = false
	if r := b.ask(helloStream); r.body != b.direct(helloStream) || r.header.Get("Request-Id") == "" {
		t.Errorf("%v %s", r.header, r.body)
	}
}

// TestKeepAliveCountsAllWaiting: a request that stands in line twice is not silent
// for twice as long.
func TestKeepAliveCountsAllWaiting(t *testing.T) {
	t.Parallel()
	b := newPatient(t, 10*time.Second, secondsBurst)
	b.h.pingEvery = 1500 * time.Millisecond
	r := b.ask(helloStream)
	if r.err != nil || r.body != upstreamsPing+b.direct(helloStream) {
		t.Errorf("%v\n%s", r.err, r.body)
	}
}

// TestKeepAliveStaysInStep: the next wait goes on with the pings of the one before.
func TestKeepAliveStaysInStep(t *testing.T) {
	t.Parallel()
	b := newPatient(t, 10*time.Second, secondsBurst)
	b.h.pingEvery = 600 * time.Millisecond
	r := b.ask(helloStream)
	if want := strings.Repeat(upstreamsPing, 3); r.err != nil || r.body != want+b.direct(helloStream) {
		t.Errorf("%v, not three pings in two seconds:\n%s", r.err, r.body)
	}
}

func (b *bench) mustLeaveLine(within time.Duration) {
	b.t.Helper()
	deadline := time.Now().Add(within)
	for b.h.live.state.Waiting() > 0 {
		if time.Now().After(deadline) {
			b.t.Error("still in line")
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestKeepAliveClientGone(t *testing.T) {
	t.Parallel()
	b := newPatient(t, 10*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/v1/messages", strings.NewReader(helloStream))
	r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "event: ping\n" {
		t.Fatalf("%q, %v", line, err)
	}
	cancel()
	b.mustLeaveLine(300 * time.Millisecond)
	if got := b.recent(); got.Status != 200 || got.Verdict != "client_gone" || got.Attempts != 4 {
		t.Errorf("recorded as %+v", got)
	}
}

// headCounter counts the response heads.
type headCounter struct {
	*httptest.ResponseRecorder
	heads int
	wrote chan struct{}
}

func (w *headCounter) WriteHeader(status int) {
	w.heads++
	w.ResponseRecorder.WriteHeader(status)
}

func (w *headCounter) Flush() {
	select {
	case w.wrote <- struct{}{}:
	default:
	}
}

func TestKeepAliveSendsOneHead(t *testing.T) {
	t.Parallel()
	for name, then := range map[string][]fakeclaude.Fault{"served": nil, "refused": {fakeclaude.Always(fakeclaude.InvalidRequest)}, "client gone": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newPatient(t, 10*time.Second, then...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/messages", strings.NewReader(helloStream))
			r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
			w := &headCounter{ResponseRecorder: httptest.NewRecorder(), wrote: make(chan struct{}, 1)}
			if name == "client gone" {
				go func() {
					<-w.wrote
					cancel()
				}()
			}
			serveWith(b.h, w, r)
			if w.heads != 1 || w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), upstreamsPing) {
				t.Errorf("%d heads, status %d: %s", w.heads, w.Code, w.Body)
			}
		})
	}
}

// brokenWriter is a client that nothing reaches, and whose server has not noticed.
type brokenWriter struct{ *httptest.ResponseRecorder }

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestKeepAliveCannotBeWritten(t *testing.T) {
	t.Parallel()
	b := newPatient(t, 10*time.Second)
	r := httptest.NewRequest(http.MethodPost, "/v1/messages", strings.NewReader(helloStream))
	r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
	begun := time.Now()
	serveWith(b.h, brokenWriter{httptest.NewRecorder()}, r)
	if took := time.Since(begun); took > 800*time.Millisecond {
		t.Errorf("out of line after %v", took)
	}
	if got := b.recent(); got.Verdict != "client_gone" || got.Attempts != 4 {
		t.Errorf("recorded as %+v", got)
	}
}

func TestKeepAliveThatNobodySees(t *testing.T) {
	for timeout, wanted := range map[time.Duration]string{
		-1: "hold: keepalive is for requests that wait, and hold is off", 15 * time.Second: "hold: keepalive sends its first ping after 15s, and hold ends after 15s",
		16 * time.Second: "", 0: "",
	} {
		h := &Handler{Retries: 1, Pool: "x", Hold: &Hold{Timeout: caddy.Duration(timeout), KeepAlive: true}}
		got := ""
		if err := h.Validate(); err != nil {
			got = err.Error()
		}
		if got != wanted {
			t.Errorf("hold %v: %q, expected %q", timeout, got, wanted)
		}
		h.Hold.KeepAlive = false
		if err := h.Validate(); err != nil {
			t.Errorf("hold %v without keepalive: %v", timeout, err)
		}
	}
}
