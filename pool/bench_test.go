package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// busyPool is a pool in use: every account has told its windows and has been
// charged, and every session has a place.
func busyPool(b testing.TB, accounts, sessions int) (*Group, []string) {
	b.Helper()
	var ms []*Member
	for i := range accounts {
		ms = append(ms, &Member{Name: fmt.Sprint("account", i), Key: fmt.Sprint("account", i, "#1")})
	}
	g := New(SystemClock{}, 1).Group(ms, Policies[DefaultPolicy])
	now := time.Now()
	for i, m := range ms {
		g.pool.Pin(m.Name)
		lease, _ := g.Pick(message(""))
		lease.Report(&served, &anthropic.Limits{Windows: []anthropic.Window{
			{Name: "5h", Utilization: float64(i%90) / 100, Reset: now.Add(3 * time.Hour)},
			{Name: "7d", Utilization: float64(i%70) / 100, Reset: now.Add(90 * time.Hour)},
		}})
		lease.End(anthropic.Usage{InputTokens: 1000})
	}
	g.pool.Pin("")
	names := make([]string, sessions)
	for i := range names {
		names[i] = fmt.Sprint("session-0123456789abcdef-", i)
		req := message(names[i])
		lease, _ := g.Pick(req)
		lease.Report(&served, nil)
		lease.End(anthropic.Usage{InputTokens: 1})
	}
	return g, names
}

// BenchmarkPick is one request's choice and bookkeeping: "warm" goes to its
// session's account, "new" is placed by the policy.
func BenchmarkPick(b *testing.B) {
	for _, size := range []struct{ accounts, sessions int }{{5, 1000}, {50, 10_000}, {500, 100_000}} {
		for _, kind := range []string{"warm", "new"} {
			b.Run(fmt.Sprintf("%s/%d", kind, size.accounts), func(b *testing.B) {
				g, names := busyPool(b, size.accounts, size.sessions)
				req := message("")
				req.Trace = g.pool.NewTrace()
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					if kind == "warm" {
						i = (i + 7919) % len(names)
						req.Session = names[i]
					}
					lease, _ := g.Pick(req)
					lease.Report(&served, nil)
					lease.End(anthropic.Usage{InputTokens: 1})
					req.Trace.reset()
				}
			})
		}
	}
}

// BenchmarkPickParallel is the same on all processors at once, with requests that each
// go to the account of their session.
func BenchmarkPickParallel(b *testing.B) {
	for _, size := range []struct{ accounts, sessions int }{{5, 1000}, {50, 10_000}, {500, 100_000}} {
		b.Run(fmt.Sprint(size.accounts), func(b *testing.B) {
			g, names := busyPool(b, size.accounts, size.sessions)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				req := message("")
				req.Trace = g.pool.NewTrace()
				for i := 0; pb.Next(); {
					i = (i + 7919) % len(names)
					req.Session = names[i]
					lease, _ := g.Pick(req)
					lease.Report(&served, nil)
					lease.End(anthropic.Usage{InputTokens: 1})
					req.Trace.reset()
				}
			})
		})
	}
}

// BenchmarkMerge: what a peer with a hundred thousand conversations tells, while
// others choose accounts; the longest of their waits is what matters.
func BenchmarkMerge(b *testing.B) {
	c := newClock()
	told := New(c, 1).Group(members("a", "b"), Policies[DefaultPolicy])
	for i := range maxSessions {
		lease, _ := told.Pick(message(fmt.Sprint("s", i)))
		lease.Report(&served, nil)
		lease.End(anthropic.Usage{})
	}
	data, err := told.Pool().Facts(time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	var longest time.Duration
	for b.Loop() {
		g := New(c, 2).Group(members("a", "b"), Policies[DefaultPolicy])
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := g.Pool().Merge("x", data); err != nil {
				b.Error(err)
			}
		}()
		for waiting := true; waiting; {
			select {
			case <-done:
				waiting = false
			default:
				begun := time.Now()
				lease, _ := g.Pick(message("mine"))
				longest = max(longest, time.Since(begun))
				lease.End(anthropic.Usage{})
			}
		}
	}
	b.ReportMetric(float64(len(data))/1e6, "MB")
	b.ReportMetric(float64(longest.Microseconds())/1e3, "longest-pick-ms")
}
