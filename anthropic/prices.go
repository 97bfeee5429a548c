package anthropic

import (
	"maps"
	"slices"
	"strings"
)

// PricesAsOf is the day on which the built-in price table was last compared
// with the published one.
const PricesAsOf = "2026-11-10"

// Price is what a model costs, in US dollars for a million tokens.
type Price struct {
	Input, CacheWrite5m, CacheWrite1h, CacheRead, Output float64
	// LongPrompt, when positive, is the prompt size in tokens beyond which the
	// whole request costs LongFactor times as much.
	LongPrompt int64
	LongFactor float64
}

// prices is keyed by model id prefix; the longest that matches holds. Sources:
// the published pricing page and model pages; cache prices of the newest
// generation are third parties' figures.
var prices = map[string]Price{
	"claude-fable-5-2":  {8, 10, 16, 0.20, 40, 0, 0},
	"claude-mythos-5-2": {8, 10, 16, 0.20, 40, 0, 0},
	"claude-fable-5-1":  {10, 12.50, 20, 0.25, 50, 0, 0},
	"claude-mythos-5-1": {10, 12.50, 20, 0.25, 50, 0, 0},
	"claude-fable-5":    {10, 12.50, 20, 1.00, 50, 0, 0},
	"claude-mythos-5":   {10, 12.50, 20, 1.00, 50, 0, 0},
	"claude-opus-5-5":   {4, 5, 8, 0.20, 20, 0, 0},
	"claude-opus-5":     {5, 6.25, 10, 0.50, 25, 0, 0},
	"claude-opus-4-8":   {5, 6.25, 10, 0.50, 25, 0, 0},
	"claude-opus-4-7":   {5, 6.25, 10, 0.50, 25, 0, 0},
	"claude-opus-4-6":   {5, 6.25, 10, 0.50, 25, 0, 0},
	"claude-opus-4-5":   {5, 6.25, 10, 0.50, 25, 0, 0},
	"claude-opus-4":     {15, 18.75, 30, 1.50, 75, 0, 0},
	"claude-sonnet-5-5": {2, 2.50, 4, 0.10, 10, 0, 0},
	"claude-sonnet-5":   {2, 2.50, 4, 0.20, 10, 0, 0},
	"claude-sonnet-4":   {3, 3.75, 6, 0.30, 15, 0, 0},
	"claude-haiku-5-5":  {0.10, 0.125, 0.20, 0.01, 0.50, 100_000, 5},
	"claude-haiku-4-5":  {1, 1.25, 2, 0.10, 5, 0, 0},
	"claude-3-5-haiku":  {0.80, 1, 1.60, 0.08, 4, 0, 0},
}

const webSearchPrice = 10.0 / 1000

// byPrefix has the keys of prices, longest first.
var byPrefix = slices.SortedFunc(maps.Keys(prices), func(a, b string) int { return len(b) - len(a) })

// PriceOf finds the price of a model; false when it is not known.
func PriceOf(model string) (Price, bool) {
	for _, prefix := range byPrefix {
		if strings.HasPrefix(model, prefix) {
			return prices[prefix], true
		}
	}
	return Price{}, false
}

// usualPrice stands in for a model whose price is not known where only the size of
// one request against another counts.
var usualPrice = prices["claude-sonnet-5"]

// Load is what usage weighs in an account's windows, in millionths of a US dollar
// at list price. Upstream does not tell how it weighs models and kinds of tokens;
// prices are the nearest that is published.
func Load(model string, u Usage) float64 {
	p, ok := PriceOf(model)
	if !ok {
		p = usualPrice
	}
	return p.perMillion(u)
}

// Cost is what usage costs with the model, in US dollars; false when the
// model's price is not known.
func Cost(model string, u Usage) (float64, bool) {
	p, ok := PriceOf(model)
	if !ok {
		return 0, false
	}
	return p.perMillion(u)/1e6 + float64(u.WebSearches)*webSearchPrice, true
}

func (p *Price) perMillion(u Usage) float64 {
	write5m := max(0, u.CacheWriteTokens-u.CacheWrite1hTokens)
	perMillion := float64(u.InputTokens)*p.Input + float64(write5m)*p.CacheWrite5m +
		float64(u.CacheWrite1hTokens)*p.CacheWrite1h + float64(u.CacheReadTokens)*p.CacheRead +
		float64(u.OutputTokens)*p.Output
	if p.LongPrompt > 0 && u.PromptTokens() > p.LongPrompt {
		perMillion *= p.LongFactor
	}
	return perMillion
}
