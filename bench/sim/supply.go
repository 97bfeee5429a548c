package main

import (
	"math"
	"time"
)

// span is a window's time and what it holds.
type span struct {
	from, to time.Duration
	capacity float64
}

// spans lays windows back to back. What somebody outside takes is taken away.
func (a *account) spans(w *window, from, end time.Duration, outside []chunk) (all []span) {
	if w.reset > 0 {
		all = append(all, span{0, w.reset, w.capacity})
		from = w.reset
	}
	end = min(end, a.dead)
	for ; from < end; from += w.length {
		all = append(all, span{from, from + w.length, w.capacity})
	}
	if !w.limits(sonnet) {
		return all
	}
	for i := range all {
		for _, c := range outside {
			if c.at >= all[i].from && c.at < all[i].to {
				all[i].capacity -= c.cost
			}
		}
	}
	return all
}

// leastOutside is what somebody outside takes of an account even when the pool
// takes all that it can there before: whoever comes first is served.
func (a *account) leastOutside(d *demand, count int) (least []chunk) {
	if len(a.outside) == 0 {
		return nil
	}
	arriving, late := make([]float64, count), make([]float64, count)
	for _, s := range d.slots {
		arriving[s.from] += s.cost
		for k := s.from + 1; k <= s.to; k++ {
			late[k] += s.cost
		}
	}
	windows := append([]window(nil), a.windows[:opusWeekly]...)
	rest := a.outside
	for k := range count {
		now := slotStart(k)
		left, demanded := math.Inf(1), arriving[k]
		for i := range windows {
			w := &windows[i]
			if w.roll(now); w.reset == 0 {
				demanded = arriving[k] + late[k]
			}
			left = min(left, w.capacity-w.used)
		}
		wanted := 0.0
		for ; len(rest) > 0 && rest[0].at < now+slotLength; rest = rest[1:] {
			wanted += rest[0].cost
		}
		pools := min(left, demanded)
		got := min(left-pools, wanted)
		for i := range windows {
			windows[i].use(pools+got, now)
		}
		if got > 0 {
			least = append(least, chunk{now, got})
		}
	}
	return least
}

// supplied lets the slots flow through an account's windows.
func (f *fluid) supplied(a *account, start time.Duration, scoped bool) {
	outside := a.leastOutside(f.demand, f.count)
	weeks := a.spans(&a.windows[weekly], start, f.demand.end, outside)
	ends := make([]int, len(weeks))
	for i, s := range weeks {
		ends[i] = f.node()
		f.edge(ends[i], sinkNode, s.capacity)
	}
	through := func(w *window, lists ...[]int) {
		for _, s := range a.spans(w, start, f.demand.end, outside) {
			in, out := f.node(), f.node()
			f.edge(in, out, s.capacity)
			for k := int(s.from / slotLength); k < f.count && slotStart(k) < min(s.to, a.dead); k++ {
				for _, slots := range lists {
					f.edge(slots[k], in, math.Inf(1))
				}
			}
			for i, week := range weeks {
				if s.from < week.to && week.from < s.to {
					f.edge(out, ends[i], math.Inf(1))
				}
			}
		}
	}
	switch {
	case !scoped:
		through(&a.windows[fiveHour], f.plain)
	case len(a.windows) > opusWeekly:
		through(&a.windows[fiveHour], f.plain)
		through(&a.windows[opusWeekly], f.opus)
	default:
		through(&a.windows[fiveHour], f.plain, f.opus)
	}
}
