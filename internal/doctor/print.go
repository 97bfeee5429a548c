package doctor

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

// Style says how a report is printed.
type Style struct {
	// Symbols puts a sign in the place of each level's word.
	Symbols bool
	// Colours colours it.
	Colours bool
}

var marks = map[Level]struct{ word, symbol, colour string }{
	OK:      {"ok", "✓", "\x1b[32m"},
	Skipped: {"skipped", "-", "\x1b[2m"},
	Warning: {"warning", "!", "\x1b[33m"},
	Problem: {"PROBLEM", "✗", "\x1b[31m"},
}

// mark is the level as it is printed, in a column of its own.
func (s Style) mark(l Level) string {
	m := marks[l]
	text := fmt.Sprintf("%-8s", m.word)
	if s.Symbols {
		text = m.symbol + " "
	}
	if s.Colours {
		return m.colour + text + "\x1b[0m"
	}
	return text
}

// Print prints the report for people.
func (r *Report) Print(w io.Writer, style Style) error {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s:\n\n", terminal.Printable(r.Subject))
	width := 0
	for i := range r.Checks {
		width = max(width, len(r.Checks[i].Name))
	}
	for i := range r.Checks {
		for _, f := range r.Checks[i].Findings {
			where := terminal.Printable(f.Where)
			if where != "" {
				where += ": "
			}
			fmt.Fprintf(&text, "%s%-*s  %s%s\n", style.mark(f.Level), width, r.Checks[i].Name, where, terminal.Printable(f.Found))
			for line := range strings.Lines(f.Change) {
				fmt.Fprintf(&text, "    %s\n", terminal.Printable(strings.ReplaceAll(line, "\t", "    ")))
			}
		}
	}
	fmt.Fprintf(&text, "\n%s\n", r.summary())
	if _, err := text.WriteTo(w); err != nil {
		return fmt.Errorf("printing the report: %w", err)
	}
	return nil
}

func (r *Report) summary() string {
	switch {
	case r.Problems > 0 && r.Warnings > 0:
		return Count(r.Problems, "problem") + ", " + Count(r.Warnings, "warning") + "."
	case r.Problems > 0:
		return Count(r.Problems, "problem") + "."
	case r.Warnings > 0:
		return "No problem, " + Count(r.Warnings, "warning") + "."
	}
	return "Nothing is wrong."
}

// Count is a number of things, as "1 problem" and "2 problems".
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
