package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// BenchmarkLine is one request that ends while a thousand wait, the next one that is
// served, and a new one that joins.
func BenchmarkLine(b *testing.B) {
	for _, people := range []int{1, 10, 1000} {
		b.Run(fmt.Sprintf("people/%d", people), func(b *testing.B) {
			const waiting = 1000
			g := New(newSteppedClock(), 1).Group([]*Member{one("a"), one("b")}, Policies[DefaultPolicy])
			var next []*Lease
			n := 0
			join := func() {
				req := message("")
				req.User = fmt.Sprint("person", n%people)
				n++
				g.Join(req, Waiting{Hold: 1000 * time.Hour}, func(lease *Lease, _ *Refusal) { next = append(next, lease) })
			}
			for len(next) < 2 || g.Pool().Waiting() < waiting {
				join()
			}
			b.ReportAllocs()
			for b.Loop() {
				lease := next[0]
				next = append(next[:0], next[1:]...)
				lease.Report(&served, nil)
				lease.End(anthropic.Usage{InputTokens: 1000})
				join()
			}
		})
	}
}
