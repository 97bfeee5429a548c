package shunt

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// auditName is what the logger of audits is called below the handler's:
// http.handlers.shunt.audit.
const auditName = "audit"

func parseAudit(h *Handler, d *caddyfile.Dispenser) error {
	h.Audit = true
	return noArg(d, "audit")
}

// audit writes who used what, one entry for each request of the pool. Nothing of bodies
// and headers is in it.
func (x *exchange) audit(r *pool.Record, took time.Duration) {
	if x.h.auditor == nil {
		return
	}
	fields := x.auditHead(r.Status, r.Verdict, r.Reason)
	fields = append(fields,
		zap.String("model", r.Model), zap.String("session", truncate(x.facts.Session)), zap.Bool("stream", r.Stream),
		zap.String("account", r.Account), zap.Int("attempts", r.Attempts), zap.Inline(usageFields(r.Usage)),
	)
	if x.result.upstreamID != "" {
		fields = append(fields, zap.String("upstream_request_id", x.result.upstreamID))
	}
	if r.CostUSD != nil {
		fields = append(fields, zap.Reflect("cost_usd", r.CostUSD))
	}
	if len(x.uses) > 0 {
		fields = append(fields, zap.Array("uses", usesFields(x.uses)))
	}
	fields = append(fields, zap.Int64("waited_ms", r.Waited), zap.Int64("first_byte_ms", r.FirstByte), zap.Int64("duration_ms", took.Milliseconds()))
	x.h.auditor.Info("request", fields...)
}

// auditRefused writes that a request was not served because nobody knows whose it is.
func (x *exchange) auditRefused(e *anthropic.Error) {
	if x.h.auditor != nil {
		x.h.auditor.Info("request", x.auditHead(e.Status, verdictUnauthorized, e.Message)...)
	}
}

// verdictUnauthorized is of requests without a key that is known.
const verdictUnauthorized = "unauthorized"

func (x *exchange) auditHead(status int, verdict, reason string) []zap.Field {
	return []zap.Field{
		zap.String("request_id", x.id), zap.String("pool", x.h.Pool), zap.String("person", x.who.name), zap.String("client_ip", clientIP(x.r)),
		zap.String("method", x.r.Method), zap.String("endpoint", x.endpoint.String()), zap.Int("status", status), zap.String("verdict", verdict), zap.String("reason", reason),
	}
}

// clientIP is the client's address as Caddy's access log has it.
func clientIP(r *http.Request) string {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return ip
}

// usageFields are tokens of each kind, in an object of the log.
type usageFields anthropic.Usage

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (u usageFields) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddInt64("input_tokens", u.InputTokens)
	to.AddInt64("output_tokens", u.OutputTokens)
	to.AddInt64("cache_read_tokens", u.CacheReadTokens)
	to.AddInt64("cache_write_5m_tokens", u.CacheWriteTokens-u.CacheWrite1hTokens)
	to.AddInt64("cache_write_1h_tokens", u.CacheWrite1hTokens)
	to.AddInt64("web_searches", u.WebSearches)
	to.AddInt64("web_fetches", u.WebFetches)
	return nil
}

// usesFields tell which accounts were used for how much.
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
	to.AddBool("estimated", u.estimated)
	if u.priced {
		if err := to.AddReflected("cost_usd", u.cost); err != nil {
			return err
		}
	}
	return usageFields(u.usage).MarshalLogObject(to)
}
