package chaos

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"
)

// What the heap may grow by between the first and the last third of a soak: what is
// remembered of requests and sessions has bounds that a short run does not reach.
const (
	growthFactor = 1.3
	growthMB     = 16
)

// TestSoak: under a mixed load without faults, memory, goroutines and files stay level.
func TestSoak(t *testing.T) {
	w := newWorld(t)
	w.begin()
	var samples []rest
	w.load(0, func() {
		time.Sleep(*soakFor / 10) // caches and pools fill
		every := max(*soakFor/60, 500*time.Millisecond)
		for end := time.Now().Add(*soakFor); time.Now().Before(end); time.Sleep(every) {
			samples = append(samples, w.holds())
		}
	})
	http.DefaultClient.CloseIdleConnections()
	third := len(samples) / 3
	first, last := median(samples[:third]), median(samples[len(samples)-third:])
	if float64(last.heapMB) > float64(first.heapMB)*growthFactor+growthMB {
		t.Errorf("the heap grew from %d to %d MB", first.heapMB, last.heapMB)
	}
	if last.goroutines > 2*first.goroutines+50 || last.files > 2*first.files+50 {
		t.Errorf("from %+v to %+v", first, last)
	}
	if err := w.caddy.stop(); err != nil {
		t.Error(err)
	}
	w.truth.mu.Lock()
	defer w.truth.mu.Unlock()
	for _, found := range w.truth.found {
		t.Error(found)
	}
	if w.truth.counts["served"] < 100 {
		t.Errorf("%d served are no load", w.truth.counts["served"])
	}
	fmt.Printf("soak: %d requests served in %v; first third %+v, last third %+v\n", w.truth.counts["served"], *soakFor, first, last)
}

func median(all []rest) rest {
	of := func(get func(rest) int) int {
		var values []int
		for _, r := range all {
			values = append(values, get(r))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return rest{of(func(r rest) int { return r.goroutines }), of(func(r rest) int { return r.files }), of(func(r rest) int { return r.heapMB })}
}
