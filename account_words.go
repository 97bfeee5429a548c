package shunt

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

// stateWords names the account's state for people.
func stateWords(a *accountStatus) (string, terminal.Mark) {
	switch {
	case a.Status == "reauth_required":
		return "needs login", terminal.Bad
	case a.Status == "drained":
		return "drained", terminal.Warn
	case !a.Available:
		return "out", terminal.Bad
	case slices.ContainsFunc(a.Benches, func(b benchStatus) bool { return b.Family != "" }):
		return "open in part", terminal.Warn
	default:
		return "open", terminal.Good
	}
}

// accountNotes are sentences about an account: why it is out and until when, then what
// else its operator should know.
func accountNotes(a *accountStatus, now time.Time) (notes []string) {
	switch {
	case a.Status == "reauth_required":
		why := a.Reason
		if why == "" {
			why = "its credential is no longer accepted"
		}
		notes = append(notes, "out until somebody logs it in: "+why)
	case a.Status == "drained":
		notes = append(notes, "out until it is undrained: "+a.Reason)
	case !a.Available:
		notes = append(notes, "out"+accountUntil(a, now)+": "+benchWhy(wholeBench(a), a.Reason))
	}
	for i := range a.Benches {
		if b := &a.Benches[i]; b.Family != "" {
			notes = append(notes, "not for "+b.Family+benchUntil(b, now)+": "+benchWhy(b, b.Reason))
		}
	}
	for i := range a.Budgets {
		notes = append(notes, "budget: "+budgetWords(&a.Budgets[i])+", anew at "+momentWords(a.Budgets[i].EndsMS, now))
	}
	if a.LoginWarning != "" {
		notes = append(notes, strings.TrimSuffix(a.LoginWarning, "."))
	}
	if a.RefreshError != "" {
		notes = append(notes, "refreshing its token failed: "+strings.TrimSuffix(a.RefreshError, "."))
	}
	if len(a.SharesLimits) > 0 {
		notes = append(notes, "shares its limits with "+strings.Join(a.SharesLimits, ", "))
	}
	if note := fullestLimit(a, now); note != "" {
		notes = append(notes, note)
	}
	return notes
}

// wholeBench is the bench that keeps the whole account out; nil if that is not told.
func wholeBench(a *accountStatus) *benchStatus {
	for i := range a.Benches {
		if a.Benches[i].Family == "" {
			return &a.Benches[i]
		}
	}
	return nil
}

func accountUntil(a *accountStatus, now time.Time) string {
	if b := wholeBench(a); b != nil {
		return benchUntil(b, now)
	}
	if a.CooldownUntilMS != nil {
		return " until " + momentWords(*a.CooldownUntilMS, now)
	}
	return ""
}

func benchUntil(b *benchStatus, now time.Time) string {
	if b.UntilMS == nil {
		return ""
	}
	return " until " + momentWords(*b.UntilMS, now)
}

// benchWhy says why in words that fit all upstreams' answers.
func benchWhy(b *benchStatus, reason string) string {
	switch {
	case b == nil || b.Window == "":
		return reason
	case b.Window == window5h:
		return "its 5-hour window is used up"
	case b.Window == window7d:
		return "its week is used up"
	}
	if model, ok := strings.CutPrefix(b.Window, window7d+"_"); ok {
		return "its week for " + model + " is used up"
	}
	return reason
}

// fullestLimit tells of the fullest limit of an account without windows, if much of it
// is used.
func fullestLimit(a *accountStatus, now time.Time) string {
	if len(a.Windows) > 0 {
		return ""
	}
	const worthTelling = 0.25
	fullest, most := "", worthTelling
	for name, l := range a.Limits {
		if l.Limit <= 0 {
			continue
		}
		used := 1 - float64(l.Remaining)/float64(l.Limit)
		if used > most || used == most && (fullest == "" || name < fullest) {
			fullest, most = name, used
		}
	}
	if fullest == "" {
		return ""
	}
	l := a.Limits[fullest]
	words := fmt.Sprintf("limit %s: %s of %s left", fullest, terminal.Count(l.Remaining), terminal.Count(l.Limit))
	if l.ResetMS != nil && time.UnixMilli(*l.ResetMS).After(now) {
		words += ", full again in " + terminal.Span(time.UnixMilli(*l.ResetMS).Sub(now))
	}
	return words
}

// budgetWords is how a budget stands: $1.20/$5.00 a day.
func budgetWords(b *budgetStatus) string {
	words := ""
	switch {
	case b.USD != nil && b.UsedUSD != nil:
		words = b.UsedUSD.String() + "/" + b.USD.String()
	case b.Tokens != nil && b.UsedTokens != nil:
		words = terminal.Count(*b.UsedTokens) + "/" + terminal.Count(*b.Tokens) + " tokens"
	}
	words += " a " + b.Per
	if b.Reached {
		words += ", used up"
	}
	return words
}
