package shunt

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

// plainStatus is the status for files and other programs: each line says of whom it
// speaks, nothing is cut and nothing is drawn.
func plainStatus(pools []*statusView, now time.Time) (lines []terminal.Line) {
	for _, s := range pools {
		say := func(of, name, format string, args ...any) {
			lines = append(lines, terminal.Text(of+" "+name+": "+fmt.Sprintf(format, args...)))
		}
		say("pool", s.Pool, "%s, policy %s, %d waiting, %s", openWords(s), policyWords(s), s.Waiting, counted(s.Sessions, "session"))
		say("pool", s.Pool, "%s", forecastWords(s, now))
		if c := &s.Capacity; c.FiveHourLeft != nil && c.SevenDayLeft != nil {
			say("pool", s.Pool, "left of all windows together: 5h %s, 7d %s", terminal.Percent(*c.FiveHourLeft), terminal.Percent(*c.SevenDayLeft))
		}
		prefix := ""
		if len(pools) > 1 {
			prefix = s.Pool + "/"
		}
		for i := range s.Accounts {
			a := &s.Accounts[i]
			say("account", prefix+a.Name, "%s", plainAccount(s, a))
			for _, name := range windowNames(a.Windows) {
				say("account", prefix+a.Name, "%s %s", name, plainWindow(a.window(name), now))
			}
			for _, note := range accountNotes(a, now) {
				say("account", prefix+a.Name, "%s", note)
			}
		}
		for _, p := range byUse(s.People) {
			say("person", prefix+p.Name, "%s", plainPerson(&p))
		}
	}
	return lines
}

func plainAccount(s *statusView, a *accountStatus) string {
	state, _ := stateWords(a)
	parts := []string{state}
	if a.Drained && a.Status != "drained" {
		parts = append(parts, "drained")
	}
	if s.Pinned != nil && *s.Pinned == a.Name {
		parts = append(parts, "pinned")
	}
	parts = append(parts, fmt.Sprintf("%d in flight", a.InFlight), counted(int(a.Requests), "request"), counted(int(a.TotalTokens), "token"))
	if a.CacheHitRatio != nil {
		parts = append(parts, "cache "+terminal.Percent(*a.CacheHitRatio))
	}
	return strings.Join(parts, ", ")
}

func plainWindow(w *windowView, now time.Time) string {
	words := "not known"
	if w.Utilization != nil {
		words = terminal.Percent(*w.Utilization) + " used"
	}
	if w.Pace != nil {
		words += ", even pace " + terminal.Percent(*w.Pace)
	}
	if in := resetIn(w, now); in > 0 {
		words += ", new at " + momentWords(*w.ResetMS, now)
	}
	return words
}

func plainPerson(p *personStatus) string {
	parts := []string{counted(int(p.Requests), "request"), counted(int(p.Usage.Total()), "token")}
	if p.MaxConcurrent > 0 {
		parts = append(parts, flightWords(p)+" in flight")
	}
	for i := range p.Budgets {
		parts = append(parts, "budget "+budgetWords(&p.Budgets[i]))
	}
	return strings.Join(parts, ", ")
}

// writeLines puts the lines out.
func writeLines(w io.Writer, lines []terminal.Line, look terminal.Look) error {
	if _, err := io.WriteString(w, terminal.Render(lines, look)); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}
