package anthropic

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// hopByHop are the headers of one connection (RFC 9110, 7.6.1, and its ancestors).
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// requestPrivate are request headers that concern the client and this server
// only: the client's credentials, how it reached us, and what its browser says.
// Origin goes with them, since the API refuses a browser's call. So do the headers
// of traces, a client's as well as those of Caddy's tracing: nobody upstream reads
// them, and baggage may tell anything of the team.
var requestPrivate = []string{
	"Authorization", "X-Api-Key", "Cookie", "Cookie2",
	"Host", "Content-Length", "Expect", "Accept-Encoding",
	"Forwarded", "Via", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Cluster-Client-Ip",
	"Origin", "Referer", "X-Request-Start",
	"Traceparent", "Tracestate", "Baggage", "B3", "Uber-Trace-Id", "X-Amzn-Trace-Id", "X-Cloud-Trace-Context", "Sentry-Trace",
}

// requestPrivatePrefixes are families of such headers. Remote-* and
// X-Auth-Request-* are what a forward_auth in front adds about the person.
var requestPrivatePrefixes = []string{"X-Forwarded-", "Sec-Fetch-", "Remote-", "X-Auth-Request-", "X-Shunt-", "X-B3-", "Uberctx-", "Ot-Tracer-", "Ot-Baggage-"}

// responsePrivate are response headers that speak of one account, or of the
// connection to upstream, and are not for the team, or that would tell a browser
// something about the whole site.
var responsePrivate = []string{
	"Set-Cookie", "Set-Cookie2", "Anthropic-Organization-Id", "Anthropic-Workspace-Id",
	"Alt-Svc", "Strict-Transport-Security", "Server", "Via", "Nel", "Report-To", "X-Robots-Tag",
	"Clear-Site-Data", "Refresh", "Service-Worker-Allowed",
}

var responsePrivatePrefixes = []string{"Anthropic-Ratelimit-", "Anthropic-Priority-", "Anthropic-Fast-", "X-Shunt-"}

// UpstreamHeader makes the header of an upstream request from the client's: all
// of it but credentials, cookies, hop-by-hop, forwarding and trace headers. The answer
// is asked for uncompressed, so that usage can be read from it. The caller adds
// the account's credential. client is not changed.
func UpstreamHeader(client http.Header) http.Header {
	h := make(http.Header, len(client)+2)
	toUpstream.pass(h, client)
	h["Accept-Encoding"] = []string{"identity"}
	if _, ok := h["User-Agent"]; !ok {
		// An explicit empty value keeps Go from adding a name of its own.
		h["User-Agent"] = []string{""}
	}
	return h
}

// ClientHeader copies into dst what a client may see of an upstream response
// header: all of it but hop-by-hop headers, cookies, and what names one account
// or tells its limits. It adds what keeps a browser from running the answer: files
// are what somebody uploaded, and they are served at the site of the dashboard.
func ClientHeader(dst, upstream http.Header) {
	toClient.pass(dst, upstream)
	inert := []string{"default-src 'none'; sandbox", "nosniff"}
	dst["Content-Security-Policy"] = inert[:1:1]
	dst["X-Content-Type-Options"] = inert[1:]
}

// sieve is what does not pass in one direction.
type sieve struct {
	names    map[string]bool
	prefixes []string
}

var (
	toUpstream = newSieve(requestPrivate, requestPrivatePrefixes)
	toClient   = newSieve(responsePrivate, responsePrivatePrefixes)
)

func newSieve(private, prefixes []string) *sieve {
	s := &sieve{names: make(map[string]bool), prefixes: prefixes}
	for _, name := range slices.Concat(private, hopByHop) {
		s.names[name] = true
	}
	return s
}

// pass copies into dst what passes of from, but for what its Connection names.
func (s *sieve) pass(dst, from http.Header) {
	named := ofConnection(from["Connection"])
	for name, values := range from {
		if !s.names[name] && !hasPrefixIn(name, s.prefixes) && !slices.Contains(named, name) {
			dst[name] = values[:len(values):len(values)]
		}
	}
}

// ofConnection are the headers that Connection says are for one connection only.
func ofConnection(lines []string) (names []string) {
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			names = append(names, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	return names
}

func hasPrefixIn(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// ClientKeys returns the keys a client offered, at most two: from x-api-key and
// from Authorization: Bearer. Some clients send both, with different values.
func ClientKeys(h http.Header) (keys [2]string, n int) {
	if k := strings.TrimSpace(h.Get("X-Api-Key")); k != "" {
		keys[n], n = k, n+1
	}
	if scheme, k, ok := strings.Cut(h.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		if k = strings.TrimSpace(k); k != "" {
			keys[n], n = k, n+1
		}
	}
	return keys, n
}
