package faults

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// result is what came of one scene.
type result struct {
	seen  string
	tries string
	next  string
	took  time.Duration
	// problems are what was otherwise than expected; none is a pass.
	problems []string
	// cannot says why the scene has no meaning for the proxy under test.
	cannot string
}

// report gathers the results of all scenes.
type report struct {
	mu      sync.Mutex
	results map[string]map[run][]result // by row
	extra   []string                    // problems that belong to no scene
}

func (r *report) add(s *scene, got result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.results == nil {
		r.results = map[string]map[run][]result{}
	}
	if r.results[s.row.name] == nil {
		r.results[s.row.name] = map[run][]result{}
	}
	var problems []string
	for _, problem := range got.problems {
		// The answer of a closed pool is judged twice.
		if line := s.name() + ": " + problem; !slices.Contains(problems, line) {
			problems = append(problems, line)
		}
	}
	got.problems = problems
	r.results[s.row.name][s.run] = append(r.results[s.row.name][s.run], got)
}

// print writes the table and the summary, and counts the rows that ran and the
// runs that failed.
func (r *report) print(w io.Writer, took time.Duration) (ran, failed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nPLACE\tFAULT\tRUNS\tONE SICK: SEEN\tTRIES\tNEXT\tALL SICK: SEEN\tTRIES\tNEXT\tRESULT\tMS")
	runs := 0
	var problems []string
	for _, row := range rows() {
		got := r.results[row.name]
		if got == nil {
			continue
		}
		one, all := got[oneSick], got[allSick]
		verdict, done := "pass", 0
		var slowest time.Duration
		for _, res := range slices.Concat(one, all) {
			slowest = max(slowest, res.took)
			if res.cannot != "" {
				continue
			}
			done++
			if len(res.problems) > 0 {
				verdict = "FAIL"
				failed++
				problems = append(problems, res.problems...)
			}
		}
		if done == 0 {
			verdict = "n/a"
		} else {
			ran++
		}
		runs += done
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f\n", row.place, row.name, done,
			joined(one, seenOf), joined(one, triesOf), joined(one, nextOf),
			joined(all, seenOf), joined(all, triesOf), joined(all, nextOf), verdict, float64(slowest.Microseconds())/1000)
	}
	_ = table.Flush()
	problems = append(problems, r.extra...)
	failed += len(r.extra)
	if len(problems) > 0 {
		fmt.Fprintln(w, "\nWhat failed:")
		for _, p := range problems {
			fmt.Fprintln(w, "- "+strings.ReplaceAll(p, "\n", "\n  "))
		}
	}
	fmt.Fprintf(w, "\nfaults: %d rows, %d runs, %d failed (%.1f s)\n", ran, runs, failed, took.Seconds())
	return ran, failed
}

func seenOf(r *result) string  { return r.seen }
func triesOf(r *result) string { return r.tries }
func nextOf(r *result) string  { return r.next }

// joined names the different things that the runs of a cell have shown.
func joined(all []result, of func(*result) string) string {
	var different []string
	for i := range all {
		if v := of(&all[i]); v != "" && !slices.Contains(different, v) {
			different = append(different, v)
		}
	}
	if len(different) == 0 {
		return "-"
	}
	slices.Sort(different)
	return strings.Join(different, " | ")
}
