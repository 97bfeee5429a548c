package shunt

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// BenchmarkFinish is what the record of one request costs: the pool's, the metrics and
// the log's fields.
func BenchmarkFinish(b *testing.B) {
	x := finished(b)
	b.ReportAllocs()
	for b.Loop() {
		x.finish()
	}
}

// BenchmarkCount is what the metrics of one request cost.
func BenchmarkCount(b *testing.B) {
	x := finished(b)
	usage, cost, _ := x.sum()
	record := pool.Record{User: "ann", Account: "a", Model: x.facts.Model, Endpoint: "messages", Status: 200, Verdict: "served", Usage: usage, CostUSD: &cost}
	b.ReportAllocs()
	for b.Loop() {
		x.h.metrics.request(x, &record, time.Second)
	}
}

// finished is an exchange that has ended.
func finished(b *testing.B) *exchange {
	b.Helper()
	h := provision(b, "remote_key ann "+annKey+fourBlocks)
	r := httptest.NewRequest(http.MethodPost, "/v1/messages", nil)
	r = r.WithContext(context.WithValue(r.Context(), caddyhttp.ExtraLogFieldsCtxKey, new(caddyhttp.ExtraLogFields)))
	return &exchange{
		h: h, r: r, id: "shunt_bench", who: person{name: "ann"}, endpoint: anthropic.EndpointMessages, started: time.Now(), attempts: 1,
		facts:  anthropic.Facts{Model: "claude-sonnet-5", Stream: true, Session: "session"},
		limits: &unlimited,
		result: result{account: h.accounts[0], status: http.StatusOK, verdict: "served", firstByte: time.Second},
		uses: []use{{account: h.accounts[0], priced: true, cost: 1e6, usage: anthropic.Usage{
			InputTokens: 10, OutputTokens: 500, CacheReadTokens: 100_000, CacheWriteTokens: 3000, CacheWrite1hTokens: 1000,
		}}},
	}
}
