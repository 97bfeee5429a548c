package shunt

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// tracerName is the instrumentation scope of the spans.
const tracerName = "github.com/caddy-shunt/caddy-shunt"

// The names of the spans, all of them children of the request's.
const (
	spanAttempt    = "shunt attempt"
	spanWait       = "shunt wait"
	spanCredential = "shunt credential" //nolint:gosec // a name, no credential
)

// leastCredentialWait tells a credential that had to be fetched from one that was at
// hand: only the first is worth a span.
const leastCredentialWait = time.Millisecond

// tracerOf gives the tracer of the span that the request is in, nil when nobody
// records it. Caddy's handler tracing makes that span; its settings are the ones
// that count, here too.
func tracerOf(ctx context.Context) trace.Tracer {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return nil
	}
	return span.TracerProvider().Tracer(tracerName)
}

// startAttempt begins the span of a round trip. Without tracing the span is nil and
// the context the request's.
func (x *exchange) startAttempt(lease *pool.Lease, acct *account) (context.Context, trace.Span) {
	if x.tracer == nil {
		return x.r.Context(), nil
	}
	return x.tracer.Start(x.r.Context(), spanAttempt, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("shunt.pool", x.h.Pool),
		attribute.String("shunt.account", lease.Member.Name),
		attribute.Int("shunt.attempt", x.attempts),
		attribute.String("shunt.reason", lease.Reason),
		attribute.String("http.request.method", x.r.Method),
		attribute.String("server.address", acct.base.host),
		attribute.String("gen_ai.provider.name", "anthropic"),
		attribute.String("gen_ai.request.model", truncate(x.facts.Model)),
	))
}

// sawAnswer adds the answer's head to an attempt's span.
func (a *attempt) sawAnswer(resp *http.Response) {
	if a.span == nil {
		return
	}
	a.span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	if id := resp.Header.Get("Request-Id"); id != "" {
		a.span.SetAttributes(attribute.String("shunt.upstream_request_id", truncate(id)))
	}
}

// endRefused ends the span of an attempt that does not serve.
func (x *exchange) endRefused(a *attempt) {
	if a.span == nil || a.verdict.Served() {
		return
	}
	if x.gone() {
		x.endSpan(a, anthropic.ClientGone.Name, "")
		return
	}
	x.endSpan(a, a.verdict.Name, a.verdict.Reason)
}

// endTransfer ends the span of the attempt whose answer went to the client, with
// what became of the transfer.
func (x *exchange) endTransfer(a *attempt) {
	if a.span == nil {
		return
	}
	r := &x.result
	if u := a.usage; !u.IsZero() {
		// By the conventions for generative AI the input is all of it, cached or not.
		a.span.SetAttributes(
			attribute.Int64("gen_ai.usage.input_tokens", u.PromptTokens()),
			attribute.Int64("gen_ai.usage.output_tokens", u.OutputTokens),
			attribute.Int64("gen_ai.usage.cache_read.input_tokens", u.CacheReadTokens),
			attribute.Int64("gen_ai.usage.cache_creation.input_tokens", u.CacheWriteTokens),
		)
	}
	failure := ""
	if r.verdict != a.verdict.Name && r.verdict != anthropic.ClientGone.Name {
		failure = r.reason
	}
	x.endSpan(a, r.verdict, failure)
}

// endSpan ends an attempt's span; failure is empty for none.
func (x *exchange) endSpan(a *attempt, verdict, failure string) {
	a.span.SetAttributes(attribute.String("shunt.verdict", verdict))
	if failure != "" {
		a.span.SetAttributes(attribute.String("error.type", verdict))
		a.span.SetStatus(codes.Error, failure)
	}
	a.span.End()
	a.span = nil
}

// traceWait tells of time spent in line that is just over.
func (x *exchange) traceWait(waited time.Duration, lease *pool.Lease) {
	if x.tracer == nil || waited <= 0 {
		return
	}
	end := time.Now()
	_, span := x.tracer.Start(x.r.Context(), spanWait, trace.WithTimestamp(end.Add(-waited)), trace.WithAttributes(attribute.String("shunt.pool", x.h.Pool)))
	switch {
	case lease != nil:
		span.SetAttributes(attribute.String("shunt.account", lease.Member.Name), attribute.String("shunt.reason", lease.Reason))
	case x.gone():
		span.SetAttributes(attribute.String("shunt.verdict", anthropic.ClientGone.Name))
	default:
		span.SetAttributes(attribute.String("shunt.verdict", verdictExhausted))
		span.SetStatus(codes.Error, "no account became free in time")
	}
	span.End(trace.WithTimestamp(end))
}

// traceCredential tells of the time that it took to get a credential, if it was least
// or more.
func (x *exchange) traceCredential(begun time.Time, least time.Duration, lease *pool.Lease, err error) {
	if x.tracer == nil || time.Since(begun) < least {
		return
	}
	_, span := x.tracer.Start(x.r.Context(), spanCredential, trace.WithTimestamp(begun), trace.WithAttributes(
		attribute.String("shunt.pool", x.h.Pool), attribute.String("shunt.account", lease.Member.Name),
	))
	if err != nil {
		span.SetStatus(codes.Error, "no credential")
	}
	span.End()
}

// traceRequest adds how the exchange ended to the request's own span.
func (x *exchange) traceRequest(r *pool.Record) {
	if x.tracer == nil {
		return
	}
	trace.SpanFromContext(x.r.Context()).SetAttributes(
		attribute.String("shunt.request_id", r.ID),
		attribute.String("shunt.pool", x.h.Pool),
		attribute.String("shunt.account", r.Account),
		attribute.Int("shunt.attempts", r.Attempts),
		attribute.String("shunt.verdict", r.Verdict),
	)
}
