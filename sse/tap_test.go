package sse

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

func capture(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".sse")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// upTo cuts a stream behind the first occurrence of mark.
func upTo(t testing.TB, stream, mark string) string {
	t.Helper()
	before, _, ok := strings.Cut(stream, mark)
	if !ok {
		t.Fatalf("the capture has no %q", mark)
	}
	return before + mark
}

func tapped(t testing.TB, tap *Tap, chunks ...[]byte) Result {
	t.Helper()
	for _, chunk := range chunks {
		b := bytes.Clone(chunk)
		if n, err := tap.Write(b); n != len(b) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
		clear(b)
	}
	return tap.Result()
}

func sameResult(t *testing.T, how string, got, want Result) {
	t.Helper()
	got.Terms = want.Terms // TestTerms
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %+v\nwant %+v", how, got, want)
	}
}

const overloaded = `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`

var (
	messageUsage  = anthropic.Usage{InputTokens: 12, OutputTokens: 15, CacheReadTokens: 90000, CacheWriteTokens: 2000}
	openingUsage  = anthropic.Usage{InputTokens: 12, OutputTokens: 1, CacheReadTokens: 90000, CacheWriteTokens: 2000}
	messageResult = Result{
		Usage: messageUsage, Model: "claude-opus-5", ID: "msg_01", StopReason: "end_turn", Complete: true, Counted: true, Deltas: 1,
	}
)

func TestStreamTap(t *testing.T) {
	message := capture(t, "message")
	huge := "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"x\":\"" + strings.Repeat("y", 2<<20) + "\"}\n\n"
	pings := strings.Repeat("event: ping\ndata: {\"type\":\"ping\"}\n\n", 24)
	opening := Result{Usage: openingUsage, Model: "claude-opus-5", ID: "msg_01"}
	cut := opening
	cut.Deltas, cut.EstimatedOutputTokens = 1, 1
	counted := messageResult
	counted.Complete = false

	for _, tc := range []struct {
		name, in string
		want     Result
	}{
		{"nothing", "", Result{}},
		{"whole message", message, messageResult},
		{"cut behind message_start", upTo(t, message, "\"standard\"}}}\n\n"), opening},
		{"cut inside message_start", upTo(t, message, "\"standard\"}}}\n"), Result{}},
		{"cut behind the delta", upTo(t, message, "\"Hi\"}}\n\n"), cut},
		{"cut inside message_delta", upTo(t, message, "\"output_tokens\":15}}"), cut},
		{"cut before message_stop", upTo(t, message, "\"output_tokens\":15}}\n\n"), counted},
		{"2 MB data line", strings.Replace(message, "event: ping\n", huge+"event: ping\n", 1), messageResult},
		{"pings only", pings, Result{}},
		{"pings everywhere", strings.ReplaceAll(message, "event:", pings+"event:"), messageResult},
		{"without event lines", dropLines(message, "event:"), messageResult},
		{"name behind data", swapLines(message), messageResult},
		{"error after 200", capture(t, "error_after_200"), Result{
			Usage: anthropic.Usage{InputTokens: 40, OutputTokens: 3}, Model: "claude-sonnet-5-5", ID: "msg_02",
			Deltas: 1, EstimatedOutputTokens: (37 + 3) / 4, Error: []byte(overloaded),
		}},
		{"two message_delta, larger counts", capture(t, "web_search"), Result{
			Usage: anthropic.Usage{InputTokens: 10682, OutputTokens: 510, WebSearches: 1},
			Model: "claude-opus-5", ID: "msg_03", StopReason: "end_turn", Complete: true, Counted: true, Deltas: 3,
		}},
		{"cut between two message_delta", upTo(t, capture(t, "web_search"), "\"input_tokens\":null}}\n\n"), Result{
			Usage: anthropic.Usage{InputTokens: 2679, OutputTokens: 120},
			Model: "claude-opus-5", ID: "msg_03", Counted: true, Deltas: 1,
		}},
		{"unknown event, comments, padding, null", capture(t, "thinking"), Result{
			Usage: anthropic.Usage{InputTokens: 5, OutputTokens: 33, CacheWriteTokens: 700, CacheWrite1hTokens: 500},
			Model: "claude-sonnet-5-5", ID: "msg_04", StopReason: "max_tokens", Complete: true, Counted: true, Deltas: 2,
		}},
		{"signature counts nothing", upTo(t, capture(t, "thinking"), "bG9jaw==\"}}\n\n"), Result{
			Usage: anthropic.Usage{InputTokens: 5, OutputTokens: 8, CacheWriteTokens: 700, CacheWrite1hTokens: 500},
			Model: "claude-sonnet-5-5", ID: "msg_04", Deltas: 2, EstimatedOutputTokens: 8,
		}},
		{"null and missing", "event: message_start\ndata: {\"message\":{\"id\":null,\"model\":7,\"usage\":null}}\n\n" +
			"event: message_delta\ndata: {\"usage\":{\"output_tokens\":null}}\n\nevent: message_delta\ndata: {}\n\n", Result{}},
		{"message_delta that counts nothing", strings.Replace(message, "\"output_tokens\":15", "\"output_tokens\":null", 1), Result{
			Usage: openingUsage, Model: "claude-opus-5", ID: "msg_01", StopReason: "end_turn", Complete: true, Deltas: 1,
			EstimatedOutputTokens: 1,
		}},
		{"null takes nothing back", message + "event: message_delta\ndata: {\"delta\":{\"stop_reason\":null},\"usage\":{\"output_tokens\":null}}\n\n", messageResult},
		{"no JSON", "event: message_start\ndata: hello\n\nevent: message_delta\ndata: [[[\n\nevent: content_block_delta\ndata:\n\n", Result{Deltas: 1}},
		{"the first error counts", "event: error\ndata: a\n\nevent: error\ndata: b\n\n", Result{Error: []byte("a")}},
		{"an empty error is an error", "event: error\ndata:\n\n", Result{Error: []byte{}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sameResult(t, "whole", tapped(t, NewStreamTap(), []byte(tc.in)), tc.want)
			crlf := []byte(strings.ReplaceAll(tc.in, "\n", "\r\n"))
			// At the cut of an event that lacks its blank line nothing may be
			// added: the carriage return alone is not a second line end.
			sameResult(t, "CRLF", tapped(t, NewStreamTap(), crlf), tc.want)
			sameResult(t, "chunks of 7", tapped(t, NewStreamTap(), slices.Collect(slices.Chunk(crlf, 7))...), tc.want)
		})
	}
}

func dropLines(stream, prefix string) string {
	var kept []string
	for _, line := range strings.Split(stream, "\n") {
		if !strings.HasPrefix(line, prefix) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// swapLines puts each event line behind the data line that follows it.
func swapLines(stream string) string {
	lines := strings.Split(stream, "\n")
	for i := 0; i+1 < len(lines); i++ {
		if strings.HasPrefix(lines[i], "event:") {
			lines[i], lines[i+1] = lines[i+1], lines[i]
			i++
		}
	}
	return strings.Join(lines, "\n")
}

func TestStreamTapEverySplit(t *testing.T) {
	for name, stream := range captures(t) {
		want := tapped(t, NewStreamTap(), stream)
		for i := range stream {
			sameResult(t, fmt.Sprint(name, " cut at ", i), tapped(t, NewStreamTap(), stream[:i], stream[i:]), want)
		}
	}
}

func TestStreamTapBounds(t *testing.T) {
	pad := strings.Repeat("z", maxTapEvent)
	start := `{"type":"message_start","message":{"id":"msg_09","usage":{"input_tokens":70},"model":"` + strings.Repeat("m", 1000) + `","content":["` + pad + `"]}}`
	tap := NewStreamTap()
	got := tapped(t, tap, slices.Collect(slices.Chunk([]byte("event: message_start\ndata: "+start+"\n\n"), 1<<10))...)
	want := Result{ID: "msg_09", Model: strings.Repeat("m", maxTapString), Usage: anthropic.Usage{InputTokens: 70}, Truncated: true}
	sameResult(t, "oversized message_start", got, want)
	if cap(tap.parser.buf) > maxTapEvent {
		t.Errorf("holds %d bytes", cap(tap.parser.buf))
	}

	// The bound falls inside a number: half of it must not be taken for a count.
	head := `{"usage":{"output_tokens":15,"x":"`
	tail := `","input_tokens":123456}}`
	fill := maxTapEvent - len(head) - len(`","input_tokens":123`)
	delta := "event: message_delta\ndata: " + head + pad[:fill] + tail + "\n\n"
	sameResult(t, "count at the bound", tapped(t, NewStreamTap(), []byte(delta)),
		Result{Usage: anthropic.Usage{OutputTokens: 15}, Counted: true, Truncated: true})

	for _, tc := range []struct {
		stream string
		holds  int
	}{
		{"event: error\ndata: " + pad + "\n\n", maxTapError},
		{"data: {\"type\":\"error\",\"x\":\"" + pad + "\"}\n\n", maxTapEvent},
		{"event: content_block_start\ndata: " + pad + "\n\nevent: error\ndata: " + pad + "\n\n", maxTapError},
	} {
		tap := NewStreamTap()
		r := tapped(t, tap, slices.Collect(slices.Chunk([]byte(tc.stream), 1000))...)
		if len(r.Error) != maxTapError || cap(tap.parser.buf) > tc.holds {
			t.Errorf("%.30q: holds %d bytes, %d of them as error", tc.stream, cap(tap.parser.buf), len(r.Error))
		}
	}
}

func TestJSONTap(t *testing.T) {
	const message = `{"id":"msg_01","type":"message","role":"assistant","model":"claude-opus-5",
		"content":[{"type":"text","text":"{\"usage\":{\"input_tokens\":5}} and more, much more"}],"stop_reason":"end_turn",
		"usage":{"input_tokens":12,"cache_creation_input_tokens":2000,"cache_read_input_tokens":90000,"output_tokens":15}}`
	want := messageResult
	want.Deltas = 0
	unfinished := Result{ID: "msg_01", Model: "claude-opus-5"}
	withUsage := Result{ID: "msg_01", Model: "claude-opus-5", StopReason: "end_turn",
		Usage: anthropic.Usage{InputTokens: 12, CacheWriteTokens: 2000}}
	for _, tc := range []struct {
		name, in string
		want     Result
	}{
		{"nothing", "", Result{}},
		{"message", message, want},
		{"blanks around", "\n " + message + "\n", want},
		{"cut in the text", upTo(t, message, "and more, mu"), unfinished},
		{"cut in a count", upTo(t, message, `"cache_read_input_tokens":900`), withUsage},
		{"cut in the model", upTo(t, message, `claude-op`), Result{ID: "msg_01"}},
		{"count_tokens is no usage", `{"input_tokens":2095}`, Result{Complete: true}},
		{"null", `{"id":null,"model":null,"stop_reason":null,"usage":null}`, Result{Complete: true}},
		{"error", overloaded, Result{Complete: true, Error: []byte(overloaded)}},
		{"HTML", "<html>no</html>", Result{}},
		{"deep", strings.Repeat("[", 1<<20), Result{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := []byte(tc.in)
			sameResult(t, "whole", tapped(t, NewJSONTap(), in), tc.want)
			tap := NewJSONTap()
			for chunk := range slices.Chunk(in, max(len(in)/9, 1)) {
				tapped(t, tap, chunk) // looks at the result each time
			}
			sameResult(t, "in pieces", tap.Result(), tc.want)
		})
	}
}

func TestJSONTapBound(t *testing.T) {
	body := []byte(`{"id":"msg_01","type":"message","model":"claude-opus-5","content":["` + strings.Repeat("x", maxTapJSON) +
		`"],"usage":{"input_tokens":12}}`)
	tap := NewJSONTap()
	most := 0
	for chunk := range slices.Chunk(body, 100_000) {
		_, _ = tap.Write(chunk)
		most = max(most, cap(tap.body))
	}
	sameResult(t, "too long", tap.Result(), Result{ID: "msg_01", Model: "claude-opus-5", Truncated: true})
	if most > maxTapJSON || tap.body != nil {
		t.Errorf("held %d bytes, holds %d", most, cap(tap.body))
	}
	exact := append([]byte(`{"id":"a"}`), bytes.Repeat([]byte(" "), maxTapJSON-len(`{"id":"a"}`))...)
	tap = NewJSONTap()
	sameResult(t, "just fits", tapped(t, tap, exact), Result{ID: "a", Complete: true})
	sameResult(t, "one too many", tapped(t, tap, []byte("!")), Result{ID: "a", Truncated: true})

	failure := []byte(`{"type":"error","x":"` + strings.Repeat("x", 2*maxTapError) + `"}`)
	sameResult(t, "long error", tapped(t, NewJSONTap(), failure), Result{Complete: true, Error: failure[:maxTapError]})
}

// A look at half an answer must leave nothing behind that the whole one denies.
func TestJSONTapEarlyLook(t *testing.T) {
	tap := NewJSONTap()
	sameResult(t, "half", tapped(t, tap, []byte(`{"id":"a",`)), Result{ID: "a"})
	sameResult(t, "whole", tapped(t, tap, []byte(`"type":"error"}`)), Result{
		Complete: true, Error: []byte(`{"id":"a","type":"error"}`),
	})
}

// What Result gives out must not change with the tap, nor the tap with it.
func TestResultOwnsItsError(t *testing.T) {
	tap := NewStreamTap()
	r := tapped(t, tap, []byte("event: error\ndata: abc\n\n"))
	r.Error[0] = 'X'
	if got := string(tap.Result().Error); got != "abc" {
		t.Errorf("error is now %q", got)
	}
}

func TestStreamTapNoAllocations(t *testing.T) {
	delta := []byte("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"word \"}}\n\n")
	tap := NewStreamTap()
	for _, size := range []int{len(delta), 50} {
		n := testing.AllocsPerRun(100, func() {
			for b := delta; len(b) > 0; {
				m := min(size, len(b))
				_, _ = tap.Write(b[:m])
				b = b[m:]
			}
		})
		if n != 0 {
			t.Errorf("chunks of %d: %v allocations per delta", size, n)
		}
	}
	if r := tap.Result(); r.Deltas != 202 || r.EstimatedOutputTokens != 202*2 {
		t.Errorf("result %+v", r)
	}
}

func TestTerms(t *testing.T) {
	start := "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1,\"service_tier\":\"standard\",\"inference_geo\":\"us\"}}}\n\n"
	end := "event: message_delta\ndata: {\"usage\":{\"output_tokens\":5,\"service_tier\":\"batch\",\"inference_geo\":null,\"speed\":\"fast\"}}\n\n"
	if got, want := tapped(t, NewStreamTap(), []byte(start)).Terms, (anthropic.Terms{Tier: "standard", Geo: "us"}); got != want {
		t.Errorf("%+v", got)
	}
	want := anthropic.Terms{Tier: "batch", Geo: "us", Speed: "fast"}
	if got := tapped(t, NewStreamTap(), []byte(start+end)).Terms; got != want {
		t.Errorf("%+v", got)
	}
	if got := tapped(t, NewJSONTap(), []byte(`{"usage":{"output_tokens":5,"service_tier":"batch","inference_geo":"us","speed":"fast"}}`)).Terms; got != want {
		t.Errorf("%+v", got)
	}
}

// TestContainerIsKnownInTime: a client may name the container as soon as it has read of
// it, and reads no more than what was written.
func TestContainerIsKnownInTime(t *testing.T) {
	const id = "container_011CPR"
	inText := `{"type":"text","text":"\"container\": no, \"id\""},{"type":"tool_use","input":{"container":{"id":"other"}}}`
	for _, body := range []string{
		`{"id":"msg_1","container":{"id":"` + id + `","expires_at":"2026-01-01T00:00:00Z"},"content":[` + inText + `],"usage":{"output_tokens":3}}`,
		`{"id":"msg_1","content":[` + inText + strings.Repeat(","+inText, 40) + `],"container": { "id" : "` + id + `"}}`,
	} {
		for _, size := range []int{1, 7, 1000, len(body)} {
			tap, known := NewJSONTap(), -1
			for at := 0; at < len(body); at += size {
				tapped(t, tap, []byte(body[at:min(at+size, len(body))]))
				if got := tap.Container(); got == id && known < 0 {
					known = min(at+size, len(body))
				} else if got != "" && got != id {
					t.Fatalf("in pieces of %d: %q", size, got)
				}
			}
			if first := strings.Index(body, id) + len(id) + 1; known < 0 || known > first+size+1 {
				t.Errorf("in pieces of %d: known at %d, told at %d", size, known, first)
			}
			if r := tap.Result(); r.Container != id {
				t.Errorf("in pieces of %d: %+v", size, r)
			}
		}
	}
	stream := "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"container\":{\"id\":\"" + id + "\"}}}\n\n"
	tap := NewStreamTap()
	tapped(t, tap, []byte(stream[:len(stream)-1]))
	tapped(t, tap, []byte(stream[len(stream)-1:]))
	if tap.Container() != id {
		t.Errorf("of a stream: %q", tap.Container())
	}
}
