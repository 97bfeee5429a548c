package anthropic

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Price is what a model costs, in US dollars for a million tokens.
type Price struct {
	// Model is the model id without date; From is the first day of the price, such as
	// 2026-10-07, empty for always.
	Model string `json:"model"`
	From  string `json:"from,omitempty"`

	Input        float64 `json:"input"`
	CacheWrite5m float64 `json:"cache_write_5m"`
	CacheWrite1h float64 `json:"cache_write_1h"`
	CacheRead    float64 `json:"cache_read"`
	Output       float64 `json:"output"`
	// LongPrompt, when positive, is the prompt size in tokens beyond which the
	// whole request costs LongFactor times as much.
	LongPrompt int64   `json:"long_prompt,omitempty"`
	LongFactor float64 `json:"long_factor,omitempty"`
	// FastInput and FastOutput are the prices in fast mode; 0 when there is none, or
	// it is not known.
	FastInput  float64 `json:"fast_input,omitempty"`
	FastOutput float64 `json:"fast_output,omitempty"`
}

// Prices is a price table.
type Prices struct {
	// AsOf is the day on which it was last compared with the published one.
	AsOf string
	// WebSearch is the price of a thousand web searches.
	WebSearch float64
	// byModel has the prices of each model, the latest first.
	byModel map[string][]Price
}

// BuiltInPrices is the table of list prices that comes with this version. Sources:
// the published pricing page and model pages (wire facts 5.2); cache prices of the
// newest generation are third parties' figures.
var BuiltInPrices = newPrices("2026-11-10", 10, []Price{
	{Model: "claude-fable-5-2", Input: 8, CacheWrite5m: 10, CacheWrite1h: 16, CacheRead: 0.20, Output: 40},
	{Model: "claude-mythos-5-2", Input: 8, CacheWrite5m: 10, CacheWrite1h: 16, CacheRead: 0.20, Output: 40},
	{Model: "claude-fable-5-1", Input: 10, CacheWrite5m: 12.50, CacheWrite1h: 20, CacheRead: 0.25, Output: 50},
	{Model: "claude-mythos-5-1", Input: 10, CacheWrite5m: 12.50, CacheWrite1h: 20, CacheRead: 0.25, Output: 50},
	{Model: "claude-fable-5", Input: 10, CacheWrite5m: 12.50, CacheWrite1h: 20, CacheRead: 1.00, Output: 50},
	{Model: "claude-mythos-5", Input: 10, CacheWrite5m: 12.50, CacheWrite1h: 20, CacheRead: 1.00, Output: 50},
	{Model: "claude-opus-5-5", Input: 4, CacheWrite5m: 5, CacheWrite1h: 8, CacheRead: 0.20, Output: 20},
	{Model: "claude-opus-5", Input: 5, CacheWrite5m: 6.25, CacheWrite1h: 10, CacheRead: 0.50, Output: 25, FastInput: 10, FastOutput: 50},
	{Model: "claude-opus-4-8", Input: 5, CacheWrite5m: 6.25, CacheWrite1h: 10, CacheRead: 0.50, Output: 25, FastInput: 10, FastOutput: 50},
	{Model: "claude-opus-4-7", Input: 5, CacheWrite5m: 6.25, CacheWrite1h: 10, CacheRead: 0.50, Output: 25},
	{Model: "claude-opus-4-6", Input: 5, CacheWrite5m: 6.25, CacheWrite1h: 10, CacheRead: 0.50, Output: 25},
	{Model: "claude-opus-4-5", Input: 5, CacheWrite5m: 6.25, CacheWrite1h: 10, CacheRead: 0.50, Output: 25},
	{Model: "claude-opus-4-1", Input: 15, CacheWrite5m: 18.75, CacheWrite1h: 30, CacheRead: 1.50, Output: 75},
	{Model: "claude-opus-4-0", Input: 15, CacheWrite5m: 18.75, CacheWrite1h: 30, CacheRead: 1.50, Output: 75},
	{Model: "claude-opus-4", Input: 15, CacheWrite5m: 18.75, CacheWrite1h: 30, CacheRead: 1.50, Output: 75},
	{Model: "claude-sonnet-5-5", Input: 2, CacheWrite5m: 2.50, CacheWrite1h: 4, CacheRead: 0.20, Output: 10},
	{Model: "claude-sonnet-5-5", From: "2026-10-07", Input: 2, CacheWrite5m: 2.50, CacheWrite1h: 4, CacheRead: 0.10, Output: 10},
	{Model: "claude-sonnet-5", Input: 2, CacheWrite5m: 2.50, CacheWrite1h: 4, CacheRead: 0.20, Output: 10},
	{Model: "claude-sonnet-4-6", Input: 3, CacheWrite5m: 3.75, CacheWrite1h: 6, CacheRead: 0.30, Output: 15},
	{Model: "claude-sonnet-4-5", Input: 3, CacheWrite5m: 3.75, CacheWrite1h: 6, CacheRead: 0.30, Output: 15},
	{Model: "claude-sonnet-4-0", Input: 3, CacheWrite5m: 3.75, CacheWrite1h: 6, CacheRead: 0.30, Output: 15},
	{Model: "claude-sonnet-4", Input: 3, CacheWrite5m: 3.75, CacheWrite1h: 6, CacheRead: 0.30, Output: 15},
	{Model: "claude-haiku-5-5", Input: 0.10, CacheWrite5m: 0.125, CacheWrite1h: 0.20, CacheRead: 0.01, Output: 0.50, LongPrompt: 100_000, LongFactor: 5},
	{Model: "claude-haiku-4-5", Input: 1, CacheWrite5m: 1.25, CacheWrite1h: 2, CacheRead: 0.10, Output: 5},
	{Model: "claude-haiku-3-5", Input: 0.80, CacheWrite5m: 1, CacheWrite1h: 1.60, CacheRead: 0.08, Output: 4},
	{Model: "claude-3-5-haiku", Input: 0.80, CacheWrite5m: 1, CacheWrite1h: 1.60, CacheRead: 0.08, Output: 4},
})

func newPrices(asOf string, webSearch float64, prices []Price) *Prices {
	t := &Prices{AsOf: asOf, WebSearch: webSearch, byModel: make(map[string][]Price)}
	for _, p := range prices {
		t.byModel[p.Model] = append(t.byModel[p.Model], p)
	}
	for _, of := range t.byModel {
		slices.SortStableFunc(of, func(a, b Price) int { return strings.Compare(b.From, a.From) })
	}
	return t
}

// with is the table with these prices: those of a model take the place of all that
// the table has for it.
func (t *Prices) with(asOf string, webSearch float64, prices []Price) *Prices {
	both := slices.Clone(prices)
	for model, of := range t.byModel {
		if !slices.ContainsFunc(prices, func(p Price) bool { return p.Model == model }) {
			both = append(both, of...)
		}
	}
	return newPrices(asOf, webSearch, both)
}

// Terms are what an answer says that changes its price. Fields are empty when it does
// not say.
type Terms struct {
	Tier, Geo, Speed string
}

// Factors of the list price (pricing page): of what is done in a batch, and only in the
// United States.
const (
	batchFactor = 0.5
	usFactor    = 1.1
)

// PriceOf finds the price of a model on a day; false when it is not known. A model id
// may be dated, an alias (-latest), or have a suffix in brackets; a version that is
// not in the table is another model.
func (t *Prices) PriceOf(model string, at time.Time) (Price, bool) {
	of := t.pricesOf(model)
	var buffer [len(time.DateOnly)]byte
	day := at.UTC().AppendFormat(buffer[:0], time.DateOnly)
	for i := range of {
		if of[i].From <= string(day) {
			return of[i], true
		}
	}
	return Price{}, false
}

// pricesOf are the prices of a model, the latest first; none if they are not known.
func (t *Prices) pricesOf(model string) []Price {
	if i := strings.LastIndexAny(model, "./"); i >= 0 {
		model = model[i+1:] // the provider's prefix on other clouds
	}
	for base := model; base != ""; {
		if of := t.byModel[base]; of != nil && sameModel(model[len(base):]) {
			return of
		}
		base = base[:max(0, strings.LastIndexAny(base, "-@[:"))]
	}
	return nil
}

// sameModel reports whether what follows the name of a model in an id leaves it the
// same one: nothing, a date, an alias, or a suffix.
func sameModel(rest string) bool {
	if rest == "" || rest[0] == '[' || rest[0] == '@' || rest[0] == ':' {
		return true
	}
	word := strings.TrimPrefix(rest, "-")
	if i := strings.IndexAny(word, "-@[:"); i >= 0 {
		word = word[:i]
	}
	if word == "latest" {
		return true
	}
	return len(word) == len("20260101") && strings.Trim(word, "0123456789") == ""
}

// Cost is what usage costs with the model at that time; false when the price is not
// known. It is rounded to the nearest billionth of a dollar, once for the answer.
func (t *Prices) Cost(model string, u Usage, terms Terms, at time.Time) (Money, bool) {
	p, ok := t.PriceOf(model, at)
	if !ok {
		return 0, false
	}
	factor := 1.0
	if terms.Speed == "fast" {
		if p.FastInput == 0 || p.FastOutput == 0 || p.Input == 0 {
			return 0, false
		}
		// Cache prices follow the price of input.
		cache := p.FastInput / p.Input
		p.Input, p.Output = p.FastInput, p.FastOutput
		p.CacheRead, p.CacheWrite5m, p.CacheWrite1h = p.CacheRead*cache, p.CacheWrite5m*cache, p.CacheWrite1h*cache
	}
	if terms.Tier == "batch" {
		factor *= batchFactor
	}
	if terms.Geo == "us" {
		factor *= usFactor
	}
	return MoneyOf(p.perMillion(u)*factor/1e6 + float64(u.WebSearches)*t.WebSearch/1000), true
}

// usualPrice stands in for a model whose price is not known where only the size of
// one request against another counts.
var usualPrice = BuiltInPrices.byModel["claude-sonnet-5"][0]

// Load is what usage weighs in an account's windows, in millionths of a US dollar
// at list price. Upstream does not tell how it weighs models and kinds of tokens;
// prices are the nearest that is published.
func Load(model string, u Usage) float64 {
	if of := BuiltInPrices.pricesOf(model); len(of) > 0 {
		return of[0].perMillion(u)
	}
	return usualPrice.perMillion(u)
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

// check finds what is wrong with a price, naming the field.
func (p *Price) check() error {
	if p.Model == "" || len(p.Model) > maxID {
		return fmt.Errorf("model: %q is no model id", p.Model)
	}
	if p.From != "" {
		if _, err := time.Parse(time.DateOnly, p.From); err != nil {
			return fmt.Errorf("from: %q; expected a day such as 2026-10-07", p.From)
		}
	}
	const most = 1e5 // dollars for a million tokens
	for _, field := range [...]struct {
		name  string
		value float64
	}{
		{"input", p.Input}, {"output", p.Output}, {"cache_write_5m", p.CacheWrite5m}, {"cache_write_1h", p.CacheWrite1h}, {"cache_read", p.CacheRead},
		{"long_factor", p.LongFactor}, {"fast_input", p.FastInput}, {"fast_output", p.FastOutput},
	} {
		if field.value < 0 || field.value > most {
			return fmt.Errorf("%s: %g; expected US dollars for a million tokens", field.name, field.value)
		}
	}
	switch {
	case p.Input == 0 || p.Output == 0:
		return fmt.Errorf("input, output: expected both, above 0")
	case p.LongPrompt < 0, (p.LongPrompt > 0) != (p.LongFactor > 0):
		return fmt.Errorf("long_prompt, long_factor: expected both or none")
	case (p.FastInput > 0) != (p.FastOutput > 0):
		return fmt.Errorf("fast_input, fast_output: expected both or none")
	}
	return nil
}
