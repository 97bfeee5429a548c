package shunt

import (
	"fmt"
	"strings"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
	"github.com/caddy-shunt/caddy-shunt/ledger"
)

// usage draws a report with its total.
func (d drawing) usage(v *usageAnswer) []terminal.Line {
	head := fmt.Sprintf("Pool %s, %s to %s (%s), prices of %s.", v.Pool, v.From, v.To, v.TimeZone, v.PricesAsOf)
	lines := append(terminal.Wrap(head, terminal.Plain, d.cells, 0), terminal.Line{})
	t := &terminal.Table{}
	for _, by := range v.By {
		t.Columns = append(t.Columns, terminal.Column{Title: strings.ToUpper(string(by)), Least: 18})
	}
	for _, c := range []terminal.Column{
		{Title: "REQUESTS"}, {Title: "FAILED", Drop: 5}, {Title: "REFUSED", Drop: 6}, {Title: "INPUT", Drop: 2}, {Title: "OUTPUT", Drop: 1},
		{Title: "CACHE READ", Drop: 4}, {Title: "CACHE WRITE", Drop: 3}, {Title: "TOKENS"}, {Title: "COST"},
	} {
		c.Right = true
		t.Columns = append(t.Columns, c)
	}
	for i := range v.Rows {
		t.Rows = append(t.Rows, terminal.Row{Cells: usageCells(v.By, &v.Rows[i], terminal.Plain)})
	}
	total := usageCells(v.By, &v.Total, terminal.Strong)
	if len(v.By) > 0 {
		total[0] = terminal.Marked("total", terminal.Strong)
	}
	t.Rows = append(t.Rows, terminal.Row{Cells: total})
	lines = append(lines, t.Lines(d.cells)...)
	for _, note := range usageNotes(&v.Total) {
		lines = append(lines, terminal.Wrap(note, terminal.Faint, d.cells, 0)...)
	}
	return lines
}

func usageCells(by []ledger.By, r *usageRow, mark terminal.Mark) (cells []terminal.Line) {
	labels := map[ledger.By]*string{ledger.ByDay: r.Day, ledger.ByMonth: r.Month, ledger.ByPerson: r.Person, ledger.ByAccount: r.Account, ledger.ByModel: r.Model}
	for _, b := range by {
		text := ""
		if label := labels[b]; label != nil {
			text = orDash(*label)
		}
		cells = append(cells, terminal.Marked(text, mark))
	}
	for _, n := range []int64{r.Requests, r.Failed, r.Refused, r.InputTokens, r.OutputTokens, r.CacheReadTokens, r.CacheWrite5mTokens + r.CacheWrite1hTokens, r.TotalTokens} {
		cells = append(cells, terminal.Marked(terminal.Count(n), mark))
	}
	cost := "-"
	if r.CostUSD != nil {
		cost = sumWords(*r.CostUSD)
	}
	return append(cells, terminal.Marked(cost, mark))
}

// sumWords is an amount in cents, or more exactly when it is less than one.
func sumWords(m anthropic.Money) string {
	if m >= anthropic.Dollar/100 || m == 0 {
		return m.String()
	}
	return costWords(&m)
}

// usageNotes say what the sums do not hold.
func usageNotes(total *usageRow) (notes []string) {
	if n := total.UnpricedAnswers; n > 0 {
		notes = append(notes, fmt.Sprintf("No price is known of %s: the cost is without them.", counted(int(n), "answer")))
	}
	if n := total.EstimatedAnswers; n > 0 {
		notes = append(notes, fmt.Sprintf("The tokens of %s are estimated.", counted(int(n), "answer")))
	}
	return notes
}
