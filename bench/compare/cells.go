package main

import (
	"fmt"
	"time"
)

// cell is one kind of load, with what is shown of it.
type cell struct {
	Part  string // the letter
	Name  string
	Job   job
	Pairs int
	Short int // pairs with -short, 0 for none
	Shows []shown
}

// shown is a row of the table: a figure, and what it should be.
type shown struct {
	Figure string
	Target *target // nil for a figure that is only told
}

// target is a bound, of the median of the ratios to reverse_proxy or of shunt's median
// itself.
type target struct {
	Bound    float64
	AtLeast  bool // a lower bound; otherwise an upper one
	Absolute bool // of the value itself
}

func (t *target) met(value float64) bool {
	if t.AtLeast {
		return value >= t.Bound
	}
	return value <= t.Bound
}

func (t *target) String() string {
	word, unit := "at most", " x"
	if t.AtLeast {
		word = "at least"
	}
	if t.Absolute {
		unit = ""
	}
	return fmt.Sprintf("%s %g%s", word, t.Bound, unit)
}

func atLeast(ratio float64) *target { return &target{Bound: ratio, AtLeast: true} }
func atMost(ratio float64) *target  { return &target{Bound: ratio} }
func below(value float64) *target   { return &target{Bound: value, Absolute: true} }

// connections is how many clients parts A and B have.
const connections = 64

// mostStreams is how many the largest run of part C has where the limit of open files
// allows it: Caddy needs two for each.
const mostStreams = 10_000

// cells are parts A to D. files is the limit of open files.
func cells(files uint64) []*cell {
	most := min(mostStreams, int(files)/2-1000)
	all := []*cell{
		{
			Part: "A", Name: "small JSON", Pairs: 8, Short: 3,
			Job: job{Kind: kindRequests, Connections: connections, Warm: 700 * time.Millisecond, Run: 2 * time.Second},
			Shows: []shown{
				{requestsPerCPU, atLeast(1.5)}, {cpuPer10k, nil}, {requestsPerSecond, nil}, {latencyP50, nil}, {latencyP99, atMost(1)},
			},
		},
		flood("streams without pause, 8 events a write", 8, atLeast(1.3)),
		flood("streams without pause, event by event", 1, atLeast(1)),
		paced("500 streams, 20 ms", 500, 50, 20*time.Millisecond, time.Second, 7,
			shown{delayP50, atMost(0.6)}, shown{delayP99, atMost(0.25)}, shown{firstP50, atMost(0.6)}, shown{memoryPerStream, atMost(0.6)}),
		paced("500 streams, 100 ms", 500, 30, 100*time.Millisecond, time.Second, 2,
			shown{delayP50, nil}, shown{delayP99, nil}, shown{firstP50, nil}, shown{memoryPerStream, atMost(0.6)}),
		paced("2,000 streams, 100 ms", 2000, 50, 100*time.Millisecond, 2*time.Second, 3,
			shown{delayP50, nil}, shown{delayP99, below(5)}, shown{firstP50, atMost(0.6)}, shown{memoryPerStream, atMost(0.6)}),
		paced(fmt.Sprintf("%d streams, 1 s", most), most, 12, time.Second, 9*time.Second, 2,
			shown{delayP50, nil}, shown{delayP99, below(5)}, shown{firstP50, nil}, shown{memoryPerStream, atMost(0.6)}, shown{memoryAboveIdle, below(900)}),
		bodies("bodies of 100 KB", 100_000, 16, nil),
		bodies("bodies of 1 MB", 1_000_000, 8, atLeast(0.9)),
		bodies("bodies of 8 MB", 8_000_000, 4, atLeast(0.9)),
		bodies("bodies of 30 MB", 30_000_000, 2, nil),
		burst("16 bodies of 1 MB at once", 1_000_000, 16),
		burst("4 bodies of 30 MB at once", 30_000_000, 4),
	}
	return all
}

func flood(name string, batch int, events *target) *cell {
	const perStream = 4000
	return &cell{
		Part: "B", Name: name, Pairs: 6, Short: 3,
		Job: job{
			Kind: kindFlood, Connections: connections, Events: perStream, Query: fmt.Sprintf("?events=%d&batch=%d", perStream, batch),
			Warm: 700 * time.Millisecond, Run: 2 * time.Second,
		},
		Shows: []shown{{eventsPerSecond, events}, {eventsPerCPU, nil}},
	}
}

func paced(name string, streams, events int, spacing, ramp time.Duration, pairs int, shows ...shown) *cell {
	short := 0
	if streams <= 500 && spacing < 50*time.Millisecond {
		short = 2
	}
	return &cell{
		Part: "C", Name: name, Pairs: pairs, Short: short,
		Job:   job{Kind: kindPaced, Connections: streams, Events: events, Query: fmt.Sprintf("?events=%d&spacing=%s", events, spacing), Ramp: ramp},
		Shows: append(shows, shown{eventsArrived, &target{Bound: 100, AtLeast: true, Absolute: true}}, shown{goroutinesPerStream, nil}, shown{cpuPer100kEvents, nil}),
	}
}

func bodies(name string, size, senders int, rate *target) *cell {
	return &cell{
		Part: "D", Name: name, Pairs: 3, Short: 1,
		Job: job{Kind: kindRequests, Connections: senders, Body: size, Warm: 500 * time.Millisecond, Run: 1500 * time.Millisecond},
		Shows: []shown{
			{megabytesPerSecond, rate}, {cpuPerGigabyte, atMost(1)}, {memoryPerBody, below(1.3)},
		},
	}
}

func burst(name string, size, senders int) *cell {
	return &cell{
		Part: "D", Name: name, Pairs: 3, Short: 1,
		Job:   job{Kind: kindBurst, Connections: senders, Body: size, Query: "?hold=500ms"},
		Shows: []shown{{memoryPerBodyAtOnce, below(1.3)}},
	}
}
