package shunt

import (
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// setPerson makes the person known to the rest of the site: Caddy's access log
// takes user_id from this placeholder.
func setPerson(r *http.Request, who person) {
	if repl := replacer(r); repl != nil && who.name != "" {
		repl.Set("http.auth.user.id", who.name)
	}
}

// describe tells about the exchange in response headers, just before the head is sent.
func (x *exchange) describe() {
	if x.opened {
		return
	}
	h := x.w.Header()
	h.Set("X-Shunt-Attempts", strconv.Itoa(x.attempts))
	if x.result.account != nil && (x.who.admin || x.h.ExposeAccount) {
		h.Set("X-Shunt-Account", x.result.account.member.Name)
	}
}

// finish records how the exchange ended, also when it ends in a panic.
func (x *exchange) finish() {
	r := &x.result
	if x.opened {
		// What the client was sent; how it went is the verdict's to say.
		r.status = http.StatusOK
	}
	took := time.Since(x.started)
	usage, cost, priced := x.sum()
	record := pool.Record{
		Time: x.started, ID: x.id, User: x.who.name, Model: truncate(x.facts.Model), Endpoint: x.endpoint.String(), Stream: x.facts.Stream,
		Status: r.status, Verdict: r.verdict, Reason: r.reason, Attempts: x.attempts, Usage: usage,
		FirstByte: r.firstByte.Milliseconds(), Duration: took.Milliseconds(), Waited: x.waited.Milliseconds(),
	}
	key := ""
	if r.account != nil {
		record.Account, key = r.account.member.Name, r.account.member.Key
	}
	if priced {
		record.CostUSD = &cost
	}
	x.h.live.state.Finish(record, key, x.want.Trace)
	x.h.metrics.request(x, &record, took)
	x.book(&record)
	x.h.remember(&record)
	x.traceRequest(&record)
	x.logFields(&record)
	x.audit(&record, took)
	if x.attempts > 0 {
		x.h.live.underway.ended(x)
	}
}

// trouble says why the request was not served, empty if it was.
func (r *result) trouble() string {
	if r.failure == "" && r.reason != r.choice {
		return r.reason
	}
	return r.failure
}

// logFields adds to Caddy's access log line of this request, and lets placeholders tell
// the same. It is one field that writes itself as many if there is a log: each field that
// is set costs Caddy an allocation and more.
func (x *exchange) logFields(r *pool.Record) {
	x.final = r
	if extra, ok := x.r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.Field{Key: "shunt", Type: zapcore.InlineMarshalerType, Interface: x})
	}
}

// MarshalLogObject implements zapcore.ObjectMarshaler with the fields of the access log.
func (x *exchange) MarshalLogObject(to zapcore.ObjectEncoder) error {
	r := x.final
	to.AddString("shunt_request_id", r.ID)
	to.AddString("shunt_endpoint", r.Endpoint)
	to.AddString("shunt_account", r.Account)
	to.AddString("shunt_reason", x.result.choice)
	to.AddInt("shunt_attempts", r.Attempts)
	to.AddString("shunt_model", r.Model)
	to.AddString("shunt_verdict", r.Verdict)
	to.AddInt64("shunt_tokens_in", r.Usage.InputTokens)
	to.AddInt64("shunt_tokens_out", r.Usage.OutputTokens)
	to.AddInt64("shunt_tokens_cache_read", r.Usage.CacheReadTokens)
	to.AddInt64("shunt_tokens_cache_write", r.Usage.CacheWriteTokens)
	to.AddString("shunt_session", truncate(x.facts.Session))
	if x.h.Pool != DefaultPool {
		to.AddString("shunt_pool", x.h.Pool)
	}
	if trouble := x.result.trouble(); trouble != "" {
		to.AddString("shunt_error", trouble)
	}
	if x.waited > 0 {
		to.AddDuration("shunt_waited", x.waited)
	}
	if x.result.firstByte > 0 {
		to.AddDuration("shunt_first_byte", x.result.firstByte)
	}
	if r.CostUSD != nil {
		to.AddFloat64("shunt_cost_usd", r.CostUSD.Dollars())
	}
	return nil
}

// truncate bounds what a client's word may take in logs and records, and takes out what
// would command the terminal that shows them, or turn the reading direction.
func truncate(s string) string { return clip(terminal.Printable(clip(s, 200)), 200) }

func clip(s string, most int) string {
	if len(s) > most {
		return s[:most]
	}
	return s
}

// logVerdict tells the operator why an account rests, and until when.
func (x *exchange) logVerdict(a *attempt) {
	v := &a.verdict
	if v.Served() || v.Until.IsZero() {
		return
	}
	level := zap.InfoLevel
	switch {
	case v.Login:
		level = zap.ErrorLevel
	case v.Scope == anthropic.ScopeProvider:
		// It is not the account's, it is short, and there may be many.
		level = zap.DebugLevel
	}
	if c := x.h.logger.Check(level, "an account is out: "+v.Reason); c != nil {
		c.Write(logAccount(a.account), logVerdict(v.Name), zap.Time("until", v.Until), zap.String("source", v.Source),
			logWindow(v.Window), zap.String("model", truncate(x.facts.Model)), logRequest(x.id))
	}
}

func logWindow(name string) zap.Field {
	if name == "" {
		return zap.Skip()
	}
	return zap.String("window", name)
}

func logAccount(a *account) zap.Field   { return zap.String("account", a.member.Name) }
func logVerdict(name string) zap.Field  { return zap.String("verdict", name) }
func logRequest(id string) zap.Field    { return zap.String("request_id", id) }
func logPool(name string) zap.Field     { return zap.String("pool", name) }
func logReason(reason string) zap.Field { return zap.String("reason", reason) }

// logError is an error as it may stand in a log: it may repeat another server's words.
func logError(err error) zap.Field {
	if err == nil {
		return zap.Skip()
	}
	return zap.String("error", terminal.Printable(err.Error()))
}
