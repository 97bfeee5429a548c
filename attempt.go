package shunt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// attempt is one account's answer to an exchange, or its absence.
type attempt struct {
	lease   *pool.Lease
	account *account
	verdict anthropic.Verdict
	err     error // why there is no answer

	usage  anthropic.Usage // as it was booked
	resp   *http.Response  // nil when no answer came
	limits anthropic.Limits
	body   *upstreamBody
	// head is what has been read of the body: of a refusal all that matters, of a
	// stream what came up to its first event.
	head []byte
	// status is the answer's, or what an error event stands for that came first in
	// a stream of status 200: it is relayed as that error, and whole is true, since
	// head is all of it.
	status    int
	whole     bool
	committed bool // the response head has gone to the client
	cancel    context.CancelFunc
	span      trace.Span // nil when nobody traces the request, and after its end
}

// release gives the lease back, with what was used.
func (a *attempt) release() { a.lease.End(a.usage) }

// close ends the attempt and its upstream request. A nil attempt is closed.
func (a *attempt) close() {
	if a == nil {
		return
	}
	a.release()
	if a.cancel != nil {
		a.cancel()
	}
	if a.body != nil {
		_ = a.body.Close()
	}
}

// relayable reports whether the answer may go to the client. An account's own
// 401 or 403 may not: it would log the client out.
func (a *attempt) relayable() bool {
	return a.resp != nil && a.status != http.StatusUnauthorized && a.status != http.StatusForbidden && !a.foreign()
}

// foreign reports whether the status is none that the API answers with: a redirect,
// a change of protocols (1xx), or a number that HTTP does not have.
func (a *attempt) foreign() bool {
	return a.status < 200 || a.status >= 300 && a.status < 400 || a.status > 599
}

// ownError is what the client is told in the place of an answer that it may not see.
func (a *attempt) ownError() *anthropic.Error {
	if a.resp == nil || a.foreign() {
		return &anthropic.Error{Status: http.StatusBadGateway, Message: a.verdict.Reason}
	}
	return &anthropic.Error{Status: http.StatusServiceUnavailable, Message: "no account of this pool could serve the request: " + a.verdict.Reason, NoRetry: true}
}

// try asks one account: once, and once more where the verdict says so. The lease
// is told each verdict; it is given back by the caller.
func (x *exchange) try(lease *pool.Lease) *attempt {
	acct := x.h.byKey[lease.Member.Key]
	begun := time.Now()
	cred, err := acct.source.Get(x.r.Context())
	x.awaited(begun)
	x.traceCredential(begun, leastCredentialWait, lease, err)
	if err != nil {
		return x.noCredential(lease, acct, err)
	}
	renewed, again := false, false
	for {
		a := x.send(lease, acct, cred, !renewed && acct.source.Refreshable())
		if a.verdict.Served() {
			acct.source.Proved(cred)
		}
		lease.Report(&a.verdict, &a.limits)
		x.logVerdict(a)
		x.endRefused(a)
		x.h.metrics.attempt(x.h.Pool, lease.Member.Name, a.verdict.Name)
		switch {
		case a.verdict.Action == anthropic.Renew && !renewed:
			renewed = true
			begun := time.Now()
			fresh, err := acct.source.Refresh(x.r.Context(), cred)
			x.awaited(begun)
			x.traceCredential(begun, 0, lease, err)
			if errors.Is(err, credential.ErrNotRefreshable) {
				// It was the only one after all: the answer means what it means then.
				a.verdict = anthropic.Classify(x.answerOf(a, false))
				lease.Report(&a.verdict, nil)
				x.logVerdict(a)
				return a
			}
			if err != nil {
				a.close()
				return x.noCredential(lease, acct, err)
			}
			cred = fresh
		case a.verdict.Action == anthropic.Again && !again && x.stayed == 0 && x.failures < x.h.Retries && x.pause(againAfter(a)):
			again = true
		default:
			return a
		}
		a.discard()
	}
}

// pause leaves upstream alone for a while, or returns false when the client leaves
// first.
func (x *exchange) pause(d time.Duration) bool {
	defer x.awaited(time.Now())
	return pause(x.r.Context(), d)
}

// discard drops an answer that is followed by another try on the same lease.
func (a *attempt) discard() {
	a.cancel()
	if a.body != nil {
		_ = a.body.Close()
	}
}

// againAfter is the pause before the same account is asked again: what upstream
// asked for if that is short, else a moment, not the same for all.
func againAfter(a *attempt) time.Duration {
	const most = 2 * time.Second
	if after := a.limits.RetryAfter; after > 0 && after <= most {
		return after
	}
	return 200*time.Millisecond + rand.N(300*time.Millisecond)
}

// noCredential is the verdict when an account has nothing to authenticate with.
func (x *exchange) noCredential(lease *pool.Lease, acct *account, err error) *attempt {
	v := anthropic.Verdict{
		Name: "credential", Scope: anthropic.ScopeAccount, Action: anthropic.Next,
		Until: time.Now().Add(30 * time.Second), Source: "default", Reason: "its credential could not be refreshed",
	}
	var retry *credential.RetryError
	if errors.As(err, &retry) && retry.Next.Before(v.Until) {
		v.Until = retry.Next
	}
	if errors.Is(err, credential.ErrLoginRequired) {
		v.Name, v.Login, v.Reason = "login_required", true, "there is no login, or it has ended"
	}
	x.h.logger.Warn("no credential", logAccount(acct), logError(err))
	lease.Report(&v, nil)
	x.h.metrics.attempt(x.h.Pool, lease.Member.Name, v.Name)
	return &attempt{lease: lease, account: acct, verdict: v, err: err}
}

// send makes one round trip and tells what came of it.
func (x *exchange) send(lease *pool.Lease, acct *account, cred credential.Credential, refreshable bool) *attempt {
	x.attempts++
	x.failures++
	ctx, span := x.startAttempt(lease, acct)
	ctx, cancel := context.WithCancel(ctx)
	a := &attempt{lease: lease, account: acct, cancel: cancel, span: span}
	req := x.upstreamRequest(ctx, acct, cred)
	x.h.live.underway.sends(x, cancel)
	dog := watchFor(x.headLimit(), cancel)
	begun := time.Now()
	resp, err := x.h.transport.RoundTrip(req) //nolint:bodyclose // the attempt closes it
	x.awaited(begun)
	inTime := dog.timer.Stop()
	if err != nil {
		a.err, a.verdict = err, anthropic.Unreachable
		if !inTime && !x.gone() {
			a.verdict.Reason = "upstream did not answer in time"
		}
		return a
	}
	a.resp, a.status = resp, resp.StatusCode
	a.sawAnswer(resp)
	x.sawRequestID(resp)
	x.h.sawOrganization(acct, resp.Header)
	a.body = newUpstreamBody(resp, time.Duration(x.h.StallTimeout), dog)
	x.classify(a, refreshable)
	if a.verdict.Action == anthropic.Next || a.verdict.Action == anthropic.Renew {
		// The account's own refusal does not count against retries.
		x.failures--
	}
	return a
}

// headLimit bounds the wait for the head of an answer. A stream's head comes
// before its first token; any other answer comes when it is complete, and its
// client's patience is the bound.
func (x *exchange) headLimit() time.Duration {
	limit := 10 * time.Minute
	if x.facts.Stream || x.endpoint != anthropic.EndpointMessages {
		limit = time.Duration(x.h.StallTimeout)
	}
	if left := x.patience(); left > 0 {
		limit = min(limit, left)
	}
	return limit
}

func (x *exchange) upstreamRequest(ctx context.Context, acct *account, cred credential.Credential) *http.Request {
	header := anthropic.UpstreamHeader(x.r.Header)
	cred.Apply(header)
	req := new(http.Request).WithContext(ctx)
	req.Method = x.r.Method
	req.URL = &url.URL{
		Scheme: acct.base.scheme, Host: acct.base.host,
		Path: acct.base.path + x.r.URL.Path, RawQuery: wireQuery(x.r.URL.RawQuery),
	}
	req.Host, req.Header = acct.base.host, header
	req.Proto, req.ProtoMajor, req.ProtoMinor = "HTTP/1.1", 1, 1
	if x.r.Method == http.MethodPost {
		req.ContentLength = int64(len(x.body))
		req.GetBody = x.bodyToSend
		req.Body, _ = x.bodyToSend()
	}
	return req
}

// smallBody is what a transport writes in one piece with the request's head.
const smallBody = 2 << 10

// bodyToSend is the request's body, once for each time that it is sent. A transport
// knows of a bytes.Reader that it need not wait for its bytes, and does not send the head
// by itself before them. What is larger is let go of as it is sent.
func (x *exchange) bodyToSend() (io.ReadCloser, error) {
	switch {
	case x.held == nil:
		return nil, errLetGo
	case len(x.body) == 0:
		return http.NoBody, nil
	case len(x.body) <= smallBody:
		return io.NopCloser(bytes.NewReader(x.body)), nil
	}
	return x.held.toSend()
}

// wireQuery is a query as it may stand in a request line (RFC 3986, 2.1). HTTP/2 brings
// one with spaces, which would let a client end the line where it likes.
func wireQuery(query string) string {
	if strings.IndexFunc(query, notInLine) < 0 {
		return query
	}
	var b strings.Builder
	for _, c := range []byte(query) {
		if notInLine(rune(c)) {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func notInLine(r rune) bool { return r <= ' ' || r >= 0x7f }

// classify reads as much of the answer as its verdict needs.
func (x *exchange) classify(a *attempt, refreshable bool) {
	a.limits = anthropic.ReadLimits(a.resp.Header, time.Now())
	answer := x.answerOf(a, refreshable)
	if a.status >= 200 && a.status < 300 {
		a.verdict = anthropic.Classify(answer)
		switch {
		case isEventStream(a.resp.Header):
			x.peek(a, answer)
		case x.endpoint == anthropic.EndpointMessages || x.endpoint == anthropic.EndpointCountTokens:
			x.begin(a)
		}
		return
	}
	if a.foreign() {
		// Nothing in what follows is needed, and after a 1xx it is not HTTP and has no end.
		_ = a.body.Close()
		a.verdict = anthropic.Classify(answer)
		return
	}
	begun := time.Now()
	head, err := io.ReadAll(io.LimitReader(a.body, anthropic.ErrorPrefix))
	x.awaited(begun)
	if err != nil && len(head) == 0 {
		a.err = err
	}
	a.head, answer.Body = head, head
	a.verdict = anthropic.Classify(answer)
}

// answerOf is what has been read of an attempt's answer, for Classify.
func (x *exchange) answerOf(a *attempt, refreshable bool) *anthropic.Answer {
	return &anthropic.Answer{
		Status: a.status, Header: a.resp.Header, Body: a.head, Limits: a.limits,
		Family: anthropic.Family(x.facts.Model), Fast: x.facts.Fast, Refreshable: refreshable, Now: time.Now(),
	}
}

// begin reads the beginning of a JSON answer. An answer that is empty, or that is
// none of the API's at all (a page of something in between), is a failure of
// upstream's, whatever its status says.
func (x *exchange) begin(a *attempt) {
	own := isJSON(a.resp.Header)
	if own {
		size := int64(4 << 10)
		if told := a.resp.ContentLength; told > 0 {
			size = min(size, told)
		}
		head := make([]byte, size)
		begun := time.Now()
		n, err := io.ReadAtLeast(a.body, head, 1)
		x.awaited(begun)
		if a.head = head[:n]; n > 0 {
			return // an error, if there was one, comes again
		}
		a.err = err
	}
	a.verdict = anthropic.Unreachable
	a.verdict.Reason = "upstream's answer was not one of the API's"
	_ = a.body.Close()
	a.resp, a.body, a.head = nil, nil, nil
	if own {
		x.usedUntold(a)
	}
}

func isEventStream(h http.Header) bool { return isOfType(h, "text/event-stream") }

func isJSON(h http.Header) bool { return isOfType(h, "application/json") }

func isOfType(h http.Header, mediaType string) bool {
	told := h["Content-Type"]
	return len(told) > 0 && len(told[0]) >= len(mediaType) && strings.EqualFold(told[0][:len(mediaType)], mediaType)
}
