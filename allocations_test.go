//go:build !race

package shunt

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The race detector makes a sync.Pool forget at random, so counts mean nothing with it.

// cannedUpstream is a transport that reads the request and answers with a text, whose
// pieces come one a Read.
type cannedUpstream struct {
	header http.Header
	pieces []string
}

func (u *cannedUpstream) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: u.header, Body: &pieceReader{left: u.pieces}, ContentLength: -1, Request: r,
	}, nil
}

type pieceReader struct{ left []string }

func (p *pieceReader) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.left[0])
	if p.left[0] = p.left[0][n:]; p.left[0] == "" {
		p.left = p.left[1:]
	}
	return n, nil
}

func (*pieceReader) Close() error { return nil }

// nobody is a client that takes everything and keeps nothing.
type nobody struct {
	header http.Header
	status int
	taken  int
}

func (n *nobody) Header() http.Header         { return n.header }
func (n *nobody) WriteHeader(status int)      { n.status = status }
func (n *nobody) Write(b []byte) (int, error) { n.taken += len(b); return len(b), nil }
func (*nobody) Flush()                        {}

const (
	streamBegin = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-5\",\"content\":[],\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n"
	streamDelta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"and then the list\"}}\n\n"
	streamEnd   = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	jsonAnswer  = `{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-5","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","usage":{"input_tokens":25,"output_tokens":15}}`
)

// costPerRequest is the allocations and bytes of one request through the handler, and
// nothing else's: neither a server nor a network is there. Both are means over many, and
// the least of some attempts: what else goes on in the process only adds.
func costPerRequest(t *testing.T, h *Handler, body, contentType string, pieces ...string) (allocations, bytes float64) {
	t.Helper()
	// What the request brings along is made before.
	h.transport = &cannedUpstream{header: http.Header{
		"Content-Type": {contentType}, "Request-Id": {"req_1"},
		"Anthropic-Ratelimit-Requests-Limit": {"4000"}, "Anthropic-Ratelimit-Requests-Remaining": {"3999"}, "Anthropic-Ratelimit-Requests-Reset": {"2090-01-01T00:00:00Z"},
	}, pieces: pieces}
	want := len(strings.Join(pieces, ""))
	const runs = 50
	one := func() {
		upstream := h.transport.(*cannedUpstream)
		upstream.pieces = append([]string(nil), pieces...)
		w := &nobody{header: http.Header{}}
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/v1/messages", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = "127.0.0.1:4000"
		r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}, "X-Claude-Code-Session-Id": {"6f1c0f0e"}}
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil)
		r = r.WithContext(context.WithValue(r.Context(), caddyhttp.ExtraLogFieldsCtxKey, new(caddyhttp.ExtraLogFields)))
		if err := h.ServeHTTP(w, r, nil); err != nil || w.status != http.StatusOK || w.taken != want {
			t.Fatalf("status %d, %d bytes of %d, error %v", w.status, w.taken, want, err)
		}
	}
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			one()
		}
		runtime.ReadMemStats(&after)
		n, size := float64(after.Mallocs-before.Mallocs)/runs, float64(after.TotalAlloc-before.TotalAlloc)/runs
		if allocations == 0 || n < allocations {
			allocations = n
		}
		if bytes == 0 || size < bytes {
			bytes = size
		}
	}
	return allocations, bytes
}

// TestAllocations holds what a request costs to what it cost when these bounds were
// written, with a little room. Who makes it cheaper lowers them. They hold what the
// test itself makes of a request, too, which is the same in each.
func TestAllocations(t *testing.T) {
	h := provision(t, "remote_key ann "+annKey+fourBlocks)
	deltas := func(n int) []string {
		pieces := []string{streamBegin}
		for range n {
			pieces = append(pieces, streamDelta)
		}
		return append(pieces, streamEnd)
	}
	const room = 1.02
	for _, c := range []struct {
		name, body, contentType string
		pieces                  []string
		allocations, bytes      float64
	}{
		{"JSON", hello, "application/json", []string{jsonAnswer}, 100, 14_200},
		{"stream of 10 events", helloStream, "text/event-stream", deltas(10), 111, 15_200},
	} {
		allocations, bytes := costPerRequest(t, h, c.body, c.contentType, c.pieces...)
		t.Logf("%s: %.1f allocations, %.0f bytes", c.name, allocations, bytes)
		if allocations > c.allocations*room || bytes > c.bytes*room {
			t.Errorf("%s costs %.1f allocations and %.0f bytes, more than %.0f and %.0f", c.name, allocations, bytes, c.allocations, c.bytes)
		}
	}

	few, fewBytes := costPerRequest(t, h, helloStream, "text/event-stream", deltas(10)...)
	many, manyBytes := costPerRequest(t, h, helloStream, "text/event-stream", deltas(1010)...)
	if perEvent := (many - few) / 1000; perEvent > 0.01 {
		t.Errorf("each event of a stream costs %.2f allocations", perEvent)
	}
	// The test's own copy of the pieces takes 16 bytes for each.
	if perEvent := (manyBytes-fewBytes)/1000 - 16; perEvent > 4 {
		t.Errorf("each event of a stream costs %.1f bytes", perEvent)
	}

	const large = 1 << 20
	body := strings.Replace(hello, "Hello", strings.Repeat("x", large), 1)
	_, plain := costPerRequest(t, h, hello, "application/json", jsonAnswer)
	_, withBody := costPerRequest(t, h, body, "application/json", jsonAnswer)
	if copies := (withBody - plain) / large; copies > 1.1 {
		t.Errorf("a body of 1 MiB costs %.2f times its size, so it is copied", copies)
	}
}

// TestBodiesAreForgotten: what is remembered of requests holds none of their bodies.
func TestBodiesAreForgotten(t *testing.T) {
	h := provision(t, "remote_key ann "+annKey+fourBlocks)
	costPerRequest(t, h, hello, "application/json", jsonAnswer)
	before := inUse()
	const large = 1 << 20
	costPerRequest(t, h, strings.Replace(hello, "Hello", strings.Repeat("x", large), 1), "application/json", jsonAnswer)
	if after := inUse(); after > before+4*large {
		t.Errorf("after 250 requests of 1 MiB the heap holds %d MiB more", (after-before)>>20)
	}
}
