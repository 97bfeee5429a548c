package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// quantile is the q-quantile (0 to 1) of sorted values, interpolated between
// neighbours; NaN of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// spread is how values are distributed.
type spread struct {
	Low, Median, High float64 // quartiles
	N                 int
}

func spreadOf(values []float64) spread {
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, cmp.Compare[float64])
	return spread{quantile(sorted, 0.25), quantile(sorted, 0.5), quantile(sorted, 0.75), len(sorted)}
}

// pairedRatios are a[i]/b[i]: the i-th runs of both stood next to each other in time.
func pairedRatios(a, b []float64) ([]float64, error) {
	if len(a) != len(b) {
		return nil, fmt.Errorf("%d values cannot be paired with %d", len(a), len(b))
	}
	ratios := make([]float64, len(a))
	for i := range a {
		if !(b[i] > 0) || math.IsNaN(a[i]) {
			return nil, fmt.Errorf("pair %d has no ratio: %v to %v", i+1, a[i], b[i])
		}
		ratios[i] = a[i] / b[i]
	}
	return ratios, nil
}

// quantiles summarises times that are given in nanoseconds, in milliseconds.
type quantiles struct {
	N        int
	P50, P99 float64
	Max      float64
}

func quantilesOf(nanoseconds []int64) quantiles {
	if len(nanoseconds) == 0 {
		return quantiles{}
	}
	slices.Sort(nanoseconds)
	at := func(q float64) float64 {
		return float64(nanoseconds[min(len(nanoseconds)-1, int(q*float64(len(nanoseconds))))]) / 1e6
	}
	return quantiles{N: len(nanoseconds), P50: at(0.5), P99: at(0.99), Max: at(1)}
}
