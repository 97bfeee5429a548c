package shunt

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// TestOneSickAccount: whatever one of four accounts does before the first byte,
// no client request fails.
func TestOneSickAccount(t *testing.T) {
	for _, fault := range []string{
		fakeclaude.WindowFiveHour, fakeclaude.WindowWeek, fakeclaude.ClassicSpent, fakeclaude.Windowless, fakeclaude.ExtraUsageOut,
		fakeclaude.SpendCap, fakeclaude.SpendLimit, fakeclaude.CreditBalance, fakeclaude.Billing, fakeclaude.Burst,
		fakeclaude.Overloaded, fakeclaude.Internal, fakeclaude.BadGateway, fakeclaude.Unavailable, fakeclaude.GatewayTimeout, fakeclaude.EdgeUnknown,
		fakeclaude.TokenExpired, fakeclaude.InvalidKey, fakeclaude.TokenRevoked, fakeclaude.OrgNotAllowed, fakeclaude.OAuthUnsupported,
		fakeclaude.TokenRevoked403, fakeclaude.Permission, fakeclaude.ScopeInference, fakeclaude.Edge1010,
		fakeclaude.OrgDisabled, fakeclaude.ClaudeCodeOnly, fakeclaude.Early429, fakeclaude.Redirect,
		fakeclaude.ResetBeforeHead, fakeclaude.ResetInUpload, fakeclaude.CloseBeforeHead,
		fakeclaude.FirstOverloaded, fakeclaude.FirstRateLimit, fakeclaude.FirstAPIError, fakeclaude.FirstAuth, fakeclaude.EmptyStream,
		fakeclaude.CRLF, fakeclaude.HugeLine, fakeclaude.UnknownEvent, fakeclaude.TwoDeltas, fakeclaude.GzipAlways, fakeclaude.GzipUnlabelled, fakeclaude.EarlyHints,
	} {
		for name, body := range map[string]string{"stream": helloStream, "json": hello} {
			if name == "json" && (strings.HasPrefix(fault, "first_") || fault == fakeclaude.EmptyStream) {
				continue
			}
			t.Run(fault+"/"+name, func(t *testing.T) {
				t.Parallel()
				b := newFour(t, "")
				for _, sick := range []string{"a", "c"} {
					b.fake.ClearFaults()
					b.fake.SetFault(sick, fakeclaude.Fault{Name: fault, Times: -1})
					// The sick account is asked first, whatever the choice would be.
					b.h.live.state.Pin(sick)
					for range 3 {
						b.ask(body).mustServe(t, sick+" "+fault)
					}
				}
				if v := b.fake.Violations(); len(v) > 0 {
					t.Errorf("upstream's rules were broken: %v", v)
				}
				b.mustBeIdle()
			})
		}
	}
}

func TestAnswersAreByteForByte(t *testing.T) {
	b := newFour(t, "")
	odd := "{ \"model\" :\"claude-opus-5\",\t\"max_tokens\":50,\"unknown\": {\"b\":1,\"a\":2.50},\n\"messages\":[{\"role\":\"user\",\"content\":\"caf\\u00e9 \xe2\x82\xac\"}]  }\n"
	for _, body := range []string{hello, helloStream, odd} {
		got := b.ask(body)
		got.mustServe(t, body)
		if want := b.direct(body); got.body != want {
			t.Errorf("through the pool:\n%s\ndirectly:\n%s", got.body, want)
		}
	}
	for i, r := range b.fake.Requests() {
		if i%2 == 0 {
			sum := sha256.Sum256([]byte([]string{hello, helloStream, odd}[i/2]))
			if r.BodySHA256 != hex.EncodeToString(sum[:]) {
				t.Errorf("upstream got another body: %q", r.Body)
			}
		}
	}
}

func TestWhatReachesUpstream(t *testing.T) {
	b := newFour(t, "")
	b.h.live.state.Pin("c")
	b.ask(hello,
		"Anthropic-Beta", "one-2025-01-01,two-2025-01-01", "Anthropic-Beta", "three-2025-01-01", "Anthropic-Future", "yes", "X-Claude-Code-Future", "yes",
		"Authorization", "Bearer "+bobKey, "Cookie", "session=secret", "X-Forwarded-For", "10.1.1.1", "Forwarded", "for=10.1.1.1", "X-Real-Ip", "10.1.1.1",
		"Connection", "X-Hop", "X-Hop", "secret", "Accept-Encoding", "gzip, br",
	).mustServe(t, "")
	r := b.do(http.MethodPost, "/v1/messages?beta=true&x=%20y", hello)
	r.mustServe(t, "query")
	requests := b.fake.Requests()
	h := requests[0].Header
	beta := strings.Join(h.Values("Anthropic-Beta"), ",")
	for _, want := range []string{"one-2025-01-01", "two-2025-01-01", "three-2025-01-01", "oauth-2025-04-20"} {
		if strings.Count(beta, want) != 1 {
			t.Errorf("anthropic-beta is %q", beta)
		}
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer sk-ant-oat01-cccc", "X-Api-Key": "", "Cookie": "", "X-Forwarded-For": "", "Forwarded": "", "X-Real-Ip": "", "X-Hop": "",
		"Accept-Encoding": "identity", "Anthropic-Future": "yes", "X-Claude-Code-Future": "yes", "Anthropic-Version": "2023-06-01",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("upstream got %s: %q, want %q", name, got, want)
		}
	}
	if requests[1].URI != "/v1/messages?beta=true&x=%20y" {
		t.Errorf("upstream got %s", requests[1].URI)
	}
	if r.header.Get("Set-Cookie") != "" || r.header.Get("Anthropic-Organization-Id") != "" || r.header.Get("Anthropic-Ratelimit-Unified-Status") != "" {
		t.Errorf("the client got %v", r.header)
	}
	if r.header.Get("Request-Id") == "" || r.header.Get("X-Shunt-Request-Id") == "" || r.header.Get("X-Shunt-Account") != "c" || r.header.Get("X-Shunt-Attempts") != "1" {
		t.Errorf("the client got %v", r.header)
	}
	if got := b.ask(hello, "X-Api-Key", "", "Authorization", "Bearer "+bobKey).header; got.Get("X-Shunt-Account") != "" {
		t.Error("bob, no admin, is told the account")
	}
}

func TestOtherEndpoints(t *testing.T) {
	b := newFour(t, "")
	if r := b.do(http.MethodPost, "/v1/messages/count_tokens?beta=true", hello); r.status != 200 || !strings.Contains(r.body, "input_tokens") {
		t.Errorf("count_tokens: %d %s", r.status, r.body)
	}
	if r := b.do(http.MethodGet, "/v1/models?limit=2", ""); r.status != 200 || !strings.Contains(r.body, `"data"`) {
		t.Errorf("models: %d %s", r.status, r.body)
	}
	if r := b.do(http.MethodGet, "/v1/models/claude-opus-5", ""); r.status != 200 {
		t.Errorf("model: %d %s", r.status, r.body)
	}
	if r := b.do(http.MethodGet, "/v1/messages", ""); r.status != 405 || r.header.Get("Allow") != "POST" || !strings.Contains(r.body, `"type":"error"`) {
		t.Errorf("GET /v1/messages: %d %s", r.status, r.body)
	}
	for _, path := range []string{"/v1/skills", "/api/hello", "/", "/v1/messages/"} {
		if r := b.do(http.MethodGet, path, ""); r.status != 404 || !strings.Contains(r.body, "not_found_error") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}

func TestBodies(t *testing.T) {
	b := newFour(t, "max_body 1MiB\n")
	if r := b.ask(`{"model":"claude-opus-5","x":"` + strings.Repeat("a", 2<<20) + `"}`); r.status != 413 || !strings.Contains(r.body, "request_too_large") {
		t.Errorf("a body over the limit: %d %v %s", r.status, r.err, r.body)
	}
	chunked, _ := http.NewRequest(http.MethodPost, b.url+"/v1/messages", struct{ *bytes.Reader }{bytes.NewReader([]byte(hello))})
	chunked.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}, "Expect": {"100-continue"}}
	chunked.ContentLength = -1
	b.send(chunked).mustServe(t, "chunked")
	tooLong, _ := http.NewRequest(http.MethodPost, b.url+"/v1/messages", struct{ *bytes.Reader }{bytes.NewReader(make([]byte, 2<<20))})
	tooLong.Header = http.Header{"X-Api-Key": {annKey}}
	tooLong.ContentLength = -1
	if r := b.send(tooLong); r.status != 413 {
		t.Errorf("a chunked body over the limit: %d %v", r.status, r.err)
	}
	if n := len(b.fake.Requests()); n != 1 {
		t.Errorf("upstream saw %d requests", n)
	}
}

func TestACallersFaultIsTheCallers(t *testing.T) {
	for _, fault := range []string{fakeclaude.InvalidRequest, fakeclaude.PromptTooLong, fakeclaude.UnknownModel, fakeclaude.TooLarge, fakeclaude.Conflict} {
		b := newFour(t, "")
		b.fake.SetFault("*", fakeclaude.Fault{Name: fault, Times: -1})
		r := b.ask(hello)
		if r.status < 400 || r.status >= 500 || len(b.fake.Requests()) != 1 {
			t.Errorf("%s: %d after %d tries: %s", fault, r.status, len(b.fake.Requests()), r.body)
		}
		for _, a := range b.h.group.View().Accounts {
			if len(a.Benches) > 0 {
				t.Errorf("%s benched %s", fault, a.Member.Name)
			}
		}
	}
}

// TestBrokenStreamsAreAborted: an answer that breaks off must not look whole.
func TestBrokenStreamsAreAborted(t *testing.T) {
	for _, fault := range []string{fakeclaude.CutAfterText, fakeclaude.CloseAfterText, fakeclaude.EndAfterText, fakeclaude.EndWithoutStop, fakeclaude.StallAfterText} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b := newFour(t, "stall_timeout 1s\n")
			b.fake.SetFault("*", fakeclaude.Fault{Name: fault})
			r := b.ask(helloStream)
			if r.err == nil || r.status != 200 {
				t.Errorf("status %d, ended with %v:\n%s", r.status, r.err, r.body)
			}
			if !strings.Contains(r.body, "message_start") {
				t.Error("what came before the break was not delivered")
			}
			b.mustBeIdle()
			v := b.h.group.View()
			want := "cut"
			if fault == fakeclaude.StallAfterText {
				want = "stalled"
			}
			if len(v.Recent) != 1 || v.Recent[0].Verdict != want || v.Recent[0].Usage.InputTokens == 0 {
				t.Errorf("recorded as %+v", v.Recent)
			}
		})
	}
	b := newFour(t, "")
	b.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.ErrorAfterText})
	if r := b.ask(helloStream); r.err != nil || !strings.Contains(r.body, "event: error") {
		t.Errorf("upstream's own error event ended with %v:\n%s", r.err, r.body)
	}
	b.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.JSONCut})
	if r := b.ask(hello); r.err == nil {
		t.Errorf("a cut JSON answer looks whole: %s", r.body)
	}
}

func TestAllAccountsOut(t *testing.T) {
	for _, test := range []struct {
		fault  string
		status int
		says   string
	}{
		{fakeclaude.WindowFiveHour, 429, "all 4 accounts are out: 4 at"},
		{fakeclaude.Overloaded, 529, "Overloaded"},
		{fakeclaude.Internal, 500, ""},
		{fakeclaude.TokenRevoked, 503, "in need of a login"},
		{fakeclaude.Permission, 503, "permission"},
		{fakeclaude.Edge1010, 503, "edge refused"},
		{fakeclaude.ResetBeforeHead, 502, "could not be reached"},
		{fakeclaude.FirstOverloaded, 529, "overloaded_error"},
		{fakeclaude.ExtraUsageLong, 429, "Extra usage is required for long context requests."},
	} {
		t.Run(test.fault, func(t *testing.T) {
			t.Parallel()
			b := newFour(t, "hold off\n")
			b.fake.SetFault("*", fakeclaude.Fault{Name: test.fault, Times: -1})
			r := b.ask(helloStream)
			if r.status != test.status || !strings.Contains(r.body, test.says) || !strings.Contains(r.body, `"type":"error"`) {
				t.Errorf("answered %d %s", r.status, r.body)
			}
			for name := range r.header {
				if strings.Contains(name, "Organization") || strings.Contains(name, "Cookie") {
					t.Errorf("the client got %s", name)
				}
			}
			if n := len(b.fake.Requests()); n > 4 {
				t.Errorf("%d tries for one request", n)
			}
			if test.fault == fakeclaude.WindowFiveHour {
				if r.header.Get("X-Should-Retry") != "false" || r.header.Get("Anthropic-Ratelimit-Unified-Status") != "rejected" || r.header.Get("Anthropic-Ratelimit-Unified-Reset") == "" || r.header.Get("Retry-After") == "" {
					t.Errorf("the client got %v", r.header)
				}
				before := len(b.fake.Requests())
				if again := b.ask(hello); again.status != 429 || len(b.fake.Requests()) != before {
					t.Errorf("spent accounts were asked again: %d", again.status)
				}
			}
		})
	}
}

func TestHoldWaitsForABurstToEnd(t *testing.T) {
	b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:1]}, "remote_key ann "+annKey+"\nupstream %UPSTREAM%\naccount a {\napi_key sk-ant-api03-aaaa\n}")
	b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.Burst, Times: 1})
	begun := time.Now()
	r := b.ask(hello)
	r.mustServe(t, "after a burst")
	if r.header.Get("X-Shunt-Attempts") != "2" || time.Since(begun) < time.Second {
		t.Errorf("served after %v and %s attempts", time.Since(begun), r.header.Get("X-Shunt-Attempts"))
	}
}

func TestClientThatLeavesCostsNobodyAnything(t *testing.T) {
	for name, fault := range map[string]string{"before the head": fakeclaude.HangBeforeHead, "mid-stream": fakeclaude.StallAfterText} {
		t.Run(name, func(t *testing.T) {
			b := newFour(t, "")
			b.fake.SetFault("*", fakeclaude.Fault{Name: fault, Times: -1})
			ctx, cancel := context.WithCancel(t.Context())
			r, _ := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/v1/messages", strings.NewReader(helloStream))
			r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
			time.AfterFunc(300*time.Millisecond, cancel)
			left := time.Now().Add(300 * time.Millisecond)
			b.send(r)
			waitCtx, stop := context.WithTimeout(t.Context(), 5*time.Second)
			defer stop()
			seen, err := b.fake.Await(waitCtx, func(r fakeclaude.Request) bool { return r.Cancelled })
			if err != nil {
				t.Fatalf("upstream went on working: %v", err)
			}
			if late := seen.CancelledAt.Sub(left); late > time.Second {
				t.Errorf("upstream was told %v after the client left", late)
			}
			deadline := time.Now().Add(2 * time.Second)
			for len(b.h.group.View().Recent) == 0 && time.Now().Before(deadline) {
				time.Sleep(time.Millisecond)
			}
			v := b.h.group.View()
			if len(v.Recent) != 1 || v.Recent[0].Verdict != "client_gone" || len(b.fake.Requests()) != 1 {
				t.Errorf("%d tries, recorded as %+v", len(b.fake.Requests()), v.Recent)
			}
			for _, a := range v.Accounts {
				if len(a.Benches) > 0 || a.InFlight > 0 {
					t.Errorf("%s paid for it: %+v", a.Member.Name, a)
				}
			}
		})
	}
}

func TestUsageIsCounted(t *testing.T) {
	b := newFour(t, "")
	for _, body := range []string{hello, helloStream, hello} {
		b.ask(body).mustServe(t, "")
	}
	b.do(http.MethodPost, "/v1/messages/count_tokens", hello)
	var books fakeclaude.Usage
	for _, ledger := range b.fake.Books() {
		books.Input += ledger.Input
		books.Output += ledger.Output
	}
	var s statusView
	if err := json.Unmarshal([]byte(b.do(http.MethodGet, "/status", "").body), &s); err != nil {
		t.Fatal(err)
	}
	var in, out, total int64
	for _, a := range s.Accounts {
		in, out, total = in+a.Usage.InputTokens, out+a.Usage.OutputTokens, total+a.TotalTokens
	}
	if in != books.Input || out != books.Output || total != in+out || in == 0 {
		t.Errorf("counted %d in, %d out; upstream charged %+v", in, out, books)
	}
	if len(s.People) != 2 || s.People[0].Name != "ann" || s.People[1].Requests != 0 || s.People[0].Usage.OutputTokens != out || s.People[0].Requests != 4 {
		t.Errorf("people: %+v", s.People)
	}
}

// TestTriesAreBounded: how often upstream is asked for one request that fails
// everywhere.
func TestTriesAreBounded(t *testing.T) {
	for fault, want := range map[string]int{
		fakeclaude.Internal: 2, fakeclaude.ResetBeforeHead: 2, fakeclaude.Windowless: 2, fakeclaude.FirstAPIError: 2,
		fakeclaude.Overloaded: 3, fakeclaude.FirstOverloaded: 3,
		fakeclaude.WindowWeek: 4, fakeclaude.InvalidRequest: 1,
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b := newFour(t, "hold off\n")
			b.fake.SetFault("*", fakeclaude.Fault{Name: fault, Times: -1})
			b.ask(helloStream)
			if n := len(b.fake.Requests()); n != want {
				t.Errorf("%d tries, want %d", n, want)
			}
		})
	}
}

// TestARequestThatAnyAccountCanServeIsServed: accounts that say they are out do
// not use up the tries.
func TestARequestThatAnyAccountCanServeIsServed(t *testing.T) {
	b := newFour(t, "retries 1\n")
	for _, out := range []string{"a", "b", "c"} {
		b.fake.SetFault(out, fakeclaude.Fault{Name: fakeclaude.WindowWeek, Times: -1})
	}
	for range 5 {
		b.ask(hello).mustServe(t, "three of four are out")
	}
}

func TestOverloadIsTriedAgainInPlace(t *testing.T) {
	b := newFour(t, "")
	b.h.live.state.Pin("b")
	b.fake.SetFault("b", fakeclaude.Fault{Name: fakeclaude.Overloaded, Times: 1})
	r := b.ask(hello)
	r.mustServe(t, "overloaded once")
	if r.header.Get("X-Shunt-Account") != "b" || r.header.Get("X-Shunt-Attempts") != "2" {
		t.Errorf("served by %s after %s attempts", r.header.Get("X-Shunt-Account"), r.header.Get("X-Shunt-Attempts"))
	}
}

// TestOnlyWhoFailsAloneIsBlamed: a failure that another account does not share
// benches; one that they share is upstream's.
func TestOnlyWhoFailsAloneIsBlamed(t *testing.T) {
	b := newFour(t, "")
	b.h.live.state.Pin("b")
	b.fake.SetFault("b", fakeclaude.Fault{Name: fakeclaude.Internal, Times: -1})
	b.ask(hello).mustServe(t, "b fails alone")
	b.ask(hello).mustServe(t, "b rests")
	if n := len(b.fake.Requests()); n != 3 {
		t.Errorf("%d tries for two requests: b was asked again at once", n)
	}
	b = newFour(t, "")
	b.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.Internal, Times: -1})
	b.ask(hello)
	for _, a := range b.h.group.View().Accounts {
		if len(a.Benches) > 0 {
			t.Errorf("%s was blamed for what all did", a.Member.Name)
		}
	}
}

// TestTooLongIsRefusedUnread: a body that announces itself as too long is not
// waited for.
func TestTooLongIsRefusedUnread(t *testing.T) {
	b := newFour(t, "max_body 1MiB\n")
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = fmt.Fprintf(conn, "POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: 99999999\r\n\r\n", annKey)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%v %v", resp, err)
	}
}

// TestRefusalsDoNotUseUpTheTries: after accounts that said they are out, a
// shared fault still gets its other try.
func TestRefusalsDoNotUseUpTheTries(t *testing.T) {
	for range 12 { // the order of the accounts is drawn
		b := newFour(t, "retries 2\n")
		b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.WindowWeek, Times: -1})
		b.fake.SetFault("b", fakeclaude.Fault{Name: fakeclaude.WindowWeek, Times: -1})
		b.fake.SetFault("c", fakeclaude.Fault{Name: fakeclaude.Internal, Times: -1})
		b.ask(hello).mustServe(t, "two are out and one fails")
	}
}

// TestSlowFirstEvent: the client sees life in time, and an error that comes
// after it as it came.
func TestSlowFirstEvent(t *testing.T) {
	b := newFour(t, "first_event_timeout 200ms\n")
	for _, fault := range []string{fakeclaude.SlowFirst, fakeclaude.SlowFirstPings, fakeclaude.SlowFirstComments} {
		b.fake.SetFault("*", fakeclaude.Fault{Name: fault, Delay: time.Second, Every: 100 * time.Millisecond})
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/v1/messages", strings.NewReader(helloStream))
		r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
		begun := time.Now()
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		head := time.Since(begun)
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		whole := reply{status: resp.StatusCode, header: resp.Header, body: string(body), err: err}
		whole.mustServe(t, fault)
		if head > 700*time.Millisecond || time.Since(begun) < time.Second {
			t.Errorf("%s: the head came after %v, the end after %v", fault, head, time.Since(begun))
		}
		if fault == fakeclaude.SlowFirstPings && !strings.Contains(whole.body, "event: ping") {
			t.Errorf("%s: the pings are lost:\n%s", fault, whole.body)
		}
	}
}

// TestCutInTheFirstEvent: half an event is none, so another account may serve.
func TestCutInTheFirstEvent(t *testing.T) {
	b := newFour(t, "")
	half := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: message_start\ndata: {\"type\":\"message_start\",\"mess")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer half.Close()
	b.h.live.state.Pin("a")
	for _, a := range b.h.accounts {
		if a.member.Name == "a" {
			a.base.host = strings.TrimPrefix(half.URL, "http://")
		}
	}
	r := b.ask(helloStream)
	r.mustServe(t, "cut in the first event")
	if r.header.Get("X-Shunt-Attempts") != "2" {
		t.Errorf("served after %s attempts", r.header.Get("X-Shunt-Attempts"))
	}
}
