package main

import (
	"fmt"
	"math"
	"time"
)

// account is an upstream account as it really is.
type account struct {
	windows  []window // 5h, 7d, and 7d_opus where there is one
	dead     time.Duration
	inFlight int
	mostAt   int // requests at once
	minute   []time.Duration
	next     int // in minute: the oldest of the last requests
	bursts   []episode
	outside  []chunk
}

const (
	fiveHour = iota
	weekly
	opusWeekly
)

// never is a time beyond every scenario's end.
const never = time.Duration(math.MaxInt64)

// plan is what an account's size comes with.
type plan struct {
	weekRatio     float64
	atOnce, every int // requests in flight and a minute
}

var plans = map[int]plan{
	1:  {9, 8, 30},
	5:  {8, 16, 60},
	20: {7, 32, 120},
}

// unitCapacity is what the five-hour window of the smallest plan holds.
const unitCapacity = 2e6

// accountKeys are the accounts' keys in the pool, by index.
var accountKeys = func() (keys [mostAccounts]string) {
	for i := range keys {
		keys[i] = fmt.Sprintf("a%03d", i)
	}
	return keys
}()

const mostAccounts = 256

// makeAccounts draws the accounts of a scenario. Runs get copies.
func makeAccounts(s *scenario) []account {
	var all []account
	n := 0
	for _, kind := range s.Pool {
		n += kind.N
	}
	src := newSource(s.Seed, forAccounts, 0)
	order := src.Perm(n)
	for _, kind := range s.Pool {
		for range kind.N {
			all = append(all, makeAccount(s, &kind, src, len(all), (float64(order[len(all)])+src.Float64())/float64(n)))
		}
	}
	return all
}

// makeAccount draws one account. phase is where between now and a week from now
// its first weekly reset is, if windows are staggered.
func makeAccount(s *scenario, kind *accounts, src source, index int, phase float64) account {
	p := plans[kind.Plan]
	ratio := p.weekRatio
	if kind.WeekRatio > 0 {
		ratio = kind.WeekRatio
	}
	short := unitCapacity * float64(kind.Plan) * src.logNormal(1, 0.12)
	long := short * ratio * src.logNormal(1, 0.08)
	a := account{
		windows: []window{
			{name: "5h", length: 5 * time.Hour, capacity: short},
			{name: "7d", length: week, capacity: long},
		},
		dead: never, mostAt: p.atOnce, minute: make([]time.Duration, p.every),
	}
	for i := range a.minute {
		a.minute[i] = -time.Hour
	}
	if kind.OpusWeek > 0 {
		a.windows = append(a.windows, window{name: "7d_opus", length: week, capacity: long * kind.OpusWeek})
	}
	if s.Stagger {
		for i := weekly; i < len(a.windows); i++ {
			a.windows[i].reset = max(time.Hour, time.Duration(phase*float64(week)))
		}
	}
	if kind.DeadAt > 0 {
		a.dead = seconds(3600 * kind.DeadAt)
	}
	end := time.Duration(s.Weeks) * week
	a.bursts = drawEpisodes(newSource(s.Seed, forBursts, index), end, s.Bursts/float64(day), 15, 40)
	if kind.External > 0 {
		a.outside = drawOutside(newSource(s.Seed, forOutside, index), end, kind.External*long)
	}
	return a
}

// weeklyCapacity is what the accounts hold in a week.
func weeklyCapacity(all []account) (sum float64) {
	for i := range all {
		sum += all[i].windows[weekly].capacity
	}
	return sum
}

// limits reports whether the window limits requests for the model.
func (w *window) limits(model uint8) bool { return w.name != "7d_opus" || model == opus }

// spent tells which windows keep the account from serving the model.
func (a *account) spent(model uint8, now time.Duration) (whole, scoped bool) {
	for i := range a.windows {
		w := &a.windows[i]
		if w.roll(now); w.spent() {
			whole = whole || i < opusWeekly
			scoped = scoped || i == opusWeekly && model == opus
		}
	}
	return whole, scoped
}

// crowded reports whether one more request is one too many at once or in a minute.
func (a *account) crowded(now time.Duration) bool {
	return a.inFlight >= a.mostAt || now-a.minute[a.next] < time.Minute
}

// admit counts a request that is served.
func (a *account) admit(model uint8, cost float64, now time.Duration) {
	a.inFlight++
	a.minute[a.next] = now
	a.next = (a.next + 1) % len(a.minute)
	a.charge(model, cost, now)
}

func (a *account) charge(model uint8, cost float64, now time.Duration) {
	for i := range a.windows {
		if w := &a.windows[i]; w.limits(model) {
			w.use(cost, now)
		}
	}
}
