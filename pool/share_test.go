package pool

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// customer is one person in a crowd.
type customer struct {
	name   string
	weight float64
	model  string
	size   func() int64 // of a request, in input tokens
	// atOnce is how many requests the person has in flight and in line, all the time;
	// with pause it sends them all together, and again when all have ended and so long
	// has passed.
	atOnce int
	pause  time.Duration

	open   int // in flight and in line
	back   time.Time
	had    float64 // what was served, in anthropic.Load
	most   float64 // of one request
	served int
}

// crowd is people at a pool that is too small for them, in virtual time.
type crowd struct {
	g       *Group
	clock   *steppedClock
	rnd     *rand.Rand
	people  []*customer
	running []ending
	order   []*customer // who was served, in order
}

type ending struct {
	at    time.Time
	lease *Lease
	who   *customer
}

func newCrowd(seed uint64, slots int, people ...*customer) *crowd {
	c := newSteppedClock()
	return &crowd{
		g:     New(c, seed).Group([]*Member{{Name: "a", Key: "a#1", MaxConcurrent: slots}}, Policies[DefaultPolicy]),
		clock: c, rnd: rand.New(rand.NewPCG(seed, 7)), people: people,
	}
}

func (c *crowd) ask(who *customer) {
	who.open++
	req := &Request{User: who.name, Weight: who.weight, Model: who.model, Endpoint: anthropic.EndpointMessages}
	c.g.Join(req, Waiting{Hold: 10_000 * time.Hour}, func(lease *Lease, _ *Refusal) {
		c.order = append(c.order, who)
		takes := time.Duration(1+c.rnd.IntN(60)) * time.Second
		c.running = append(c.running, ending{c.clock.now.Add(takes), lease, who})
	})
}

// serve lets so many requests end.
func (c *crowd) serve(n int) {
	for range n {
		for _, who := range c.people {
			if who.pause > 0 && (who.open > 0 || c.clock.now.Before(who.back)) {
				continue
			}
			for who.open < who.atOnce {
				c.ask(who)
			}
		}
		next := slices.MinFunc(c.running, func(a, b ending) int { return a.at.Compare(b.at) })
		c.running = slices.DeleteFunc(c.running, func(e ending) bool { return e.lease == next.lease })
		c.clock.advance(next.at.Sub(c.clock.now))
		used := anthropic.Usage{InputTokens: next.who.size()}
		next.who.open--
		cost := anthropic.Load(next.who.model, used)
		next.who.had, next.who.most = next.who.had+cost, max(next.who.most, cost)
		next.who.served++
		next.who.back = c.clock.now.Add(next.who.pause)
		next.lease.Report(&served, nil)
		next.lease.End(used)
	}
}

// TestSharesFollowWeights: while people wait all the time, what they are served is in
// proportion to their weights, whatever the size of their requests, their models, how
// much they ask at once, and who else comes and goes.
func TestSharesFollowWeights(t *testing.T) {
	models := []string{"claude-opus-5", "claude-sonnet-5", "claude-haiku-4-5"}
	for seed := range uint64(max(1, *seeds/6)) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		sizes := []func() int64{
			func() int64 { return 4000 },
			func() int64 { return 100 },
			func() int64 { return 1 + rnd.Int64N(50_000) },
			func() int64 { return int64(100 * math.Exp(6*rnd.Float64())) }, // 100 to 40,000, most of them small
		}
		slots := 1 + rnd.IntN(8)
		var people []*customer
		for i := range 2 + rnd.IntN(4) {
			people = append(people, &customer{
				name: fmt.Sprint("p", i), weight: float64(1 + rnd.IntN(10)), model: models[rnd.IntN(3)], size: sizes[rnd.IntN(4)], atOnce: slots + 1 + rnd.IntN(60),
			})
		}
		if seed%3 == 0 {
			people[0].weight = 0 // is 1
		}
		steady := slices.Clone(people)
		if seed%2 == 0 {
			people = append(people, &customer{name: "", weight: 3, model: models[0], size: sizes[2], atOnce: 20, pause: time.Duration(rnd.IntN(600)) * time.Second})
		}
		c := newCrowd(seed, slots, people...)
		c.serve(1000)
		before := make([]float64, len(steady))
		for i, who := range steady {
			before[i], who.served = who.had, 0
		}
		for least, rounds := 0.0, 0; least < 300 && rounds < 30; rounds++ { // as long as it takes for many requests of each
			c.serve(1000)
			least = math.Inf(1)
			for _, who := range steady {
				least = min(least, float64(who.served))
			}
		}
		sum, weights, most := 0.0, 0.0, 0.0
		for i, who := range steady {
			sum += who.had - before[i]
			weights += max(1, who.weight)
			most = max(most, who.most)
		}
		for i, who := range steady {
			got, want := (who.had-before[i])/sum, max(1, who.weight)/weights
			// 3 %, and the requests that were under way at the beginning and the end.
			if !(math.Abs(got-want) < 0.03*want+2*most/sum) {
				t.Errorf("seed %d: %s of weight %v had %.1f%% in %d requests, want %.1f%%", seed, who.name, who.weight, 100*got, who.served, 100*want)
			}
		}
	}
}

// same is a request that costs what one is expected to cost.
func same() int64 { return 4000 }

// TestASingleQuestionIsNext: however many of another wait and run.
func TestASingleQuestionIsNext(t *testing.T) {
	for _, test := range []struct {
		waiting, slots, past int
		weight               float64
	}{{50, 1, 0, 1}, {50, 8, 0, 1}, {500, 20, 0, 1}, {500, 4, 5000, 1}, {500, 4, 1000, 100}, {500, 4, 1000, 0.01}} {
		agents := &customer{name: "agents", weight: test.weight, model: "claude-opus-5", size: same, atOnce: test.waiting + test.slots}
		person := &customer{name: "person", model: "claude-opus-5", size: same}
		c := newCrowd(1, test.slots, agents, person)
		c.serve(1 + test.past)
		c.ask(person)
		n := len(c.order)
		c.serve(1)
		if c.order[n] != person {
			t.Errorf("%+v: it was not next", test)
		}
		// One that asks again and again gets no more than a share.
		person.atOnce = 500
		n = len(c.order)
		c.serve(400)
		if test.weight == 1 {
			if had := count(c.order[n+2*test.slots:], agents); had < 150 {
				t.Errorf("%+v: then the others had %d of 400", test, had)
			}
		}
	}
}

func count(order []*customer, who *customer) (n int) {
	for _, other := range order {
		if other == who {
			n++
		}
	}
	return n
}

// TestWhoHasHadMoreIsNotNext: what was used while others waited counts, by weight,
// and fades.
func TestWhoHasHadMoreIsNotNext(t *testing.T) {
	for _, test := range []struct {
		weight float64
		idle   time.Duration
		next   bool
	}{{1, 0, false}, {100, 0, true}, {1, 2 * time.Hour, true}} {
		agents := &customer{name: "agents", model: "claude-opus-5", size: same, atOnce: 50}
		greedy := &customer{name: "greedy", weight: test.weight, model: "claude-opus-5", size: func() int64 { return 400_000 }, atOnce: 1}
		c := newCrowd(1, 1, agents, greedy)
		for greedy.served == 0 {
			c.serve(1)
		}
		for greedy.atOnce = 0; greedy.open > 0; {
			c.serve(1)
		}
		// Its lead has not been caught up by what the others had meanwhile.
		c.clock.advance(test.idle)
		for i := range c.running {
			c.running[i].at = c.clock.now
		}
		c.ask(greedy)
		n := len(c.order)
		c.serve(3)
		if got := count(c.order[n:n+2], greedy) == 1; got != test.next {
			t.Errorf("%+v: next: %v", test, got)
		}
	}
}

// TestIdleTimeIsNotSavedUp: who lets others use the pool, and then comes with a
// burst, does not shut them out; and who has used it alone is not punished.
func TestIdleTimeIsNotSavedUp(t *testing.T) {
	for _, idle := range []int{0, 10, 5000} {
		worker := &customer{name: "worker", model: "claude-opus-5", size: same, atOnce: 20}
		other := &customer{name: "other", model: "claude-opus-5", size: same, atOnce: 4}
		c := newCrowd(1, 2, worker, other)
		c.serve(100)
		other.atOnce = 0
		c.serve(idle)
		other.atOnce = 500
		n := len(c.order)
		c.serve(100)
		if had := count(c.order[n:], worker); had < 45 || had > 55 {
			t.Errorf("after %d of its own, who stayed had %d of 100", idle, had)
		}
	}
}

// TestNobodyStarves: between two services of a person each other one has no more than
// its weight allows.
func TestNobodyStarves(t *testing.T) {
	for seed := range uint64(max(1, *seeds/12)) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		slots := 1 + rnd.IntN(4)
		var people []*customer
		for i := range 2 + rnd.IntN(5) {
			people = append(people, &customer{
				name: fmt.Sprint("p", i), weight: []float64{1, 100, float64(1 + rnd.IntN(100))}[rnd.IntN(3)], model: "claude-opus-5", size: same, atOnce: 10 + rnd.IntN(100),
			})
		}
		c := newCrowd(seed, slots, people...)
		c.serve(8000)
		for _, who := range people {
			most := 0.0
			for _, other := range people {
				if other != who {
					most += math.Ceil(other.weight/who.weight) + 1
				}
			}
			// Whoever has a slot is ahead by it, and an end moves nobody by less than a request.
			most = 1.1*most + float64(slots) + 2
			gap := 0
			for i, other := range c.order[2000:] { // the first who come take all slots
				if gap++; other == who {
					gap = 0
				}
				if float64(gap) > most {
					t.Errorf("seed %d: %s of weight %v waited for more than %v others at %d", seed, who.name, who.weight, most, i)
					break
				}
			}
		}
	}
}

// TestWhoIsAloneGetsAll: no weight keeps a slot empty, and requests that nothing
// serves keep nobody back.
func TestWhoIsAloneGetsAll(t *testing.T) {
	alone := &customer{name: "alone", weight: 1, model: "claude-opus-5", size: same, atOnce: 50}
	heavy := &customer{name: "heavy", weight: 100, model: "claude-opus-5", size: same}
	c := newCrowd(1, 4, alone, heavy)
	c.serve(200)
	if len(c.running) != 4 || alone.served != 200 {
		t.Errorf("%d run, %d were served", len(c.running), alone.served)
	}
	// Those that nothing serves keep nobody back.
	c.g.members[0].Models = []string{"claude-opus-*"}
	for range 30 {
		c.g.Join(&Request{User: "heavy", Weight: 100, Model: "claude-haiku-4-5", Endpoint: anthropic.EndpointMessages}, Waiting{Hold: 1000 * time.Hour}, func(*Lease, *Refusal) {})
	}
	c.serve(200)
	if len(c.running) != 4 || alone.served != 400 {
		t.Errorf("%d run, %d were served", len(c.running), alone.served)
	}
}

// TestWhatUsesNothingHasItsTurnToo: a flood of requests that fail, or are free, does
// not go before everybody else.
func TestWhatUsesNothingHasItsTurnToo(t *testing.T) {
	flood := &customer{name: "flood", model: "claude-opus-5", size: func() int64 { return 0 }, atOnce: 100}
	person := &customer{name: "person", model: "claude-opus-5", size: same, atOnce: 3}
	c := newCrowd(1, 1, flood, person)
	c.serve(1100)
	if person.served < 90 {
		t.Errorf("%d of 1100 were the other's", person.served)
	}
}

// TestSharesAreForgotten: nobody is counted who has nothing in flight and in line.
func TestSharesAreForgotten(t *testing.T) {
	people := []*customer{{name: "a", model: "claude-opus-5", size: same, atOnce: 5}, {name: "b", model: "claude-opus-5", size: same, atOnce: 5, pause: time.Minute}}
	c := newCrowd(1, 3, people...)
	c.serve(500)
	leave := c.g.Join(message(""), Waiting{Hold: time.Hour}, func(*Lease, *Refusal) {})
	leave()
	for _, who := range people {
		who.atOnce = 0
	}
	for len(c.running) > 0 {
		c.serve(1)
	}
	s := &c.g.pool.shares
	for user, sh := range s.of {
		if !sh.idle() || sh.running != 0 || sh.first != nil || sh.last != nil {
			t.Errorf("%s: %+v", user, sh)
		}
	}
	if s.active != 0 {
		t.Errorf("%d are active", s.active)
	}
}
