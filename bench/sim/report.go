package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// report is everything that was measured.
type report struct {
	rules   []rule
	results [][]figures // by scenario and rule
}

// normalLoad is the most that counts as a normal load; above it quota is short.
const normalLoad = 0.9

// average is the mean of a rule's figures over the scenarios of one kind.
func (r *report) average(rule int, short bool) (sum figures, n int) {
	var f figures
	for _, s := range r.results {
		if each := &s[rule]; each.Load > normalLoad == short {
			f.add(each)
			n++
		}
	}
	f.divide(float64(max(1, n)))
	f.Rule = r.rules[rule].name
	return f, n
}

// each lists the figures that have a mean.
func (f *figures) each() []*float64 {
	list := []*float64{
		&f.Goodput, &f.Spent, &f.Moves, &f.WarmMoves, &f.Quota, &f.Burst, &f.Windowless, &f.Overloaded, &f.GivenUp, &f.Waited, &f.MeanWait,
		&f.Worst, &f.BoundShare, &f.Turns, &f.Seconds,
	}
	for i := range f.WarmAfter {
		list = append(list, &f.WarmAfter[i])
	}
	return list
}

func (f *figures) add(o *figures) {
	theirs := o.each()
	for i, p := range f.each() {
		*p += *theirs[i]
	}
}

func (f *figures) divide(by float64) {
	for _, p := range f.each() {
		*p /= by
	}
}

// columns are the table's: a heading, and how a figure is written.
var columns = []struct {
	heading string
	write   func(f *figures) string
}{
	{"goodput / bound", func(f *figures) string { return fmt.Sprintf("%.3f", f.Goodput) }},
	{"quota spent / ideal", func(f *figures) string { return fmt.Sprintf("%.3f", f.Spent) }},
	{"moves per 1000 turns", func(f *figures) string { return fmt.Sprintf("%.1f", f.Moves) }},
	{"warm", func(f *figures) string { return fmt.Sprintf("%.2f", f.WarmMoves) }},
	{"quota 429s per 1000", func(f *figures) string { return fmt.Sprintf("%.1f", f.Quota) }},
	{"burst 429s", func(f *figures) string { return fmt.Sprintf("%.1f", f.Burst) }},
	{"529s", func(f *figures) string { return fmt.Sprintf("%.1f", f.Overloaded) }},
	{"sessions given up", func(f *figures) string { return fmt.Sprintf("%.1f %%", 100*f.GivenUp) }},
	{"turns that waited", func(f *figures) string { return fmt.Sprintf("%.1f %%", 100*f.Waited) }},
	{"mean wait", func(f *figures) string { return fmt.Sprintf("%.1f s", f.MeanWait) }},
	{"worst person", func(f *figures) string { return fmt.Sprintf("%.2f", f.Worst) }},
}

func (r *report) markdown(details bool) string {
	out := &strings.Builder{}
	head := func(first string) {
		fmt.Fprintf(out, "| %s |", first)
		for _, c := range columns {
			fmt.Fprintf(out, " %s |", c.heading)
		}
		fmt.Fprint(out, "\n|---|")
		for range columns {
			fmt.Fprint(out, "---|")
		}
		fmt.Fprintln(out)
	}
	if details {
		for _, s := range r.results {
			head(fmt.Sprintf("%s: %.0f turns, bound %.3f", s[0].Scenario, s[0].Turns, s[0].BoundShare))
			for i := range s {
				fmt.Fprintf(out, "| %s |", s[i].Rule)
				for _, c := range columns {
					fmt.Fprintf(out, " %s |", c.write(&s[i]))
				}
				fmt.Fprintln(out)
			}
			fmt.Fprintln(out)
		}
	}
	if details {
		r.warmMoves(out)
	}
	_, normals := r.average(0, false)
	_, shorts := r.average(0, true)
	head(fmt.Sprintf("rule (%d of normal load / %d of shortage)", normals, shorts))
	for i := range r.rules {
		normal, _ := r.average(i, false)
		short, _ := r.average(i, true)
		fmt.Fprintf(out, "| %s |", r.rules[i].name)
		for _, c := range columns {
			switch {
			case normals == 0:
				fmt.Fprintf(out, " %s |", c.write(&short))
			case shorts == 0:
				fmt.Fprintf(out, " %s |", c.write(&normal))
			default:
				fmt.Fprintf(out, " %s / %s |", c.write(&normal), c.write(&short))
			}
		}
		fmt.Fprintln(out)
	}
	return out.String()
}

// warmMoves prints what made warm sessions move.
func (r *report) warmMoves(out *strings.Builder) {
	fmt.Fprint(out, "| warm moves per 1000 turns, after |")
	for _, name := range verdicts {
		fmt.Fprintf(out, " %s |", strings.Replace(name.Name, "served", "no refusal", 1))
	}
	fmt.Fprintf(out, "\n|---|%s\n", strings.Repeat("---|", len(verdicts)))
	for i := range r.rules {
		normal, _ := r.average(i, false)
		short, _ := r.average(i, true)
		fmt.Fprintf(out, "| %s |", r.rules[i].name)
		for k := range normal.WarmAfter {
			fmt.Fprintf(out, " %.2f / %.2f |", normal.WarmAfter[k], short.WarmAfter[k])
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out)
}

func (r *report) json(out io.Writer) error {
	var summary struct {
		Normal    []figures   `json:"normal"`
		Short     []figures   `json:"short"`
		Scenarios [][]figures `json:"scenarios"`
	}
	for i := range r.rules {
		if f, n := r.average(i, false); n > 0 {
			summary.Normal = append(summary.Normal, f)
		}
		if f, n := r.average(i, true); n > 0 {
			summary.Short = append(summary.Short, f)
		}
	}
	summary.Scenarios = r.results
	e := json.NewEncoder(out)
	e.SetIndent("", "\t")
	return e.Encode(&summary)
}
