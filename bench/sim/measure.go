package main

import "time"

// measure is what came of one rule in one scenario.
type measure struct {
	sessions, givenUp int // main ones
	requests, served  int
	ideal, charged    float64 // of what was served
	moves             int
	warmMoves         [answerKinds]int // by what its last account had said, served for nothing
	refusals          [answerKinds]int
	waited            int // turns that waited over a second
	wait              time.Duration
	people            []float64 // ideal cost served, by person
}

func newMeasure(d *demand) measure { return measure{people: make([]float64, len(d.people))} }

func (m *measure) begin(s *session) {
	if s.kind == mainKind {
		m.sessions++
	}
}

func (m *measure) giveUp(s *session) {
	if s.kind == mainKind {
		m.givenUp++
	}
}

// admit is a turn that an account has begun to serve.
func (m *measure) admit(w *run, r *runner, now time.Duration) {
	wait := now - r.first
	m.wait += wait
	if wait > time.Second {
		m.waited++
	}
	if r.home < 0 || r.home == r.account {
		return
	}
	m.moves++
	place := r.home
	if w.world.free {
		return
	}
	if r.cache.has(place, now) > 0 && now < w.world.accounts[r.home].dead {
		m.warmMoves[r.trouble]++
	}
}

// serve is a turn that has been served.
func (m *measure) serve(s *session, t *turn) {
	m.served++
	m.ideal += t.ideal
	m.people[s.person] += t.ideal
}

func (m *measure) refuse(kind answerKind) { m.refusals[kind]++ }

// leastTurns is how many turns a person must demand to be looked at alone.
const leastTurns = 200

// figures are the measures as they are printed.
type figures struct {
	Scenario string  `json:"scenario,omitempty"`
	Rule     string  `json:"rule"`
	Load     float64 `json:"load,omitempty"`
	// Goodput is the cost at full cache of the turns served over the bound, Spent what
	// was charged over that cost.
	Goodput float64 `json:"goodput"`
	Spent   float64 `json:"spent"`
	// Moves and refusals are for each 1000 turns served.
	Moves     float64 `json:"moves"`
	WarmMoves float64 `json:"warm_moves"`
	// WarmAfter are the warm moves by the last refusal of the turn; first those of
	// turns that no account had refused.
	WarmAfter  [answerKinds]float64 `json:"warm_moves_after"`
	Quota      float64              `json:"quota_429"`
	Burst      float64              `json:"burst_429"`
	Windowless float64              `json:"windowless_429"`
	Overloaded float64              `json:"overloaded_529"`
	GivenUp    float64              `json:"given_up"`  // share of the main sessions
	Waited     float64              `json:"waited"`    // share of the turns that waited over a second
	MeanWait   float64              `json:"mean_wait"` // seconds
	Worst      float64              `json:"worst"`     // the worst person's service over the average
	BoundShare float64              `json:"bound"`     // the bound over the demand
	Turns      float64              `json:"turns"`     // demanded
	Seconds    float64              `json:"-"`         // that the run took
}

func (m *measure) figures(d *demand, bound float64) figures {
	per := func(n int) float64 { return 1000 * float64(n) / float64(max(1, m.served)) }
	f := figures{
		Goodput: m.ideal / bound, Spent: m.charged / m.ideal,
		Moves: per(m.moves), WarmMoves: per(sum(m.warmMoves[:])), Quota: per(m.refusals[quotaSpent] + m.refusals[opusSpent]),
		Burst: per(m.refusals[burst]), Windowless: per(m.refusals[windowless]), Overloaded: per(m.refusals[overloaded]),
		GivenUp: float64(m.givenUp) / float64(max(1, m.sessions)),
		Waited:  float64(m.waited) / float64(max(1, m.served)), MeanWait: m.wait.Seconds() / float64(max(1, m.served)),
		Worst: 1, BoundShare: bound / d.ideal, Turns: float64(len(d.turns)),
	}
	for kind, n := range m.warmMoves {
		f.WarmAfter[kind] = per(n)
	}
	for i, p := range d.people {
		if p.turns >= leastTurns {
			f.Worst = min(f.Worst, m.people[i]/p.ideal/(m.ideal/d.ideal))
		}
	}
	return f
}

func sum(list []int) (n int) {
	for _, x := range list {
		n += x
	}
	return n
}
