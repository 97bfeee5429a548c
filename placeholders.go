package shunt

import (
	"strings"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

// placeholderPrefix is before the names of the placeholders of a request.
const placeholderPrefix = "http.shunt."

// placeholders are what is known of a request while it is served. They are looked up when
// somebody asks for one: most sites never do, and to set them all costs each request more
// than to choose its account.
var placeholders = map[string]func(*exchange) any{
	"account": func(x *exchange) any {
		if x.result.account == nil {
			return ""
		}
		return x.result.account.member.Name
	},
	"attempts":   func(x *exchange) any { return x.attempts },
	"endpoint":   func(x *exchange) any { return x.endpoint.String() },
	"model":      func(x *exchange) any { return x.facts.Model },
	"pool":       func(x *exchange) any { return x.h.Pool },
	"reason":     func(x *exchange) any { return x.result.choice },
	"request_id": func(x *exchange) any { return x.id },
	"session":    func(x *exchange) any { return truncate(x.facts.Session) },
	"waited":     func(x *exchange) any { return x.waited.Seconds() },
}

// finalPlaceholders are what is known when the request has ended; nil is not known then
// either.
var finalPlaceholders = map[string]func(*exchange, *pool.Record) any{
	"error":              func(x *exchange, _ *pool.Record) any { return x.result.trouble() },
	"tokens_cache_read":  func(_ *exchange, r *pool.Record) any { return r.Usage.CacheReadTokens },
	"tokens_cache_write": func(_ *exchange, r *pool.Record) any { return r.Usage.CacheWriteTokens },
	"tokens_in":          func(_ *exchange, r *pool.Record) any { return r.Usage.InputTokens },
	"tokens_out":         func(_ *exchange, r *pool.Record) any { return r.Usage.OutputTokens },
	"verdict":            func(_ *exchange, r *pool.Record) any { return r.Verdict },
	"cost_usd": func(_ *exchange, r *pool.Record) any {
		if r.CostUSD == nil {
			return nil
		}
		return r.CostUSD.Dollars()
	},
}

// placeholder implements caddy.ReplacerFunc.
func (x *exchange) placeholder(key string) (value any, known bool) {
	name, ours := strings.CutPrefix(key, placeholderPrefix)
	if !ours {
		return nil, false
	}
	if of, ok := placeholders[name]; ok {
		return of(x), true
	}
	if of, ok := finalPlaceholders[name]; ok && x.final != nil {
		value = of(x, x.final)
		return value, value != nil
	}
	return nil, false
}
