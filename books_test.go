package shunt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/ledger"
)

// byAccount sums the books up.
func (b *bench) byAccount() map[string]ledger.Counts {
	b.t.Helper()
	b.mustBeIdle()
	lines, _ := ledger.Report(b.h.live.ledger.Own(b.h.live.ledger.Today()), []ledger.By{ledger.ByAccount})
	sums := make(map[string]ledger.Counts)
	for _, line := range lines {
		sums[line.Labels[0]] = line.Counts
	}
	return sums
}

// usageOf is what the fake upstream charged, in our words.
func usageOf(u fakeclaude.Usage) anthropic.Usage {
	return anthropic.Usage{
		InputTokens: u.Input, OutputTokens: u.Output, CacheReadTokens: u.CacheRead, CacheWriteTokens: u.CacheWrite5m + u.CacheWrite1h,
		CacheWrite1hTokens: u.CacheWrite1h, WebSearches: u.WebSearches,
	}
}

// mustAgree compares the books with those of upstream, to the token.
func (b *bench) mustAgree(what string) {
	b.t.Helper()
	sums := b.byAccount()
	for name, account := range b.fake.Books() {
		if got := sums[name].Usage; got != usageOf(account.Usage) {
			b.t.Errorf("%s: account %s: we have %+v; upstream %+v", what, name, got, usageOf(account.Usage))
		}
	}
}

// leave streams until text has come that the body holds, and leaves.
func (b *bench) leave(t *testing.T, body, mark string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	seen, buffer := "", make([]byte, 4096)
	for !strings.Contains(seen, mark) {
		n, err := resp.Body.Read(buffer)
		if seen += string(buffer[:n]); err != nil {
			t.Fatalf("%v after %s", err, seen)
		}
	}
	time.Sleep(50 * time.Millisecond) // what is on its way comes
}

// unflushed is a client whose connection breaks when what was written is sent.
type unflushed struct{ *httptest.ResponseRecorder }

func (unflushed) Flush()            {}
func (unflushed) FlushError() error { return errors.New("broken pipe") }

// TestBooksWhenFlushingFails: what upstream has told by then is charged, as it is when
// writing fails.
func TestBooksWhenFlushingFails(t *testing.T) {
	b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:1]},
		"remote_key ann "+annKey+"\nupstream %UPSTREAM%\naccount a {\napi_key sk-ant-api03-aaaa\n}")
	r := httptest.NewRequest(http.MethodPost, "/v1/messages", strings.NewReader(helloStream))
	r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
	serveWith(b.h, unflushed{httptest.NewRecorder()}, r)
	got := b.byAccount()["a"]
	if want := b.fake.Books()["a"].Input; got.Usage.InputTokens != want || want == 0 {
		t.Errorf("%d tokens of input are in the books, upstream charged %d", got.Usage.InputTokens, want)
	}
	if got.Usage.OutputTokens == 0 {
		t.Error("no output is in the books")
	}
}

const longTalk = `{"model":"claude-sonnet-5","max_tokens":2000,"stream":true,"thinking":{"type":"enabled"},"system":[{"type":"text","text":"You are the test of the books, which must be right to the token.","cache_control":{"type":"ephemeral","ttl":"1h"}}],"tools":[{"type":"web_search_20250305","name":"web_search"},{"name":"run","input_schema":{}}],"messages":[{"role":"user","content":[{"type":"text","text":"Größe 東京: please use a tool and search.","cache_control":{"type":"ephemeral"}}]}]}`

// TestBooksAgreeWithUpstream, however an answer ends.
func TestBooksAgreeWithUpstream(t *testing.T) {
	b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:2], Seed: 3},
		"remote_key ann "+annKey+"\nupstream %UPSTREAM%\naccount a {\napi_key sk-ant-api03-aaaa\n}\naccount b {\napi_key sk-ant-api03-bbbb\npriority 1\n}")
	whole := strings.Replace(longTalk, `"stream":true,`, "", 1)
	for range 3 {
		b.ask(longTalk).mustServe(t, "a stream")
		b.ask(whole).mustServe(t, "a document")
	}
	b.mustAgree("served")
	for _, name := range []string{
		fakeclaude.CutAfterText, fakeclaude.CloseAfterText, fakeclaude.EndAfterText, fakeclaude.EndWithoutStop, fakeclaude.ErrorAfterStart,
		fakeclaude.ErrorAfterText, fakeclaude.APIErrorAfterText, fakeclaude.LimitAfterText, fakeclaude.CutBeforeText, fakeclaude.TwoDeltas, fakeclaude.SparseUsage,
		fakeclaude.CRLF, fakeclaude.UnknownEvent, fakeclaude.HugeLine, fakeclaude.GzipAlways, fakeclaude.SlowFirstPings,
		fakeclaude.FirstOverloaded, fakeclaude.FirstRateLimit, fakeclaude.Overloaded, fakeclaude.Internal, fakeclaude.WindowFiveHour, fakeclaude.InvalidRequest,
	} {
		b.fake.SetFault("a", fakeclaude.Fault{Name: name, Times: 1, Delay: 50 * time.Millisecond, Every: 10 * time.Millisecond})
		_ = b.ask(longTalk)
		b.fake.SetFault("a")
		b.mustAgree(name)
	}
	for i := range 20 { // other bodies have other answers
		b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.CloseAfterText, Times: 1})
		_ = b.ask(strings.Replace(longTalk, "the test", fmt.Sprint("test ", i), 1))
	}
	b.mustAgree("twenty that were cut")
	for name, mark := range map[string]string{fakeclaude.StallAfterText: "text_delta", fakeclaude.StallAfterStart: "message_start", fakeclaude.PingsAfterText: "text_delta"} {
		b.fake.SetFault("*", fakeclaude.Fault{Name: name, Times: 1, Every: time.Hour})
		b.leave(t, longTalk, mark)
		b.fake.SetFault("*")
		b.mustAgree("left at " + name)
	}
}

// TestUsesThatUpstreamDoesNotTell are estimates, are marked as such, and each is
// there once.
func TestUsesThatUpstreamDoesNotTell(t *testing.T) {
	prompt := strings.Repeat("the quick brown fox jumps over the lazy dog and so on ", 400)
	stream := `{"model":"claude-sonnet-5","max_tokens":50,"stream":true,"messages":[{"role":"user","content":"` + prompt + `"}]}`
	b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:2]},
		"remote_key ann "+annKey+"\nupstream %UPSTREAM%\naccount a {\napi_key sk-ant-api03-aaaa\n}\naccount b {\napi_key sk-ant-api03-bbbb\npriority 1\n}")
	b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.EmptyStream, Times: 1})
	b.ask(stream).mustServe(t, "another account's answer")
	sums, truth := b.byAccount(), b.fake.Books()
	if c := sums["a"]; c.Estimated != 1 || c.Requests != 0 || !near(c.Usage.InputTokens, truth["a"].Input) {
		t.Errorf("what died before its first event: %+v; upstream charged %+v", c, truth["a"])
	}
	if c := sums["b"]; c.Estimated != 0 || c.Served != 1 || c.Usage != usageOf(truth["b"].Usage) {
		t.Errorf("what served: %+v", c)
	}
	b.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.JSONCut, Times: 2})
	_ = b.ask(strings.Replace(stream, `"stream":true,`, "", 1))
	sums, truth = b.byAccount(), b.fake.Books()
	if all := sums["a"].Estimated + sums["b"].Estimated; all != 2 || sums["a"].Failed+sums["b"].Failed != 1 {
		t.Errorf("a document that was cut: %+v", sums)
	}
	if got, want := sums["a"].Usage.InputTokens+sums["b"].Usage.InputTokens, truth["a"].Input+truth["b"].Input; !near(got, want) {
		t.Errorf("%d input tokens; upstream charged %d", got, want)
	}
}

// near reports whether an estimate is within a quarter.
func near(got, want int64) bool { return want > 0 && got*4 > want*3 && got*4 < want*5 }

func TestOutcomesInTheBooks(t *testing.T) {
	b := newTeam(t, "models claude-*\nrate 4", "hold off", fakeclaude.Options{})
	b.ask(hello).mustServe(t, "served")
	b.ask(strings.Replace(hello, "claude-sonnet-5", "gpt-5", 1)).mustRefuse(t, "refused", 400, "invalid_request_error")
	b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.InvalidRequest, Times: 1})
	if r := b.ask(hello); r.status != 400 {
		t.Errorf("%d", r.status)
	}
	b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.StallAfterText, Times: 1})
	b.leave(t, helloStream, "text_delta")
	b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.CutAfterText, Times: 1})
	_ = b.ask(helloStream)
	b.ask(hello).mustRefuse(t, "the fifth in a minute", 429, "rate_limit_error")
	b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.ErrorAfterText, Times: 1})
	_ = b.ask(helloStream, "X-Api-Key", "", "X-Api-Key", bobKey)
	b.mustBeIdle()
	_, total := ledger.Report(b.h.live.ledger.Own(b.h.live.ledger.Today()), nil)
	if total.Requests != 7 || total.Served != 1 || total.Refused != 2 || total.Failed != 3 || total.Cancelled != 1 || total.Estimated != 3 {
		t.Errorf("%+v", total)
	}
}

// panicking is a writer of another middleware that panics in the middle of an answer.
type panicking struct {
	http.ResponseWriter
	written int
}

func (w *panicking) Write(p []byte) (int, error) {
	if w.written += len(p); w.written > 600 {
		panic(http.ErrAbortHandler)
	}
	return w.ResponseWriter.Write(p)
}

// TestAnAnswerThatPanicsIsBooked, once, and not as served.
func TestAnAnswerThatPanicsIsBooked(t *testing.T) {
	b := newTeam(t, "admin", "", fakeclaude.Options{})
	r := httptest.NewRequest(http.MethodPost, "/v1/messages", strings.NewReader(helloStream))
	r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
	func() {
		defer func() { _ = recover() }()
		serveWith(b.h, &panicking{ResponseWriter: httptest.NewRecorder()}, r)
		t.Error("nothing panicked")
	}()
	_, total := ledger.Report(b.h.live.ledger.Own(b.h.live.ledger.Today()), nil)
	if total.Requests != 1 || total.Failed != 1 || total.Usage.InputTokens == 0 || total.Usage.OutputTokens == 0 {
		t.Errorf("%+v", total)
	}
	b.mustBeIdle()
}
