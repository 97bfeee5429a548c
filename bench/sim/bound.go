package main

import (
	"math"
	"slices"
	"time"
)

// The bound is what could be served if the future were known, requests were a
// fluid and moving cost nothing: the maximum flow from the demand, in slots of time,
// through the accounts' windows.

const slotLength = 30 * time.Minute

// slotStart is when a slot begins.
func slotStart(slot int) time.Duration { return time.Duration(slot) * slotLength }

// slotSum is the demand that comes in one slot and can be served up to another.
type slotSum struct {
	from, to   int
	cost, opus float64
}

// sumSlots adds up the demand by slots. Each turn may move later by its patience.
func sumSlots(d *demand, times []moment) []slotSum {
	last := int((d.end - 1) / slotLength)
	type key struct{ from, to int }
	sums := make(map[key]*slotSum)
	var keys []key
	for _, m := range times {
		t := &d.turns[m.turn]
		k := key{int(m.at / slotLength), min(last, int((m.at+t.patience)/slotLength))}
		s := sums[k]
		if s == nil {
			s = &slotSum{from: k.from, to: k.to}
			sums[k] = s
			keys = append(keys, k)
		}
		s.cost += t.ideal
		if m.model == opus {
			s.opus += t.ideal
		}
	}
	slices.SortFunc(keys, func(a, b key) int {
		if a.from != b.from {
			return a.from - b.from
		}
		return a.to - b.to
	})
	all := make([]slotSum, 0, len(keys))
	for _, k := range keys {
		all = append(all, *sums[k])
	}
	return all
}

// bound is the most that any rule could serve. With weekly Opus windows the least
// of two relaxations is taken: one that ignores them, and one in which Opus goes
// through them but not through the five-hour windows.
func bound(d *demand, accounts []account) float64 {
	scoped := slices.ContainsFunc(accounts, func(a account) bool { return len(a.windows) > opusWeekly })
	begins := make([]time.Duration, len(accounts))
	most := func() float64 {
		m := flow(d, accounts, begins, false)
		if scoped {
			m = min(m, flow(d, accounts, begins, true))
		}
		return m
	}
	best := most()
	// Where no weekly window runs yet a rule may keep an account for later, so that
	// its weeks lie better: try each account's first use in turn.
	for i := range accounts {
		if accounts[i].windows[weekly].reset > 0 || best >= d.ideal*(1-1e-9) {
			continue
		}
		top := time.Duration(0)
		for begins[i] = 12 * time.Hour; begins[i] < week; begins[i] += 12 * time.Hour {
			if m := most(); m > best {
				best, top = m, begins[i]
			}
		}
		begins[i] = top
	}
	return best
}

// flow is the maximum flow when the accounts are first used at those times; scoped
// lets Opus go through its own weekly windows in the place of the five-hour ones.
func flow(d *demand, accounts []account, begins []time.Duration, scoped bool) float64 {
	if len(d.slots) == 0 {
		return 0
	}
	f := &fluid{network: newNetwork(), demand: d, count: int((d.end + slotLength - 1) / slotLength)}
	f.plain = f.makeSlots()
	f.opus = f.plain
	if scoped {
		f.opus = f.makeSlots()
	}
	for i := range d.slots {
		s := &d.slots[i]
		f.demanded(s, f.plain, s.cost-s.opus)
		f.demanded(s, f.opus, s.opus)
	}
	start := slotStart(d.slots[0].from)
	for i := range accounts {
		f.supplied(&accounts[i], max(start, begins[i]), scoped)
	}
	return f.maximum()
}

// fluid is the network that a demand flows through.
type fluid struct {
	*network
	demand *demand
	count  int // of slots
	// plain and opus are the nodes of the slots.
	plain, opus []int
}

func (f *fluid) makeSlots() []int {
	slots := make([]int, f.count)
	for i := range slots {
		slots[i] = f.node()
	}
	return slots
}

// demanded lets a cost flow into each slot in which it can be served.
func (f *fluid) demanded(s *slotSum, slots []int, cost float64) {
	if cost <= 0 {
		return
	}
	group := f.node()
	f.edge(sourceNode, group, cost)
	for i := s.from; i <= s.to; i++ {
		f.edge(group, slots[i], math.Inf(1))
	}
}
