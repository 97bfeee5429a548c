package shunt

import (
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

const (
	// shortestBar is what can be read; with less room the windows stand below each other.
	shortestBar = 8
	longestBar  = 40
	// gaugeWords is the room behind a bar: " 100%" and " 23h59m".
	gaugeWords = 5 + 7
	// ahead is by how much a window may be ahead of an even pace without a warning.
	ahead = 0.1
)

// accounts draws the accounts: as a table, or when the width is short below each other.
func (d drawing) accounts(s *statusView) []terminal.Line {
	// The least important columns go before names are cut.
	table, dropped := d.accountTable(s, shortestBar), 0
	for ; table.Natural() > d.cells; dropped++ {
		if !table.DropOne() {
			return d.accountList(s)
		}
	}
	more := (d.cells - table.Natural()) / 2
	table = d.accountTable(s, min(shortestBar+more, longestBar))
	for range dropped {
		table.DropOne()
	}
	return table.Lines(d.cells)
}

func (d drawing) accountTable(s *statusView, bar int) *terminal.Table {
	t := &terminal.Table{Columns: []terminal.Column{
		{Title: "ACCOUNT"}, {Title: "STATE"}, {Title: gaugeTitle("5 HOURS", bar)}, {Title: gaugeTitle("7 DAYS", bar)},
		{Title: "FLIGHT", Right: true}, {Title: "CACHE", Right: true},
		{Title: "REQUESTS", Right: true, Drop: 1}, {Title: "TOKENS", Right: true, Drop: 2}, {Title: "KIND", Drop: 3},
	}}
	var none terminal.Line
	if s.Capacity.FiveHourLeft != nil && s.Capacity.SevenDayLeft != nil {
		t.Rows = append(t.Rows, terminal.Row{Cells: []terminal.Line{
			terminal.Marked("all together", terminal.Faint), none, d.gauge(leftOver(s.Capacity.FiveHourLeft), bar), d.gauge(leftOver(s.Capacity.SevenDayLeft), bar),
			none, none, none, none, none,
		}})
	}
	for i := range s.Accounts {
		a := &s.Accounts[i]
		row := terminal.Row{Cells: []terminal.Line{
			terminal.Marked(a.Name, terminal.Strong), d.state(s, a), d.gauge(a.window(window5h), bar), d.gauge(a.window(window7d), bar),
			terminal.Text(terminal.Count(int64(a.InFlight))), terminal.Text(cacheWords(a)),
			terminal.Text(terminal.Count(a.Requests)), terminal.Text(terminal.Count(a.TotalTokens)), terminal.Text(strings.ReplaceAll(a.Kind, "_", " ")),
		}}
		notes := d.notes(a, 2)
		others := otherWindows(a)
		if len(others) == 0 {
			row.Below = notes
		}
		t.Rows = append(t.Rows, row)
		for j, name := range others {
			row := terminal.Row{Cells: []terminal.Line{
				terminal.Marked("  "+name, terminal.Faint), none, none, d.gauge(a.window(name), bar), none, none, none, none, none,
			}}
			if j == len(others)-1 {
				row.Below = notes
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

func gaugeTitle(title string, bar int) string {
	return title + strings.Repeat(" ", max(0, bar-len(title))) + " USED NEW IN"
}

// accountList draws the accounts with their windows below each other.
func (d drawing) accountList(s *statusView) (lines []terminal.Line) {
	gauges := func(name string, w *windowView) {
		lines = append(lines, terminal.Text("  "+name).PadTo(11).Join(d.gauge(w, min(longestBar, max(shortestBar, d.cells-11-gaugeWords)))).Cut(d.cells))
	}
	if s.Capacity.FiveHourLeft != nil && s.Capacity.SevenDayLeft != nil {
		lines = append(lines, terminal.Marked("all together", terminal.Faint))
		gauges(window5h, leftOver(s.Capacity.FiveHourLeft))
		gauges(window7d, leftOver(s.Capacity.SevenDayLeft))
	}
	for i := range s.Accounts {
		a := &s.Accounts[i]
		parts := []terminal.Line{terminal.Marked(a.Name, terminal.Strong), d.state(s, a), terminal.Text(terminal.Count(int64(a.InFlight)) + " in flight")}
		if a.CacheHitRatio != nil {
			parts = append(parts, terminal.Text("cache "+cacheWords(a)))
		}
		lines = append(lines, flow(parts, d.cells)...)
		for _, name := range windowNames(a.Windows) {
			gauges(name, a.window(name))
		}
		lines = append(lines, d.notes(a, 2)...)
	}
	return lines
}

// otherWindows are the windows beside the two main ones, of single models.
func otherWindows(a *accountStatus) (names []string) {
	for _, name := range windowNames(a.Windows) {
		if name != window5h && name != window7d {
			names = append(names, name)
		}
	}
	return names
}

func (s *accountStatus) window(name string) *windowView {
	if w, ok := s.Windows[name]; ok {
		return &w
	}
	return nil
}

// leftOver is what is used of all windows together, as if it were one.
func leftOver(left *float64) *windowView {
	used := 1 - *left
	return &windowView{Utilization: &used}
}

// gauge draws a window: bar, share and time to its reset.
func (d drawing) gauge(w *windowView, bar int) terminal.Line {
	if w == nil {
		return terminal.Marked("-", terminal.Faint)
	}
	g, share := terminal.Gauge{Pace: -1}, "?"
	if w.Utilization != nil {
		g.Used, g.Mark, share = *w.Utilization, windowMark(w), terminal.Percent(*w.Utilization)
	}
	if w.Pace != nil {
		g.Pace = *w.Pace
	}
	line := g.Bar(bar, d.look).Join(terminal.Marked(share, g.Mark).RightTo(5))
	if in := resetIn(w, d.now); in > 0 {
		line = line.Join(terminal.Marked(terminal.Span(in), terminal.Faint).RightTo(7))
	}
	return line
}

func windowMark(w *windowView) terminal.Mark {
	switch used := *w.Utilization; {
	case used >= 1 || w.Status == "rejected":
		return terminal.Bad
	case w.Pace != nil && used > *w.Pace+ahead:
		return terminal.Warn
	default:
		return terminal.Good
	}
}

func resetIn(w *windowView, now time.Time) time.Duration {
	if w.ResetMS == nil {
		return 0
	}
	return time.UnixMilli(*w.ResetMS).Sub(now)
}

func cacheWords(a *accountStatus) string {
	if a.CacheHitRatio == nil {
		return "-"
	}
	return terminal.Percent(*a.CacheHitRatio)
}

// state is the account's state in a word or two.
func (d drawing) state(s *statusView, a *accountStatus) terminal.Line {
	words, mark := stateWords(a)
	line := terminal.Marked(words, mark)
	if a.Drained && a.Status != "drained" {
		line = line.Add(", drained", terminal.Warn)
	}
	if s.Pinned != nil && *s.Pinned == a.Name {
		line = line.Add(", pinned", terminal.Accent)
	}
	return line
}

// notes are what else there is to say of an account: first why it is out.
func (d drawing) notes(a *accountStatus, indent int) (lines []terminal.Line) {
	for i, note := range accountNotes(a, d.now) {
		mark := terminal.Faint
		if i == 0 && !a.Available {
			_, mark = stateWords(a)
		}
		for _, l := range terminal.Wrap(capital(strings.TrimSuffix(note, "."))+".", mark, d.cells-indent, 2) {
			lines = append(lines, terminal.Text(strings.Repeat(" ", indent)).Join(l))
		}
	}
	return lines
}
