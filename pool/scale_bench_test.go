package pool

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// BenchmarkState is a pool of 500 accounts, 100,000 sessions and 1,000 people: the memory
// that it holds, what is written every few seconds and read at a start, what /status
// shows, and how long the choice of an account waits at most while a snapshot is taken.
func BenchmarkState(b *testing.B) {
	before := inUse()
	g, names := busyPool(b, 500, 100_000)
	p := g.Pool()
	for i := range 1000 {
		p.Finish(Record{ID: fmt.Sprint("r", i), User: fmt.Sprint("person", i)}, "account1#1", nil)
	}
	held := inUse() - before
	data, _, err := p.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Snapshot", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := p.Snapshot(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(held)/1e6, "held-MB")
		b.ReportMetric(float64(len(data))/1e6, "written-MB")
	})
	b.Run("Restore", func(b *testing.B) {
		for b.Loop() {
			if err := New(SystemClock{}, 1).Restore(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("View", func(b *testing.B) {
		for b.Loop() {
			g.View()
		}
	})
	b.Run("PickMeanwhile", func(b *testing.B) {
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-stop:
					return
				default:
					_, _, _ = p.Snapshot()
				}
			}
		}()
		var longest time.Duration
		req := message("")
		i := 0
		for b.Loop() {
			i = (i + 7919) % len(names)
			req.Session = names[i]
			begun := time.Now()
			lease, _ := g.Pick(req)
			longest = max(longest, time.Since(begun))
			lease.Report(&served, nil)
			lease.End(anthropic.Usage{InputTokens: 1})
		}
		close(stop)
		<-ended
		b.ReportMetric(float64(longest)/1e6, "longest-ms")
	})
}

func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
