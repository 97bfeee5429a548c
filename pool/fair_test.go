package pool

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// team is people who use one account of a few places, in virtual time.
type team struct {
	t      *testing.T
	clock  *steppedClock
	g      *Group
	served map[string]int
	cost   map[string]float64
	order  []string
	busy   []*Lease
}

func newTeam(t *testing.T, places int) *team {
	t.Helper()
	clock := newSteppedClock()
	p := New(clock, 1)
	return &team{
		t: t, clock: clock, g: p.Group([]*Member{{Name: "a", Key: "a", MaxConcurrent: places}}, Policies[DefaultPolicy]),
		served: make(map[string]int), cost: make(map[string]float64),
	}
}

// ask joins the line; what is lent is under way until finish.
func (m *team) ask(user string, weight int) {
	req := &Request{User: user, Weight: float64(weight), Model: "claude-sonnet-5", Endpoint: anthropic.EndpointMessages}
	m.g.Join(req, Waiting{Hold: 24 * time.Hour}, func(l *Lease, r *Refusal) {
		if l == nil {
			m.t.Errorf("%s was refused: %+v", user, r)
			return
		}
		m.served[user]++
		m.order = append(m.order, user)
		m.busy = append(m.busy, l)
	})
}

// finish ends the oldest request that is under way.
func (m *team) finish(tokens int64) {
	l := m.busy[0]
	m.busy = m.busy[1:]
	used := anthropic.Usage{InputTokens: tokens}
	m.cost[l.req.User] += anthropic.Load(l.req.Model, used)
	l.End(used)
}

// TestPartsFollowWeights: over time people who always want more get parts of what
// there is according to their weights, whatever the sizes of their requests.
func TestPartsFollowWeights(t *testing.T) {
	for seed := range uint64(max(1, *seeds/6)) {
		dice := rand.New(rand.NewPCG(seed, 3))
		m := newTeam(t, 1+dice.IntN(8))
		weights, sizes, waiting := map[string]int{}, map[string]int64{}, map[string]int{}
		for i := range 2 + dice.IntN(5) {
			name := fmt.Sprint("person-", i)
			weights[name], sizes[name] = 1+dice.IntN(5), 2000+dice.Int64N(60_000)
		}
		refill := func() {
			for i := range len(weights) {
				name := fmt.Sprint("person-", i)
				for waiting[name] = 0; waiting[name] < 12; waiting[name]++ {
					m.ask(name, weights[name])
				}
			}
		}
		refill()
		sum := 0.0
		for round := range 6000 {
			m.clock.now = m.clock.now.Add(time.Duration(500+dice.IntN(1000)) * time.Millisecond)
			user := m.busy[0].req.User
			m.finish(sizes[user]/2 + dice.Int64N(sizes[user]))
			m.ask(user, weights[user])
			if round == 1000 { // what requests cost has been learned
				clear(m.cost)
			}
		}
		total := 0
		for name, w := range weights {
			total += w
			sum += m.cost[name]
		}
		for name, w := range weights {
			want, got := float64(w)/float64(total), m.cost[name]/sum
			if math.Abs(got-want) > 0.1*want {
				t.Errorf("seed %d: %s of weight %d of %d got %.3f of all; want %.3f", seed, name, w, total, got, want)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// TestOneQuestionBehindABurst of 50, and of 500, of somebody else's is next.
func TestOneQuestionBehindABurst(t *testing.T) {
	for _, n := range []int{50, 500} {
		m := newTeam(t, 4)
		for range n {
			m.ask("burst", 1)
		}
		m.clock.now = m.clock.now.Add(time.Second)
		m.ask("question", 1)
		m.finish(20_000)
		if m.served["question"] != 1 {
			t.Errorf("of %d: the question waits behind %d", n, m.served["burst"])
		}
	}
}

// mostFirst is how many come first at most, times their weight.
const mostFirst = 40

// TestWhoUsedMuchIsNotStarved: however much a person has used, and whatever their
// weight, others come first for a bounded number of requests only.
func TestWhoUsedMuchIsNotStarved(t *testing.T) {
	for _, weight := range []int{1, 5, 20} {
		m := newTeam(t, 1)
		for range 2000 {
			m.ask("heavy", 1)
			m.finish(20_000)
		}
		for range 4 * mostFirst * weight {
			m.ask("light", weight)
		}
		m.ask("heavy", 1)
		for range 2 * mostFirst * weight {
			m.clock.now = m.clock.now.Add(time.Second)
			m.finish(20_000)
			if m.served["heavy"] == 2001 {
				break
			}
		}
		if m.served["heavy"] != 2001 {
			t.Errorf("weight %d: %d came first", weight, m.served["light"])
		}
	}
}

// TestIdlePartsAreBorrowed: who is alone gets everything, and owes nothing for it for
// longer than it is remembered.
func TestIdlePartsAreBorrowed(t *testing.T) {
	m := newTeam(t, 3)
	for range 60 {
		m.ask("alone", 1)
	}
	for range 57 {
		m.clock.now = m.clock.now.Add(time.Second)
		m.finish(20_000)
	}
	if m.served["alone"] != 60 {
		t.Errorf("%d were served", m.served["alone"])
	}
	for len(m.busy) > 0 {
		m.finish(20_000)
	}
	m.clock.now = m.clock.now.Add(3 * time.Hour)
	for range 3 {
		m.ask("third", 1)
	}
	m.order = nil
	for range 3 {
		m.ask("alone", 1)
	}
	m.ask("newcomer", 1)
	for len(m.busy) > 0 {
		m.finish(20_000)
	}
	if m.order[0] != "alone" && m.order[0] != "newcomer" || m.order[1] == m.order[0] {
		t.Errorf("after three hours: %v", m.order)
	}
}
