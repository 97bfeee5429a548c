package shunt

import (
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// setPerson makes the person known to the rest of the site: Caddy's access log
// takes user_id from this placeholder.
func setPerson(r *http.Request, who person) {
	if repl := replacer(r); repl != nil && who.name != "" {
		repl.Set("http.auth.user.id", who.name)
	}
}

// describe tells about the exchange in placeholders and response headers, just
// before the response head is sent.
func (x *exchange) describe() {
	account := x.setPlaceholders()
	if x.opened {
		return
	}
	h := x.w.Header()
	h.Set("X-Shunt-Attempts", strconv.Itoa(x.attempts))
	if account != "" && (x.who.admin || x.h.ExposeAccount) {
		h.Set("X-Shunt-Account", account)
	}
}

// setPlaceholders tells in placeholders what is known by now, and returns the
// account's name, empty for none.
func (x *exchange) setPlaceholders() (account string) {
	if x.result.account != nil {
		account = x.result.account.member.Name
	}
	if repl := replacer(x.r); repl != nil {
		repl.Set("http.shunt.account", account)
		repl.Set("http.shunt.attempts", x.attempts)
		repl.Set("http.shunt.model", x.facts.Model)
		repl.Set("http.shunt.request_id", x.id)
		repl.Set("http.shunt.pool", x.h.Pool)
		repl.Set("http.shunt.endpoint", x.endpoint.String())
		repl.Set("http.shunt.session", truncate(x.facts.Session))
		repl.Set("http.shunt.reason", x.result.choice)
		repl.Set("http.shunt.waited", x.waited.Seconds())
	}
	return account
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
}

// setFinal tells in placeholders what is known only now that the request has ended.
func (x *exchange) setFinal(r *pool.Record) {
	repl := replacer(x.r)
	if repl == nil {
		return
	}
	x.setPlaceholders()
	repl.Set("http.shunt.verdict", r.Verdict)
	repl.Set("http.shunt.error", x.result.trouble())
	repl.Set("http.shunt.tokens_in", r.Usage.InputTokens)
	repl.Set("http.shunt.tokens_out", r.Usage.OutputTokens)
	repl.Set("http.shunt.tokens_cache_read", r.Usage.CacheReadTokens)
	repl.Set("http.shunt.tokens_cache_write", r.Usage.CacheWriteTokens)
	if r.CostUSD != nil {
		repl.Set("http.shunt.cost_usd", r.CostUSD.Dollars())
	}
}

// trouble says why the request was not served, empty if it was.
func (r *result) trouble() string {
	if r.failure == "" && r.reason != r.choice {
		return r.reason
	}
	return r.failure
}

// logFields adds to Caddy's access log line of this request, and tells the same in
// placeholders.
func (x *exchange) logFields(r *pool.Record) {
	x.setFinal(r)
	extra, ok := x.r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if !ok {
		return
	}
	for _, field := range []zap.Field{
		zap.String("shunt_request_id", r.ID),
		zap.String("shunt_endpoint", r.Endpoint),
		zap.String("shunt_account", r.Account),
		zap.String("shunt_reason", x.result.choice),
		zap.Int("shunt_attempts", r.Attempts),
		zap.String("shunt_model", r.Model),
		zap.String("shunt_verdict", r.Verdict),
		zap.Int64("shunt_tokens_in", r.Usage.InputTokens),
		zap.Int64("shunt_tokens_out", r.Usage.OutputTokens),
		zap.Int64("shunt_tokens_cache_read", r.Usage.CacheReadTokens),
		zap.Int64("shunt_tokens_cache_write", r.Usage.CacheWriteTokens),
		zap.String("shunt_session", truncate(x.facts.Session)),
	} {
		extra.Set(field)
	}
	if x.h.Pool != DefaultPool {
		extra.Set(zap.String("shunt_pool", x.h.Pool))
	}
	if trouble := x.result.trouble(); trouble != "" {
		extra.Set(zap.String("shunt_error", trouble))
	}
	if x.waited > 0 {
		extra.Set(zap.Duration("shunt_waited", x.waited))
	}
	if x.result.firstByte > 0 {
		extra.Set(zap.Duration("shunt_first_byte", x.result.firstByte))
	}
	if r.CostUSD != nil {
		extra.Set(zap.Float64("shunt_cost_usd", r.CostUSD.Dollars()))
	}
}

// truncate bounds what a client's word may take in logs and records.
func truncate(s string) string { return clip(s, 200) }

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
func logError(err error) zap.Field      { return zap.Error(err) }
func logVerdict(name string) zap.Field  { return zap.String("verdict", name) }
func logRequest(id string) zap.Field    { return zap.String("request_id", id) }
func logPool(name string) zap.Field     { return zap.String("pool", name) }
func logReason(reason string) zap.Field { return zap.String("reason", reason) }
