package main

import (
	"reflect"
	"testing"
	"time"
)

// builtIn is one of the built-in scenarios, for that many weeks.
func builtIn(t *testing.T, name string, weeks int) *scenario {
	t.Helper()
	all, err := readScenarios("")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Name == name {
			s.Weeks = weeks
			return s
		}
	}
	t.Fatalf("there is no scenario %s", name)
	return nil
}

func ruleFor(t *testing.T, name string) *rule {
	t.Helper()
	found := ruleNamed(rules(), name)
	if len(found) == 0 {
		t.Fatalf("there is no rule %s", name)
	}
	return &found[0]
}

func TestSameSeedSameResult(t *testing.T) {
	scenarios := func() []*scenario {
		return []*scenario{builtIn(t, "public-03-two-equal-l110", 1), builtIn(t, "public-16-five-opusweek-l100", 1)}
	}
	compared := rules()
	first := playAll(scenarios(), compared)
	second := playAll(scenarios(), compared)
	for i := range first {
		for j := range first[i] {
			first[i][j].Seconds, second[i][j].Seconds = 0, 0
			if first[i][j] != second[i][j] {
				t.Errorf("%s, %s: two runs differ:\n%+v\n%+v", first[i][j].Scenario, first[i][j].Rule, first[i][j], second[i][j])
			}
		}
	}
}

func TestDemandIsTheSameForEachRun(t *testing.T) {
	s := builtIn(t, "public-02-two-equal-l090", 1)
	accounts := makeAccounts(s)
	d, again := makeDemand(s, weeklyCapacity(accounts)), makeDemand(s, weeklyCapacity(accounts))
	newRun(s, d, accounts, ruleFor(t, "original")).play()
	newRun(s, d, accounts, ruleFor(t, "balanced")).play()
	if !reflect.DeepEqual(d, again) {
		t.Error("a run changed the demand")
	}
	if !reflect.DeepEqual(accounts, makeAccounts(s)) {
		t.Error("a run changed the accounts")
	}
}

func TestDemandIsTheLoad(t *testing.T) {
	for _, name := range []string{"public-04-two-equal-l150", "public-06-five-mixed-l090"} {
		s := builtIn(t, name, 2)
		accounts := makeAccounts(s)
		capacity := weeklyCapacity(accounts)
		d := makeDemand(s, capacity)
		if got := d.ideal / capacity / 2; got < s.Load*0.97 || got > s.Load*1.03 {
			t.Errorf("%s: the demand is %.3f of the capacity, want %.2f", name, got, s.Load)
		}
	}
}

// books are an account's windows, kept anew from what was admitted.
type books struct {
	accounts [][]window
}

func (b *books) admit(t *testing.T, index int, model uint8, cost float64, now time.Duration) {
	for i := range b.accounts[index] {
		w := &b.accounts[index][i]
		if w.name == "7d_opus" && model != opus {
			continue
		}
		if w.reset > 0 && now >= w.reset {
			w.used, w.reset = 0, 0
		}
		if w.reset == 0 {
			w.reset = now + w.length
		}
		if w.used >= w.capacity {
			t.Fatalf("account %d: %s served beyond its capacity at %v", index, w.name, now)
		}
		w.used += cost
	}
}

func TestNothingIsMadeOrLost(t *testing.T) {
	for _, name := range []string{
		"public-03-two-equal-l110", "public-08-five-mixed-l150", "public-14-five-death-l080", "public-15-five-external-l090",
		"public-16-five-opusweek-l100", "public-17-solo-two-pro-l090", "public-18-five-tight5h-l120", "public-19-five-stormy-l090",
	} {
		s := builtIn(t, name, 1)
		if s.Name == "public-14-five-death-l080" {
			s.Weeks = 2 // so that the death comes before the end
		}
		accounts := makeAccounts(s)
		d := makeDemand(s, weeklyCapacity(accounts))
		most := bound(d, accounts)
		for _, ruleName := range []string{"original", "round_robin_by_turn", "balanced", "free_switching"} {
			w := newRun(s, d, accounts, ruleFor(t, ruleName))
			kept := &books{}
			for _, a := range accounts {
				kept.accounts = append(kept.accounts, append([]window(nil), a.windows...))
			}
			admitted := 0.0
			w.world.watch = func(account int, model uint8, cost float64, now time.Duration) {
				kept.admit(t, account, model, cost, now)
				if now >= accounts[account].dead {
					t.Fatalf("account %d served after its death", account)
				}
				admitted += cost
			}
			ended := make([]int, len(d.turns))
			w.ended = func(turn int, _ ending) { ended[turn]++ }
			m := w.play()
			for _, index := range d.main {
				eachTurn(d, &d.sessions[index], func(turn int) {
					if ended[turn] != 1 {
						t.Fatalf("%s, %s: turn %d ended %d times", name, ruleName, turn, ended[turn])
					}
				})
			}
			for i := range w.world.accounts {
				if n := w.world.accounts[i].inFlight; n != 0 {
					t.Errorf("%s, %s: account %d has %d requests in flight at the end", name, ruleName, i, n)
				}
			}
			if w.active != 0 {
				t.Errorf("%s, %s: %d sessions never ended", name, ruleName, w.active)
			}
			// What is served late moves what its session asks next, which the bound does
			// not know.
			if m.ideal > most*1.01 {
				t.Errorf("%s, %s: served %.4f of the bound", name, ruleName, m.ideal/most)
			}
			if s.Name != "public-15-five-external-l090" && admitted < m.charged*(1-1e-9) {
				t.Errorf("%s, %s: %g was charged and %g admitted", name, ruleName, m.charged, admitted)
			}
		}
	}
}

// eachTurn calls f for the turns of a session and of those that it starts.
func eachTurn(d *demand, s *session, f func(int)) {
	for i := s.turns; i < s.turns+s.n; i++ {
		f(i)
		t := &d.turns[i]
		for a := t.agents; a < t.agents+t.nAgents; a++ {
			eachTurn(d, &d.sessions[a], f)
		}
	}
}

func TestUnseenScenariosAreValid(t *testing.T) {
	for _, s := range drawScenarios(200, 7) {
		if err := s.check(); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}
