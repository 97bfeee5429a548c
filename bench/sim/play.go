package main

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

// playAll plays every rule in every scenario, on all processors. The results are by
// scenario and rule, in their order.
func playAll(scenarios []*scenario, compared []rule) [][]figures {
	results := make([][]figures, len(scenarios))
	stages := make([]*stage, len(scenarios))
	order := make([]int, len(scenarios))
	for i, s := range scenarios {
		results[i] = make([]figures, len(compared))
		stages[i] = &stage{scenario: s, left: len(compared)}
		order[i] = i
	}
	// The largest first, or the last one would be waited for; one after the other,
	// since a scenario's demand is large.
	slices.SortStableFunc(order, func(a, b int) int { return scenarios[b].size() - scenarios[a].size() })
	type task struct{ scenario, rule int }
	tasks := make(chan task)
	var working sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		working.Go(func() {
			for t := range tasks {
				results[t.scenario][t.rule] = stages[t.scenario].play(&compared[t.rule])
			}
		})
	}
	for _, i := range order {
		for j := range compared {
			tasks <- task{i, j}
		}
	}
	close(tasks)
	working.Wait()
	return results
}

// size is about how much work there is in a scenario.
func (s *scenario) size() int {
	plans := 0
	for _, a := range s.Pool {
		plans += a.N * a.Plan
	}
	return int(1000 * s.Load * float64(plans*s.Weeks))
}

// stage is a scenario that is made when its first rule is played, and let go
// after the last.
type stage struct {
	scenario *scenario
	once     sync.Once
	accounts []account
	demand   *demand
	bound    float64

	mu   sync.Mutex
	left int
}

func (g *stage) set() {
	g.once.Do(func() {
		g.accounts = makeAccounts(g.scenario)
		g.demand = makeDemand(g.scenario, weeklyCapacity(g.accounts))
		g.bound = bound(g.demand, g.accounts)
	})
}

func (g *stage) play(r *rule) figures {
	g.set()
	d := g.demand
	began := time.Now()
	m := newRun(g.scenario, d, g.accounts, r).play()
	f := m.figures(d, g.bound)
	f.Scenario, f.Rule, f.Load, f.Seconds = g.scenario.Name, r.name, g.scenario.Load, time.Since(began).Seconds()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left--; g.left == 0 {
		g.demand, g.accounts = nil, nil
	}
	return f
}
