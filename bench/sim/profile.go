package main

import "time"

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// epoch is when every scenario starts: a Monday at midnight.
var epoch = time.Date(2026, time.January, 5, 0, 0, 0, 0, time.UTC)

// officeWeight is how likely people work at that local time, relative to the
// busiest: office hours with a lunch break, a tail into the night, some weekends.
func officeWeight(local time.Duration) float64 {
	local = (local%week + week) % week
	hour := (local % day).Hours()
	var w float64
	switch {
	case hour >= 9 && hour < 12, hour >= 13 && hour < 18:
		w = 1
	case hour >= 12 && hour < 13:
		w = 0.6
	case hour >= 8 && hour < 9, hour >= 18 && hour < 20:
		w = 0.4
	case hour >= 20 && hour < 24:
		w = 0.2
	case hour < 2:
		w = 0.08
	default:
		w = 0.02
	}
	if local >= 5*day {
		w *= 0.2
	}
	return w
}

// nightWeight is the same for overnight batch agents.
func nightWeight(local time.Duration) float64 {
	hour := (local % day).Hours()
	if hour >= 20 || hour < 5 {
		return 1
	}
	return 0
}

// drawTime draws a time before the end by the weight of its local time.
func (s source) drawTime(end, shift time.Duration, weight func(time.Duration) float64) time.Duration {
	for {
		t := time.Duration(s.Int64N(int64(end)))
		if s.Float64() < weight(t+shift+week) {
			return t
		}
	}
}
