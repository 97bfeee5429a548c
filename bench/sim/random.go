package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// purpose keeps the draws for one thing apart from those for others: what is
// drawn for one must not shift what is drawn for the next.
type purpose uint64

const (
	forPeople purpose = iota + 1
	forPerson
	forAccounts
	forBursts
	forOverloads
	forOutside
	forBackground
	forOverloaded
	forRetryAfter
	forPause
	forJitter
	forUnseen
)

// mix is a hash of numbers (splitmix64).
func mix(numbers ...uint64) uint64 {
	var h uint64
	for _, n := range numbers {
		h = mix2(h, n)
	}
	return h
}

func mix2(h, n uint64) uint64 {
	h += n + 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// word is a count or an index as an input of mix.
func word(n int) uint64 { return uint64(max(0, n)) }

// unit makes a number in [0, 1) of a hash.
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// source is a sequence of draws.
type source struct{ *rand.Rand }

func newSource(seed uint64, p purpose, index int) source {
	return source{rand.New(rand.NewPCG(seed, mix(uint64(p), word(index))))}
}

// logNormal draws from the log-normal distribution of that median and sigma.
func (s source) logNormal(median, sigma float64) float64 {
	return median * math.Exp(sigma*s.NormFloat64())
}

// seconds is a number of seconds as a time.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
