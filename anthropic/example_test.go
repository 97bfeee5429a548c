package anthropic_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

func ExampleClassify() {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	header := http.Header{}
	header.Set("Anthropic-Ratelimit-Unified-Status", "rejected")
	header.Set("Anthropic-Ratelimit-Unified-Representative-Claim", "five_hour")
	header.Set("Anthropic-Ratelimit-Unified-Reset", fmt.Sprint(now.Add(2*time.Hour).Unix()))
	verdict := anthropic.Classify(&anthropic.Answer{
		Status: http.StatusTooManyRequests, Header: header, Limits: anthropic.ReadLimits(header, now),
		Body:   []byte(`{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your account's rate limit."}}`),
		Family: anthropic.FamilyOpus, Now: now,
	})
	fmt.Println(verdict.Name, verdict.Action == anthropic.Next, verdict.Until.Sub(now), verdict.Source)
	// Output: account_window true 2h0m0s reset
}

func ExampleReadFacts() {
	body := []byte(`{"model":"claude-opus-5","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"Hello"}]}`)
	header := http.Header{"X-Claude-Code-Session-Id": {"s1"}}
	facts := anthropic.ReadFacts(anthropic.EndpointMessages, header, body)
	fmt.Println(facts.Model, anthropic.Family(facts.Model), facts.Stream, facts.Session != "", facts.CacheLife)
	// Output: claude-opus-5 opus true true 5m0s
}

func ExamplePrices_Cost() {
	at := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	cost, known := anthropic.BuiltInPrices.Cost("claude-haiku-4-5", anthropic.Usage{InputTokens: 1_000_000, OutputTokens: 100_000}, anthropic.Terms{}, at)
	fmt.Printf("%.2f %v\n", cost.Dollars(), known)
	_, known = anthropic.BuiltInPrices.Cost("nobody's-model", anthropic.Usage{InputTokens: 1}, anthropic.Terms{}, at)
	fmt.Println(known)
	// Output:
	// 1.50 true
	// false
}
