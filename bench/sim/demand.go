package main

import (
	"math"
	"slices"
	"time"
)

// demand is all the work of a scenario. It does not depend on the rule and no run
// changes it.
type demand struct {
	sessions []session
	turns    []turn
	main     []int // the main sessions in the order of their starts
	end      time.Duration
	ttl      time.Duration
	ideal    float64   // cost at full cache of all turns
	people   []share   // what each person demands
	slots    []slotSum // the same by time, for the bound
}

// share is what one person demands.
type share struct {
	ideal float64
	turns int
}

const (
	// shareSigma spreads how much people work, turnsMedian and turnsSigma how long
	// sessions are.
	shareSigma  = 0.8
	turnsMedian = 20
	turnsSigma  = 1.1
	turnsMost   = 2000

	patienceSigma = 0.7
	thinkMost     = 4 * time.Hour
	promptMost    = 170_000
	userPrompts   = 0.13
)

// makeDemand draws sessions for each person until they cost the person's share.
func makeDemand(s *scenario, capacity float64) *demand {
	target := s.Load * capacity * float64(s.Weeks)
	d := drawDemand(s, target)
	// Where nobody else kept a shared prefix warm turns cost more than was reckoned
	// with while drawing. The same draws are made again for somewhat less.
	return drawDemand(s, target*target/d.ideal)
}

func drawDemand(s *scenario, target float64) *demand {
	d := &demand{end: time.Duration(s.Weeks) * week, ttl: seconds(60 * s.TTL), people: make([]share, s.Devs)}
	people := newSource(s.Seed, forPeople, 0)
	weights, sum := make([]float64, s.Devs), 0.0
	for i := range weights {
		weights[i] = people.logNormal(1, shareSigma)
		sum += weights[i]
	}
	var times []moment
	for i, w := range weights {
		p := person{scenario: s, demand: d, index: i, source: newSource(s.Seed, forPerson, i), times: &times}
		p.shift = seconds(3600 * (0.7*p.NormFloat64() + s.TZ*(p.Float64()-0.5)))
		for left := target * w / sum; left > 0; {
			left -= p.session()
		}
	}
	d.order()
	d.coolPrefixes(times)
	d.sum(times)
	return d
}

// person draws the sessions of one.
type person struct {
	source
	*scenario
	demand *demand
	index  int
	shift  time.Duration // of the local time
	times  *[]moment
}

// moment is when a turn would be asked without any delay.
type moment struct {
	at   time.Duration
	turn int
	// prefix is which shared prefix it has; fresh is true where no more than that
	// can be cached.
	prefix uint8
	fresh  bool
	model  uint8
}

// session draws one main session with its agents' and returns its ideal cost.
func (p *person) session() float64 {
	d := p.demand
	batch := p.Float64() < p.Batch
	weight := officeWeight
	if batch {
		weight = nightWeight
	}
	start := p.drawTime(d.end, p.shift, weight)
	model := p.model()
	n := int(min(turnsMost, math.Ceil(p.logNormal(turnsMedian, turnsSigma))))
	index := p.add(session{start: start, model: model, kind: mainKind, parent: -1}, n, batch)
	for i := d.sessions[index].turns; i < d.sessions[index].turns+n; i++ {
		if d.turns[i].nAgents == 0 {
			continue
		}
		first := len(d.sessions)
		for range d.turns[i].nAgents {
			p.add(session{model: model, kind: agentKind, parent: index}, 3+p.IntN(12), true)
		}
		d.turns[i].agents = first
	}
	ideal, _ := p.walk(index, start)
	return ideal
}

func (p *person) model() uint8 {
	switch x := p.Float64(); {
	case x < 0.45:
		return opus
	case x < 0.9:
		return sonnet
	default:
		return haiku
	}
}

// add draws a session's turns. Nobody thinks before those of an agent, or of a
// batch.
func (p *person) add(s session, n int, alone bool) (index int) {
	d := p.demand
	s.person, s.turns, s.n = p.index, len(d.turns), n
	start := func() int { return sharedPrefix[s.kind] + int(p.logNormal(5000, 0.8)) }
	prompt, known := start(), 0
	for i := range n {
		t := turn{prompt: min(prompt, promptMost), known: known}
		t.output = int(math.Ceil(p.logNormal(260, 1.0)))
		t.patience = seconds(p.logNormal(60*p.Patience, patienceSigma))
		asked := i == 0 || p.Float64() < userPrompts
		switch {
		case i == 0:
		case asked && !alone:
			t.gap = min(thinkMost, seconds(p.logNormal(p.ThinkMed, p.ThinkSigma)))
		default:
			t.gap = seconds(p.logNormal(3.5, 1.2))
		}
		if asked && s.kind == mainKind && p.Float64() < p.SubProb {
			t.nAgents = 3 + p.IntN(8)
		}
		d.turns = append(d.turns, t)
		known = t.prompt
		prompt += t.output + int(p.logNormal(800, 1.1))
		if prompt > promptMost {
			// Compaction: a summary takes the conversation's place.
			prompt, known = start(), 0
		}
	}
	d.sessions = append(d.sessions, s)
	return len(d.sessions) - 1
}

// walk goes through a session without any delay, cuts it at the end, and gives
// its cost at full cache, with that of the agents it started.
func (p *person) walk(index int, now time.Duration) (ideal float64, end time.Duration) {
	d := p.demand
	s := &d.sessions[index]
	var warm time.Duration
	for i := range s.n {
		t := &d.turns[s.turns+i]
		now += t.gap
		if now >= d.end {
			for j := i; j < s.n; j++ {
				d.drop(&d.turns[s.turns+j])
			}
			s.n = i
			break
		}
		fresh := t.known == 0 || now >= warm
		cached := t.known
		if fresh {
			cached = sharedPrefix[s.kind]
		}
		t.ideal = cost(s.model, cached, t.prompt-cached, t.output)
		ideal += t.ideal
		*p.times = append(*p.times, moment{at: now, turn: s.turns + i, prefix: s.model*kinds + s.kind, fresh: fresh, model: s.model})
		d.people[p.index].turns++
		warm = now + t.headAfter() + d.ttl
		now += t.service()
		last := now
		for a := t.agents; a < t.agents+t.nAgents; a++ {
			c, until := p.walk(a, now)
			ideal += c
			last = max(last, until)
		}
		now = last
	}
	return ideal, now
}

// drop takes the agents of a turn that is beyond the end out.
func (d *demand) drop(t *turn) {
	for a := t.agents; a < t.agents+t.nAgents; a++ {
		d.sessions[a].n = 0
	}
	t.nAgents = 0
}

// order lists the main sessions by their starts.
func (d *demand) order() {
	for i := range d.sessions {
		if s := &d.sessions[i]; s.kind == mainKind && s.n > 0 {
			d.main = append(d.main, i)
		}
	}
	slices.SortStableFunc(d.main, func(a, b int) int { return compare(d.sessions[a].start, d.sessions[b].start) })
}

func compare(a, b time.Duration) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// coolPrefixes adds the cost of shared prefixes that nobody had used for the
// cache's life.
func (d *demand) coolPrefixes(times []moment) {
	slices.SortFunc(times, func(a, b moment) int {
		if c := compare(a.at, b.at); c != 0 {
			return c
		}
		return a.turn - b.turn
	})
	var warm [models * kinds]time.Duration
	for _, m := range times {
		t := &d.turns[m.turn]
		if m.fresh && m.at >= warm[m.prefix] {
			t.ideal = cost(m.model, 0, t.prompt, t.output)
		}
		warm[m.prefix] = max(warm[m.prefix], m.at+t.headAfter()+d.ttl)
	}
}

// sum adds up what is demanded, by person and by time.
func (d *demand) sum(times []moment) {
	for i := range d.sessions {
		s := &d.sessions[i]
		for j := range s.n {
			d.people[s.person].ideal += d.turns[s.turns+j].ideal
		}
	}
	for _, p := range d.people {
		d.ideal += p.ideal
	}
	d.slots = sumSlots(d, times)
}
