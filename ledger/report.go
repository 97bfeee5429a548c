package ledger

import (
	"fmt"
	"slices"
	"strings"
)

// By is what lines of a report are told apart by.
type By string

// The dimensions of a report.
const (
	ByDay     By = "day"
	ByMonth   By = "month"
	ByPerson  By = "person"
	ByAccount By = "account"
	ByModel   By = "model"
)

var labelOf = map[By]func(*Row) string{
	ByDay:     func(r *Row) string { return r.Day.String() },
	ByMonth:   func(r *Row) string { return r.Day.Month() },
	ByPerson:  func(r *Row) string { return r.Person },
	ByAccount: func(r *Row) string { return r.Account },
	ByModel:   func(r *Row) string { return r.Model },
}

// ParseBy reads a list such as person,model.
func ParseBy(list string) ([]By, error) {
	var by []By
	for word := range strings.SplitSeq(list, ",") {
		b := By(strings.TrimSpace(word))
		if labelOf[b] == nil {
			return nil, fmt.Errorf("%q is not known; expected a list of day, month, person, account and model", word)
		}
		if slices.Contains(by, b) {
			return nil, fmt.Errorf("%q is there twice", word)
		}
		by = append(by, b)
	}
	return by, nil
}

// Line is one line of a report.
type Line struct {
	// Labels are the values of what the lines are told apart by, in that order.
	Labels []string
	Counts
}

// Report sums the rows up by the dimensions. Lines are in order of their labels.
func Report(rows []Row, by []By) (lines []Line, total Counts) {
	sums := make(map[string]*Line)
	var key strings.Builder
	for i := range rows {
		r := &rows[i]
		key.Reset()
		labels := make([]string, len(by))
		for j, b := range by {
			labels[j] = labelOf[b](r)
			key.WriteString(labels[j])
			key.WriteByte(0)
		}
		line := sums[key.String()]
		if line == nil {
			line = &Line{Labels: labels}
			sums[key.String()] = line
		}
		line.Add(&r.Counts)
		total.Add(&r.Counts)
	}
	for _, line := range sums {
		lines = append(lines, *line)
	}
	slices.SortFunc(lines, func(a, b Line) int { return slices.Compare(a.Labels, b.Labels) })
	return lines, total
}
