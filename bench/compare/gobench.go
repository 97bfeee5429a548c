package main

import (
	"bufio"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// benchmarked is one Go benchmark on a number of processors, with all its runs.
type benchmarked struct {
	Name       string // without Benchmark and without the processors
	Processors int
	Values     map[string][]float64 // by unit: ns/op, MB/s, B/op, allocs/op
}

var benchmarkLine = regexp.MustCompile(`^Benchmark(\S+?)(?:-(\d+))?\s+\d+\s+(.+)$`)

// parseBenchmarks reads what `go test -bench` printed. Runs of the same benchmark come
// together, in the order in which they were first seen.
func parseBenchmarks(output string) ([]*benchmarked, error) {
	var all []*benchmarked
	seen := map[string]*benchmarked{}
	lines := bufio.NewScanner(strings.NewReader(output))
	for lines.Scan() {
		m := benchmarkLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		processors := 1 // go test adds no number for one
		if m[2] != "" {
			processors, _ = strconv.Atoi(m[2])
		}
		key := m[1] + "-" + strconv.Itoa(processors)
		b := seen[key]
		if b == nil {
			b = &benchmarked{Name: m[1], Processors: processors, Values: map[string][]float64{}}
			seen[key] = b
			all = append(all, b)
		}
		fields := strings.Fields(m[3])
		if len(fields)%2 != 0 {
			return nil, fmt.Errorf("parsing a benchmark: %q", lines.Text())
		}
		for i := 0; i < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("parsing a benchmark: %w", err)
			}
			b.Values[fields[i+1]] = append(b.Values[fields[i+1]], value)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("parsing benchmarks: there are none")
	}
	return all, nil
}

// suite is a set of the repository's benchmarks, parts E and F.
type suite struct {
	Part, Name, Package, Pattern string
	Processors                   string // as go test's -cpu
	Shows                        func(b *benchmarked) []benchRow
}

// benchRow is a row of the table that has no ratio.
type benchRow struct {
	Figure string
	Values []float64
	Target *target
}

var suites = []suite{
	{
		Part: "E", Name: "Pick and End", Package: "./pool", Pattern: "^BenchmarkPick$", Processors: "1",
		Shows: func(b *benchmarked) []benchRow {
			bound := map[string]*target{"/5": below(1000), "/500": below(10_000)}[b.Name[max(0, strings.LastIndexByte(b.Name, '/')):]]
			return []benchRow{{"ns", b.Values["ns/op"], bound}, {"allocations", b.Values["allocs/op"], below(0)}}
		},
	},
	{
		Part: "E", Name: "Pick and End on all cores", Package: "./pool", Pattern: "^BenchmarkPickParallel$", Processors: everyCore(),
		Shows: func(b *benchmarked) []benchRow { return []benchRow{{"ns", b.Values["ns/op"], nil}} },
	},
	{
		Part: "F", Name: "the tap", Package: "./sse", Pattern: "^BenchmarkTap$", Processors: "1",
		Shows: func(b *benchmarked) []benchRow {
			var perMegabyte []float64
			for i, count := range b.Values["allocs/op"] {
				perMegabyte = append(perMegabyte, count/(b.Values["MB/s"][i]*b.Values["ns/op"][i]/1e9))
			}
			return []benchRow{{"MB/s", b.Values["MB/s"], &target{Bound: 1000, AtLeast: true, Absolute: true}}, {"allocations per MB", perMegabyte, nil}}
		},
	},
}

// everyCore is one processor and all of them, for -cpu.
func everyCore() string {
	if all := runtime.NumCPU(); all > 1 {
		return "1," + strconv.Itoa(all)
	}
	return "1"
}

// run runs the benchmarks in the repository.
func (s *suite) run(root string, count int) ([]*benchmarked, error) {
	//nolint:gosec,noctx // go test in the repository that the flag names
	command := exec.Command("go", "test", "-tags", "nobadger,nomysql,nopgx", "-run", "^$", "-bench", s.Pattern, "-benchmem",
		"-benchtime", "200ms", "-count", strconv.Itoa(count), "-cpu", s.Processors, s.Package)
	command.Dir = root
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("running the benchmarks of %s: %w\n%s", s.Package, err, output)
	}
	return parseBenchmarks(string(output))
}
