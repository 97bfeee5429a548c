package chaos

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	document   = "../../docs/reliability.md"
	tableBegin = "<!-- table of the chaos test: begin -->\n"
	tableEnd   = "<!-- table of the chaos test: end -->\n"
)

// writeTable writes what came of each fault. The caller holds the truth's mutex.
func writeTable(tr *truth, took time.Duration, loginsLost int, booksOff int64) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%v with %d clients, %d requests served. Seed %d.\n\n", took.Round(time.Second), *workers, tr.counts["served"], *chaosSeed)
	b.WriteString("| Fault | Times | Requests lost | Wrong answers |\n|---|---:|---:|---:|\n")
	names := []string{}
	times := 0
	for name, l := range tr.table {
		if name != total {
			names = append(names, name)
			times += l.Times
		}
	}
	slices.Sort(names)
	for _, name := range names {
		l := tr.table[name]
		if l.Times == 0 && l.Lost == 0 && l.Wrong == 0 {
			continue
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", strings.ReplaceAll(name, "_", " "), l.Times, l.Lost, l.Wrong)
	}
	sum := tr.line(total)
	fmt.Fprintf(&b, "| **all** | **%d** | **%d** | **%d** |\n\nLogins lost: %d. Books off by: %d tokens.\n", times, sum.Lost, sum.Wrong, loginsLost, booksOff)
	data, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	head, rest, found := strings.Cut(string(data), tableBegin)
	_, foot, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no marks for the table", document)
	}
	return os.WriteFile(document, []byte(head+tableBegin+b.String()+tableEnd+foot), 0o644)
}
