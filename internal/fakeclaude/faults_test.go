package fakeclaude_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// transports maps the faults that leave no head, or change how it comes, to
// what the client sees.
var transports = map[string]func(*world){
	fakeclaude.ResetBeforeHead: func(w *world) { w.noHead(syscall.ECONNRESET) },
	fakeclaude.ResetInUpload: func(w *world) {
		big := ask(modelID, true, strings.Repeat("x", 8<<20))
		// Which error the client meets depends on whether it reads or writes.
		if _, err := w.try(call{bearer: tokenB, body: big}); err == nil {
			w.Error("there was an answer")
		}
		w.equal("digest", w.await(done).BodySHA256, "")
	},
	fakeclaude.CloseBeforeHead: func(w *world) { w.noHead(io.EOF) },
	fakeclaude.HangBeforeHead: func(w *world) {
		ctx, cancel := context.WithCancel(w.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		_, err := w.try(call{bearer: tokenB, body: ask(modelID, true, "x"), ctx: ctx})
		w.equal("ended by", errors.Is(err, context.Canceled), true)
		w.equal("seen", w.await(done).Cancelled, true)
	},
	fakeclaude.SlowHead: func(w *world) {
		began := time.Now()
		w.equal("status", w.do(call{bearer: tokenB, body: ask(modelID, true, "x")}).StatusCode, 200)
		w.equal("waited", time.Since(began) >= delay, true)
	},
}

const delay = 50 * time.Millisecond

func (w *world) noHead(want error) {
	w.Helper()
	_, err := w.try(call{bearer: tokenB, body: ask(modelID, true, "x")})
	if !errors.Is(err, want) {
		w.Errorf("got %v, want %v", err, want)
	}
	w.equal("recorded status", w.await(done).Status, 0)
}

func TestTransportFaults(t *testing.T) {
	for name, check := range transports {
		t.Run(name, func(t *testing.T) {
			w := start(t, fakeclaude.Options{})
			w.fake.SetFault("*", fakeclaude.Fault{Name: name, Delay: delay})
			check(w)
			w.await(func(r fakeclaude.Request) bool { return r.Fault == name })
		})
	}
}

const whole = "message_start content_block_start ping content_block_delta content_block_stop message_delta message_stop"

const started = "message_start content_block_start ping content_block_delta"

// streams maps the faults of a stream to the events that arrive, how the stream
// ends and what else is peculiar.
var streams = map[string]struct {
	names  string
	broken error
	extra  func(*world, answer)
}{
	fakeclaude.SlowFirst:      {whole, nil, nil},
	fakeclaude.SlowFirstPings: {"ping ping ping ping ping " + whole, nil, nil},
	fakeclaude.SlowFirstComments: {whole, nil, func(w *world, a answer) {
		w.equal("comments", strings.HasPrefix(a.body, ": keep-alive\n\n: keep-alive\n\n"), true)
	}},
	fakeclaude.EmptyStream:       {"", nil, func(w *world, a answer) { w.equal("body", a.body, "") }},
	fakeclaude.CutBeforeText:     {"message_start", syscall.ECONNRESET, nil},
	fakeclaude.CutAfterText:      {started, syscall.ECONNRESET, nil},
	fakeclaude.CloseAfterText:    {started, io.ErrUnexpectedEOF, nil},
	fakeclaude.EndAfterText:      {started, nil, nil},
	fakeclaude.EndWithoutStop:    {strings.TrimSuffix(whole, " message_stop"), nil, nil},
	fakeclaude.JSONCut:           {strings.TrimSuffix(whole, " message_stop"), nil, nil},
	fakeclaude.ErrorAfterStart:   {"message_start error", nil, errorType("overloaded_error")},
	fakeclaude.ErrorAfterText:    {started + " error", nil, errorType("overloaded_error")},
	fakeclaude.APIErrorAfterText: {started + " error", nil, errorType("api_error")},
	fakeclaude.LimitAfterText:    {started + " error", nil, errorType("rate_limit_error")},
	fakeclaude.MalformedSSE: {strings.Replace(whole, "content_block_delta ", "content_block_delta  content_block_delta ", 1), nil, func(w *world, a answer) {
		w.contains(a.body, "\nnocolon\nretry: soon\n: comment\n")
		w.contains(a.body, "\ndata: 42\n")
		w.contains(a.body, `"text_de`+"\n")
	}},
	fakeclaude.CRLF: {whole, nil, func(w *world, a answer) {
		w.equal("bare line feeds", strings.Count(a.body, "\n")-strings.Count(a.body, "\r\n"), 0)
	}},
	fakeclaude.HugeLine: {whole, nil, func(w *world, a answer) { w.equal("2 MB", len(a.text()) > 2_000_000, true) }},
	fakeclaude.UnknownEvent: {strings.Replace(whole, "content_block_delta ", "content_block_delta weather_report content_block_delta  content_block_delta ", 1), nil, func(w *world, a answer) {
		w.contains(a.body, `"colour_delta"`)
	}},
	fakeclaude.TwoDeltas: {strings.Replace(whole, "message_delta", "message_delta message_delta", 1), nil, func(w *world, a answer) {
		first := strings.Index(a.body, "event: message_delta")
		early := answer{body: a.body[first:strings.LastIndex(a.body, "event: message_delta")]}
		if one, two := early.last("message_delta").Get("usage.output_tokens").Int(), a.last("message_delta").Get("usage.output_tokens").Int(); one >= two {
			w.Errorf("output_tokens %d, then %d", one, two)
		}
	}},
	fakeclaude.SparseUsage: {whole, nil, func(w *world, a answer) {
		u := a.last("message_start").Get("message.usage")
		w.equal("null", u.Get("cache_creation").Raw+u.Get("cache_creation_input_tokens").Raw, "nullnull")
		w.equal("missing", u.Get("cache_read_input_tokens").Exists(), false)
		w.equal("the rest", u.Get("input_tokens").Int() > 0, true)
	}},
	fakeclaude.EarlyHints:  {whole, nil, nil},
	fakeclaude.LengthShort: {whole, io.ErrUnexpectedEOF, nil},
}

func errorType(kind string) func(*world, answer) {
	return func(w *world, a answer) {
		w.equal("error.type", a.last("error").Get("error.type").String(), kind)
	}
}

func TestStreamFaults(t *testing.T) {
	for name, want := range streams {
		t.Run(name, func(t *testing.T) {
			w := start(t, fakeclaude.Options{})
			plain := w.do(call{bearer: tokenB, body: ask(modelID, true, "x")})
			w.fake.Reset()
			w.fake.SetFault("b", fakeclaude.Fault{Name: name, Delay: delay, Every: delay / 5})
			began := time.Now()
			a := w.do(call{bearer: tokenB, body: ask(modelID, true, "x")})
			w.equal("status", a.StatusCode, 200)
			names := a.names()
			if strings.HasPrefix(name, "slow_first_pings") {
				// How many pings fit depends on the machine.
				names = "ping ping ping ping ping " + names[strings.Index(names, "message_start"):]
				w.equal("pings first", strings.HasPrefix(a.names(), "ping ping"), true)
			}
			w.equal("events", names, want.names)
			if !errors.Is(a.broken, want.broken) || want.broken == nil && a.broken != nil {
				t.Errorf("ended with %v, want %v", a.broken, want.broken)
			}
			if strings.HasPrefix(name, "slow") {
				w.equal("waited", time.Since(began) >= delay, true)
			}
			if want.extra != nil {
				want.extra(w, a)
			}
			if strings.HasSuffix(want.names, "message_stop") {
				w.contains(a.text(), strings.TrimSuffix(plain.text(), "x")[:10])
				w.equal("output told", a.last("message_delta").Get("usage.output_tokens").Int(), w.await(done).Usage.Output)
			}
		})
	}
}

// endless faults last until the client leaves, or the server's bound.
var endless = map[string]string{
	fakeclaude.PingsOnly:       "ping",
	fakeclaude.StallAfterStart: "message_start",
	fakeclaude.StallAfterText:  started,
	fakeclaude.PingsAfterText:  started + " ping",
}

func TestEndlessFaults(t *testing.T) {
	for name, want := range endless {
		t.Run(name, func(t *testing.T) {
			w := start(t, fakeclaude.Options{HangLimit: 4 * delay})
			w.fake.SetFault("b", fakeclaude.Fault{Name: name, Every: delay / 5, Times: 2})
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(delay, cancel)
			a := w.do(call{bearer: tokenB, body: ask(modelID, true, "x"), ctx: ctx})
			w.equal("events", strings.HasPrefix(a.names(), want), true)
			w.equal("ended by the client", errors.Is(a.broken, context.Canceled), true)
			w.equal("seen", w.await(done).Cancelled, true)
			a = w.do(call{bearer: tokenB, body: ask(modelID, true, "x")})
			w.equal("at the bound", errors.Is(a.broken, io.ErrUnexpectedEOF), true)
			w.equal("pings", strings.Contains(a.names(), "ping ping"), strings.HasPrefix(name, "pings"))
			w.equal("not cancelled", w.fake.Requests()[1].Cancelled, false)
		})
	}
}

func TestGzipFaults(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	c := call{bearer: tokenB, body: ask(modelID, true, "x"), header: map[string]string{"Accept-Encoding": "identity"}}
	plain := w.do(c)
	w.fake.SetFault("b", fakeclaude.Once(fakeclaude.GzipAlways), fakeclaude.Once(fakeclaude.GzipUnlabelled))
	labelled, unlabelled := w.do(c), w.do(c)
	w.equal("labelled", labelled.Header.Get("Content-Encoding"), "gzip")
	w.equal("unlabelled", unlabelled.Header.Get("Content-Encoding"), "")
	w.equal("one", gunzip(t, labelled.body), plain.body)
	w.equal("the other", gunzip(t, unlabelled.body), plain.body)
}

func TestDocumentsBreakToo(t *testing.T) {
	c := call{bearer: tokenB, body: ask(modelID, false, "x")}
	for name, want := range map[string]error{
		fakeclaude.JSONCut: nil, fakeclaude.EndAfterText: nil, fakeclaude.CutAfterText: syscall.ECONNRESET,
		fakeclaude.ErrorAfterText: io.ErrUnexpectedEOF, fakeclaude.LengthShort: io.ErrUnexpectedEOF,
	} {
		w := start(t, fakeclaude.Options{})
		full := w.do(c)
		w.fake.SetFault("b", fakeclaude.Once(name))
		a := w.do(c)
		if !errors.Is(a.broken, want) || want == nil && a.broken != nil {
			t.Errorf("%s ended with %v, want %v", name, a.broken, want)
		}
		size := len(full.body) / 2
		if name == fakeclaude.LengthShort {
			size = len(full.body)
		}
		w.equal(name, a.body, full.body[:size])
	}
}

func TestEarlyFaultsDoNotReadTheBody(t *testing.T) {
	for _, name := range []string{fakeclaude.Early429, fakeclaude.TooLarge} {
		w := start(t, fakeclaude.Options{})
		w.fake.SetFault("b", fakeclaude.Once(name))
		unsent, release := io.Pipe()
		r := w.request(call{bearer: tokenB})
		r.Body = unsent
		r.ContentLength = 1 << 20
		response, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		w.equal("answered", response.StatusCode == 429 || response.StatusCode == 413, true)
		response.Body.Close()
		release.Close()
		w.equal("digest", w.await(done).BodySHA256, "")
	}
}

func TestEarlyHintsCome(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	w.fake.SetFault("b", fakeclaude.Once(fakeclaude.EarlyHints))
	hints := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints && h.Get("Link") != "" {
				hints++
			}
			return nil
		},
	})
	a := w.do(call{bearer: tokenB, body: ask(modelID, true, "x"), ctx: ctx})
	w.equal("hints", hints, 1)
	w.equal("link on the answer", a.Header.Get("Link"), "")
}

func TestGrantFaults(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	w.fake.SetFault("b", fakeclaude.Once(fakeclaude.InvalidGrant), fakeclaude.Once(fakeclaude.TokenRateLimited), fakeclaude.Once(fakeclaude.RefreshUnavailable))
	w.equal("messages", w.do(call{bearer: tokenB, body: ask(modelID, true, "x")}).StatusCode, 200)
	w.equal("first", w.refresh(renewB).get("error").String(), "invalid_grant")
	limited := w.refresh(renewB)
	w.refused(limited, 429, "rate_limit_error", "Rate limited. Please try again later.")
	w.equal("retry-after", limited.Header.Get("Retry-After"), "500")
	w.refused(w.refresh(renewB), 503, "api_error", "")
	w.equal("nothing was spent", w.refresh(renewB).StatusCode, 200)

	_, next := w.fake.Tokens("b")
	w.fake.SetFault("b", fakeclaude.Once(fakeclaude.RefreshLostAnswer))
	_, err := w.try(call{path: "/v1/oauth/token", body: `{"grant_type":"refresh_token","refresh_token":"` + next + `","client_id":"c"}`})
	w.equal("lost", errors.Is(err, io.EOF), true)
	w.equal("spent all the same", w.refresh(next).get("error").String(), "invalid_grant")
}

func TestEveryFaultIsTested(t *testing.T) {
	elsewhere := map[string]bool{
		fakeclaude.GzipAlways: true, fakeclaude.GzipUnlabelled: true, fakeclaude.InvalidGrant: true,
		fakeclaude.TokenRateLimited: true, fakeclaude.RefreshUnavailable: true, fakeclaude.RefreshLostAnswer: true,
	}
	seen := map[string]bool{}
	for _, f := range fakeclaude.FaultNames() {
		_, refusal := refusals[f.Name]
		_, transport := transports[f.Name]
		_, stream := streams[f.Name]
		_, unending := endless[f.Name]
		if !refusal && !transport && !stream && !unending && !elsewhere[f.Name] {
			t.Errorf("fault %s is not tested", f.Name)
		}
		if seen[f.Name] || f.Doc == "" || f.Fact == "" || !strings.HasSuffix(f.Doc, ".") || !strings.HasSuffix(f.Fact, ".") {
			t.Errorf("fault %s is there twice or not explained", f.Name)
		}
		seen[f.Name] = true
	}
}

func TestWhichRequestsAFaultHits(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	status := func(bearer, model string) int {
		return w.do(call{bearer: bearer, body: ask(model, true, "x")}).StatusCode
	}
	w.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.Overloaded, Model: "opus", Times: 2})
	w.equal("another model", status(tokenA, modelID), 200)
	w.equal("another account", status(tokenB, "claude-opus-5"), 200)
	w.equal("first", status(tokenA, "claude-opus-5"), 529)
	w.equal("second", status(tokenA, "claude-opus-5"), 529)
	w.equal("third", status(tokenA, "claude-opus-5"), 200)

	w.fake.SetFault("*", fakeclaude.Once(fakeclaude.Internal), fakeclaude.Once(fakeclaude.Early429))
	w.equal("sequence 1", status(tokenA, modelID), 500)
	w.equal("sequence 2", status(tokenB, modelID), 429)
	w.equal("sequence end", status(tokenB, modelID), 200)

	w.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.Internal, Times: -1, For: time.Minute})
	w.equal("for a minute", status(tokenA, modelID), 500)
	w.equal("named", strings.Join(w.fake.Faults("a"), " "), fakeclaude.Internal)
	w.clock.advance(time.Minute)
	w.equal("no longer named", len(w.fake.Faults("a")), 0)
	w.equal("a minute later", status(tokenA, modelID), 200)

	w.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.Internal, Path: "/v1/models"})
	w.equal("messages", status(tokenA, modelID), 200)
	w.equal("models", w.do(call{method: http.MethodGet, path: "/v1/models", bearer: tokenA}).StatusCode, 500)
	w.fake.SetFault("a", fakeclaude.Always(fakeclaude.Internal))
	w.equal("count_tokens", w.do(call{path: "/v1/messages/count_tokens", bearer: tokenA, body: ask(modelID, true, "x")}).StatusCode, 200)
	w.equal("for ever", status(tokenA, modelID), 500)
	w.fake.SetFault("a")
	w.equal("cleared", status(tokenA, modelID), 200)
}

func TestImpossibleFaultsPanic(t *testing.T) {
	fake := fakeclaude.New(fakeclaude.Options{Accounts: accounts()})
	defer fake.Close()
	for name, set := range map[string]func(){
		"unknown fault":       func() { fake.SetFault("a", fakeclaude.Once("sunshine")) },
		"unknown account":     func() { fake.SetFault("z", fakeclaude.Once(fakeclaude.Burst)) },
		"shape on other path": func() { fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.CRLF, Path: "/v1/models"}) },
		"no such window":      func() { fake.Spend("k", "5h", 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			set()
		}()
	}
	fake.SetFault("a", fakeclaude.Once(fakeclaude.Burst))
}
