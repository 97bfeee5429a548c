package main

import (
	"fmt"
	"math"
)

// drawScenarios draws scenarios of other shapes than the files', within the
// model's ranges.
func drawScenarios(n int, seed uint64) []*scenario {
	var all []*scenario
	for i := range n {
		s := drawScenario(newSource(seed, forUnseen, i))
		s.Name = fmt.Sprintf("unseen-%02d-%d-accounts-l%03.0f", i+1, s.accounts(), 100*s.Load)
		all = append(all, s)
	}
	return all
}

func (s *scenario) accounts() (n int) {
	for _, a := range s.Pool {
		n += a.N
	}
	return n
}

func drawScenario(src source) *scenario {
	s := newScenario()
	round := func(x, to float64) float64 { return math.Round(x/to) * to }
	maybe := func(p, value float64) float64 {
		if src.Float64() < p {
			return value
		}
		return 0
	}
	s.Seed = src.Uint64() % 1_000_000
	s.Load = round(0.5+src.Float64(), 0.01)
	s.Stagger = src.Float64() < 0.8
	size := 0
	for _, plan := range []int{1, 5, 20} {
		n := src.IntN(5)
		if plan == 20 {
			n = src.IntN(3)
		}
		for n > 0 {
			// Those of one size differ among themselves.
			part := 1 + src.IntN(n)
			n -= part
			size += part * plan
			s.Pool = append(s.Pool, accounts{
				Plan: plan, N: part, WeekRatio: maybe(0.15, round(5+10*src.Float64(), 0.5)),
				DeadAt: maybe(0.05, round(100+400*src.Float64(), 1)), External: maybe(0.15, round(0.1+0.4*src.Float64(), 0.05)),
				OpusWeek: maybe(0.15, round(0.3+0.4*src.Float64(), 0.05)),
			})
		}
	}
	if s.accounts() < 2 {
		s.Pool, size = []accounts{{Plan: 5, N: 2 + src.IntN(4)}}, 20
	}
	s.Devs = max(1, int(float64(size)*0.3*src.logNormal(1, 0.4)))
	s.Batch = round(0.3*src.Float64(), 0.05)
	s.SubProb = round(0.02+0.08*src.Float64(), 0.01)
	s.ThinkMed = round(40+80*src.Float64(), 5)
	s.Patience = round(6+18*src.Float64(), 1)
	s.TZ = maybe(0.3, 9)
	s.Bursts = round(src.logNormal(2, 0.8), 0.5)
	s.Overloads = round(src.logNormal(3, 0.8), 0.5)
	return &s
}
