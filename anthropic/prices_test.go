package anthropic

import (
	"strings"
	"testing"
	"time"
)

var today = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// TestPublishedPrices: input, five-minute write, one-hour write, read and output of a
// million tokens each.
func TestPublishedPrices(t *testing.T) {
	one := Usage{InputTokens: 1e6, OutputTokens: 1e6, CacheReadTokens: 1e6, CacheWriteTokens: 2e6, CacheWrite1hTokens: 1e6}
	for model, want := range map[string]float64{
		"claude-fable-5-2": 8 + 10 + 16 + .20 + 40, "claude-mythos-5-2": 8 + 10 + 16 + .20 + 40,
		"claude-fable-5-1": 10 + 12.5 + 20 + .25 + 50, "claude-mythos-5-1": 10 + 12.5 + 20 + .25 + 50,
		"claude-fable-5": 10 + 12.5 + 20 + 1 + 50, "claude-mythos-5": 10 + 12.5 + 20 + 1 + 50,
		"claude-opus-5-5": 4 + 5 + 8 + .2 + 20,
		"claude-opus-5":   5 + 6.25 + 10 + .5 + 25, "claude-opus-4-8": 5 + 6.25 + 10 + .5 + 25, "claude-opus-4-7": 5 + 6.25 + 10 + .5 + 25,
		"claude-opus-4-6": 5 + 6.25 + 10 + .5 + 25, "claude-opus-4-5-20251101": 5 + 6.25 + 10 + .5 + 25,
		"claude-opus-4-1-20250805": 15 + 18.75 + 30 + 1.5 + 75, "claude-opus-4-20250514": 15 + 18.75 + 30 + 1.5 + 75, "claude-opus-4-0": 15 + 18.75 + 30 + 1.5 + 75,
		"claude-sonnet-5-5": 2 + 2.5 + 4 + .1 + 10, "claude-sonnet-5": 2 + 2.5 + 4 + .2 + 10,
		"claude-sonnet-4-6": 3 + 3.75 + 6 + .3 + 15, "claude-sonnet-4-5-20250929": 3 + 3.75 + 6 + .3 + 15, "claude-sonnet-4-20250514": 3 + 3.75 + 6 + .3 + 15,
		"claude-haiku-5-5": 5 * (.1 + .125 + .2 + .01 + .5), "claude-haiku-4-5-20251001": 1 + 1.25 + 2 + .1 + 5,
		"claude-3-5-haiku-20241022": .8 + 1 + 1.6 + .08 + 4,
		// Other ways to name them.
		"claude-opus-5-latest": 5 + 6.25 + 10 + .5 + 25, "claude-opus-5[1m]": 5 + 6.25 + 10 + .5 + 25, "claude-opus-5-20260428[1m]": 5 + 6.25 + 10 + .5 + 25,
		"claude-opus-5@20260428": 5 + 6.25 + 10 + .5 + 25, "us.anthropic.claude-opus-5-20260428-v1:0": 5 + 6.25 + 10 + .5 + 25,
	} {
		if got, ok := BuiltInPrices.Cost(model, one, Terms{}, today); !ok || got != MoneyOf(want) {
			t.Errorf("%s: %v, %v; want $%g", model, got, ok, want)
		}
	}
	for _, model := range []string{"", "gpt-9", "claude", "claude-opus", "claude-opus-5-9", "claude-opus-6", "claude-opus-50", "claude-opus-5-", "claude-opus-5-2026", "my-claude-opus-5"} {
		if cost, ok := BuiltInPrices.Cost(model, one, Terms{}, today); ok {
			t.Errorf("%q: %v; its price is not known", model, cost)
		}
	}
}

func TestPricesOfADay(t *testing.T) {
	read := Usage{CacheReadTokens: 1e6}
	for day, want := range map[string]Money{"2026-10-06T23:59:59Z": Dollar / 5, "2026-10-07T00:00:00Z": Dollar / 10} {
		at, _ := time.Parse(time.RFC3339, day)
		if got, _ := BuiltInPrices.Cost("claude-sonnet-5-5", read, Terms{}, at); got != want {
			t.Errorf("on %s: %v; want %v", day, got, want)
		}
	}
}

func TestTermsOfPrices(t *testing.T) {
	one := Usage{InputTokens: 1e6, OutputTokens: 1e6, CacheReadTokens: 1e6, WebSearches: 3}
	for _, test := range []struct {
		model string
		terms Terms
		want  float64
		known bool
	}{
		{"claude-opus-5", Terms{Tier: "standard", Geo: "global", Speed: "standard"}, 30.5 + .03, true},
		{"claude-opus-5", Terms{Tier: "batch"}, 30.5/2 + .03, true},
		{"claude-opus-5", Terms{Geo: "us"}, 30.5*1.1 + .03, true},
		{"claude-opus-5", Terms{Speed: "fast"}, 10 + 50 + 1 + .03, true},
		{"claude-opus-4-8", Terms{Speed: "fast", Geo: "us"}, 61*1.1 + .03, true},
		{"claude-sonnet-5", Terms{Speed: "fast"}, 0, false},
	} {
		if got, known := BuiltInPrices.Cost(test.model, one, test.terms, today); known != test.known || got != MoneyOf(test.want) {
			t.Errorf("%+v: %v, %v", test, got, known)
		}
	}
	small := Usage{InputTokens: 100_000}
	if got, _ := BuiltInPrices.Cost("claude-haiku-5-5", small, Terms{}, today); got != Dollar/100 {
		t.Errorf("a prompt that is just not long: %v", got)
	}
}

func TestPriceFiles(t *testing.T) {
	p, err := ParsePrices([]byte(`{"as_of": "2026-12-01", "web_search_per_1000": 5, "models": [
		{"model": "claude-next", "input": 1, "output": 2},
		{"model": "claude-sonnet-5-5", "input": 4, "output": 20, "cache_read": 0},
		{"model": "claude-opus-5", "from": "2027-01-01", "input": 2, "output": 3}]}`))
	if err != nil {
		t.Fatal(err)
	}
	one := Usage{InputTokens: 1e6, OutputTokens: 1e6, CacheReadTokens: 1e6, CacheWriteTokens: 2e6, CacheWrite1hTokens: 1e6, WebSearches: 1000}
	for model, want := range map[string]float64{"claude-next-20261201": 1 + 2 + .1 + 1.25 + 2 + 5, "claude-sonnet-5-5": 4 + 20 + 5 + 8 + 5, "claude-haiku-4-5": 1 + 5 + .1 + 1.25 + 2 + 5} {
		if got, ok := p.Cost(model, one, Terms{}, today); !ok || got != MoneyOf(want) {
			t.Errorf("%s: %v; want $%g", model, got, want)
		}
	}
	if p.AsOf != "2026-12-01" {
		t.Errorf("as of %s", p.AsOf)
	}
	if cost, ok := p.Cost("claude-opus-5", one, Terms{}, today); ok {
		t.Errorf("before the file's price begins: %v", cost)
	}
	for text, want := range map[string]string{
		``: "EOF",
		`{"as_of":"2026-12-01","models":[{"model":"a","input":1,"output":1}]}x`: "more",
		`{"as_of":"soon"}`:                  "as_of",
		`{"as_of":"2026-12-01","model":[]}`: "model",
		`{"as_of":"2026-12-01","models":[{"model":"a","input":-1,"output":1}]}`:                                   "models[0] (a): input",
		`{"as_of":"2026-12-01","models":[{"model":"a","input":1}]}`:                                               "output",
		`{"as_of":"2026-12-01","models":[{"input":1,"output":1}]}`:                                                "model:",
		`{"as_of":"2026-12-01","models":[{"model":"a","input":1,"output":1},{"model":"a","input":1,"output":1}]}`: "twice",
		`{"as_of":"2026-12-01","models":[{"model":"a","input":1,"output":1,"from":"2026-1-1"}]}`:                  "from",
		`{"as_of":"2026-12-01","models":[{"model":"a","input":1,"output":1,"long_prompt":5}]}`:                    "long_factor",
		`{"as_of":"2026-12-01","models":[{"model":"a","input":1,"output":1,"fast_input":5}]}`:                     "fast_output",
		`{"as_of":"2026-12-01","web_search_per_1000":-1}`:                                                         "web_search_per_1000",
	} {
		if _, err := ParsePrices([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
}

func FuzzParsePrices(f *testing.F) {
	f.Add([]byte(`{"as_of": "2026-12-01", "models": [{"model": "claude-next", "input": 1, "output": 2}]}`), "claude-next-20260101")
	f.Fuzz(func(t *testing.T, data []byte, model string) {
		p, err := ParsePrices(data)
		if err != nil {
			p = BuiltInPrices
		}
		u := Usage{InputTokens: maxTokens, OutputTokens: maxTokens, CacheReadTokens: maxTokens, CacheWriteTokens: maxTokens, WebSearches: maxTokens}
		if cost, _ := p.Cost(model, u, Terms{}, today); cost < 0 || cost > maxMoney {
			t.Errorf("%v", cost)
		}
	})
}
