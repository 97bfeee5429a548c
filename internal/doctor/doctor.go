// Package doctor holds what `caddy shunt doctor` looks at in a configuration and
// in the network, and the report that it makes of it. It changes nothing, and its
// findings hold no secret.
package doctor

import (
	"context"
	"slices"
)

// Level says how a finding is to be taken.
type Level string

// The levels, the least serious first.
const (
	// OK: it was looked at and is as it should be.
	OK Level = "ok"
	// Skipped: it could not be looked at, and the finding says why.
	Skipped Level = "skipped"
	// Warning: it works, but may not for long or not for everybody.
	Warning Level = "warning"
	// Problem: something does not work, or a secret is open to others.
	Problem Level = "problem"
)

var levels = []Level{OK, Skipped, Warning, Problem}

// Finding is one thing that a check has found.
type Finding struct {
	Level Level `json:"level"`
	// Where names the account, the server, the file and line, or the path in the
	// JSON configuration that the finding is about; empty for the whole.
	Where string `json:"where,omitempty"`
	// Found says in words what is there.
	Found string `json:"found"`
	// Change is what to do about it: lines of a Caddyfile or a command where there
	// are such. Empty when nothing needs to be done.
	Change string `json:"change,omitempty"`
}

// Check is one thing to look at.
type Check struct {
	// Name is a stable word for scripts, such as "timeouts".
	Name string
	// Looks says what the check looks at.
	Looks string
	// Run looks. It always finds something, if only that all is well.
	Run func(ctx context.Context) []Finding
}

// Result is what one check has found.
type Result struct {
	Name     string    `json:"name"`
	Looks    string    `json:"looks_at"`
	Level    Level     `json:"level"` // the most serious of the findings
	Findings []Finding `json:"findings"`
}

// Report is what all checks have found.
type Report struct {
	// Running is the address of the Caddy that was asked; empty when none runs.
	Running string `json:"running,omitempty"`
	// Subject says in words what was looked at.
	Subject  string   `json:"subject"`
	Checks   []Result `json:"checks"`
	Problems int      `json:"problems"`
	Warnings int      `json:"warnings"`
}

// Run runs the checks in their order and adds what they find to the report.
func (r *Report) Run(ctx context.Context, checks []Check) {
	for _, c := range checks {
		result := Result{Name: c.Name, Looks: c.Looks, Level: OK, Findings: []Finding{}}
		for _, f := range c.Run(ctx) {
			if slices.Contains(result.Findings, f) {
				continue // of another server, by the same line of the Caddyfile
			}
			result.Findings = append(result.Findings, f)
			if slices.Index(levels, f.Level) > slices.Index(levels, result.Level) {
				result.Level = f.Level
			}
			switch f.Level {
			case Problem:
				r.Problems++
			case Warning:
				r.Warnings++
			}
		}
		r.Checks = append(r.Checks, result)
	}
}

// orOK is what was found, or that nothing was.
func orOK(found []Finding, fine string) []Finding {
	if len(found) == 0 {
		return []Finding{{Level: OK, Found: fine}}
	}
	return found
}
