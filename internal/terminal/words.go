package terminal

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Span is a length of time for people, rounded to its two largest units: 3d4h, 2h10m, 42m, 30s.
func Span(d time.Duration) string {
	s := int64(max(d, 0).Round(time.Second) / time.Second)
	two := func(large int64, unit string, small int64, smaller string) string {
		if small == 0 {
			return fmt.Sprintf("%d%s", large, unit)
		}
		return fmt.Sprintf("%d%s%d%s", large, unit, small, smaller)
	}
	minutes, hours := (s+30)/60, (s+1800)/3600
	switch {
	case s < 90:
		return fmt.Sprintf("%ds", s)
	case minutes < 60:
		return fmt.Sprintf("%dm", minutes)
	case minutes < 48*60:
		return two(minutes/60, "h", minutes%60, "m")
	}
	return two(hours/24, "d", hours%24, "h")
}

// Took is how long something took, more exactly than Span.
func Took(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 100*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return Span(d)
}

// Clock names a moment in the zone of now: today by its time, other days with the
// day, and what is near to the second.
func Clock(t, now time.Time) string {
	t = t.In(now.Location())
	layout := "Mon 2 Jan 15:04"
	switch {
	case t.Sub(now).Abs() < 2*time.Minute:
		layout = time.TimeOnly
	case t.Year() != now.Year():
		layout = "2 Jan 2006 15:04"
	case t.YearDay() == now.YearDay():
		layout = "15:04"
	}
	return t.Format(layout)
}

// Count is a number for people: 950, 12.3k, 4.5M.
func Count(n int64) string {
	if n > -1000 && n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	v := float64(n)
	for _, unit := range []string{"k", "M", "G", "T"} {
		v /= 1000
		// What would round to four digits takes the next unit.
		if math.Abs(v) < 999.5 || unit == "T" {
			if math.Abs(v) < 99.95 {
				return strconv.FormatFloat(v, 'f', 1, 64) + unit
			}
			return strconv.FormatFloat(v, 'f', 0, 64) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// Percent is a share for people. What is not whole is never told as 0% or 100%.
func Percent(share float64) string {
	p := math.Round(share * 100)
	if share > 0 && p == 0 {
		return "<1%"
	}
	if share < 1 && p >= 100 {
		p = 99
	}
	return strconv.FormatFloat(p, 'f', 0, 64) + "%"
}
