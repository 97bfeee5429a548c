package faults

import (
	"testing"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// loginFaults are played through the login that they befall, so no row names them
// as its own fault.
var loginFaults = map[string]bool{
	fakeclaude.InvalidGrant: true, fakeclaude.TokenRateLimited: true,
	fakeclaude.RefreshUnavailable: true, fakeclaude.RefreshLostAnswer: true,
}

// TestRows: the list is what it promises to be, and no fault that the fake
// upstream learns is forgotten here.
func TestRows(t *testing.T) {
	all := rows()
	if len(all) < fewestRows {
		t.Errorf("%d rows, expected at least %d", len(all), fewestRows)
	}
	names, played := map[string]bool{}, map[string]bool{}
	for i := range all {
		r := &all[i]
		if names[r.name] {
			t.Errorf("the row %s is there twice", r.name)
		}
		names[r.name] = true
		played[r.sick.fault.Name] = true
		for _, run := range r.runsOrBoth() {
			want := r.one
			if run == allSick {
				want = r.all
			}
			if r.place == "" || r.leaves == 0 && want.ending == 0 {
				t.Errorf("the row %s expects nothing of %s", r.name, run)
			}
		}
	}
	for _, info := range fakeclaude.FaultNames() {
		if !played[info.Name] && !loginFaults[info.Name] {
			t.Errorf("no row plays the fault %s: %s", info.Name, info.Doc)
		}
	}
}

// TestHeadProblem: the small language of the rows' header expectations.
func TestHeadProblem(t *testing.T) {
	for _, c := range []struct {
		got, want string
		ok        bool
	}{
		{"false", "false", true}, {"true", "false", false}, {"", "", true}, {"x", "", false},
		{"", "!false", true}, {"false", "!false", false},
		{"3", "1..3", true}, {"4", "1..3", false}, {"", "1..3", false}, {"", "0..3", false}, {"three", "1..3", false},
	} {
		if problem := headProblem(c.got, c.want); (problem == "") != c.ok {
			t.Errorf("%q against %q: %q", c.got, c.want, problem)
		}
	}
}
