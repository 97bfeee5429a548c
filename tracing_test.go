package shunt

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// traced is a bench whose requests are in a span, as behind Caddy's tracing.
type traced struct {
	*bench
	recorder *tracetest.SpanRecorder
}

func newTraced(t *testing.T, b *bench) *traced {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.serving.Add(1)
		defer b.serving.Add(-1)
		ctx, span := provider.Tracer("test").Start(r.Context(), "request")
		defer span.End()
		serveWith(b.h, w, r.WithContext(ctx))
	}))
	t.Cleanup(server.Close)
	b.url = server.URL
	return &traced{b, recorder}
}

// spans gives those that have ended, by name, once no request is served any more.
func (b *traced) spans() (byName map[string][]sdktrace.ReadOnlySpan) {
	b.t.Helper()
	b.mustBeIdle()
	byName = make(map[string][]sdktrace.ReadOnlySpan)
	for _, s := range b.recorder.Ended() {
		byName[s.Name()] = append(byName[s.Name()], s)
	}
	if open := len(b.recorder.Started()) - len(b.recorder.Ended()); open != 0 {
		b.t.Errorf("%d spans were not ended", open)
	}
	for name, spans := range byName {
		for _, s := range spans {
			if name != "request" && s.Parent().SpanID() != byName["request"][0].SpanContext().SpanID() {
				b.t.Errorf("%s is not a child of the request's span", name)
			}
		}
	}
	return byName
}

func attributesOf(s sdktrace.ReadOnlySpan) map[string]any {
	all := make(map[string]any)
	for _, kv := range s.Attributes() {
		all[string(kv.Key)] = kv.Value.AsInterface()
	}
	return all
}

func mustTell(t *testing.T, s sdktrace.ReadOnlySpan, want map[string]any) {
	t.Helper()
	got := attributesOf(s)
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s: %s is %v, want %v", s.Name(), key, got[key], value)
		}
	}
}

// TestTraceOfAFailover: each try is a span of its own, with what came of it.
func TestTraceOfAFailover(t *testing.T) {
	for name, body := range map[string]string{"stream": helloStream, "json": hello} {
		t.Run(name, func(t *testing.T) {
			b := newTraced(t, newFour(t, ""))
			b.fake.SetFault("a", fakeclaude.Always(fakeclaude.SpendCap))
			b.h.live.state.Pin("a")
			b.ask(body).mustServe(t, name)
			spans := b.spans()
			tries := spans[spanAttempt]
			if len(tries) != 2 {
				t.Fatalf("%d tries, want 2", len(tries))
			}
			mustTell(t, tries[0], map[string]any{
				"shunt.account": "a", "shunt.attempt": int64(1), "shunt.reason": "pinned", "shunt.verdict": "spend_limit", "error.type": "spend_limit",
				"gen_ai.request.model": "claude-sonnet-5", "server.address": b.h.accounts[0].base.host,
			})
			if tries[0].Status().Code != codes.Error || tries[0].SpanKind() != trace.SpanKindClient {
				t.Errorf("the failure is %v %v", tries[0].Status(), tries[0].SpanKind())
			}
			var served string
			var in, out, read, written int64
			for account, ledger := range b.fake.Books() {
				if ledger.Requests > 0 {
					served, in, out, read = account, ledger.Prompt(), ledger.Output, ledger.CacheRead
					written = ledger.CacheWrite5m + ledger.CacheWrite1h
				}
			}
			mustTell(t, tries[1], map[string]any{
				"shunt.account": served, "shunt.attempt": int64(2), "shunt.verdict": "served", "http.response.status_code": int64(200),
				"gen_ai.usage.input_tokens": in, "gen_ai.usage.output_tokens": out,
				"gen_ai.usage.cache_read.input_tokens": read, "gen_ai.usage.cache_creation.input_tokens": written,
			})
			if tries[1].Status().Code != codes.Unset {
				t.Errorf("the success is %v", tries[1].Status())
			}
			mustTell(t, spans["request"][0], map[string]any{"shunt.account": served, "shunt.attempts": int64(2), "shunt.verdict": "served"})
		})
	}
}

// TestTraceOfATransfer: the span of an answer ends with its transfer, and says if
// that failed.
func TestTraceOfATransfer(t *testing.T) {
	b := newTraced(t, newFour(t, "retries 1\n"))
	for _, account := range []string{"a", "b", "c", "d"} {
		b.fake.SetFault(account, fakeclaude.Always(fakeclaude.CutAfterText))
	}
	if r := b.ask(helloStream); r.err == nil {
		t.Fatal("the stream did not break off, so nothing is tested")
	}
	tries := b.spans()[spanAttempt]
	if len(tries) != 1 {
		t.Fatalf("%d tries, want 1", len(tries))
	}
	mustTell(t, tries[0], map[string]any{"shunt.verdict": "cut", "error.type": "cut", "http.response.status_code": int64(200)})
	if tries[0].Status().Code != codes.Error || attributesOf(tries[0])["gen_ai.usage.output_tokens"] == nil {
		t.Errorf("the transfer that broke off is %v with %v", tries[0].Status(), attributesOf(tries[0]))
	}
}

// TestTraceOfAClientThatLeaves: leaving is nobody's failure.
func TestTraceOfAClientThatLeaves(t *testing.T) {
	b := newTraced(t, newFour(t, ""))
	for _, account := range []string{"a", "b", "c", "d"} {
		b.fake.SetFault(account, fakeclaude.Always(fakeclaude.HangBeforeHead))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/v1/messages", strings.NewReader(hello))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", annKey)
	r.Header.Set("Anthropic-Version", "2023-06-01")
	r.Header.Set("Content-Type", "application/json")
	if got := b.send(r); got.err == nil {
		t.Fatalf("status %d; the client did not leave", got.status)
	}
	tries := b.spans()[spanAttempt]
	if len(tries) != 1 {
		t.Fatalf("%d tries, want 1", len(tries))
	}
	mustTell(t, tries[0], map[string]any{"shunt.verdict": "client_gone"})
	if tries[0].Status().Code != codes.Unset {
		t.Errorf("the status is %v", tries[0].Status())
	}
}

// TestTraceOfAWait: the time in line is a span, also when it was in vain.
func TestTraceOfAWait(t *testing.T) {
	for name, c := range map[string]struct {
		hold   string
		status int
		want   map[string]any
		code   codes.Code
	}{
		"served":  {"10s", http.StatusOK, map[string]any{"shunt.account": "a", "shunt.reason": "session"}, codes.Unset},
		"in vain": {"50ms", http.StatusTooManyRequests, map[string]any{"shunt.verdict": "exhausted"}, codes.Error},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newTraced(t, newBench(t, fakeclaude.Options{Accounts: fourAccounts()},
				"remote_key ann "+annKey+"\nupstream %UPSTREAM%\nhold "+c.hold+"\naccount a {\napi_key sk-ant-api03-aaaa\nmax_concurrent 1\n}"))
			b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.SlowHead, Delay: 400 * time.Millisecond})
			first := make(chan reply)
			go func() { first <- b.ask(hello) }()
			for b.h.group.View().Accounts[0].InFlight == 0 {
				time.Sleep(time.Millisecond)
			}
			if r := b.ask(hello); r.status != c.status {
				t.Fatalf("status %d: %s", r.status, r.body)
			}
			(<-first).mustServe(t, "the first")
			b.mustBeIdle()
			var waits []sdktrace.ReadOnlySpan
			for _, s := range b.recorder.Ended() {
				if s.Name() == spanWait {
					waits = append(waits, s)
				}
			}
			if len(waits) != 1 {
				t.Fatalf("%d waits, want 1", len(waits))
			}
			mustTell(t, waits[0], c.want)
			took := waits[0].EndTime().Sub(waits[0].StartTime())
			if waits[0].Status().Code != c.code || took < 40*time.Millisecond || took > 2*time.Second {
				t.Errorf("the wait took %v and is %v", took, waits[0].Status())
			}
		})
	}
}

// TestTraceOfARefresh: a credential that upstream refuses is renewed in a span of its
// own, between two tries of the same account.
func TestTraceOfARefresh(t *testing.T) {
	for range 5 {
		b, file := newFileBench(t, "hold off\n")
		if err := b.h.app.Stop(); err != nil { // or the file would be read in the background
			t.Fatal(err)
		}
		traced := newTraced(t, b)
		time.Sleep(100 * time.Millisecond) // the source reads its file once when it starts, then every two seconds
		rewrite(t, file, newKey)
		b.ask(hello).mustServe(t, "hello")
		spans := traced.spans()
		tries, renewals := spans[spanAttempt], spans[spanCredential]
		if len(tries) == 1 && len(renewals) == 0 {
			continue // the file was read in the background after all
		}
		if len(tries) != 2 || len(renewals) != 1 {
			t.Fatalf("%d tries and %d renewals", len(tries), len(renewals))
		}
		mustTell(t, renewals[0], map[string]any{"shunt.account": "a"})
		mustTell(t, tries[0], map[string]any{"http.response.status_code": int64(401), "shunt.attempt": int64(1)})
		if renewals[0].StartTime().Before(tries[0].EndTime()) || renewals[0].EndTime().After(tries[1].StartTime()) {
			t.Error("the renewal does not lie between the tries")
		}
		return
	}
	t.Fatal("the credential was never renewed on a request")
}

// TestTraceHoldsNoSecret: neither keys nor prompts are in spans.
func TestTraceHoldsNoSecret(t *testing.T) {
	b := newTraced(t, newFour(t, ""))
	b.fake.SetFault("a", fakeclaude.Always(fakeclaude.InvalidKey))
	b.h.live.state.Pin("a")
	b.ask(strings.Replace(hello, "Hello", "planted prompt", 1)).mustServe(t, "hello")
	looked := 0
	for _, spans := range b.spans() {
		for _, s := range spans {
			text := fmt.Sprint(s.Status(), attributesOf(s), s.Events())
			looked += len(text)
			for _, secret := range []string{annKey, "sk-ant-", "planted prompt"} {
				if strings.Contains(text, secret) {
					t.Errorf("%s holds %q: %s", s.Name(), secret, text)
				}
			}
		}
	}
	if looked < 100 {
		t.Error("there was nothing to look at")
	}
}

// TestTracingOffCostsNothing: without a span that records, nothing is allocated.
func TestTracingOffCostsNothing(t *testing.T) {
	never := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	sampledOut, span := never.Tracer("test").Start(t.Context(), "request")
	defer span.End()
	b := newFour(t, "")
	lease, refused := b.h.group.Pick(&pool.Request{Endpoint: anthropic.EndpointMessages})
	if lease == nil {
		t.Fatalf("no lease: %v", refused)
	}
	defer lease.End(anthropic.Usage{})
	for name, ctx := range map[string]context.Context{"no tracing": t.Context(), "not sampled": sampledOut} {
		x := &exchange{h: b.h, r: httptest.NewRequest(http.MethodPost, "/v1/messages", nil).WithContext(ctx)}
		a := &attempt{lease: lease, account: b.h.accounts[0]}
		resp := &http.Response{StatusCode: http.StatusOK}
		allocated := testing.AllocsPerRun(100, func() {
			x.tracer = tracerOf(x.r.Context())
			_, a.span = x.startAttempt(lease, a.account)
			a.sawAnswer(resp)
			x.endRefused(a)
			x.endTransfer(a)
			x.traceWait(time.Second, lease)
			x.traceCredential(time.Time{}, 0, lease, nil)
			x.traceRequest(nil)
		})
		if allocated != 0 {
			t.Errorf("%s: %v allocations for each request", name, allocated)
		}
	}
}
