package shunt

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// newTeam is a pool of one account with ann and bob, whose blocks are given.
func newTeam(t *testing.T, ann, extra string, options fakeclaude.Options) *bench {
	t.Helper()
	options.Accounts = fourAccounts()[:1]
	return newBench(t, options, "remote_key ann "+annKey+" {\n"+ann+"\n}\nremote_key bob "+bobKey+"\nupstream %UPSTREAM%\n"+extra+"\naccount a {\napi_key sk-ant-api03-aaaa\n}")
}

func (r reply) mustRefuse(t *testing.T, what string, status int, kind string, texts ...string) {
	t.Helper()
	if r.status != status || !strings.Contains(r.body, `"`+kind+`"`) {
		t.Errorf("%s: %d %s", what, r.status, r.body)
	}
	for _, text := range texts {
		if !strings.Contains(r.body, text) {
			t.Errorf("%s: %q is not in %s", what, text, r.body)
		}
	}
}

func TestModelsOfAPerson(t *testing.T) {
	b := newTeam(t, "models claude-haiku-*", "", fakeclaude.Options{})
	haiku := strings.Replace(hello, "claude-sonnet-5", "claude-haiku-4-5", 1)
	b.ask(haiku).mustServe(t, "what ann may use")
	b.ask(hello, "X-Api-Key", "", "X-Api-Key", bobKey).mustServe(t, "bob, who has no limit")
	before := len(b.fake.Requests())
	b.ask(hello).mustRefuse(t, "another model", 400, "invalid_request_error", "claude-sonnet-5", "claude-haiku-*")
	b.do("POST", "/v1/messages/count_tokens", hello).mustRefuse(t, "counting tokens of another model", 400, "invalid_request_error")
	b.ask(hello, "Content-Encoding", "gzip").mustRefuse(t, "a model that is said to be compressed, and is not", 400, "invalid_request_error")
	b.ask("\x1f\x8b\x08nonsense", "Content-Encoding", "gzip").mustRefuse(t, "a body that cannot be read", 400, "invalid_request_error", "compressed")
	b.ask(`{"model":"claude-haiku-4-5","max_tokens":1,"model":"claude-sonnet-5","messages":[]}`).mustRefuse(t, "two models", 400, "invalid_request_error")
	batch := func(models ...string) string {
		var requests []string
		for i, m := range models {
			requests = append(requests, `{"custom_id":"`+strconv.Itoa(i)+`","params":{"model":"`+m+`"}}`)
		}
		return `{"requests":[` + strings.Join(requests, ",") + `]}`
	}
	b.do("POST", "/v1/messages/batches", batch("claude-haiku-4-5", "claude-sonnet-5")).mustRefuse(t, "a batch with another model", 400, "invalid_request_error", "claude-sonnet-5")
	b.do("POST", "/v1/messages/batches", `{"requests":`+strings.Repeat("[", 30<<20)).mustRefuse(t, "a batch of nothing but brackets", 400, "invalid_request_error")
	b.do("POST", "/v1/messages/batches", `{"requests":{}}`).mustRefuse(t, "a batch that is none", 400, "invalid_request_error")
	if n := len(b.fake.Requests()); n != before {
		t.Errorf("%d refused requests went upstream", n-before)
	}
	if r := b.do("POST", "/v1/messages/batches", batch("claude-haiku-4-5")); r.status != 200 {
		t.Errorf("a batch of what ann may use: %d %s", r.status, r.body)
	}
	if r := b.do("GET", "/v1/models", ""); r.status != 200 {
		t.Errorf("the list of models: %d %s", r.status, r.body)
	}
}

func TestRateOfAPerson(t *testing.T) {
	b := newTeam(t, "rate 3", "", fakeclaude.Options{})
	for range 3 {
		b.ask(hello).mustServe(t, "within the rate")
	}
	r := b.ask(hello)
	r.mustRefuse(t, "the fourth", 429, "rate_limit_error", "3 requests a minute")
	if after, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || after < 15 || after > 20 || r.header.Get("X-Should-Retry") != "" {
		t.Errorf("it is told to come back in %q s, should retry %q", r.header.Get("Retry-After"), r.header.Get("X-Should-Retry"))
	}
	if r := b.do("POST", "/v1/messages/count_tokens", hello); r.status != 200 {
		t.Errorf("counting tokens costs nothing, and is refused: %d %s", r.status, r.body)
	}
	b.ask(hello, "X-Api-Key", "", "X-Api-Key", bobKey).mustServe(t, "bob")
	b.mustBeIdle()
	if v := b.h.group.View().Recent[2]; v.Verdict != verdictRate || v.User != "ann" || v.Status != 429 {
		t.Errorf("recorded as %+v", v)
	}
}

// TestConcurrencyOfAPerson: more requests wait for those under way, and all are
// served; never are there more upstream than the person may have.
func TestConcurrencyOfAPerson(t *testing.T) {
	b := newTeam(t, "max_concurrent 2", "", fakeclaude.Options{Pace: 5 * time.Millisecond})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { b.ask(helloStream).mustServe(t, "one of eight") })
	}
	most := 0
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for {
		most = max(most, b.h.group.View().Accounts[0].InFlight)
		select {
		case <-done:
			if most != 2 {
				t.Errorf("%d at once", most)
			}
			b.mustBeIdle()
			if n := b.h.live.gate.Inside("ann"); n != 0 {
				t.Errorf("%d are left inside", n)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func TestConcurrencyThatCannotWait(t *testing.T) {
	b := newTeam(t, "max_concurrent 1", "hold off", fakeclaude.Options{})
	b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.StallAfterText, Times: 1})
	stop, _ := b.open(t, helloStream)
	defer stop()
	r := b.ask(hello)
	r.mustRefuse(t, "the second", 429, "rate_limit_error", "1 requests under way")
	if r.header.Get("Retry-After") == "" {
		t.Error("no retry-after")
	}
	stop()
	b.mustBecome(200, annKey, "once the first has ended")
}

// open begins a streaming request and reads its head.
func (b *bench) open(t *testing.T, body string) (stop func(), resp *http.Response) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
	resp, err = http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() { resp.Body.Close() }), resp
}

func TestKeysEnd(t *testing.T) {
	b := newTeam(t, "expires 2026-12-31", "time_zone America/New_York", fakeclaude.Options{})
	b.stopApp() // it looks at the clock
	at := func(text string) {
		now, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		b.mustBeIdle()
		b.h.now = func() time.Time { return now }
	}
	at("2027-01-01T04:59:59Z")
	b.ask(hello).mustServe(t, "in the last second of the last day")
	at("2027-01-01T05:00:00Z")
	r := b.ask(hello)
	r.mustRefuse(t, "after the last day", 401, "authentication_error", "2027-01-01 00:00 EST")
	if r.header.Get("X-Should-Retry") != "false" {
		t.Error("the client may try again")
	}
	b.ask(hello, "X-Api-Key", "", "X-Api-Key", bobKey).mustServe(t, "a key that never ends")
}

// TestNamesFromCaddy: limits and admin go by the name, whoever tells it.
func TestNamesFromCaddy(t *testing.T) {
	b := newTeam(t, "", "user {http.request.header.X-User}\nperson carol {\nadmin\nmodels claude-haiku-*\n}\nperson * {\nrate 1\n}", fakeclaude.Options{})
	as := func(name string) reply { return b.ask(hello, "X-Api-Key", "", "X-User", name) }
	as("carol").mustRefuse(t, "carol's other model", 400, "invalid_request_error")
	as("dave").mustServe(t, "dave, whom nothing names")
	as("dave").mustRefuse(t, "dave's second request", 429, "rate_limit_error")
	as("erin").mustServe(t, "erin, with a rate of her own")
	as("").mustRefuse(t, "nobody", 401, "authentication_error")
	b.h.User = "team:{http.request.header.X-User}"
	as("").mustRefuse(t, "half a name", 401, "authentication_error")
	b.h.User = "{http.request.header.X-User}"
	b.ask(hello).mustServe(t, "ann")
	b.ask(hello).mustRefuse(t, "ann's second request", 429, "rate_limit_error")
	if r := b.do("POST", "/use", `{"account":"auto"}`, "X-Api-Key", "", "X-User", "carol"); r.status != 200 {
		t.Errorf("carol is no admin: %d %s", r.status, r.body)
	}
	if r := b.do("POST", "/use", `{"account":"auto"}`, "X-Api-Key", "", "X-User", "dave"); r.status == 200 {
		t.Error("dave is an admin")
	}
}
