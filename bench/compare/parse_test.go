package main

import (
	"os"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	// A program may be called anything.
	got, err := parseStat([]byte("4242 (a) R 7 (b) S 1 4242 4242 0 -1 4194560 9 0 0 0 1234 66 5 6 20 0 9 0 77 88 99\n"))
	if err != nil || got != 13*time.Second {
		t.Errorf("got %v, %v; want 13 s", got, err)
	}
	for _, bad := range []string{"", "1 caddy S 1", "1 (caddy) S 1 2 3", "1 (caddy) S 1 1 1 0 -1 0 0 0 0 0 x 1 0 0"} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q gives %v", bad, got)
		}
	}
}

func TestParseStatus(t *testing.T) {
	got, err := parseStatus("Name:\tcaddy\nVmPeak:\t 9999999 kB\nVmHWM:\t  123 kB\nVmRSS:\t  100 kB\nThreads:\t9\n")
	if err != nil || got != (memory{resident: 102_400, peak: 125_952}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "VmRSS:\t1 kB\n", "VmRSS:\t1 MB\nVmHWM:\t1 kB\n", "VmRSS:\tmuch kB\nVmHWM:\t1 kB\n"} {
		if got, err := parseStatus(bad); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}

// TestOwnProcess: what is parsed is what this kernel writes.
func TestOwnProcess(t *testing.T) {
	before, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < 10*time.Second; {
		after, err := processorTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after > before {
			break
		}
	}
	after, _ := processorTime(os.Getpid())
	if after <= before || after > before+11*time.Second {
		t.Errorf("work took %v of processor time", after-before)
	}
	first, err := residentMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	held := make([]byte, 64<<20)
	for i := range held {
		held[i] = 1
	}
	second, err := residentMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if grown := second.resident - first.resident; grown < 48<<20 || grown > 96<<20 {
		t.Errorf("64 MiB made the process grow by %d bytes", grown)
	}
	if held[5] != 1 || second.peak < second.resident-1<<20 {
		t.Errorf("the peak %d is below what is resident, %d", second.peak, second.resident)
	}
}

func TestParseBenchmarks(t *testing.T) {
	got, err := parseBenchmarks(`goos: linux
BenchmarkPick/warm/5         	 1000000	       800 ns/op	       0 B/op	       0 allocs/op
BenchmarkPick/warm/5         	 1000000	      1200.5 ns/op	       0 B/op	       1 allocs/op
BenchmarkPick/warm/5-2       	 1000000	       500 ns/op	       0 B/op	       0 allocs/op
BenchmarkTap/short_deltas/32_KiB_chunks 	     100	   2000000 ns/op	1500.00 MB/s	       9 B/op	       6 allocs/op
PASS
ok  	example	3.2s
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Fatalf("%d benchmarks", len(got))
	}
	if b := got[0]; b.Name != "Pick/warm/5" || b.Processors != 1 || !slices.Equal(b.Values["ns/op"], []float64{800, 1200.5}) {
		t.Errorf("the first is %+v", b)
	}
	if b := got[1]; b.Name != "Pick/warm/5" || b.Processors != 2 {
		t.Errorf("the second is %+v", b)
	}
	// 6 allocations in 2 ms at 1500 MB/s, which is 3 MB.
	if rows := suites[2].Shows(got[2]); len(rows) != 2 || rows[0].Values[0] != 1500 || rows[1].Values[0] != 2 {
		t.Errorf("the tap's rows are %+v", rows)
	}
	if _, err := parseBenchmarks("PASS\n"); err == nil {
		t.Error("no benchmark is no error")
	}
}

func TestParseGauge(t *testing.T) {
	metrics := "# TYPE go_goroutines gauge\ngo_goroutines 1.5e+02\ngo_goroutines_other 7\n"
	if got, err := parseGauge(metrics, "go_goroutines"); err != nil || got != 150 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseGauge(metrics, "go_gorout"); err == nil {
		t.Error("a metric was found that is not there")
	}
}

func TestCPUModel(t *testing.T) {
	if got := cpuModel("processor\t: 0\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n"); got != "AMD EPYC" {
		t.Errorf("got %q", got)
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64]string{0: "0", 0.123: "0.12", 12.34: "12.3", 1234.5: "1234"} {
		if got := number(value); got != want {
			t.Errorf("%v is printed as %q, want %q", value, got, want)
		}
	}
}
