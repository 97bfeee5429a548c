package shunt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

// people draws who uses the pool, who used most first.
func (d drawing) people(people []personStatus) []terminal.Line {
	if len(people) == 0 {
		return nil
	}
	t := &terminal.Table{Columns: []terminal.Column{
		{Title: "PERSON", Least: 10}, {Title: "REQUESTS", Right: true}, {Title: "TOKENS", Right: true},
		{Title: "OUTPUT", Right: true, Drop: 2}, {Title: "CACHE", Right: true, Drop: 1}, {Title: "FLIGHT", Right: true}, {Title: "BUDGETS", Least: 22},
	}}
	for _, p := range byUse(people) {
		cache := "-"
		if prompt := p.Usage.PromptTokens(); prompt > 0 {
			cache = terminal.Percent(float64(p.Usage.CacheReadTokens) / float64(prompt))
		}
		cells := []terminal.Line{
			terminal.Text(p.Name), terminal.Text(terminal.Count(p.Requests)), terminal.Text(terminal.Count(p.Usage.Total())),
			terminal.Text(terminal.Count(p.Usage.OutputTokens)), terminal.Text(cache), terminal.Text(flightWords(&p)), {},
		}
		for i := range max(1, len(p.Budgets)) {
			if i > 0 {
				cells = make([]terminal.Line, len(cells))
			}
			if i < len(p.Budgets) {
				cells[len(cells)-1] = terminal.Marked(budgetWords(&p.Budgets[i]), budgetMark(&p.Budgets[i]))
			}
			t.Rows = append(t.Rows, terminal.Row{Cells: cells})
		}
	}
	return append([]terminal.Line{{}}, t.Lines(d.cells)...)
}

// byUse is a copy in the order of use.
func byUse(people []personStatus) []personStatus {
	sorted := slices.Clone(people)
	slices.SortStableFunc(sorted, func(a, b personStatus) int {
		return cmp.Or(cmp.Compare(b.Usage.Total(), a.Usage.Total()), cmp.Compare(b.Requests, a.Requests), strings.Compare(a.Name, b.Name))
	})
	return sorted
}

// flightWords is how many requests of a person are under way. They are counted of people
// with max_concurrent only.
func flightWords(p *personStatus) string {
	if p.MaxConcurrent == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", p.InFlight, p.MaxConcurrent)
}

func budgetMark(b *budgetStatus) terminal.Mark {
	const nearly = 0.8
	used := 0.0
	switch {
	case b.USD != nil && b.UsedUSD != nil:
		used = b.UsedUSD.Dollars() / max(b.USD.Dollars(), 1e-9)
	case b.Tokens != nil && b.UsedTokens != nil:
		used = float64(*b.UsedTokens) / float64(max(*b.Tokens, 1))
	}
	switch {
	case b.Reached || used >= 1:
		return terminal.Bad
	case used >= nearly:
		return terminal.Warn
	default:
		return terminal.Plain
	}
}

// requests draws the last requests, newest first, in at most that many rows.
func (d drawing) requests(recent []recentRequest, rows int) []terminal.Line {
	if len(recent) == 0 || rows <= 0 {
		return nil
	}
	t := &terminal.Table{Columns: []terminal.Column{
		{Title: "TIME"}, {Title: "PERSON", Least: 6}, {Title: "ACCOUNT", Least: 7}, {Title: "MODEL", Least: 10},
		{Title: "IN", Right: true, Drop: 2}, {Title: "OUT", Right: true, Drop: 1}, {Title: "COST", Right: true, Drop: 3},
		{Title: "TOOK", Right: true, Drop: 4}, {Title: "TRIES", Right: true, Drop: 5}, {Title: "VERDICT", Least: 10},
	}}
	for i := range min(rows, len(recent)) {
		r := &recent[i]
		mark := terminal.Plain
		if r.Status >= 400 || r.Status == 0 {
			mark = terminal.Warn
		}
		t.Rows = append(t.Rows, terminal.Row{Cells: []terminal.Line{
			terminal.Marked(time.UnixMilli(r.TS).In(d.now.Location()).Format(time.TimeOnly), terminal.Faint), terminal.Text(orDash(r.User)), terminal.Text(orDash(r.Account)),
			terminal.Text(orDash(strings.TrimPrefix(r.Model, "claude-"))), terminal.Text(terminal.Count(r.Input)), terminal.Text(terminal.Count(r.Output)), terminal.Text(costWords(r.CostUSD)),
			terminal.Text(terminal.Took(time.Duration(r.Duration) * time.Millisecond)), terminal.Text(terminal.Count(int64(r.Attempts))),
			terminal.Marked(verdictWords(r), mark),
		}})
	}
	return t.Lines(d.cells)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// costWords has a length that does not vary: most requests cost less than a cent.
func costWords(m *anthropic.Money) string {
	switch {
	case m == nil:
		return "-"
	case *m > 0 && *m < anthropic.Dollar/10000:
		return "<$0.0001"
	default:
		return fmt.Sprintf("$%.4f", m.Dollars())
	}
}

// verdictWords is how a request ended.
func verdictWords(r *recentRequest) string {
	words := strings.ReplaceAll(r.Verdict, "_", " ")
	if r.Status >= 400 {
		words += fmt.Sprintf(" (%d)", r.Status)
	}
	return words
}
