package main

import (
	_ "embed"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"text/template"
)

// row is one line of the table.
type row struct {
	Part, Load, Figure string
	Theirs, Ours       float64 // medians; Theirs only with a ratio
	Ratio              *spread // nil where there is nothing to compare with
	Spread             spread  // of Ours, where there is no ratio
	Target             *target
}

// judged is the value that the target is about.
func (r *row) judged() float64 {
	if r.Ratio == nil || r.Target.Absolute {
		return r.Ours
	}
	return r.Ratio.Median
}

func (r *row) verdict() string {
	switch {
	case r.Target == nil:
		return ""
	case r.Target.met(r.judged()):
		return "met"
	default:
		return "**not met**"
	}
}

// number prints three digits that matter.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

const tableHead = "| | Load | Figure | reverse_proxy | shunt | ratio (quartiles, pairs) | target | |\n|---|---|---|---|---|---|---|---|\n"

func (r *row) String() string {
	theirs, ratio, target := "", "", ""
	if r.Ratio != nil {
		theirs = number(r.Theirs)
		ratio = fmt.Sprintf("%.2f (%.2f-%.2f, %d)", r.Ratio.Median, r.Ratio.Low, r.Ratio.High, r.Ratio.N)
	}
	ours := number(r.Ours)
	if r.Ratio == nil {
		ours += fmt.Sprintf(" (%s-%s)", number(r.Spread.Low), number(r.Spread.High))
	}
	if r.Target != nil {
		target = r.Target.String()
	}
	return strings.Join([]string{"", " " + r.Part, " " + r.Load, " " + r.Figure, " " + theirs, " " + ours, " " + ratio, " " + target, " " + r.verdict(), ""}, " |")[1:]
}

func table(rows []*row) string {
	var b strings.Builder
	b.WriteString(tableHead)
	for _, r := range rows {
		b.WriteString(strings.TrimSpace(r.String()))
		b.WriteByte('\n')
	}
	return b.String()
}

// page is docs/performance.md; only what stands in braces in it is generated.
//
//go:embed performance.md.tmpl
var page string

// machine is where it was measured.
type machine struct {
	CPU, Kernel, Go, Caddy, Day, Command, Table string
	Cores, Accounts, Connections                int
	Met, Targets                                int
}

func writePage(path string, m machine, rows []*row) error {
	m.Table, m.Accounts, m.Connections = table(rows), accounts, connections
	for _, r := range rows {
		if r.Target == nil {
			continue
		}
		m.Targets++
		if r.Target.met(r.judged()) {
			m.Met++
		}
	}
	t, err := template.New("page").Parse(page)
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	var b strings.Builder
	if err := t.Execute(&b, m); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil { //nolint:gosec // a page for everybody
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}

func thisMachine(caddyBinary string) (machine, error) {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: "unknown", Kernel: "unknown"}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = cpuModel(string(info))
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	version, err := exec.Command(caddyBinary, "version").Output() //nolint:gosec,noctx // the binary under test
	if err != nil {
		return m, fmt.Errorf("asking Caddy for its version: %w", err)
	}
	m.Caddy, _, _ = strings.Cut(strings.TrimSpace(string(version)), " ")
	return m, nil
}

func cpuModel(cpuinfo string) string {
	for line := range strings.Lines(cpuinfo) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
