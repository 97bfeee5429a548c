package pool

import (
	"fmt"
	"math"
	"time"
)

// Forecast is what the group's accounts have left, and how long that lasts if they go on
// being used as fast as in the last minutes. It is an estimate: upstream tells shares of
// windows, and how much a window holds is learned (see capacity).
type Forecast struct {
	// Accounts and Open count the group's accounts, and those that can serve now.
	Accounts, Open int
	// FiveHourLeft and SevenDayLeft are the share of all windows together, each counted
	// by what it holds, that can still be used; negative when no account tells any.
	FiveHourLeft, SevenDayLeft float64
	// Dry is when no account will be open, zero when that is not within a week; Reopens
	// is when one opens again after that, zero when nobody knows.
	Dry, Reopens time.Time
	// Idle is true when next to nothing was used lately: there is no pace to go by.
	Idle bool
}

const (
	// forecastFor is how far ahead a forecast looks.
	forecastFor = 7 * 24 * time.Hour
	// forecastSteps bounds the work: far ahead the accounts only take turns.
	forecastSteps = 1000
	// idlePace is the share of a five-hour window in ten minutes below which nothing is
	// said of the future.
	idlePace = 0.001
)

// quota is one of the limits that the group's accounts draw on, as the forecast moves it
// into the future. Amounts are in [anthropic.Load]'s unit.
type quota struct {
	accounts    int
	shut        time.Time // until when it serves nothing
	never       bool      // it serves nothing until somebody does something
	endless     bool      // upstream tells no windows
	five, seven span
}

// span is a usage window on its way through the forecast.
type span struct {
	left, holds float64
	reset       time.Time // zero while it is not running
	length      time.Duration
}

// opensAt is when the quota serves; the time itself if it does by then.
func (q *quota) opensAt(t time.Time) time.Time {
	opens := t
	if q.shut.After(opens) {
		opens = q.shut
	}
	for _, s := range []*span{&q.five, &q.seven} {
		if !q.endless && s.left <= 0 && s.reset.After(opens) {
			opens = s.reset
		}
	}
	return opens
}

// to moves the span from one time to another, amount having been used meanwhile.
func (s *span) to(from, t time.Time, amount float64) {
	if amount > 0 && s.reset.IsZero() {
		s.reset = from.Add(s.length)
	}
	s.left -= amount
	if s.left < s.holds*1e-9 {
		s.left = 0
	}
	if !s.reset.IsZero() && !t.Before(s.reset) {
		s.left, s.reset = s.holds, time.Time{}
	}
}

// Forecast looks ahead. missing reports that an account lacks a credential, so that nobody
// knows when it will serve; it must not call the pool.
func (g *Group) Forecast(missing func(*Member) bool) Forecast {
	f := Forecast{Accounts: len(g.members)}
	now := g.pool.now()
	without := make([]bool, len(g.members))
	for i, m := range g.members {
		without[i] = missing(m)
	}
	quotas, pace := g.quotas(&f, without, now)
	f.FiveHourLeft, f.SevenDayLeft = shareLeft(quotas, now)
	f.Idle = pace <= 0
	f.Dry, f.Reopens = runDry(quotas, pace/burnMemory.Seconds(), now)
	return f
}

// quotas are the limits of the group's accounts, with what was spent of all of them in the
// last minutes, 0 for next to nothing.
// without are the members that lack a credential.
func (g *Group) quotas(f *Forecast, without []bool, now time.Time) (list []*quota, pace float64) {
	g.pool.mu.Lock() // only here: to look ahead takes long
	defer g.pool.mu.Unlock()
	known := make(map[*limits]*quota)
	idle := true
	for i, m := range g.members {
		a := g.states[i]
		l := a.limits
		q := known[l]
		if q == nil {
			q = &quota{never: true, endless: len(l.windows) == 0 && !l.untouched()}
			q.five = spanOf(l.fiveHour, l.fiveHourCapacity(m.weight()), 5*time.Hour, now)
			q.seven = spanOf(l.sevenDay, windowsOfWeek*l.fiveHourCapacity(m.weight()), 7*24*time.Hour, now)
			known[l], list = q, append(list, q)
			burn := l.burn.at(now) + l.elsewhere.at(now)
			pace += burn
			idle = idle && burn < idlePace*q.five.holds
		}
		q.accounts++
		b := a.benchOf(wholeAccount, now)
		if b == nil {
			b, _ = g.closing(i, wholeAccount, now)
		}
		if a.order.closes(now) {
			b = a.order.bench()
		}
		var until time.Time
		switch {
		case without[i]:
			continue
		case b == nil:
			f.Open++
		case b.Login || b.Until.IsZero():
			continue
		default:
			until = b.Until
		}
		// It serves as soon as one of those that share it does.
		if q.never || until.Before(q.shut) {
			q.shut = until
		}
		q.never = false
	}
	if idle {
		pace = 0
	}
	return list, pace
}

func spanOf(w *window, holds float64, length time.Duration, now time.Time) span {
	s := span{left: holds, holds: holds, length: length}
	if w == nil {
		return s
	}
	if learned := w.Capacity.units(); learned > 0 && w.length() > 5*time.Hour {
		s.holds, s.left = learned, learned
	}
	if now.Before(w.Reset) {
		s.left, s.reset = s.holds*max(0, 1-w.Utilization), w.Reset
	}
	return s
}

// shareLeft is how much of all windows together is left to those that are not out for
// want of a login or by order.
func shareLeft(quotas []*quota, now time.Time) (five, seven float64) {
	var left, holds [2]float64
	for _, q := range quotas {
		if q.endless {
			continue
		}
		for i, s := range []*span{&q.five, &q.seven} {
			holds[i] += s.holds
			if !q.never && (i == 1 || !q.opensAt(now).After(now)) {
				left[i] += s.left
			}
		}
	}
	if holds[0] == 0 {
		return -1, -1
	}
	return left[0] / holds[0], left[1] / holds[1]
}

// runDry lets the quotas be used at a pace, by the second, until none of them serves.
func runDry(quotas []*quota, pace float64, now time.Time) (dry, reopens time.Time) {
	t := now
	for range forecastSteps {
		open, endless := 0, false
		var next time.Time // when something opens or starts anew
		for _, q := range quotas {
			switch at := q.opensAt(t); {
			case q.never:
			case at.After(t):
				next = sooner(next, at)
			default:
				open++
				endless = endless || q.endless
			}
		}
		switch {
		case open == 0:
			return t, next
		case endless || pace <= 0 || t.Sub(now) > forecastFor:
			return time.Time{}, time.Time{}
		}
		t = step(quotas, pace/float64(open), t, next)
	}
	return time.Time{}, time.Time{}
}

// step moves the quotas to the time at which the next of them is used up, opens or starts
// anew; each of the open ones is used at a pace.
func step(quotas []*quota, pace float64, t, next time.Time) time.Time {
	isOpen := func(q *quota) bool { return !q.never && !q.opensAt(t).After(t) }
	for _, q := range quotas {
		for _, s := range []*span{&q.five, &q.seven} {
			if s.reset.After(t) {
				next = sooner(next, s.reset)
			}
			if isOpen(q) {
				next = sooner(next, t.Add(time.Duration(math.Ceil(min(s.left/pace, forecastFor.Seconds())*1e9))+1))
			}
		}
	}
	spent := make([]bool, len(quotas))
	for i, q := range quotas {
		spent[i] = isOpen(q)
	}
	for i, q := range quotas {
		amount := 0.0
		if spent[i] {
			amount = pace * next.Sub(t).Seconds()
		}
		q.five.to(t, next, amount)
		q.seven.to(t, next, amount)
	}
	return next
}

func sooner(t, u time.Time) time.Time {
	if t.IsZero() || u.Before(t) {
		return u
	}
	return t
}

// Words says it for people.
func (f *Forecast) Words(now time.Time) string {
	reopens := "when it opens again is not known"
	if !f.Reopens.IsZero() {
		reopens = "the next account opens at " + timeWords(f.Reopens, now)
	}
	switch {
	case f.Accounts == 0:
		return "there is no account"
	case f.Open == 0:
		return "no account is open; " + reopens
	case f.Idle:
		return "next to nothing is being used"
	case f.Dry.IsZero():
		return "at the present pace it lasts for a week and more"
	}
	return fmt.Sprintf("at the present pace no account will be open from %s; %s", timeWords(f.Dry, now), reopens)
}
