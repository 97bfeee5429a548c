package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPieces: counting and stamps do not depend on where a stream is cut.
func TestPieces(t *testing.T) {
	text := streamHead + deltaBefore + "@1763934123456789012@" + deltaAfter + deltaBefore + "@1763934123456789013@" + deltaAfter + streamTail
	for size := 1; size <= len(text); size++ {
		var blank blankLines
		var times stamps
		var found []int64
		events := 0
		for piece := range slices.Chunk([]byte(text), size) {
			events += blank.in(piece)
			times.in(piece, func(stamp int64) { found = append(found, stamp) })
		}
		if events != frameEvents+2 {
			t.Errorf("pieces of %d bytes: %d events, want %d", size, events, frameEvents+2)
		}
		if !slices.Equal(found, []int64{1763934123456789012, 1763934123456789013}) {
			t.Errorf("pieces of %d bytes: stamps %v", size, found)
		}
	}
}

func TestRequestBody(t *testing.T) {
	for _, size := range []int{400, 100_000, 1_000_000} {
		body := requestBody(size, true)
		if len(body) < size-100 || len(body) > size+100 {
			t.Errorf("a body of %d bytes has %d", size, len(body))
		}
		var message struct {
			Model    string
			Stream   bool
			Messages []struct{ Role string }
		}
		if err := json.Unmarshal(body, &message); err != nil || !message.Stream || message.Model == "" || len(message.Messages) == 0 {
			t.Errorf("a body of %d bytes is %+v, %v", size, message, err)
		}
	}
}

func TestReckon(t *testing.T) {
	f := reckon(&job{Kind: kindRequests, Connections: 4, Body: 1e6}, &outcome{Seconds: 2, Requests: 1000, Bytes: 1e9, Latency: quantiles{P50: 3, P99: 9}},
		usedUp{cpu: time.Second / 2, idle: 10e6, peak: 16e6})
	for name, want := range map[string]float64{
		requestsPerSecond: 500, requestsPerCPU: 2000, cpuPer10k: 5, latencyP50: 3, latencyP99: 9, megabytesPerSecond: 500, cpuPerGigabyte: 0.5, memoryPerBody: 1.5,
	} {
		if f[name] != want {
			t.Errorf("%s is %v, want %v", name, f[name], want)
		}
	}
	f = reckon(&job{Kind: kindPaced, Connections: 100, Events: 1000}, &outcome{Events: 50_000, Delay: quantiles{P50: 1, P99: 2}, First: quantiles{P50: 4}},
		usedUp{cpu: time.Second, idle: 10e6, peak: 20e6, goroutines: 400})
	for name, want := range map[string]float64{
		delayP50: 1, delayP99: 2, firstP50: 4, memoryPerStream: 100, memoryAboveIdle: 10, goroutinesPerStream: 4, cpuPer100kEvents: 2, eventsArrived: 50,
	} {
		if f[name] != want {
			t.Errorf("%s is %v, want %v", name, f[name], want)
		}
	}
	f = reckon(&job{Kind: kindFlood}, &outcome{Events: 1000, Seconds: 2}, usedUp{cpu: time.Second / 2})
	if f[eventsPerSecond] != 500 || f[eventsPerCPU] != 2000 {
		t.Errorf("a flood's figures are %v", f)
	}
	if f := reckon(&job{Kind: kindBurst}, &outcome{Bytes: 4e6}, usedUp{idle: 1e6, peak: 7e6}); f[memoryPerBodyAtOnce] != 1.5 {
		t.Errorf("a burst's figures are %v", f)
	}
}

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		kind string
		o    outcome
		ok   bool
	}{
		{kindRequests, outcome{Requests: 1000}, true},
		{kindRequests, outcome{Requests: 1000, Failed: 1}, false},
		{kindRequests, outcome{}, false},
		{kindPaced, outcome{Requests: 95, Events: 95, Failed: 5}, true},
		{kindPaced, outcome{Requests: 94, Events: 94, Failed: 6}, false},
	} {
		if err := c.o.check(&job{Kind: c.kind, Connections: 100}); (err == nil) != c.ok {
			t.Errorf("%s, %+v: %v", c.kind, c.o, err)
		}
	}
}

// TestCells: each row's figure is one that its kind of load gives, and names of loads
// tell them apart.
func TestCells(t *testing.T) {
	names := map[string]bool{}
	for _, c := range cells(20_000) {
		f := reckon(&c.Job, &outcome{Seconds: 1, Requests: 1, Events: 1, Bytes: 1, Latency: quantiles{P50: 1, P99: 1}, First: quantiles{P50: 1}, Delay: quantiles{P50: 1, P99: 1}}, usedUp{goroutines: 1})
		for _, s := range c.Shows {
			if !(f[s.Figure] > 0) {
				t.Errorf("%s has no figure %q", c.Name, s.Figure)
			}
		}
		if names[c.Name] {
			t.Errorf("two loads are called %q", c.Name)
		}
		names[c.Name] = true
		if c.Job.Kind == kindPaced && 2*c.Job.Connections > 20_000-1000 {
			t.Errorf("%s needs more files than there may be", c.Name)
		}
	}
	if !names["9000 streams, 1 s"] {
		t.Error("20,000 files are enough for 9000 streams")
	}
}

func TestPage(t *testing.T) {
	path := t.TempDir() + "/page.md"
	rows := []*row{
		{Part: "A", Load: "small", Figure: requestsPerCPU, Theirs: 100, Ours: 150, Ratio: &spread{1.4, 1.5, 1.6, 3}, Target: atLeast(1.5)},
		{Part: "E", Load: "Pick", Figure: "ns", Ours: 1500, Spread: spread{1400, 1500, 1600, 3}, Target: below(1000)},
	}
	if err := writePage(path, machine{CPU: "a CPU", Cores: 2, Command: "./xcaddy.sh bench"}, rows); err != nil {
		t.Fatal(err)
	}
	page := read(t, path)
	for _, want := range []string{
		"1 of 2 targets are met", "2 cores (a CPU)", "./xcaddy.sh bench\n",
		"\n| A | small | requests per CPU second | 100 | 150 | 1.50 (1.40-1.60, 3) | at least 1.5 x | met |\n",
		"\n| E | Pick | ns |  | 1500 (1400-1600) |  | at most 1000 | **not met** |\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}
