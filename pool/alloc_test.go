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

// TestFinishLetsGoOfTheRequest: what is remembered of a request keeps nothing that it
// belongs to alive.
func TestFinishLetsGoOfTheRequest(t *testing.T) {
	g, _ := busyPool(t, 2, 1)
	req := message("s")
	req.Trace = g.pool.NewTrace()
	lease, _ := g.Pick(req)
	lease.End(anthropic.Usage{})
	trace := req.Trace
	g.pool.Finish(Record{ID: "x"}, lease.Member.Key, trace)
	lease.End(anthropic.Usage{}) // late, and nothing
	for i := range trace.leases {
		if trace.leases[i].req != nil {
			t.Error("a trace that is remembered holds its request")
		}
	}
	if len(g.pool.Decisions("x")) != 1 {
		t.Error("the decision is forgotten too")
	}
}
