package main

import (
	"math"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{7}, 0.99, 7},
		{[]float64{1, 2}, 0.5, 1.5},
		{[]float64{1, 2, 3, 4, 5}, 0.25, 2},
		{[]float64{1, 2, 3, 4}, 0.75, 3.25},
		{[]float64{1, 2, 3}, 1, 3},
		{[]float64{1, 2, 3}, 0, 1},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("the %g quantile of %v is %g, want %g", c.q, c.values, got, c.want)
		}
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("of nothing it is %g", got)
	}
}

func TestSpread(t *testing.T) {
	unsorted := []float64{5, 1, 4, 2, 3}
	if got := spreadOf(unsorted); got != (spread{2, 3, 4, 5}) {
		t.Errorf("the spread is %+v", got)
	}
	if unsorted[0] != 5 {
		t.Error("it sorted the values of its caller, which are in pairs")
	}
}

func TestPairedRatios(t *testing.T) {
	// The machine is three times as slow in the second pair: the ratio stays.
	got, err := pairedRatios([]float64{2, 6, 9}, []float64{1, 3, 3})
	if err != nil {
		t.Fatal(err)
	}
	if s := spreadOf(got); s.Median != 2 || got[2] != 3 {
		t.Errorf("the ratios are %v", got)
	}
	for name, c := range map[string][2][]float64{
		"other lengths": {{1}, {1, 2}}, "a zero": {{1}, {0}}, "no figure": {{math.NaN()}, {1}}, "none of theirs": {{1}, {math.NaN()}},
	} {
		if got, err := pairedRatios(c[0], c[1]); err == nil {
			t.Errorf("%s: the ratios are %v", name, got)
		}
	}
}

func TestQuantilesOfTimes(t *testing.T) {
	times := make([]int64, 1000)
	for i := range times {
		times[i] = int64(1000-i) * 1e6
	}
	if got := quantilesOf(times); got != (quantiles{N: 1000, P50: 501, P99: 991, Max: 1000}) {
		t.Errorf("got %+v", got)
	}
	if got := quantilesOf(nil); got != (quantiles{}) {
		t.Errorf("of none: %+v", got)
	}
}

func TestTargets(t *testing.T) {
	ratio := &spread{Median: 1.4}
	for _, c := range []struct {
		target *target
		row    row
		met    string
		text   string
	}{
		{atLeast(1.5), row{Ratio: ratio, Ours: 9}, "**not met**", "at least 1.5 x"},
		{atLeast(1.4), row{Ratio: ratio}, "met", "at least 1.4 x"},
		{atMost(1), row{Ratio: ratio}, "**not met**", "at most 1 x"},
		{below(5), row{Ratio: ratio, Ours: 4.9}, "met", "at most 5"},
		{below(0), row{Ours: 1}, "**not met**", "at most 0"},
		{&target{Bound: 1000, AtLeast: true, Absolute: true}, row{Ours: 1200}, "met", "at least 1000"},
	} {
		c.row.Target = c.target
		if got := c.row.verdict(); got != c.met {
			t.Errorf("%v of %+v: %s, want %s", c.target, c.row, got, c.met)
		}
		if got := c.target.String(); got != c.text {
			t.Errorf("the target is printed as %q, want %q", got, c.text)
		}
	}
}
