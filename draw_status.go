package shunt

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

// drawing is what a view in a terminal is made for.
type drawing struct {
	look  terminal.Look
	cells int // its width
	now   time.Time
}

// status draws the pools, without their last requests.
func (d drawing) status(pools []*statusView) (lines []terminal.Line) {
	for i, s := range pools {
		if i > 0 {
			lines = append(lines, terminal.Line{})
		}
		lines = append(lines, d.pool(s)...)
		lines = append(lines, d.people(s.People)...)
	}
	return lines
}

// pool draws the headline and the accounts.
func (d drawing) pool(s *statusView) []terminal.Line {
	lines := d.headline(s)
	if len(s.Accounts) > 0 {
		lines = append(append(lines, terminal.Line{}), d.accounts(s)...)
	}
	return lines
}

// headline says how the pool is and how long it lasts.
func (d drawing) headline(s *statusView) []terminal.Line {
	parts := []terminal.Line{terminal.Marked(s.Pool, terminal.Strong), terminal.Marked(openWords(s), openMark(s)), terminal.Text("policy " + policyWords(s))}
	if s.Pinned != nil {
		parts = append(parts, terminal.Marked("pinned to "+*s.Pinned, terminal.Accent))
	}
	if s.Waiting > 0 {
		parts = append(parts, terminal.Marked(counted(s.Waiting, "request")+" waiting", terminal.Warn))
	} else {
		parts = append(parts, terminal.Text("none waiting"))
	}
	parts = append(parts, terminal.Text(counted(s.Sessions, "session")))
	if len(s.Instances) > 1 {
		parts = append(parts, terminal.Text(counted(len(s.Instances), "instance")))
	}
	return append(flow(parts, d.cells), terminal.Wrap(capital(forecastWords(s, d.now))+".", terminal.Plain, d.cells, 0)...)
}

func openWords(s *statusView) string {
	switch c := s.Capacity; {
	case c.Open == 0:
		return "no account can serve"
	case c.Open == c.Accounts && c.Accounts == 1:
		return "its account can serve"
	case c.Open == c.Accounts:
		return fmt.Sprintf("all %d accounts can serve", c.Accounts)
	default:
		return fmt.Sprintf("%d of %d accounts can serve", c.Open, c.Accounts)
	}
}

func openMark(s *statusView) terminal.Mark {
	switch s.Capacity.Open {
	case 0:
		return terminal.Bad
	case s.Capacity.Accounts:
		return terminal.Good
	default:
		return terminal.Warn
	}
}

func policyWords(s *statusView) string {
	if s.Policy != s.Configured {
		return s.Policy + " instead of " + s.Configured
	}
	return s.Policy
}

// forecastWords says how long the pool lasts, with times in the reader's zone: those of
// the server's own words are UTC.
func forecastWords(s *statusView, now time.Time) string {
	f, opens := &s.Forecast, "when one opens again is not known"
	if t := f.ReopensMS; t != nil {
		opens = "the next account opens at " + momentWords(*t, now)
	}
	switch {
	case s.Capacity.Open == 0 && s.Capacity.Accounts > 0:
		return opens
	case f.DryMS != nil:
		return "at the present pace no account will be open from " + momentWords(*f.DryMS, now) + "; " + opens
	default:
		return f.Words
	}
}

// momentWords is a time to come, by the clock and by how long it takes.
func momentWords(ms int64, now time.Time) string {
	t := time.UnixMilli(ms)
	return terminal.Clock(t, now) + " (in " + terminal.Span(t.Sub(now)) + ")"
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return terminal.Count(int64(n)) + " " + thing + "s"
}

// flow puts the parts side by side with commas between, in as many lines as it takes.
func flow(parts []terminal.Line, cells int) (lines []terminal.Line) {
	var line terminal.Line
	for _, p := range parts {
		switch {
		case line.Empty():
			line = p
		case line.Width()+3+p.Width() > cells:
			lines = append(lines, line.Add(",", terminal.Plain).Cut(cells))
			line = p
		default:
			line = line.Add(", ", terminal.Plain).Join(p)
		}
	}
	return append(lines, line.Cut(cells))
}

// windowNames are the names of an account's windows: the two main ones first.
func windowNames(windows map[string]windowView) (names []string) {
	for name := range windows {
		names = append(names, name)
	}
	rank := func(name string) string {
		switch name {
		case window5h:
			return "0"
		case window7d:
			return "1"
		}
		return "2" + name
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(rank(a), rank(b)) })
	return names
}

const window5h, window7d = "5h", "7d"
