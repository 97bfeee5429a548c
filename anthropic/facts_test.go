package anthropic

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

func TestSessionKey(t *testing.T) {
	const uuid = "3c1b1a52-0000-4000-8000-1234567890ab"
	jsonID, _ := json.Marshal(`{"device_id":"ab","account_uuid":"","session_id":"` + uuid + `"}`)
	for _, test := range []struct{ name, header, value, body, want string }{
		{"header", "X-Claude-Code-Session-Id", uuid, `{"metadata":{"user_id":"user_a_account__session_other"}}`, uuid},
		{"JSON user_id", "", "", `{"metadata":{"user_id":` + string(jsonID) + `}}`, uuid},
		{"suffix", "", "", `{"metadata":{"user_id":"user_ab_account__session_` + uuid + `"}}`, uuid},
		{"affinity", "X-Session-Affinity", "ses_1", `{}`, "ses_1"},
		{"session id", "X-Session-Id", "ses_2", `{}`, "ses_2"},
		{"nothing", "", "", `{"metadata":{"user_id":"someone"}}`, ""},
		{"not JSON", "", "", `hello`, ""},
	} {
		h := http.Header{}
		if test.header != "" {
			h.Set(test.header, test.value)
		}
		if got := ReadFacts(EndpointMessages, h, []byte(test.body)).Session; got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	h := http.Header{"X-Claude-Code-Session-Id": {uuid}, "X-Claude-Code-Agent-Id": {"a1"}}
	if got := ReadFacts(EndpointMessages, h, nil).Session; got != uuid+"/a1" {
		t.Errorf("a sub-agent's session is %q", got)
	}
}

// TestConversationHash: without a session id a conversation keeps its key from
// turn to turn although cache markers move and the billing line changes.
func TestConversationHash(t *testing.T) {
	turn := func(billing, first, rest string) string {
		body := `{"model":"m","system":[{"type":"text","text":"x-anthropic-billing-header: ` + billing + `"},{"type":"text","text":"be kind"}],` +
			`"tools":[{"name":"Read"}],"messages":[{"role":"user","content":` + first + `}` + rest + `]}`
		if !json.Valid([]byte(body)) {
			t.Fatalf("bad body %s", body)
		}
		return ReadFacts(EndpointMessages, http.Header{}, []byte(body)).Session
	}
	one := turn("a", `[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}]`, ``)
	two := turn("b", `[{"type":"text","text":"hi"}]`, `,{"role":"assistant","content":"yes"},{"role":"user","content":"more"}`)
	if one == "" || one != two {
		t.Errorf("the key moved from %q to %q", one, two)
	}
	if other := turn("a", `"something else"`, ``); other == one {
		t.Error("two conversations have one key")
	}
}

func TestReadFacts(t *testing.T) {
	body := []byte(`{"messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl": "1h"}}]}],"stream":true,"speed":"fast","model":"claude-opus-5-5"}`)
	f := ReadFacts(EndpointMessages, http.Header{"X-Stainless-Timeout": {"600"}}, body)
	if f.Model != "claude-opus-5-5" || !f.Stream || !f.Fast || f.CacheLife != time.Hour || f.Patience != 10*time.Minute || f.Size != len(body) {
		t.Errorf("facts are %+v", f)
	}
	if f := ReadFacts(EndpointMessages, nil, []byte(`{"stream":"true","model":5}`)); f.Stream || f.Model != "" || f.CacheLife != CacheLife {
		t.Errorf("facts of a wrong body are %+v", f)
	}
}

func TestRouteOf(t *testing.T) {
	for path, want := range map[string]Route{
		"/v1/messages": {Endpoint: EndpointMessages}, "/v1/messages/count_tokens": {Endpoint: EndpointCountTokens}, "/v1/models": {Endpoint: EndpointModels},
		"/v1/models/claude-opus-5": {Endpoint: EndpointModels}, "/v1/files": {Endpoint: EndpointFiles}, "/v1/files/file_1": {Endpoint: EndpointFiles, Ref: "file_1"},
		"/v1/files/file_1/content": {Endpoint: EndpointFiles, Ref: "file_1"}, "/v1/messages/batches": {Endpoint: EndpointBatches},
		"/v1/messages/batches/b1": {Endpoint: EndpointBatches, Ref: "b1"}, "/v1/messages/batches/b1/cancel": {Endpoint: EndpointBatches, Ref: "b1"},
		"/v1/messages/batches/b1/results": {Endpoint: EndpointBatches, Ref: "b1"},
		"/v1/models/":                     {}, "/v1/models/a/b": {}, "/v1/messages/": {}, "//v1/messages": {}, "/": {}, "/v1/files/../messages": {}, "/v1/files/..": {}, "/v1/files/a b": {},
		"/v1/files/file_1/contents": {}, "/v1/messages/batches/b1/other": {}, "/v1/files//content": {},
	} {
		got := RouteOf(path)
		if got.Endpoint != want.Endpoint || got.Ref != want.Ref || (got.Endpoint != EndpointNone) != (len(got.Methods) > 0) {
			t.Errorf("%s is %+v, want %+v", path, got, want)
		}
	}
}

func TestRefs(t *testing.T) {
	quoted := `{"messages":[{"role":"user","content":"say {\"file_id\":\"file_quoted\"}"}]}`
	for body, want := range map[string][]string{
		`{"container":"container_1","messages":[{"content":[{"source":{"type":"file","file_id": "file_1"}},{"source":{"file_id":"file_2"}},{"source":{"file_id":"file_1"}}]}]}`: {"container_1", "file_1", "file_2"},
		`{"container":{"id":"container_2","skills":[]}}`: {"container_2"},
		`{"file_id":5,"x":{"file_id":""}}`:               nil,
		`{"file_id":"a/../b"}`:                           nil,
		quoted:                                           nil,
	} {
		if got := ReadFacts(EndpointMessages, nil, []byte(body)).Refs; !reflect.DeepEqual(got, want) {
			t.Errorf("%s names %v, want %v", body, got, want)
		}
	}
}

func TestBoundThinking(t *testing.T) {
	for body, want := range map[string]bool{
		`{"model":"claude-sonnet-5-5","thinking":{"type":"adaptive"}}`: true, `{"model":"claude-haiku-5-5-20261007","thinking":{"type":"enabled"}}`: true,
		`{"model":"claude-sonnet-5-5","thinking":{"type":"disabled"}}`: false, `{"model":"claude-sonnet-5-5"}`: false, `{"model":"claude-opus-5-5","thinking":{"type":"adaptive"}}`: false,
	} {
		if got := ReadFacts(EndpointMessages, nil, []byte(body)).BoundThinking; got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
}

func FuzzReadFacts(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":"hi"}]}`), "s", "a", "p")
	f.Add([]byte(`{"metadata":{"user_id":"{\"session_id\":\"a\"}"}}`), "", "", "")
	f.Add([]byte(`{"ttl"`), "", "", "")
	f.Add([]byte(`{"tools":[{"cache_control":{`), "", "", "")
	f.Add([]byte(`{"system":[{"text":"x-anthropic-billing-header\`), "", "", "")
	f.Add([]byte(`{"system":"x-anthropic-billing-header`), "", "", "")
	f.Add([]byte(`{"source":{"data":"JVBERi0`), "", "", "")
	f.Add([]byte(`{"source":{"data":"/9j/"},"data":"/9j/","data"`), "", "", "")
	f.Fuzz(func(t *testing.T, body []byte, session, agent, parent string) {
		before := string(body)
		header := http.Header{"X-Session-Id": {session}, "X-Claude-Code-Agent-Id": {agent}, "X-Claude-Code-Parent-Agent-Id": {parent}}
		facts := ReadFacts(EndpointMessages, header, body)
		if string(body) != before {
			t.Error("the body was changed")
		}
		if len(facts.Session) > maxSession || len(facts.Parent) > maxSession {
			t.Errorf("session keys of %d and %d bytes", len(facts.Session), len(facts.Parent))
		}
		if agent == "" && facts.Parent != "" || facts.Parent != "" && facts.Session == "" {
			t.Errorf("the session %q has the parent %q", facts.Session, facts.Parent)
		}
		if pictures := int64(bytes.Count(body, []byte(`:`))); facts.Tokens < 0 || facts.Tokens > int64(len(body))/bytesPerToken+pictures*imageTokens {
			t.Errorf("%d tokens in %d bytes with at most %d pictures", facts.Tokens, len(body), pictures)
		}
		if again := ReadFacts(EndpointMessages, header, body); !reflect.DeepEqual(again, facts) {
			t.Errorf("facts are %+v, then %+v", facts, again)
		}
	})
}

func TestUpstreamHeader(t *testing.T) {
	client := http.Header{
		"Authorization": {"Bearer secret"}, "X-Api-Key": {"secret"}, "Cookie": {"a=secret"}, "Connection": {"keep-alive, X-Hop"}, "X-Hop": {"secret"},
		"X-Forwarded-For": {"10.0.0.1"}, "X-Forwarded-Anything": {"x"}, "Remote-User": {"ann"}, "Te": {"trailers"}, "Accept-Encoding": {"gzip, br"},
		"Anthropic-Version": {"2026-10-21"}, "Anthropic-Beta": {"a,b", "c"}, "Anthropic-Future": {"1"}, "X-Claude-Code-New": {"2"}, "X-Stainless-Lang": {"js"},
	}
	got := UpstreamHeader(client)
	want := http.Header{
		"Anthropic-Version": {"2026-10-21"}, "Anthropic-Beta": {"a,b", "c"}, "Anthropic-Future": {"1"}, "X-Claude-Code-New": {"2"}, "X-Stainless-Lang": {"js"},
		"Accept-Encoding": {"identity"}, "User-Agent": {""},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("upstream gets %v", got)
	}
	got["Anthropic-Beta"] = append(got["Anthropic-Beta"], "d")
	if len(client["Anthropic-Beta"]) != 2 {
		t.Error("the client's header was changed")
	}
}

func TestClientHeader(t *testing.T) {
	dst := http.Header{"X-Ours": {"1"}}
	ClientHeader(dst, http.Header{
		"Request-Id": {"req_1"}, "Content-Type": {"text/event-stream"}, "Cf-Ray": {"r"}, "Retry-After": {"5"},
		"Set-Cookie": {"__cf_bm=secret"}, "Anthropic-Organization-Id": {"org"}, "Anthropic-Ratelimit-Unified-Status": {"allowed"},
		"Anthropic-Fast-Input-Tokens-Limit": {"1"}, "Transfer-Encoding": {"chunked"}, "Connection": {"x-hop"}, "X-Hop": {"1"}, "Alt-Svc": {"h3"},
		"Clear-Site-Data": {`"*"`}, "Refresh": {"0; url=https://elsewhere.example"}, "Service-Worker-Allowed": {"/"}, "Content-Security-Policy": {"default-src *"},
	})
	want := http.Header{
		"X-Ours": {"1"}, "Request-Id": {"req_1"}, "Content-Type": {"text/event-stream"}, "Cf-Ray": {"r"}, "Retry-After": {"5"},
		"Content-Security-Policy": {"default-src 'none'; sandbox"}, "X-Content-Type-Options": {"nosniff"},
	}
	if !reflect.DeepEqual(dst, want) {
		t.Errorf("the client gets %v", dst)
	}
}

func TestClientKeys(t *testing.T) {
	keys, n := ClientKeys(http.Header{"X-Api-Key": {" a "}, "Authorization": {"bearer  b"}})
	if n != 2 || keys != [2]string{"a", "b"} {
		t.Errorf("%d keys: %q", n, keys)
	}
	if _, n := ClientKeys(http.Header{"Authorization": {"Basic eDp5"}, "X-Api-Key": {""}}); n != 0 {
		t.Errorf("%d keys where there is none", n)
	}
}

func TestUsageMergeIsCumulative(t *testing.T) {
	var u Usage
	for _, usage := range []string{
		`{"input_tokens":2679,"cache_creation_input_tokens":2000,"cache_read_input_tokens":90000,"cache_creation":{"ephemeral_5m_input_tokens":500,"ephemeral_1h_input_tokens":1500},"output_tokens":3}`,
		`{"output_tokens":510,"input_tokens":10682,"cache_read_input_tokens":null,"server_tool_use":{"web_search_requests":1}}`,
		`{"output_tokens":-4}`,
	} {
		u.Merge(gjson.Parse(usage))
	}
	want := Usage{InputTokens: 10682, OutputTokens: 510, CacheReadTokens: 90000, CacheWriteTokens: 2000, CacheWrite1hTokens: 1500, WebSearches: 1}
	if u != want {
		t.Errorf("usage is %+v, want %+v", u, want)
	}
}

func TestErrorEnvelope(t *testing.T) {
	e := &Error{Status: 429, Message: `say "no"`, RequestID: "r", RetryAfter: 1500 * time.Millisecond, NoRetry: true}
	w := newRecorder()
	e.Write(w)
	if w.status != 429 || w.header.Get("Retry-After") != "2" || w.header.Get("X-Should-Retry") != "false" || w.header.Get("Request-Id") != "r" {
		t.Errorf("answered %d %v", w.status, w.header)
	}
	if want := `{"type":"error","error":{"type":"rate_limit_error","message":"say \"no\""},"request_id":"r"}`; w.body.String() != want {
		t.Errorf("body is %s", w.body.String())
	}
}

type recorder struct {
	header http.Header
	status int
	body   strings.Builder
}

func newRecorder() *recorder                          { return &recorder{header: http.Header{}} }
func (r *recorder) Header() http.Header               { return r.header }
func (r *recorder) WriteHeader(status int)            { r.status = status }
func (r *recorder) Write(b []byte) (int, error)       { return r.body.Write(b) }
func (r *recorder) WriteString(s string) (int, error) { return r.body.WriteString(s) }
