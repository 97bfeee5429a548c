package people

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// Budget is how much may be used in a period: an amount of US dollars by the price
// table, or a number of tokens of all kinds, cached or not. One of the two is set.
type Budget struct {
	// USD is the amount in US dollars, by the price table.
	USD anthropic.Money `json:"usd,omitempty"`
	// Tokens is the number of tokens.
	Tokens int64 `json:"tokens,omitempty"`
	// Per is day, week or month.
	Per string `json:"per"`
}

// The periods of a budget.
const (
	PerDay   = "day"
	PerWeek  = "week"
	PerMonth = "month"
)

// mostBudget bounds a budget, in dollars and in tokens, so that sums cannot overflow.
const mostBudget = 1e15

func (b *Budget) check() error {
	switch {
	case b.Per != PerDay && b.Per != PerWeek && b.Per != PerMonth:
		return fmt.Errorf("per %q; expected per day, week or month", b.Per)
	case b.USD < 0 || b.Tokens < 0 || b.Tokens > mostBudget:
		return fmt.Errorf("expected an amount between 0 and %g", float64(mostBudget))
	case (b.USD > 0) == (b.Tokens > 0):
		return fmt.Errorf("expected either an amount of usd or a number of tokens, above 0")
	}
	return nil
}

// ParseBudget reads a budget as people write it: 20usd per day, 1.5M tokens per week.
func ParseBudget(words []string) (b Budget, err error) {
	const expected = "expected <amount>usd or <n>tokens, and per day, week or month"
	text := strings.ToLower(strings.Join(words, " "))
	amount, per, found := strings.Cut(text, " per ")
	if !found {
		return b, fmt.Errorf("%q; %s", text, expected)
	}
	b.Per = strings.TrimSpace(per)
	amount = strings.ReplaceAll(amount, " ", "")
	if dollars, ok := strings.CutSuffix(amount, "usd"); ok {
		if b.USD, err = anthropic.ParseMoney(dollars); err != nil || b.USD <= 0 {
			return b, fmt.Errorf("%q; %s", text, expected)
		}
	} else if count, ok := strings.CutSuffix(amount, "tokens"); ok {
		if b.Tokens, err = parseCount(count); err != nil {
			return b, fmt.Errorf("%q; %s", text, expected)
		}
	} else {
		return b, fmt.Errorf("%q; %s", text, expected)
	}
	return b, b.check()
}

// parseCount reads a number of tokens: 500000, 500k, 1.5m, 2g.
func parseCount(s string) (int64, error) {
	factor := 1.0
	for suffix, f := range map[string]float64{"k": 1e3, "m": 1e6, "g": 1e9} {
		if digits, ok := strings.CutSuffix(s, suffix); ok {
			s, factor = digits, f
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if n *= factor; err != nil || math.IsNaN(n) || n < 1 || n > mostBudget || n != math.Trunc(n) {
		return 0, fmt.Errorf("%q is not a number of tokens", s)
	}
	return int64(n), nil
}

// String is the budget for people.
func (b *Budget) String() string {
	if b.USD > 0 {
		return b.USD.String() + " per " + b.Per
	}
	return strconv.FormatInt(b.Tokens, 10) + " tokens per " + b.Per
}
