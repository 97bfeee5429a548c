package anthropic

import (
	"encoding/json"
	"math"
	"testing"
)

func TestMoneyIsExact(t *testing.T) {
	for _, m := range []Money{0, 1, -1, 10, 125, Dollar, Dollar + 1, 12_340_000_000, -Dollar / 3, 1 << 60} {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var back Money
		if err := json.Unmarshal(text, &back); err != nil || back != m {
			t.Errorf("%d went as %s and came back as %d (%v)", int64(m), text, int64(back), err)
		}
	}
}

func TestMoneyForPeople(t *testing.T) {
	for m, want := range map[Money]string{
		0: "$0.00", 10: "$0.00000001", Dollar / 200: "$0.005", Dollar / 100: "$0.01", 12*Dollar + Dollar/3: "$12.33", -5 * Dollar: "$-5.00",
	} {
		if got := m.String(); got != want {
			t.Errorf("%d is told as %s; want %s", int64(m), got, want)
		}
	}
}

func TestParseMoney(t *testing.T) {
	for text, want := range map[string]Money{"5": 5 * Dollar, "0.5": Dollar / 2, "007.25": 7*Dollar + Dollar/4, "1.000000001": Dollar + 1, "1.50000000000": 3 * Dollar / 2} {
		if got, err := ParseMoney(text); err != nil || got != want {
			t.Errorf("%s is %d (%v); want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", ".", ".5", "-", "5usd", "1e3", "+5", "0.0000000001", "99999999999999999999", "1.2.3", " 5"} {
		if got, err := ParseMoney(text); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
	if MoneyOf(math.NaN()) != 0 || MoneyOf(-1) != 0 || MoneyOf(math.Inf(1)) != maxMoney || MoneyOf(0.1) != Dollar/10 {
		t.Error("an amount that is no price was not bounded")
	}
}
