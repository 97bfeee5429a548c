package ledger

import (
	"fmt"
	"time"
)

// Day is a calendar day, as a number of days since 1970-01-01.
type Day int32

// DayOf is the day that it is in the zone at that time.
func DayOf(t time.Time, zone *time.Location) Day {
	y, m, d := t.In(zone).Date()
	return civil(y, m, d)
}

func civil(y int, m time.Month, d int) Day {
	return Day(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400) //nolint:gosec // years have four digits
}

// ParseDay reads a day such as 2026-11-23.
func ParseDay(s string) (Day, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, fmt.Errorf("%q is no day; expected one such as 2026-11-23", s)
	}
	return civil(t.Date()), nil
}

// FirstOfMonth is the first day of the day's month.
func (d Day) FirstOfMonth() Day {
	first, _ := PerMonth.bounds(d)
	return first
}

func (d Day) date() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// String is the day such as 2026-11-23.
func (d Day) String() string { return d.date().Format(time.DateOnly) }

// Month is the day's month such as 2026-11.
func (d Day) Month() string { return d.date().Format("2006-01") }

// begins is when the day begins in the zone. Where a change of clocks skips midnight
// that is the first moment of the day.
func (d Day) begins(zone *time.Location) time.Time {
	y, m, n := d.date().Date()
	t := time.Date(y, m, n, 0, 0, 0, 0, zone)
	if DayOf(t, zone) < d {
		t = t.Add(time.Hour)
	}
	return t
}

// Period is a span of whole days after which a budget begins anew.
type Period int

// The periods. A week begins on Monday.
const (
	PerDay Period = iota
	PerWeek
	PerMonth
)

// Periods are the names of the periods.
var Periods = map[string]Period{"day": PerDay, "week": PerWeek, "month": PerMonth}

// bounds are the first day of the period that the day is in, and the first day after
// it.
func (p Period) bounds(d Day) (from, to Day) {
	switch date := d.date(); p {
	case PerWeek:
		from = d - Day((int(date.Weekday())+6)%7)
		return from, from + 7
	case PerMonth:
		y, m, _ := date.Date()
		return civil(y, m, 1), civil(y, m+1, 1)
	default:
		return d, d + 1
	}
}
