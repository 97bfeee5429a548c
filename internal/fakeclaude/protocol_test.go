package fakeclaude_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

const everything = `{"model":"claude-opus-5-5","max_tokens":4000,"stream":true,"thinking":{"type":"adaptive"},
	"tools":[{"name":"Bash","input_schema":{}},{"type":"web_search_20250305","name":"web_search"}],
	"system":"You are terse.","messages":[{"role":"user","content":"search, then use a tool"}]}`

func TestStreamHasTheOrderOfTheAPI(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	a := w.do(call{bearer: tokenA, body: everything, path: "/v1/messages?beta=true"})
	w.equal("status", a.StatusCode, 200)
	w.equal("content-type", a.Header.Get("Content-Type"), "text/event-stream; charset=utf-8")
	w.equal("order", a.names(), "message_start "+
		"content_block_start ping content_block_delta content_block_stop "+
		"content_block_start content_block_delta content_block_stop "+
		"content_block_start content_block_delta content_block_stop "+
		"message_delta message_stop")
	first := a.last("message_start").Get("message")
	w.equal("model", first.Get("model").String(), "claude-opus-5-5")
	w.equal("role", first.Get("role").String(), "assistant")
	w.equal("content", first.Get("content").Raw, "[]")
	w.equal("stop_reason", first.Get("stop_reason").Raw, "null")
	w.equal("starting output", first.Get("usage.output_tokens").Int(), int64(1))
	end := a.last("message_delta")
	w.equal("stop_reason", end.Get("delta.stop_reason").String(), "tool_use")
	w.equal("searches", end.Get("usage.server_tool_use.web_search_requests").Int(), int64(1))
	if start, grown := first.Get("usage.input_tokens").Int(), end.Get("usage.input_tokens").Int(); grown <= start {
		t.Errorf("a search must enlarge the input told at the end: %d, then %d", start, grown)
	}
	var kinds, input string
	for _, e := range a.events() {
		w.equal("event name and type", gjson.Get(e.data, "type").String(), e.name)
		if kind := gjson.Get(e.data, "content_block.type"); kind.Exists() {
			kinds += kind.String() + " "
		}
		input += gjson.Get(e.data, "delta.partial_json").String()
	}
	w.equal("blocks", kinds, "thinking text tool_use ")
	if !gjson.Valid(input) || !gjson.Get(input, "command").Exists() {
		t.Errorf("the pieces of the tool input do not make JSON: %q", input)
	}
}

func TestStreamAndDocumentAgree(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	body := `{"model":"claude-sonnet-5","max_tokens":1000,"stream":true,"messages":[{"role":"user","content":"hi"}]}`
	streamed := w.do(call{bearer: tokenA, body: body})
	again := w.do(call{key: keyK, body: body})
	w.equal("stream on another account", streamed.body, again.body)
	document := w.do(call{bearer: tokenA, body: strings.Replace(body, "true", "false", 1)})
	w.equal("content-type", document.Header.Get("Content-Type"), "application/json")
	w.equal("stop_reason", document.get("stop_reason").String(), "end_turn")
	if text := document.get("content.0.text").String(); len(text) < 20 {
		t.Errorf("too little text: %q", text)
	}
	if tokens := document.get("usage.output_tokens").Int(); tokens < 10 {
		t.Errorf("output_tokens: %d", tokens)
	}
	other := start(t, fakeclaude.Options{Seed: 7}).do(call{bearer: tokenA, body: body})
	if other.text() == streamed.text() {
		t.Error("another seed must give another answer")
	}
}

func TestSameSeedSameRequestsSameAnswers(t *testing.T) {
	run := func() (all []string) {
		w := start(t, fakeclaude.Options{Seed: 3, Clock: newClock().Now})
		w.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.Overloaded, Times: -1, Chance: 0.5})
		for range 12 {
			a := w.do(call{bearer: tokenB, body: ask(modelID, true, "hello")})
			a.Header.Del("Date")
			var head bytes.Buffer
			if err := a.Header.Write(&head); err != nil {
				t.Fatal(err)
			}
			all = append(all, a.Status+head.String()+a.body)
		}
		return all
	}
	one, two := run(), run()
	refused := 0
	for i := range one {
		if one[i] != two[i] {
			t.Errorf("request %d differs:\n%s\n%s", i, one[i], two[i])
		}
		if strings.HasPrefix(one[i], "529") {
			refused++
		}
	}
	if refused == 0 || refused == len(one) {
		t.Errorf("a chance of one half hit %d of %d", refused, len(one))
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	cookies := 0
	for i := range 6 {
		a := w.do(call{key: keyK, body: ask(modelID, false, "x")})
		if a.Header.Get("Set-Cookie") != "" {
			cookies++
		}
		if len(a.Header.Get("Anthropic-Organization-Id")) != 36 || !strings.HasPrefix(a.Header.Get("Anthropic-Workspace-Id"), "wrkspc_") {
			t.Fatalf("answer %d names no organisation or workspace: %v", i, a.Header)
		}
	}
	w.equal("answers with a cookie", cookies, 2)
	a := w.do(call{key: "sk-ant-api03-wrong", body: ask(modelID, false, "x")})
	w.equal("organisation of an unknown key", a.Header.Get("Anthropic-Organization-Id"), "")
}

func TestRequestFaults(t *testing.T) {
	w := start(t, fakeclaude.Options{Accounts: []fakeclaude.Account{{Name: "k", APIKey: keyK, Models: []string{modelID}}}})
	for name, c := range map[string]struct {
		call
		status     int
		kind, text string
	}{
		"no version":     {call{key: keyK, header: map[string]string{"Anthropic-Version": ""}}, 400, "invalid_request_error", "anthropic-version: header is required"},
		"odd beta":       {call{key: keyK, header: map[string]string{"Anthropic-Beta": "nonsense"}}, 400, "invalid_request_error", "Unexpected value(s) `nonsense` for the `anthropic-beta` header"},
		"no JSON":        {call{key: keyK, body: `{"model":`}, 400, "invalid_request_error", "not valid JSON"},
		"no model":       {call{key: keyK, body: `{"max_tokens":1,"messages":[{}]}`}, 400, "invalid_request_error", "model: Field required"},
		"no max_tokens":  {call{key: keyK, body: `{"model":"m","messages":[{}]}`}, 400, "invalid_request_error", "max_tokens: Field required"},
		"no messages":    {call{key: keyK, body: `{"model":"m","max_tokens":1,"messages":[]}`}, 400, "invalid_request_error", "messages: "},
		"no type":        {call{key: keyK, header: map[string]string{"Content-Type": ""}}, 400, "invalid_request_error", "content-type"},
		"unknown model":  {call{key: keyK, body: ask("claude-9", false, "x")}, 404, "not_found_error", "model: claude-9"},
		"model not ours": {call{key: keyK, body: ask("claude-opus-5", false, "x")}, 404, "not_found_error", "model: claude-opus-5"},
		"unknown path":   {call{key: keyK, path: "/v1/skills"}, 404, "not_found_error", "Not Found"},
		"wrong method":   {call{key: keyK, method: http.MethodGet}, 405, "invalid_request_error", "Method"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.body == "" {
				c.body = ask(modelID, false, "x")
			}
			v := *w
			v.T = t
			v.refused(v.do(c.call), c.status, c.kind, c.text)
		})
	}
	a := w.do(call{method: http.MethodHead, path: "/"})
	w.equal("HEAD /", a.StatusCode, 200)
}

func TestLargeBodyIsTheEdgesBusiness(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	unsent, release := io.Pipe()
	defer release.Close()
	for name, c := range map[string]struct {
		body   io.Reader
		length int64
	}{
		"announced, before it is there": {unsent, 33 << 20},
		"not announced":                 {io.LimitReader(zeros{}, 33<<20), -1},
	} {
		r := w.request(call{key: keyK})
		r.Body, r.ContentLength = io.NopCloser(c.body), c.length
		response, err := w.client.Do(r)
		if err != nil {
			t.Fatal(name, err)
		}
		page, _ := io.ReadAll(response.Body)
		response.Body.Close()
		w.equal(name, response.StatusCode, 413)
		w.equal("request-id", response.Header.Get("Request-Id"), "")
		if !strings.HasPrefix(string(page), "<!DOCTYPE html>") {
			t.Errorf("body: %.80s", page)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestCompressionAsAsked(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	plain := w.do(call{key: keyK, body: ask(modelID, true, "x"), header: map[string]string{"Accept-Encoding": "identity"}})
	w.equal("identity", plain.Header.Get("Content-Encoding"), "")
	zero := w.do(call{key: keyK, body: ask(modelID, true, "x"), header: map[string]string{"Accept-Encoding": "gzip;q=0, br"}})
	w.equal("gzip;q=0", zero.Header.Get("Content-Encoding"), "")
	packed := w.do(call{key: keyK, body: ask(modelID, true, "x"), header: map[string]string{"Accept-Encoding": "br, gzip;q=0.5"}})
	w.equal("gzip", packed.Header.Get("Content-Encoding"), "gzip")
	w.equal("content", gunzip(t, packed.body), plain.body)
}

func gunzip(t *testing.T, body string) string {
	t.Helper()
	reader, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func TestRequestsAreRecordedAsTheyCame(t *testing.T) {
	w := start(t, fakeclaude.Options{KeepBodies: true})
	body := ask(modelID, true, "x")
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	_, _ = writer.Write([]byte(body))
	writer.Close()
	w.do(call{bearer: tokenB, path: "/v1/messages?beta=true", body: packed.String(), header: map[string]string{
		"Content-Encoding": "gzip", "X-Claude-Code-Session-Id": "s-1",
	}})
	r := w.await(done)
	sum := sha256.Sum256(packed.Bytes())
	w.equal("account", r.Account, "b")
	w.equal("URI", r.URI, "/v1/messages?beta=true")
	w.equal("sha256", r.BodySHA256, hex.EncodeToString(sum[:]))
	w.equal("length", r.BodyBytes, int64(packed.Len()))
	w.equal("body", string(r.Body), packed.String())
	w.equal("model", r.Model, modelID)
	w.equal("stream", r.Stream, true)
	w.equal("status", r.Status, 200)
	w.equal("session", r.Header.Get("X-Claude-Code-Session-Id"), "s-1")
	w.equal("cancelled", r.Cancelled, false)
}

func TestMaxTokensEndsTheAnswer(t *testing.T) {
	w := start(t, fakeclaude.Options{OutputTokens: 500})
	body := strings.Replace(ask(modelID, false, "x"), "1000", "40", 1)
	a := w.do(call{key: keyK, body: body})
	w.equal("stop_reason", a.get("stop_reason").String(), "max_tokens")
	if n := a.get("usage.output_tokens").Int(); n > 40 || n < 20 {
		t.Errorf("output_tokens %d of 40", n)
	}
	long := w.do(call{key: keyK, body: ask(modelID, false, "x")})
	if n := long.get("usage.output_tokens").Int(); n < 500 {
		t.Errorf("output_tokens %d, want at least 500", n)
	}
}

func TestCountTokensAgreesWithMessages(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	counted := w.do(call{bearer: tokenA, path: "/v1/messages/count_tokens?beta=true", body: `{"model":"claude-sonnet-5","messages":[{"role":"user","content":"x"}]}`})
	served := w.do(call{bearer: tokenA, body: ask(modelID, false, "x")})
	w.equal("input_tokens", counted.get("input_tokens").Int(), served.get("usage.input_tokens").Int())
	w.equal("charged requests", w.fake.Books()["a"].Requests, int64(1))
}

func TestModels(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	all := w.do(call{method: http.MethodGet, path: "/v1/models?limit=1000", key: keyK})
	w.equal("has_more", all.get("has_more").Bool(), false)
	ids := all.get("data.#.id").Array()
	if len(ids) < 10 || !all.get("data.0.display_name").Exists() || all.get("data.0.type").String() != "model" {
		t.Fatalf("models: %s", all.body)
	}
	exact := w.do(call{method: http.MethodGet, path: "/v1/models?limit=" + strconv.Itoa(len(ids)), key: keyK})
	w.equal("has_more of exactly all", exact.get("has_more").Bool(), false)
	var paged []string
	query := "/v1/models?limit=5"
	for path := query; path != ""; {
		page := w.do(call{method: http.MethodGet, path: path, key: keyK})
		for _, id := range page.get("data.#.id").Array() {
			paged = append(paged, id.String())
		}
		w.equal("first_id", page.get("first_id").String(), page.get("data.0.id").String())
		if path = ""; page.get("has_more").Bool() {
			path = query + "&after_id=" + page.get("last_id").String()
		}
	}
	w.equal("models over pages", len(paged), len(ids))
	before := w.do(call{method: http.MethodGet, path: "/v1/models?limit=2&before_id=" + ids[5].String(), key: keyK})
	w.equal("before", before.get("data.#.id").String(), `["`+ids[3].String()+`","`+ids[4].String()+`"]`)
	w.equal("before has_more", before.get("has_more").Bool(), true)
	one := w.do(call{method: http.MethodGet, path: "/v1/models/claude-haiku-4-5", key: keyK})
	w.equal("alias", one.get("id").String(), "claude-haiku-4-5-20251001")
	w.refused(w.do(call{method: http.MethodGet, path: "/v1/models/claude-9", key: keyK}), 404, "not_found_error", "claude-9")
	w.refused(w.do(call{method: http.MethodGet, path: "/v1/models?limit=0", key: keyK}), 400, "invalid_request_error", "limit")
}
