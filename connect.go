package shunt

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

const (
	// connectStep bounds each step of connect but the last.
	connectStep = 15 * time.Second
	// connectCount bounds the last: a request may stand in line for as long as hold
	// says, 55 s by default.
	connectCount = 90 * time.Second
	// maxConnectAnswer bounds what is read of an answer, in bytes.
	maxConnectAnswer = 64 << 10
)

// The states of a connectCheck.
const (
	checkOK      = "ok"
	checkNote    = "note" // it goes on, but somebody should know
	checkSkipped = "skipped"
	checkFailed  = "failed"
)

// connectCheck is one step on the way to a pool.
type connectCheck struct {
	// Name is url, dns, connect, tls, pool or key.
	Name string `json:"name"`
	// State is ok, note, skipped or failed.
	State string `json:"state"`
	Words string `json:"words"`
}

func (c *connectCheck) String() string { return fmt.Sprintf("%-8s %-8s %s", c.State, c.Name, c.Words) }

// connection tests the way to a pool.
type connection struct {
	key   clientKey
	model string
	// extraCAs is the file of further authorities, as NODE_EXTRA_CA_CERTS has it.
	extraCAs string
	// ended is told each check when it has ended.
	ended func(*connectCheck)

	base   string
	url    *url.URL
	proxy  *url.URL // nil when there is none
	roots  *x509.CertPool
	http   *http.Client
	checks []connectCheck
	client client
	// shut says that the pool cannot serve just now, keyRight that it took the key,
	// works that a request would be served.
	shut, keyRight, works bool
}

// test goes step by step, up to the first that fails. A pool that cannot serve just
// now can still tell whether the key is right.
func (c *connection) test(ctx context.Context, address string) {
	for _, step := range []struct {
		name string
		do   func(context.Context) (state, words string)
	}{
		{"url", func(context.Context) (string, string) { return c.readURL(address) }},
		{"dns", c.lookUp},
		{"connect", c.dial},
		{"tls", c.shakeHands},
		{"pool", c.health},
		{"key", c.count},
	} {
		state, words := step.do(ctx)
		check := connectCheck{Name: step.name, State: state, Words: c.plain(words)}
		c.checks = append(c.checks, check)
		c.ended(&check)
		if state == checkFailed && !c.shut {
			break
		}
	}
	c.client = client{base: c.base, key: c.key, model: c.model, extraCAs: c.client.extraCAs}
}

// plain makes a text that may come from anywhere fit for a terminal, without the key.
func (c *connection) plain(words string) string {
	if c.key.secret != "" {
		words = strings.ReplaceAll(words, c.key.secret, "[key]")
	}
	return clip(printable(words), 1000)
}

// readURL looks at what was given. Clients put /v1/... behind it.
func (c *connection) readURL(address string) (state, words string) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "":
		return checkFailed, "this is not a URL; expected one such as https://claude.example.com"
	case u.Scheme != "https" && u.Scheme != "http":
		return checkFailed, u.Scheme + ": clients speak https and http only"
	case u.User != nil:
		return checkFailed, "there is a name or a password in the URL; leave it out: the key goes into a header"
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return checkFailed, "there is a query or a fragment in the URL, which clients would lose; leave it out"
	}
	path := strings.TrimRight(u.Path, "/")
	if before, _, found := strings.Cut(path+"/", "/v1/"); found {
		u.Path = before
		return checkFailed, "clients put /v1/... behind the base URL by themselves; leave it out: " + u.String()
	}
	u.Path, u.RawPath = path, ""
	c.url, c.base = u, u.String()
	state, words = checkOK, c.base
	if path != "" {
		words += ", below the path " + path
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		state, words = checkNote, words+": http is not encrypted; the key and all prompts can be read on the way"
	}
	if c.roots, err = authorities(c.extraCAs); err != nil {
		return checkFailed, extraCAsVariable + ": " + err.Error()
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	if c.proxy, err = transport.Proxy(&http.Request{URL: u}); err != nil {
		return checkFailed, "the proxy that the environment names cannot be used: " + err.Error()
	}
	// What redirects is not the pool; the key must not follow.
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return state, words
}

// authorities are those of the system and of the file, nil for just the system's.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file) //nolint:gosec // the file that the user's environment names
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s has no certificate in it", file)
	}
	return roots, nil
}

func (c *connection) lookUp(ctx context.Context) (state, words string) {
	host := c.url.Hostname()
	switch {
	case c.proxy != nil:
		return checkSkipped, "the environment names a proxy, " + c.proxy.Redacted() + "; it does that"
	case net.ParseIP(host) != nil:
		return checkSkipped, host + " is no name"
	}
	ctx, cancel := context.WithTimeout(ctx, connectStep)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return checkFailed, lookupWords(host, err)
	}
	return checkOK, host + " is " + strings.Join(found, ", ")
}

// address is host:port of the site.
func (c *connection) address() string {
	port := c.url.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[c.url.Scheme]
	}
	return net.JoinHostPort(c.url.Hostname(), port)
}

func (c *connection) dial(ctx context.Context) (state, words string) {
	if c.proxy != nil {
		return checkSkipped, "the proxy does that"
	}
	conn, err := (&net.Dialer{Timeout: connectStep}).DialContext(ctx, "tcp", c.address())
	if err != nil {
		return checkFailed, dialWords(c.address(), err)
	}
	defer conn.Close()
	return checkOK, "something listens at " + conn.RemoteAddr().String()
}

func (c *connection) shakeHands(ctx context.Context) (state, words string) {
	switch {
	case c.url.Scheme == "http":
		return checkSkipped, "http has none"
	case c.proxy != nil:
		return checkSkipped, "seen with the next step, through the proxy"
	}
	ctx, cancel := context.WithTimeout(ctx, connectStep)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address())
	if err != nil {
		return checkFailed, dialWords(c.address(), err)
	}
	defer conn.Close()
	host := c.url.Hostname()
	secure := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: c.roots, MinVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		return checkFailed, tlsWords(host, err)
	}
	shown := secure.ConnectionState()
	leaf := shown.PeerCertificates[0]
	words = fmt.Sprintf("%s, a certificate of %s until %s", tls.VersionName(shown.Version), issuerName(leaf), leaf.NotAfter.Local().Format("2006-01-02 15:04"))
	if c.noteTrust(&shown) {
		words += ", trusted because of " + extraCAsVariable
	}
	return checkOK, words
}

// noteTrust reports whether clients need the file of further authorities, and keeps
// it for their lines.
func (c *connection) noteTrust(shown *tls.ConnectionState) bool {
	if c.roots == nil || trustedBySystem(c.url.Hostname(), shown.PeerCertificates) {
		return false
	}
	c.client.extraCAs = c.extraCAs
	return true
}

// trustedBySystem reports whether the chain is trusted without further authorities.
func trustedBySystem(host string, chain []*x509.Certificate) bool {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Intermediates: between})
	return err == nil
}

// connectReply is the beginning of an answer.
type connectReply struct {
	status int
	header http.Header
	body   []byte
	shown  *tls.ConnectionState // nil without TLS
}

// do makes a request.
func (c *connection) do(ctx context.Context, timeout time.Duration, method, path string, body []byte, header http.Header) (*connectReply, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the request cannot be made")
	}
	r.Header = header
	r.Header.Set("User-Agent", "caddy-shunt-connect")
	resp, err := c.http.Do(r)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxConnectAnswer))
	return &connectReply{resp.StatusCode, resp.Header, raw, resp.TLS}, err
}

// health asks, without the key, whether a pool is there.
func (c *connection) health(ctx context.Context) (state, words string) {
	reply, err := c.do(ctx, connectStep, http.MethodGet, "/health", nil, http.Header{})
	if err != nil {
		return checkFailed, requestWords(c.url.Hostname(), err)
	}
	if reply.shown != nil {
		c.noteTrust(reply.shown)
	}
	var told struct{ Status, Reason string }
	if json.Unmarshal(reply.body, &told) != nil {
		told.Status = ""
	}
	switch {
	case reply.status == http.StatusOK && told.Status == "ok":
		return checkOK, "a pool, and it can serve"
	case reply.status == http.StatusServiceUnavailable && told.Status == "unavailable":
		c.shut = true
		return checkFailed, "a pool, but it cannot serve just now: " + told.Reason
	}
	return checkFailed, notShuntWords(c.base, reply)
}

// count tests the key by counting tokens, which costs nothing. The key is sent as
// Claude Code sends it.
func (c *connection) count(ctx context.Context) (state, words string) {
	header := http.Header{"Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
	whose := "without a key, since none was given"
	if c.key.secret != "" {
		header.Set("Authorization", "Bearer "+c.key.secret)
		whose = "with the key from " + c.key.from
	}
	body, err := json.Marshal(map[string]any{"model": c.model, "messages": []map[string]string{{"role": "user", "content": "hello"}}})
	if err != nil {
		return checkFailed, "the request cannot be made"
	}
	began := time.Now()
	reply, err := c.do(ctx, connectCount, http.MethodPost, "/v1/messages/count_tokens", body, header)
	if err != nil {
		return checkFailed, requestWords(c.url.Hostname(), err)
	}
	var counted struct {
		Tokens *int64 `json:"input_tokens"`
	}
	fromPool := reply.header.Get("X-Shunt-Request-Id") != ""
	c.keyRight = fromPool && reply.status != http.StatusUnauthorized && reply.status != http.StatusForbidden
	if reply.status == http.StatusOK && json.Unmarshal(reply.body, &counted) == nil && counted.Tokens != nil {
		c.keyRight, c.works = true, !c.shut
		return checkOK, fmt.Sprintf("counted tokens for %s %s, in %d ms", c.model, whose, time.Since(began).Milliseconds())
	}
	if !fromPool {
		return checkFailed, notShuntWords(c.base+"/v1/messages/count_tokens", reply)
	}
	return checkFailed, refusalWords(reply, whose, c.model)
}

// errorMessage reads the message of an error in the API's envelope; empty when it
// has none.
func errorMessage(raw []byte) string {
	var envelope struct {
		Error struct{ Message string }
	}
	if json.Unmarshal(raw, &envelope) != nil || anthropic.ErrorType(raw) == "" {
		return ""
	}
	return envelope.Error.Message
}
