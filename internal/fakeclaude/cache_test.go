package fakeclaude_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

const (
	mark   = `,"cache_control":{"type":"ephemeral"}`
	mark1h = `,"cache_control":{"type":"ephemeral","ttl":"1h"}`
)

// chat is a conversation with a marked system prompt and a mark on its last
// message, as coding agents send it.
func chat(systemMark string, turns ...string) string {
	var messages []string
	for i, text := range turns {
		role, last := "user", ""
		if i%2 == 1 {
			role = "assistant"
		}
		if i == len(turns)-1 {
			last = mark
		}
		messages = append(messages, fmt.Sprintf(`{"role":%q,"content":[{"type":"text","text":%q%s}]}`, role, text, last))
	}
	return fmt.Sprintf(`{"model":%q,"max_tokens":200,"system":[{"type":"text","text":%q%s}],"messages":[%s]}`,
		modelID, strings.Repeat("s", 4000), systemMark, strings.Join(messages, ","))
}

// counts are the prompt counts of an answer that do not need arithmetic.
func counts(a answer) string {
	u := a.get("usage")
	return fmt.Sprintf("input %d read %d 5m %d 1h %d", u.Get("input_tokens").Int()/100*100,
		u.Get("cache_read_input_tokens").Int()/100*100,
		u.Get("cache_creation.ephemeral_5m_input_tokens").Int()/100*100,
		u.Get("cache_creation.ephemeral_1h_input_tokens").Int()/100*100)
}

func TestPrefixesAreReadFromTheCache(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	long := func(c string) string { return strings.Repeat(c, 2000) }
	first, second := chat(mark, long("u")), chat(mark, long("u"), long("a"), long("v"))
	w.equal("cold", counts(w.do(call{bearer: tokenA, body: first})), "input 0 read 0 5m 1500 1h 0")
	w.equal("the same again", counts(w.do(call{bearer: tokenA, body: first})), "input 0 read 1500 5m 0 1h 0")
	w.equal("the next turn", counts(w.do(call{bearer: tokenA, body: second})), "input 0 read 1500 5m 1000 1h 0")
	w.equal("another account", counts(w.do(call{bearer: tokenB, body: second})), "input 0 read 0 5m 2500 1h 0")
	w.equal("another question after the same system prompt", counts(w.do(call{bearer: tokenA, body: chat(mark, long("w"))})), "input 0 read 1000 5m 500 1h 0")
	other := strings.Replace(second, modelID, "claude-opus-5", 1)
	w.equal("another model", counts(w.do(call{bearer: tokenA, body: other})), "input 0 read 0 5m 2500 1h 0")
	elsewhere := strings.Replace(chat("", long("u")), "ssss", "tttt", 1)
	w.equal("the same question after another system prompt", counts(w.do(call{bearer: tokenA, body: elsewhere})), "input 0 read 0 5m 1500 1h 0")
	plain := strings.ReplaceAll(second, mark, "")
	w.equal("without marks", counts(w.do(call{bearer: tokenA, body: plain})), "input 2500 read 0 5m 0 1h 0")

	books := w.fake.Books()["a"]
	if books.CacheRead < 4000 || books.CacheWrite5m < 7000 || books.Input < 2500 || books.Requests != 7 {
		t.Errorf("books: %+v", books)
	}
}

func TestCachesExpireAndAreRefreshedByUse(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	body := chat(mark, "u")
	w.do(call{bearer: tokenA, body: body})
	for range 3 {
		w.clock.advance(4 * time.Minute)
		w.equal("used in time", counts(w.do(call{bearer: tokenA, body: body})), "input 0 read 1000 5m 0 1h 0")
	}
	w.clock.advance(5 * time.Minute)
	w.equal("not used in time", counts(w.do(call{bearer: tokenA, body: body})), "input 0 read 0 5m 1000 1h 0")

	hour := chat(mark1h, strings.Repeat("u", 2000))
	w.equal("one hour", counts(w.do(call{bearer: tokenB, body: hour})), "input 0 read 0 5m 500 1h 1000")
	w.clock.advance(59 * time.Minute)
	w.equal("the long part is there", counts(w.do(call{bearer: tokenB, body: hour})), "input 0 read 1000 5m 500 1h 0")
	w.clock.advance(60 * time.Minute)
	w.equal("an hour later", counts(w.do(call{bearer: tokenB, body: hour})), "input 0 read 0 5m 500 1h 1000")
}

func TestCachesBelongToTheOrganisation(t *testing.T) {
	w := start(t, fakeclaude.Options{Speed: 10, CacheMinimum: true, Accounts: []fakeclaude.Account{
		{Name: "k", APIKey: keyK, Org: "o"}, {Name: "l", APIKey: keyK + "2", Org: "o"}, {Name: "m", APIKey: keyK + "3", Org: "o", Workspace: "wrkspc_other"},
		{Name: "n", APIKey: keyK + "4", Org: "p", Workspace: "wrkspc_other"},
	}})
	body := chat(mark, strings.Repeat("u", 2000))
	w.equal("below the minimum is not kept", counts(w.do(call{key: keyK, body: chat(mark, "")})), "input 1000 read 0 5m 0 1h 0")
	w.do(call{key: keyK, body: body})
	w.equal("same workspace", counts(w.do(call{key: keyK + "2", body: body})), "input 0 read 1500 5m 0 1h 0")
	w.equal("other workspace", counts(w.do(call{key: keyK + "3", body: body})), "input 0 read 0 5m 1500 1h 0")
	w.equal("other organisation", counts(w.do(call{key: keyK + "4", body: body})), "input 0 read 0 5m 1500 1h 0")
	w.clock.advance(30 * time.Second)
	w.equal("accelerated", counts(w.do(call{key: keyK, body: body})), "input 0 read 0 5m 1500 1h 0")
}

func TestLookBackIsBounded(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	turns := []string{"start"}
	w.do(call{bearer: tokenA, body: chat("", turns...)})
	for len(turns) < 21 {
		turns = append(turns, "more")
	}
	w.equal("an entry for b", counts(w.do(call{bearer: tokenB, body: chat("", "start")})), "input 0 read 0 5m 1000 1h 0")
	near := w.do(call{bearer: tokenB, body: chat("", turns[:19]...)})
	if near.get("usage.cache_read_input_tokens").Int() < 1000 {
		t.Errorf("an entry 18 blocks back was not found: %s", near.get("usage"))
	}
	far := w.do(call{bearer: tokenA, body: chat("", turns...)})
	w.equal("an entry 20 blocks back", far.get("usage.cache_read_input_tokens").Int(), int64(0))
}

func TestBooksMatchWhatStreamsTold(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	var want fakeclaude.Usage
	for i := range 5 {
		body := strings.Replace(chat(mark, strings.Repeat("u", 400*i)), `"max_tokens"`, `"stream":true,"max_tokens"`, 1)
		a := w.do(call{bearer: tokenA, body: body})
		u := a.last("message_start").Get("message.usage")
		want.Input += u.Get("input_tokens").Int()
		want.CacheRead += u.Get("cache_read_input_tokens").Int()
		want.CacheWrite5m += u.Get("cache_creation_input_tokens").Int()
		want.Output += a.last("message_delta").Get("usage.output_tokens").Int()
	}
	hour := w.do(call{bearer: tokenA, body: strings.Replace(chat(mark1h, "x"), "ssss", "hhhh", 1)})
	want.CacheWrite1h = hour.get("usage.cache_creation.ephemeral_1h_input_tokens").Int()
	want.CacheRead += hour.get("usage.cache_read_input_tokens").Int()
	want.CacheWrite5m += hour.get("usage.cache_creation.ephemeral_5m_input_tokens").Int()
	want.Input += hour.get("usage.input_tokens").Int()
	want.Output += hour.get("usage.output_tokens").Int()
	w.equal("one hour written", want.CacheWrite1h > 900, true)
	searching := w.do(call{bearer: tokenA, body: everything})
	u := searching.last("message_delta").Get("usage")
	want.Input += u.Get("input_tokens").Int()
	want.Output += u.Get("output_tokens").Int()
	want.WebSearches++
	books := w.fake.Books()["a"]
	w.equal("books", books.Usage, want)
	// Sonnet weighs 1, and the one request to Opus 5/3.
	opus := float64(u.Get("input_tokens").Int() + 5*u.Get("output_tokens").Int())
	units := float64(want.Input) + 0.1*float64(want.CacheRead) + 1.25*float64(want.CacheWrite5m) + 2*float64(want.CacheWrite1h) + 5*float64(want.Output) + opus*2/3
	if d := books.Units - units; d > 0.01 || d < -0.01 {
		t.Errorf("units %v, want %v", books.Units, units)
	}
}

func TestCancelledStreamIsChargedAsFarAsItCame(t *testing.T) {
	w := start(t, fakeclaude.Options{OutputTokens: 5000, Pace: 2 * time.Millisecond})
	response, err := w.client.Do(w.request(call{bearer: tokenA, body: ask(modelID, true, "x")}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(response.Body, make([]byte, 4000)); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	r := w.await(done)
	w.equal("cancelled", r.Cancelled, true)
	w.equal("cancelled at", r.CancelledAt, w.clock.Now())
	if r.Usage.Output < 30 || r.Usage.Output > 3000 {
		t.Errorf("charged %d of more than 5000 output tokens", r.Usage.Output)
	}
	w.equal("books", w.fake.Books()["a"].Usage, r.Usage)
}

func TestThinkingIsBound(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	turn := func(model, extra, rest string) string {
		return `{"model":"` + model + `","max_tokens":4000,"thinking":{"type":"adaptive"` + extra + `},"messages":[{"role":"user","content":"first"}` + rest + `]}`
	}
	for _, model := range []string{"claude-opus-5-5", "claude-sonnet-5-5"} {
		first := w.do(call{bearer: tokenA, body: turn(model, "", "")})
		back := `,{"role":"assistant","content":` + first.get("content").Raw + `},{"role":"user","content":"second"}`
		a := w.do(call{bearer: tokenA, body: turn(model, "", back)})
		w.equal(model+" unchanged", a.StatusCode, 200)
		w.equal(model+" transformations", a.get("input_transformations").Exists(), false)

		changed := strings.Replace(turn(model, "", back), `"first"`, `"changed"`, 1)
		w.refused(w.do(call{bearer: tokenA, body: changed}), 400, "invalid_request_error",
			"messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation.")
		tolerant := strings.Replace(changed, `"adaptive"`, `"adaptive","block_binding":{"prefix_mismatch_behavior":"drop_block"}`, 1)
		a = w.do(call{bearer: tokenA, body: tolerant})
		w.equal(model+" dropped", a.get("input_transformations.0.reason").String(), "prefix_mismatch")
		w.refused(w.do(call{bearer: tokenA, body: strings.Replace(turn(model, "", back), `"signature":"`, `"signature":"A`, 1)}),
			400, "invalid_request_error", "Invalid `signature` in `thinking` block")

		a = w.do(call{bearer: tokenB, body: turn(model, "", back)})
		want := map[string]string{"claude-opus-5-5": "", "claude-sonnet-5-5": "account_binding_mismatch"}[model]
		w.equal(model+" on another account", a.get("input_transformations.0.reason").String(), want)
		a = w.do(call{bearer: tokenA, body: turn("claude-opus-4-8", "", back)})
		w.equal(model+" to another model", a.get("input_transformations.0.reason").String(), "model_binding_mismatch")
	}
	// Adding a cache mark and turning a string into a block changes nothing.
	first := w.do(call{bearer: tokenA, body: turn("claude-opus-5-5", "", "")})
	back := `,{"role":"assistant","content":` + first.get("content").Raw + `},{"role":"user","content":"second"}`
	marked := strings.Replace(turn("claude-opus-5-5", "", back), `"content":"first"`, `"content":[{"type":"text","text":"first"`+mark+`}]`, 1)
	w.equal("marked", gjson.Valid(marked) && w.do(call{bearer: tokenA, body: marked}).StatusCode == 200, true)
}
