package pool

import (
	"fmt"
	"testing"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// TestChoiceAllocatesNothing: choosing an account and its bookkeeping cost no memory, how
// ever many accounts and conversations there are.
func TestChoiceAllocatesNothing(t *testing.T) {
	for _, size := range []struct{ accounts, sessions int }{{5, 1000}, {50, 5000}} {
		g, names := busyPool(t, size.accounts, size.sessions)
		for kind, session := range map[string]func(int) string{"warm": func(i int) string { return names[i%len(names)] }, "new": func(int) string { return "" }} {
			t.Run(fmt.Sprintf("%s/%d", kind, size.accounts), func(t *testing.T) {
				req := message("")
				req.Trace = g.pool.NewTrace()
				i := 0
				n := testing.AllocsPerRun(2000, func() {
					i += 7919
					req.Session = session(i)
					lease, _ := g.Pick(req)
					lease.Report(&served, nil)
					lease.End(anthropic.Usage{InputTokens: 1})
					req.Trace.reset()
				})
				if n != 0 {
					t.Errorf("%v allocations for a request", n)
				}
			})
		}
	}
}
