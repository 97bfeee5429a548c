package ledger_test

import (
	"fmt"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/ledger"
)

func Example() {
	now := func() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }
	books := ledger.New(now, time.UTC)
	books.Add(ledger.Key{Person: "ann", Account: "main", Model: "claude-opus-5"}, &ledger.Counts{
		Requests: 1, Served: 1, Usage: anthropic.Usage{InputTokens: 1200, OutputTokens: 300},
	})
	// What is counted here reaches other processes by a record in storage.
	data, _, err := books.Record(books.Today())
	if err != nil {
		fmt.Println(err)
		return
	}
	others := ledger.New(now, time.UTC)
	if err := others.Hear("this process", others.Today(), data); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(others.Spent(ledger.OfPerson, "ann", ledger.PerMonth).Tokens, "until", others.Ends(ledger.PerMonth).Format(time.DateOnly))
	// Output: 1500 until 2026-12-01
}
