package gosdk

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// conversation is a request that is asked of the pool and of upstream.
type conversation struct {
	name   string
	params anthropic.MessageNewParams
	opts   []option.RequestOption
	// shows is what must be in the answer, so that the case is about what it says.
	shows string
	// streamShows is the same for a stream; empty when it is equal to shows.
	streamShows string
}

// conversations are made for one account: their texts differ from those for any
// other, and with them the caches.
func conversations(tag string) []conversation {
	plain := hello("Hello from " + tag)

	odd := hello("<b>&amp; café € 東京 🙂\u2028 \"quoted\" \\ back\nline from " + tag)
	odd.Metadata = anthropic.MetadataParam{UserID: param.NewOpt("somebody")}
	odd.StopSequences = []string{"\n\nHuman:"}
	odd.Temperature = param.NewOpt(0.25)

	short := hello("A long answer for " + tag)
	short.MaxTokens = 5

	thinking := hello("Think about " + tag)
	thinking.Model = anthropic.ModelClaudeOpus5
	thinking.MaxTokens = 4096
	thinking.Thinking = anthropic.ThinkingConfigParamOfEnabled(2048)

	tools := hello("Please use a tool for " + tag)
	tools.MaxTokens = 2000
	tools.Tools = []anthropic.ToolUnionParam{anthropic.ToolUnionParamOfTool(anthropic.ToolInputSchemaParam{
		Properties: map[string]any{"command": map[string]any{"type": "string"}, "count": map[string]any{"type": "integer"}},
		Required:   []string{"command"},
	}, "run")}

	cached := hello("A question of " + tag)
	mark := anthropic.NewCacheControlEphemeralParam()
	long := anthropic.CacheControlEphemeralParam{TTL: anthropic.CacheControlEphemeralTTLTTL1h}
	cached.System = []anthropic.TextBlockParam{
		{Text: strings.Repeat("The rules of the house. ", 200) + tag, CacheControl: long},
		{Text: strings.Repeat("The rules of the day. ", 100), CacheControl: mark},
	}

	return []conversation{
		{name: "plain", params: plain, shows: `"stop_reason":"end_turn"`},
		{name: "odd characters", params: odd, shows: `"type":"message"`},
		{name: "max_tokens", params: short, shows: `"stop_reason":"max_tokens"`},
		{name: "thinking", params: thinking, shows: `"signature":"`, streamShows: `"type":"signature_delta"`},
		{name: "tool use", params: tools, shows: `"stop_reason":"tool_use"`},
		{name: "cache write", params: cached, shows: `"ephemeral_1h_input_tokens":12`, streamShows: `"cache_read_input_tokens":17`},
		{name: "betas", params: plain, shows: `"type":"message"`, opts: []option.RequestOption{
			option.WithHeader("anthropic-beta", "context-management-2025-06-27,effort-2025-11-24"),
			option.WithHeaderAdd("anthropic-beta", "interleaved-thinking-2025-05-14"),
			option.WithHeader("x-of-a-future-client", "kept"),
		}},
	}
}

// TestAnswersAreEqual: for every account, what the SDK gets through the pool is
// byte for byte what it gets from upstream, and upstream is asked the same.
func TestAnswersAreEqual(t *testing.T) {
	t.Parallel()
	p := newStage(t, 1, "").fresh(t)
	for _, member := range members {
		p.pin(t, member)
		through, direct := p.ann(), p.reference()
		for _, c := range conversations(member) {
			t.Run(member+"/"+c.name, func(t *testing.T) {
				compareNew(t, p, member, through, direct, &c)
				compareStreams(t, p, member, through, direct, &c)
			})
		}
		t.Run(member+"/second turn", func(t *testing.T) {
			compareSecondTurn(t, p, member, through, direct)
		})
		t.Run(member+"/cache read", func(t *testing.T) {
			all := conversations(member)
			c := all[slices.IndexFunc(all, func(c conversation) bool { return c.name == "cache write" })]
			c.params.Messages[0] = anthropic.NewUserMessage(anthropic.NewTextBlock("Another question of " + member))
			c.shows = `"cache_read_input_tokens":17`
			compareNew(t, p, member, through, direct, &c)
		})
		t.Run(member+"/count_tokens", func(t *testing.T) {
			compareCounts(t, p, member, through, direct)
		})
		t.Run(member+"/models", func(t *testing.T) {
			compareModels(t, p, member, through, direct)
		})
		t.Run(member+"/beta resource", func(t *testing.T) {
			compareBeta(t, p, member, through, direct)
		})
	}
	p.mustBehave(t)
}

// compareWire compares the one try of the last call through the pool with that of
// the last direct call, and what upstream saw of both.
func compareWire(t *testing.T, p *pool, member string, through, direct *client, wantBody bool) (pooled, straight *try) {
	t.Helper()
	pooled, straight = through.tape.only(t), direct.tape.only(t)
	if pooled.status != straight.status || pooled.header.Get("Content-Type") != straight.header.Get("Content-Type") {
		t.Errorf("through the pool: %d %s, directly: %d %s", pooled.status, pooled.header.Get("Content-Type"), straight.status, straight.header.Get("Content-Type"))
	}
	if pooled.body.String() != straight.body.String() {
		t.Errorf("through the pool:\n%s\ndirectly:\n%s", pooled.body, straight.body)
	}
	if straight.body.String() == "" {
		t.Error("upstream's answer is empty, so there is nothing to compare")
	}
	if got := pooled.header.Get("X-Shunt-Account"); got != member {
		t.Errorf("account %s answered, expected %s", got, member)
	}
	requests := p.fake.Requests()
	if len(requests) < 2 {
		t.Fatalf("upstream saw %d requests", len(requests))
	}
	seen, want := requests[len(requests)-2], requests[len(requests)-1]
	if seen.Account != member || want.Account != "reference" {
		t.Fatalf("upstream was asked by %s and %s, expected %s and the reference", seen.Account, want.Account, member)
	}
	if pooled.header.Get("Request-Id") != seen.ID {
		t.Errorf("the SDK got the request-id %s, upstream gave %s", pooled.header.Get("Request-Id"), seen.ID)
	}
	compareRequests(t, member, &seen, &want, wantBody)
	return pooled, straight
}

// compareRequests: upstream is asked what the SDK asks, but for the credential
// and the encoding.
func compareRequests(t *testing.T, member string, seen, want *fakeclaude.Request, wantBody bool) {
	t.Helper()
	if seen.Method != want.Method || seen.URI != want.URI {
		t.Errorf("upstream was asked %s %s, directly %s %s", seen.Method, seen.URI, want.Method, want.URI)
	}
	if seen.BodySHA256 != want.BodySHA256 || wantBody && len(seen.Body) == 0 {
		t.Errorf("upstream got the body\n%s\ndirectly\n%s", seen.Body, want.Body)
	}
	betas := strings.Join(want.Header.Values("Anthropic-Beta"), ",")
	wantKey, wantBearer := secrets[member], ""
	if isSubscription(member) {
		wantKey, wantBearer = "", "Bearer "+secrets[member]
		betas = strings.TrimPrefix(betas+",oauth-2025-04-20", ",")
	}
	if got := strings.Join(seen.Header.Values("Anthropic-Beta"), ","); got != betas {
		t.Errorf("anthropic-beta is %q, expected %q", got, betas)
	}
	if seen.Header.Get("X-Api-Key") != wantKey || seen.Header.Get("Authorization") != wantBearer {
		t.Errorf("the credential of %s is %q and %q", member, seen.Header.Get("X-Api-Key"), seen.Header.Get("Authorization"))
	}
	if seen.Header.Get("Accept-Encoding") != "identity" {
		t.Errorf("accept-encoding is %q", seen.Header.Get("Accept-Encoding"))
	}
	left, right := plainHeader(seen.Header), plainHeader(want.Header)
	for name := range left {
		if _, ok := right[name]; !ok {
			t.Errorf("upstream got %s: %q, which the SDK did not send", name, left[name])
		}
	}
	for name := range right {
		if !slices.Equal(left[name], right[name]) {
			t.Errorf("upstream got %s: %q, directly %q", name, left[name], right[name])
		}
	}
}

// plainHeader is a header without what must differ.
func plainHeader(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range []string{"X-Api-Key", "Authorization", "Anthropic-Beta", "Accept-Encoding"} {
		h.Del(name)
	}
	return h
}

func compareNew(t *testing.T, p *pool, member string, through, direct *client, c *conversation) {
	t.Helper()
	var answer *http.Response
	got, err := through.Messages.New(bounded(t), c.params, append(c.opts, option.WithResponseInto(&answer))...)
	if err != nil {
		t.Fatalf("through the pool: %v", err)
	}
	want, err := direct.Messages.New(bounded(t), c.params, c.opts...)
	if err != nil {
		t.Fatalf("directly: %v", err)
	}
	_, straight := compareWire(t, p, member, through, direct, true)
	if got.RawJSON() != want.RawJSON() || got.RawJSON() != straight.body.String() {
		t.Errorf("the SDK read:\n%s\ndirectly:\n%s", got.RawJSON(), want.RawJSON())
	}
	if !strings.Contains(want.RawJSON(), c.shows) {
		t.Errorf("the answer does not show %s:\n%s", c.shows, want.RawJSON())
	}
	if textOf(got) == "" && c.name != "max_tokens" {
		t.Error("the answer has no text")
	}
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Request-Id") == "" || answer.Header.Get("X-Shunt-Request-Id") == "" {
		t.Errorf("answered %d %v", answer.StatusCode, answer.Header)
	}
}

func compareStreams(t *testing.T, p *pool, member string, through, direct *client, c *conversation) {
	t.Helper()
	got, want := through.stream(t, c.params, c.opts...), direct.stream(t, c.params, c.opts...)
	if got.err != nil || want.err != nil {
		t.Fatalf("through the pool: %v, directly: %v", got.err, want.err)
	}
	_, straight := compareWire(t, p, member, through, direct, true)
	if got.events != want.events || got.text != want.text || got.message.RawJSON() != want.message.RawJSON() {
		t.Errorf("%d events gave:\n%s\ndirectly %d:\n%s", got.events, got.message.RawJSON(), want.events, want.message.RawJSON())
	}
	if got.text != textOf(&got.message) {
		t.Errorf("deltas say %q, the message %q", got.text, textOf(&got.message))
	}
	shows := c.streamShows
	if shows == "" {
		shows = c.shows
	}
	raw := straight.body.String()
	if !strings.Contains(raw, shows) || !strings.HasSuffix(raw, "data: {\"type\":\"message_stop\"}\n\n") {
		t.Errorf("the stream does not show %s, or not its end:\n%s", shows, raw)
	}
}

// compareSecondTurn sends a thinking block and a tool's result back, as agents do.
func compareSecondTurn(t *testing.T, p *pool, member string, through, direct *client) {
	t.Helper()
	params := hello("Please use a tool, and think, for " + member)
	params.Model = anthropic.ModelClaudeOpus5
	params.MaxTokens = 4096
	params.Thinking = anthropic.ThinkingConfigParamUnion{OfAdaptive: &anthropic.ThinkingConfigAdaptiveParam{}}
	params.Tools = []anthropic.ToolUnionParam{anthropic.ToolUnionParamOfTool(anthropic.ToolInputSchemaParam{Properties: map[string]any{}}, "run")}
	first := through.stream(t, params)
	if first.err != nil {
		t.Fatal(first.err)
	}
	through.tape.rewind()
	var call string
	for _, block := range first.message.Content {
		if use, ok := block.AsAny().(anthropic.ToolUseBlock); ok {
			call = use.ID
		}
	}
	if call == "" {
		t.Fatalf("no tool was called: %s", first.message.RawJSON())
	}
	params.Messages = append(params.Messages, first.message.ToParam(),
		anthropic.NewUserMessage(anthropic.NewToolResultBlock(call, "42", false), anthropic.NewTextBlock("Go on, "+member)))
	c := conversation{name: "second turn", params: params, shows: `"type":"message"`}
	compareNew(t, p, member, through, direct, &c)
	compareStreams(t, p, member, through, direct, &c)
	if body := string(p.last(t).Body); !strings.Contains(body, `"signature":"`) || !strings.Contains(body, `"tool_result"`) {
		t.Errorf("the second turn lacks what it is about: %s", body)
	}
}

func compareCounts(t *testing.T, p *pool, member string, through, direct *client) {
	t.Helper()
	params := anthropic.MessageCountTokensParams{Model: anthropic.ModelClaudeOpus5, Messages: hello("Count this for " + member).Messages}
	got, err := through.Messages.CountTokens(bounded(t), params)
	if err != nil {
		t.Fatal(err)
	}
	want, err := direct.Messages.CountTokens(bounded(t), params)
	if err != nil {
		t.Fatal(err)
	}
	compareWire(t, p, member, through, direct, true)
	if got.InputTokens != want.InputTokens || got.InputTokens == 0 || got.RawJSON() != want.RawJSON() {
		t.Errorf("counted %s, directly %s", got.RawJSON(), want.RawJSON())
	}
}

func compareModels(t *testing.T, p *pool, member string, through, direct *client) {
	t.Helper()
	params := anthropic.ModelListParams{Limit: param.NewOpt(int64(5))}
	list := func(c *client) (ids, pages []string) {
		pager := c.Models.ListAutoPaging(bounded(t), params)
		for pager.Next() {
			ids = append(ids, pager.Current().ID)
		}
		if err := pager.Err(); err != nil {
			t.Fatal(err)
		}
		for _, try := range c.tape.rewind() {
			if try.retryCount != "0" {
				t.Errorf("X-Stainless-Retry-Count is %s", try.retryCount)
			}
			pages = append(pages, try.body.String())
		}
		return ids, pages
	}
	gotIDs, gotPages := list(through)
	wantIDs, wantPages := list(direct)
	if !slices.Equal(gotIDs, wantIDs) || !slices.Equal(gotPages, wantPages) {
		t.Errorf("listed %v in %q, directly %v in %q", gotIDs, gotPages, wantIDs, wantPages)
	}
	if len(wantPages) < 3 {
		t.Errorf("only %d pages: paging was not tried", len(wantPages))
	}
	for _, id := range []string{wantIDs[0], wantIDs[len(wantIDs)-1]} {
		got, err := through.Models.Get(bounded(t), id, anthropic.ModelGetParams{})
		if err != nil {
			t.Fatal(err)
		}
		want, err := direct.Models.Get(bounded(t), id, anthropic.ModelGetParams{})
		if err != nil {
			t.Fatal(err)
		}
		compareWire(t, p, member, through, direct, false)
		if got.ID != id || got.RawJSON() != want.RawJSON() {
			t.Errorf("model %s is %s, directly %s", id, got.RawJSON(), want.RawJSON())
		}
	}
}

// compareBeta: the beta resource adds a query and headers of its own.
func compareBeta(t *testing.T, p *pool, member string, through, direct *client) {
	t.Helper()
	params := anthropic.BetaMessageNewParams{
		Model: anthropic.ModelClaudeSonnet5, MaxTokens: 100,
		Messages: []anthropic.BetaMessageParam{anthropic.NewBetaUserMessage(anthropic.NewBetaTextBlock("A beta for " + member))},
		Betas:    []anthropic.AnthropicBeta{"context-1m-2025-08-07", "effort-2025-11-24"},
	}
	got, err := through.Beta.Messages.New(bounded(t), params)
	if err != nil {
		t.Fatal(err)
	}
	want, err := direct.Beta.Messages.New(bounded(t), params)
	if err != nil {
		t.Fatal(err)
	}
	compareWire(t, p, member, through, direct, true)
	if got.RawJSON() != want.RawJSON() || !strings.Contains(strings.Join(p.last(t).Header.Values("Anthropic-Beta"), ","), "context-1m-2025-08-07") {
		t.Errorf("the beta resource read %s, directly %s", got.RawJSON(), want.RawJSON())
	}
}

// TestBothWaysToAuthenticate: a key works in either header, and is told apart.
func TestBothWaysToAuthenticate(t *testing.T) {
	t.Parallel()
	p := newStage(t, 1, "").fresh(t)
	for name, test := range map[string]struct {
		opts  []option.RequestOption
		admin bool
	}{
		"api key":            {[]option.RequestOption{option.WithAPIKey(annKey)}, true},
		"bearer":             {[]option.RequestOption{option.WithAuthToken(annKey)}, true},
		"api key, no admin":  {[]option.RequestOption{option.WithAPIKey(bobKey)}, false},
		"bearer, no admin":   {[]option.RequestOption{option.WithAuthToken(bobKey)}, false},
		"a key in the other": {[]option.RequestOption{option.WithAPIKey("sk-ant-api03-left-over"), option.WithAuthToken(bobKey)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.client(test.opts...)
			if _, err := c.Messages.New(bounded(t), hello("Who am I?")); err != nil {
				t.Fatal(err)
			}
			if told := c.tape.only(t).header.Get("X-Shunt-Account") != ""; told != test.admin {
				t.Errorf("the account is told: %v", told)
			}
			if got := c.stream(t, hello("Who am I?")); got.err != nil || got.text == "" {
				t.Errorf("streamed %q, %v", got.text, got.err)
			}
			c.tape.only(t)
			for _, r := range p.fake.Requests() {
				if strings.Contains(r.Header.Get("X-Api-Key")+r.Header.Get("Authorization"), "left-over") {
					t.Error("upstream got the client's other credential")
				}
			}
		})
	}
	p.mustBehave(t)
}
