package shunt

import (
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

// auditLogger is the end of the name of the logger that the audit goes to; the whole
// is http.handlers.shunt.audit.
const auditLogger = "audit"

// verdictUnauthorized is the verdict of a request whose person is not known.
const verdictUnauthorized = "unauthorized"

// sawRequestID keeps upstream's id of an answer for the audit.
func (x *exchange) sawRequestID(resp *http.Response) {
	if x.h.auditor == nil {
		return
	}
	if id := resp.Header.Get("Request-Id"); id != "" {
		x.upstreamIDs = append(x.upstreamIDs, truncate(id))
	}
}

// audit writes the one entry of a request: who asked what of which account, and what
// became of it. Never headers or anything of a body but the model's name and the
// session's id.
func (x *exchange) audit(r *pool.Record, took time.Duration) {
	if x.h.auditor == nil {
		return
	}
	remote, _, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		remote = x.r.RemoteAddr
	}
	client, _ := caddyhttp.GetVar(x.r.Context(), caddyhttp.ClientIPVarKey).(string)
	fields := []zap.Field{
		zap.String("request_id", r.ID),
		zap.Strings("upstream_request_ids", x.upstreamIDs),
		zap.Time("started", r.Time),
		zap.String("pool", x.h.Pool),
		zap.String("person", r.User),
		zap.String("remote_ip", remote),
		zap.String("client_ip", client),
		zap.String("endpoint", r.Endpoint),
		zap.String("model", r.Model),
		zap.Bool("stream", r.Stream),
		zap.String("session", truncate(x.facts.Session)),
		zap.String("account", r.Account),
		zap.String("reason", x.result.choice),
		zap.Int("attempts", r.Attempts),
		zap.Int("status", r.Status),
		zap.String("verdict", r.Verdict),
		zap.String("error", x.result.trouble()),
		zap.Int64("tokens_in", r.Usage.InputTokens),
		zap.Int64("tokens_out", r.Usage.OutputTokens),
		zap.Int64("tokens_cache_read", r.Usage.CacheReadTokens),
		zap.Int64("tokens_cache_write", r.Usage.CacheWriteTokens),
		zap.Int64("tokens_cache_write_1h", r.Usage.CacheWrite1hTokens),
		zap.Int64("web_searches", r.Usage.WebSearches),
		zap.Int64("web_fetches", r.Usage.WebFetches),
		zap.Duration("waited", x.waited),
		zap.Duration("first_byte", x.result.firstByte),
		zap.Duration("duration", took),
	}
	if r.CostUSD != nil {
		fields = append(fields, zap.Reflect("cost_usd", r.CostUSD))
	}
	if len(x.uses) > 0 {
		fields = append(fields, zap.Array("uses", usesFields(x.uses)))
	}
	x.h.auditor.Info("request", fields...)
}

// refused records a request that was refused before it came to the pool: it is in the
// logs and in the audit, but in none of the pool's books.
func (x *exchange) refused(status int, verdict, reason string) {
	x.result.status, x.result.verdict, x.result.reason = status, verdict, reason
	record := pool.Record{Time: x.started, ID: x.id, User: x.who.name, Endpoint: x.endpoint.String(), Status: status, Verdict: verdict, Reason: reason}
	x.logFields(&record)
	x.audit(&record, time.Since(x.started))
}

// usesFields tell which accounts were used for how much: more than one when a request
// went on to another.
type usesFields []use

// MarshalLogArray implements zapcore.ArrayMarshaler.
func (uses usesFields) MarshalLogArray(to zapcore.ArrayEncoder) error {
	for i := range uses {
		if err := to.AppendObject(&uses[i]); err != nil {
			return err
		}
	}
	return nil
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (u *use) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("account", u.account.member.Name)
	to.AddInt64("tokens_in", u.usage.InputTokens)
	to.AddInt64("tokens_out", u.usage.OutputTokens)
	to.AddInt64("tokens_cache_read", u.usage.CacheReadTokens)
	to.AddInt64("tokens_cache_write", u.usage.CacheWriteTokens)
	to.AddBool("estimated", u.estimated)
	if !u.priced {
		return nil
	}
	return to.AddReflected("cost_usd", u.cost)
}
