package anthropic

import (
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestTraceHeadersStayHere: neither the client's trace nor the one that Caddy's
// tracing begins is told upstream, in any of the forms that OTEL_PROPAGATORS knows.
func TestTraceHeadersStayHere(t *testing.T) {
	client := http.Header{}
	for _, name := range []string{
		"traceparent", "tracestate", "baggage", "b3", "X-B3-TraceId", "x-b3-sampled", "uber-trace-id", "uberctx-user",
		"X-Amzn-Trace-Id", "ot-tracer-traceid", "ot-baggage-team", "sentry-trace", "X-Cloud-Trace-Context",
	} {
		client.Set(name, "of the team")
	}
	stays := len(client)
	client.Set("X-Client-Request-Id", "7")
	client.Set("Anthropic-Beta", "b")
	upstream := UpstreamHeader(client)
	for name, values := range upstream {
		if values[0] == "of the team" {
			t.Errorf("%s goes upstream", name)
		}
	}
	if upstream.Get("X-Client-Request-Id") != "7" || upstream.Get("Anthropic-Beta") != "b" {
		t.Errorf("what the client said to the API does not arrive: %v", upstream)
	}
	if len(client) != stays+2 {
		t.Error("the client's header was changed")
	}
}

// TestAccountsHeadersStayHere: nothing of an answer that names one account or tells
// its limits reaches the client.
func TestAccountsHeadersStayHere(t *testing.T) {
	upstream, client := http.Header{}, http.Header{}
	for _, name := range []string{
		"anthropic-ratelimit-unified-status", "anthropic-ratelimit-requests-remaining", "anthropic-organization-id",
		"anthropic-workspace-id", "anthropic-priority-input-tokens-limit", "set-cookie", "x-shunt-account",
	} {
		upstream.Set(name, "of the account")
	}
	upstream.Set("request-id", "req_1")
	upstream.Set("retry-after", "3")
	ClientHeader(client, upstream)
	for name, values := range client {
		if values[0] == "of the account" {
			t.Errorf("%s reaches the client", name)
		}
	}
	if client.Get("Request-Id") != "req_1" || client.Get("Retry-After") != "3" {
		t.Errorf("what concerns the client does not arrive: %v", client)
	}
}

// FuzzHeaders: whatever a client or upstream sends, nothing passes that is another's.
func FuzzHeaders(f *testing.F) {
	f.Add("X-Api-Key", "secret", "Connection", "x-a, X-B", "X-A")
	f.Add("Set-Cookie", "secret", "Keep-Alive", "1", "Te")
	f.Add("Anthropic-Ratelimit-Unified-5h-Status", "allowed", "anthropic-organization-id", "org", "Refresh")
	f.Fuzz(func(t *testing.T, a, value, b, other, c string) {
		h := http.Header{}
		h.Add(a, value)
		h.Add(b, other)
		h.Add(c, value)
		before := h.Clone()
		named := ofConnection(h["Connection"])
		check := func(passed http.Header, s *sieve, own ...string) {
			for name := range passed {
				if slices.Contains(own, name) {
					continue
				}
				if s.names[name] || hasPrefixIn(name, s.prefixes) || slices.Contains(named, name) {
					t.Errorf("%q passes of %v", name, h)
				}
				if !slices.Equal(passed[name], h[name]) {
					t.Errorf("%q is %q, was %q", name, passed[name], h[name])
				}
			}
		}
		check(UpstreamHeader(h), toUpstream, "Accept-Encoding", "User-Agent")
		client := http.Header{}
		ClientHeader(client, h)
		check(client, toClient, "Content-Security-Policy", "X-Content-Type-Options")
		if !maps.EqualFunc(before, h, slices.Equal) {
			t.Error("the header was changed")
		}
		_ = ReadLimits(h, time.Unix(0, 0))
	})
}
