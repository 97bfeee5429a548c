package main

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/golden.json")

const (
	goldenFile = "testdata/golden.json"
	// tolerated is how far the mean goodput may fall: less is noise. One scenario alone
	// may swing further, since each choice changes all that come after it.
	tolerated    = 0.005
	toleratedOne = 0.02
)

// TestBalancedKeepsItsYield is the short form of the comparison: a change that
// costs goodput fails here.
func TestBalancedKeepsItsYield(t *testing.T) {
	const weeks = 4
	got := make(map[string]float64)
	for _, name := range []string{
		"public-02-two-equal-l090", "public-03-two-equal-l110", "public-07-five-mixed-l110", "public-13-five-sync-l110",
		"public-16-five-opusweek-l100", "public-17-solo-two-pro-l090", "public-18-five-tight5h-l120",
	} {
		g := stage{scenario: builtIn(t, name, weeks), left: 1}
		f := g.play(ruleFor(t, "balanced"))
		got[name] = math.Round(f.Goodput*1e5) / 1e5
	}
	if *update {
		data, err := json.MarshalIndent(got, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenFile, append(data, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	data, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]float64)
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatalf("%s: %v", goldenFile, err)
	}
	if len(want) != len(got) {
		t.Fatalf("%s has %d scenarios, want %d: run with -update", goldenFile, len(want), len(got))
	}
	var before, now float64
	for name, was := range want {
		is := got[name]
		before += was
		now += is
		if is < was*(1-toleratedOne) {
			t.Errorf("%s: goodput / bound is %.4f, was %.4f", name, is, was)
		} else if is != was {
			t.Logf("%s: goodput / bound is %.4f, was %.4f", name, is, was)
		}
	}
	if now < before*(1-tolerated) {
		t.Errorf("the mean goodput / bound is %.4f, was %.4f", now/float64(len(want)), before/float64(len(want)))
	}
}
