package anthropic

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Money is an amount in billionths of a US dollar. Amounts are whole numbers so that
// sums of many requests agree to the last digit, in whatever order they are added.
type Money int64

// Dollar is one US dollar.
const Dollar Money = 1e9

// maxMoney bounds an amount that is parsed or computed, so that sums of millions of
// them cannot overflow.
const maxMoney = 1e6 * Dollar

// Dollars is the amount in US dollars.
func (m Money) Dollars() float64 { return float64(m) / float64(Dollar) }

// MoneyOf rounds an amount in US dollars to the nearest billionth. What is not a
// number, negative or beyond a million dollars is bounded.
func MoneyOf(dollars float64) Money {
	if math.IsNaN(dollars) || dollars < 0 {
		return 0
	}
	return Money(math.Round(min(dollars, maxMoney.Dollars()) * float64(Dollar)))
}

// String is the amount for people, in dollars and cents: $12.34. An amount below a
// cent has as many digits as it takes.
func (m Money) String() string {
	if m != 0 && m > -Dollar/100 && m < Dollar/100 {
		return "$" + m.Decimal()
	}
	return fmt.Sprintf("$%.2f", m.Dollars())
}

// MarshalJSON gives the amount in dollars as a decimal number, exactly.
func (m Money) MarshalJSON() ([]byte, error) { return []byte(m.Decimal()), nil }

// UnmarshalJSON reads what MarshalJSON writes, and rounds any other number.
func (m *Money) UnmarshalJSON(data []byte) error {
	v, err := ParseMoney(string(data))
	if err != nil {
		dollars, notANumber := strconv.ParseFloat(string(data), 64)
		if notANumber != nil {
			return err
		}
		v = MoneyOf(dollars)
	}
	*m = v
	return nil
}

// ParseMoney reads a decimal number of dollars, with at most nine decimals.
func ParseMoney(s string) (Money, error) {
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	fraction = strings.TrimRight(fraction, "0")
	if whole == "" || len(fraction) > 9 {
		return 0, fmt.Errorf("%q is not an amount of dollars", s)
	}
	n, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", 9-len(fraction)), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is not an amount of dollars", s)
	}
	if negative {
		return -Money(n), nil
	}
	return Money(n), nil
}

// Decimal is the amount in dollars with the decimals that it needs, exactly.
func (m Money) Decimal() string {
	sign := ""
	if m < 0 {
		sign, m = "-", -m
	}
	s := fmt.Sprintf("%s%d.%09d", sign, int64(m/Dollar), int64(m%Dollar))
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}
