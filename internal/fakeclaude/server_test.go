package fakeclaude_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

func TestOptionsThatMakeNoSense(t *testing.T) {
	for text, bad := range map[string]fakeclaude.Options{
		"account 1 needs a name":                    {Accounts: []fakeclaude.Account{{APIKey: "k"}}},
		"account x is there twice":                  {Accounts: []fakeclaude.Account{{Name: "x", APIKey: "k"}, {Name: "x", APIKey: "l"}}},
		"account x has no credential":               {Accounts: []fakeclaude.Account{{Name: "x"}}},
		"both a subscription and an API account":    {Accounts: []fakeclaude.Account{{Name: "x", APIKey: "k", AccessToken: "t"}}},
		"refresh token but no access token":         {Accounts: []fakeclaude.Account{{Name: "x", APIKey: "k", RefreshToken: "t"}}},
		`unknown plan "huge"`:                       {Accounts: []fakeclaude.Account{{Name: "x", AccessToken: "k", Plan: "huge"}}},
		"accounts x and y share a credential":       {Accounts: []fakeclaude.Account{{Name: "x", APIKey: "k"}, {Name: "y", APIKey: "k"}}},
		"speed, pace, cache life and output tokens": {Speed: -1},
	} {
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
}

func TestCloseEndsStreamsAndHangs(t *testing.T) {
	w := start(t, fakeclaude.Options{Pace: 20 * time.Millisecond})
	w.fake.SetFault("a", fakeclaude.Once(fakeclaude.StallAfterStart), fakeclaude.Once(fakeclaude.HangBeforeHead))
	var wait sync.WaitGroup
	results := make(chan error, 3)
	// The third of them is a good stream that takes its time.
	for i := range 3 {
		wait.Go(func() {
			a, err := w.try(call{bearer: tokenA, body: ask(modelID, true, "x")})
			results <- errors.Join(err, a.broken)
		})
		w.await(func(r fakeclaude.Request) bool {
			return r.Number == uint64(i+1) && (r.Fault != "" || r.Usage.Output > 0)
		})
	}
	w.fake.Close()
	wait.Wait()
	for range 3 {
		if err := <-results; err == nil {
			t.Error("an answer that was broken off looks whole")
		}
	}
	for _, r := range w.fake.Requests() {
		w.equal("done", r.Done, true)
		w.equal("cancelled by a client", r.Cancelled, false)
	}
	w.equal("afterwards", w.do(call{key: keyK, body: ask(modelID, true, "x")}).StatusCode, 503)
	w.fake.Close()
}

func TestPaceIsKept(t *testing.T) {
	w := start(t, fakeclaude.Options{Pace: 2 * time.Millisecond})
	began := time.Now()
	a := w.do(call{key: keyK, body: ask(modelID, true, "x")})
	if least := time.Duration(len(a.events())) * 2 * time.Millisecond; time.Since(began) < least {
		t.Errorf("%d events in %v", len(a.events()), time.Since(began))
	}
}

func TestOnlySoManyRequestsAreKept(t *testing.T) {
	w := start(t, fakeclaude.Options{KeepRequests: 3})
	for range 20 {
		w.do(call{method: http.MethodHead, path: "/"})
	}
	kept := w.fake.Requests()
	if len(kept) < 3 || len(kept) > 6 || kept[len(kept)-1].Number != 20 {
		t.Errorf("kept %d, the last is %d", len(kept), kept[len(kept)-1].Number)
	}
	none := start(t, fakeclaude.Options{KeepRequests: -1})
	none.do(call{method: http.MethodHead, path: "/"})
	none.equal("kept", len(none.fake.Requests()), 0)
}

func TestAwaitGivesUpWithItsContext(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := w.fake.Await(ctx, done); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	w.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.Overloaded, Times: -1, Chance: 0.2})
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 20 {
				a := w.do(call{bearer: tokenB, body: ask(modelID, true, "x")})
				if a.StatusCode == 200 && !strings.HasSuffix(a.names(), "message_stop") {
					t.Errorf("a broken stream: %s", a.names())
				}
			}
		})
	}
	wait.Wait()
	books := w.fake.Books()["b"]
	w.equal("served and refused", books.Requests+books.Refused, int64(160))
	w.equal("recorded", len(w.fake.Requests()), 160)
}

func (w *world) control(method, path, body string) (int, string) {
	w.Helper()
	a := w.do(call{method: method, path: "/_fake/" + path, body: body})
	return a.StatusCode, a.body
}

func TestControl(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	code, _ := w.control("POST", "fault", `{"account":"k","fault":"overloaded","times":2,"retry_after":"2s"}`)
	w.equal("set", code, 200)
	c := call{key: keyK, path: "/v1/messages?beta=true", body: ask(modelID, true, "x"), header: map[string]string{"X-Claude-Code-Session-Id": "s-9"}}
	first := w.do(c)
	w.equal("hit", first.StatusCode, 529)
	w.equal("retry_after", first.Header.Get("Retry-After"), "2")
	_, standing := w.control("GET", "accounts", "")
	w.equal("standing", gjson.Get(standing, `#(name=="k").faults.0`).String(), "overloaded")
	w.control("POST", "fault", `{"account":"k","fault":"none"}`)
	w.equal("cleared", w.do(c).StatusCode, 200)

	_, log := w.control("GET", "log", "")
	line := gjson.Get(log, "1")
	w.equal("log account", line.Get("account").String(), "k")
	w.equal("log uri", line.Get("uri").String(), "/v1/messages?beta=true")
	w.equal("log status", line.Get("status").Int(), int64(200))
	w.equal("log key", line.Get("headers.X-Api-Key").String(), "…ey-k")
	w.equal("log session", line.Get("headers.X-Claude-Code-Session-Id").String(), "s-9")
	w.equal("log digest", len(line.Get("body_sha256").String()), 64)
	if strings.Contains(log, keyK) {
		t.Error("the log shows a credential")
	}
	_, books := w.control("GET", "books", "")
	w.equal("books", gjson.Get(books, "k.requests").Int(), int64(1))
	_, faults := w.control("GET", "faults", "")
	w.equal("faults", len(gjson.Get(faults, "#.doc").Array()), len(fakeclaude.FaultNames()))

	w.control("POST", "spend", `{"account":"a","window":"5h","utilization":1}`)
	w.equal("spent", w.do(call{bearer: tokenA, body: ask(modelID, true, "x")}).StatusCode, 429)
	w.control("POST", "expire", `{"account":"b"}`)
	w.equal("expired", w.do(call{bearer: tokenB, body: ask(modelID, true, "x")}).StatusCode, 401)
	w.control("POST", "revoke", `{"account":"b"}`)
	w.equal("revoked", w.refresh(renewB).StatusCode, 400)
	w.do(call{key: keyK, header: map[string]string{"Authorization": "Bearer x"}})
	_, violations := w.control("GET", "violations", "")
	w.equal("violations", len(gjson.Parse(violations).Array()), 1)
	w.control("POST", "fault", `{"account":"a","fault":"burst","times":-1}`)
	w.control("POST", "reset", "")
	w.equal("after reset", w.do(call{bearer: tokenA, body: ask(modelID, true, "x")}).StatusCode, 200)
	w.equal("requests", len(w.fake.Requests()), 1)

	for path, body := range map[string]string{
		"fault": `{"account":"k","fault":"sunshine"}`, "fault?2": `{"account":"k","fault":"burst","tims":2}`, "spend": `{"account":"k","window":"5h"}`,
		"expire": `{"account":"z"}`, "revoke": `{"acount":"a"}`,
	} {
		if code, text := w.control("POST", path, body); code != 400 || text == "" {
			t.Errorf("%s %s: %d %s", path, body, code, text)
		}
	}
	code, _ = w.control("GET", "nothing", "")
	w.equal("unknown", code, 404)
	page := w.do(call{path: "/_fake/reset", header: map[string]string{"Origin": "https://example.com"}})
	w.equal("a page of another site", page.StatusCode, 403)
}

func TestLeavingIsSeenAtOnce(t *testing.T) {
	w := start(t, fakeclaude.Options{OutputTokens: 100_000, Pace: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	response, err := w.client.Do(w.request(call{key: keyK, body: strings.Replace(ask(modelID, true, "x"), "1000", "200000", 1), ctx: ctx}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(response.Body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	cancel()
	response.Body.Close()
	began := time.Now()
	w.equal("cancelled", w.await(done).Cancelled, true)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("noticed after %v", took)
	}
}
