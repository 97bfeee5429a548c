package shunt

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

// noWidth is the width of what goes into a file: nothing is cut.
const noWidth = 1 << 16

// explanation draws the decisions, each with all accounts.
func (d drawing) explanation(v *explainView) (lines []terminal.Line) {
	if v.Request != nil {
		parts := []terminal.Line{terminal.Marked("request "+*v.Request, terminal.Strong), terminal.Text("pool " + v.Pool)}
		if v.Model != "" {
			parts = append(parts, terminal.Text(v.Model))
		}
		if v.User != "" {
			parts = append(parts, terminal.Text("of "+v.User))
		}
		lines = append(lines, flow(parts, d.cells)...)
	}
	if v.Note != "" {
		lines = append(lines, terminal.Wrap(capital(v.Note)+".", terminal.Plain, d.cells, 0)...)
	}
	for i := range v.Decisions {
		if len(lines) > 0 {
			lines = append(lines, terminal.Line{})
		}
		lines = append(lines, d.decision(v, &v.Decisions[i])...)
	}
	return lines
}

func (d drawing) decision(v *explainView, what *decisionView) []terminal.Line {
	when := "now"
	if v.Request != nil {
		when = what.Time.In(d.now.Location()).Format("15:04:05.000")
	}
	parts := []terminal.Line{terminal.Marked(when, terminal.Faint)}
	if what.Account != nil {
		parts = append(parts, terminal.Marked(*what.Account, terminal.Good))
	} else {
		parts = append(parts, terminal.Marked("no account", terminal.Bad))
	}
	if words := reasonWords(what); words != "" {
		parts = append(parts, terminal.Text(words))
	}
	if what.Until != nil {
		parts = append(parts, terminal.Text("until "+momentWords(what.Until.UnixMilli(), d.now)))
	}
	lines := flow(parts, d.cells)
	lines = append(lines, terminal.Wrap(what.Words, terminal.Plain, d.cells, 0)...)
	if len(what.Accounts) == 0 {
		return lines
	}
	return append(append(lines, terminal.Line{}), d.standings(what)...)
}

// reasonWords are the kinds of decisions. That nobody was chosen needs none.
func reasonWords(what *decisionView) string {
	switch what.Reason {
	case "pinned":
		return "by its pin"
	case "session":
		return "by its session"
	case "stay":
		return "its session waits for its own"
	case "none":
		return ""
	}
	return "by policy " + cmp.Or(what.Policy, "unknown")
}

// standings draws the accounts in the order in which they would be taken.
func (d drawing) standings(what *decisionView) []terminal.Line {
	t := &terminal.Table{Columns: []terminal.Column{
		{Title: "PLACE", Right: true}, {Title: "ACCOUNT", Least: 8}, {Title: "SCORE", Right: true}, {Title: "PRIORITY", Right: true, Drop: 3},
		{Title: "5 HOURS", Right: true}, {Title: "7 DAYS", Right: true}, {Title: "MODEL", Right: true, Drop: 1}, {Title: "BURN", Right: true, Drop: 7},
		{Title: "BUCKET", Right: true, Drop: 4}, {Title: "ROOM", Right: true, Drop: 5}, {Title: "BONUS", Right: true, Drop: 2},
		{Title: "WEIGHT", Right: true, Drop: 8}, {Title: "FLIGHT", Right: true, Drop: 6},
	}}
	for i, a := range inOrder(what) {
		place, mark := strconv.Itoa(i+1), terminal.Plain
		switch {
		case what.Account != nil && *what.Account == a.Name:
			mark = terminal.Good
		case !a.Open:
			place, mark = "-", terminal.Faint
		}
		p := &a.Parts
		row := terminal.Row{}
		for _, cell := range []string{
			place, a.Name, threeDigits(a.Score), strconv.Itoa(a.Priority), headWords(p.FiveHour), headWords(p.SevenDay), headWords(p.Family), share(p.Burn),
			share(p.Bucket), share(p.Room), threeDigits(p.Bonus), threeDigits(a.Weight), strconv.Itoa(a.InFlight),
		} {
			row.Cells = append(row.Cells, terminal.Marked(cell, mark))
		}
		words := a.Words
		if a.Own {
			words += ", the person's own"
		}
		if a.Closed != nil && a.Closed.Until != nil {
			words += ", until " + momentWords(a.Closed.Until.UnixMilli(), d.now)
		}
		for _, l := range terminal.Wrap(words, terminal.Faint, d.cells-7, 2) {
			row.Below = append(row.Below, terminal.Text("       ").Join(l))
		}
		t.Rows = append(t.Rows, row)
	}
	return t.Lines(d.cells)
}

// inOrder are the accounts as the pool takes them: who was chosen, then those that are
// open by owner, priority and score, then the others.
func inOrder(what *decisionView) []standingView {
	sorted := slices.Clone(what.Accounts)
	first := func(yes bool) int {
		if yes {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(sorted, func(a, b standingView) int {
		chosen := func(s *standingView) int { return first(what.Account != nil && *what.Account == s.Name) }
		return cmp.Or(
			chosen(&a)-chosen(&b), first(a.Open)-first(b.Open), first(a.Own)-first(b.Own), a.Priority-b.Priority, cmp.Compare(b.Score, a.Score))
	})
	return sorted
}

// headWords is what is used of a window, and where an even use would be.
func headWords(h *headView) string {
	if h == nil {
		return "-"
	}
	words := terminal.Percent(float64(h.Used))
	if h.ResetInS != nil {
		words += " of " + terminal.Percent(1-float64(h.Left))
	}
	return words
}

func share(n finite) string {
	if math.IsNaN(float64(n)) {
		return "-"
	}
	return terminal.Percent(float64(n))
}

// threeDigits has three digits: the last ones of a score say nothing.
func threeDigits(n finite) string {
	if math.IsNaN(float64(n)) {
		return "-"
	}
	return strconv.FormatFloat(float64(n)+0, 'g', 3, 64)
}
