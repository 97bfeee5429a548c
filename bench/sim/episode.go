package main

import (
	"slices"
	"time"
)

// episode is a time of trouble.
type episode struct {
	from, to time.Duration
	// told: refusals say when to come back.
	told bool
}

// drawEpisodes draws episodes at a rate per nanosecond, each of a least length and
// an exponential rest, in seconds.
func drawEpisodes(src source, end time.Duration, rate, least, rest float64) (all []episode) {
	if rate <= 0 {
		return nil
	}
	for at := src.ExpFloat64() / rate; at < float64(end); at += src.ExpFloat64() / rate {
		from := time.Duration(at)
		all = append(all, episode{from: from, to: from + seconds(least+rest*src.ExpFloat64()), told: src.Float64() < 0.5})
	}
	return all
}

// current is the episode that lasts now; nil for none. The list loses those that
// are over.
func current(list *[]episode, now time.Duration) *episode {
	for len(*list) > 0 && now >= (*list)[0].to {
		*list = (*list)[1:]
	}
	if len(*list) > 0 && now >= (*list)[0].from {
		return &(*list)[0]
	}
	return nil
}

// chunk is what somebody outside the pool uses of an account at a time.
type chunk struct {
	at   time.Duration
	cost float64
}

// drawOutside draws the use of somebody outside, who takes that much a week: in
// bursts within office hours, minute by minute.
func drawOutside(src source, end time.Duration, perWeek float64) (all []chunk) {
	const bursts = 15 // a week
	weeks := float64(end) / float64(week)
	n := int(bursts * weeks)
	sum := 0.0
	for range n {
		at := src.drawTime(end, 0, officeWeight)
		length, rate := seconds(60*(10+30*src.ExpFloat64())), src.logNormal(1, 0.5)
		for ; length > 0 && at < end; length -= time.Minute {
			all = append(all, chunk{at, rate})
			sum += rate
			at += time.Minute
		}
	}
	for i := range all {
		all[i].cost *= perWeek * weeks / sum
	}
	slices.SortFunc(all, func(a, b chunk) int { return compare(a.at, b.at) })
	return all
}
