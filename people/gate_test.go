package people

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRateIsAMinutes(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	g := NewGate(func() time.Time { return now })
	limits := &Limits{Rate: 6}
	enter := func() *Busy {
		leave, busy, _ := g.Enter(t.Context(), "ann", limits, Waiting{Hold: time.Minute})
		if leave != nil {
			leave()
		}
		return busy
	}
	for range 6 {
		if busy := enter(); busy != nil {
			t.Fatalf("kept out within the rate: %v", busy)
		}
	}
	busy := enter()
	if busy == nil || busy.RetryAfter != 10*time.Second || !busy.Rate {
		t.Fatalf("the seventh in a minute: %+v", busy)
	}
	if leave, other, _ := g.Enter(t.Context(), "bob", limits, Waiting{}); other != nil {
		t.Error("bob is kept out by what ann did")
	} else {
		leave()
	}
	now = now.Add(busy.RetryAfter - time.Millisecond)
	if again := enter(); again == nil {
		t.Error("let in before the time that was told")
	}
	now = now.Add(time.Millisecond)
	if again := enter(); again != nil {
		t.Errorf("kept out at the time that was told: %+v", again)
	}
	now = now.Add(time.Hour)
	limits = &Limits{Rate: 2}
	for i := range 3 {
		if busy := enter(); (busy != nil) != (i == 2) {
			t.Errorf("request %d after the rate became 2: %+v", i, busy)
		}
	}
}

// TestWhoWaitsIsLetInInOrder: with a bound of two, requests come in as they came, and
// never more than two at once.
func TestWhoWaitsIsLetInInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(time.Now)
		limits := &Limits{MaxConcurrent: 2}
		var inside, most atomic.Int64
		var order []int
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				leave, busy, _ := g.Enter(t.Context(), "ann", limits, Waiting{Hold: time.Minute})
				if busy != nil {
					t.Errorf("%d was kept out: %v", i, busy)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				most.Store(max(most.Load(), inside.Add(1)))
				time.Sleep(time.Second + time.Duration(i)*time.Millisecond)
				inside.Add(-1)
				leave()
				leave() // only the first counts
			})
			synctest.Wait()
		}
		all.Wait()
		if most.Load() != 2 || g.Inside("ann") != 0 {
			t.Errorf("%d at once, %d left inside", most.Load(), g.Inside("ann"))
		}
		for i, n := range order {
			if i != n {
				t.Fatalf("let in out of order: %v", order)
			}
		}
	})
}

func TestWhoWaitsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(time.Now)
		limits := &Limits{MaxConcurrent: 1}
		leave, _, _ := g.Enter(t.Context(), "ann", limits, Waiting{})
		if _, busy, waited := g.Enter(t.Context(), "ann", limits, Waiting{Hold: 5 * time.Second}); busy == nil || waited != 5*time.Second || busy.Rate {
			t.Errorf("waited %v: %+v", waited, busy)
		}
		if _, busy, _ := g.Enter(t.Context(), "ann", limits, Waiting{}); busy == nil {
			t.Error("did not wait, and came in all the same")
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if got, busy, _ := g.Enter(ctx, "ann", limits, Waiting{Hold: time.Minute}); got != nil || busy != nil {
			t.Error("a client that left was let in, or told why not")
		}
		go func() {
			if l, _, _ := g.Enter(t.Context(), "ann", limits, Waiting{Hold: time.Minute}); l != nil {
				l()
			}
		}()
		synctest.Wait()
		if _, busy, _ := g.Enter(t.Context(), "ann", limits, Waiting{Hold: time.Minute, Queue: 1}); busy == nil {
			t.Error("a second one may stand in a line of one")
		}
		leave()
		synctest.Wait()
		if n := g.Inside("ann"); n != 0 {
			t.Errorf("%d are inside after all have left", n)
		}
	})
}

// TestNothingIsLostAtTheGate: clients that leave in any moment take no place along.
func TestNothingIsLostAtTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(time.Now)
		dice := rand.New(rand.NewPCG(1, 2))
		var inside [3]atomic.Int64
		var all sync.WaitGroup
		for range 3000 {
			who := dice.IntN(3)
			limits := &Limits{MaxConcurrent: 1 + who}
			hold, patience, work := time.Duration(dice.IntN(20))*time.Millisecond, time.Duration(dice.IntN(20))*time.Millisecond, time.Duration(dice.IntN(8))*time.Millisecond
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				leave, _, _ := g.Enter(ctx, fmt.Sprint(who), limits, Waiting{Hold: hold})
				if leave == nil {
					return
				}
				if n := inside[who].Add(1); n > int64(limits.MaxConcurrent) {
					t.Errorf("%d of %d at once", n, limits.MaxConcurrent)
				}
				time.Sleep(work)
				inside[who].Add(-1)
				leave()
			})
			time.Sleep(time.Duration(dice.IntN(3)) * time.Millisecond)
		}
		all.Wait()
		for who := range 3 {
			if n := g.Inside(fmt.Sprint(who)); n != 0 {
				t.Errorf("%d places of person %d are lost", n, who)
			}
		}
	})
}

// TestVisitorsAreBounded: names come from other authentication, too, without end.
func TestVisitorsAreBounded(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	g := NewGate(func() time.Time { return now })
	limits := &Limits{Rate: 60}
	for i := range 3 * maxVisitors {
		leave, _, _ := g.Enter(t.Context(), fmt.Sprint(i), limits, Waiting{})
		leave()
		now = now.Add(time.Second)
	}
	if len(g.people) > maxVisitors {
		t.Errorf("%d are kept", len(g.people))
	}
}

func TestLimitsCheck(t *testing.T) {
	for name, l := range map[string]Limits{
		"glob":     {Models: []string{"["}},
		"negative": {Rate: -1},
		"weight":   {Weight: MaxWeight + 1},
		"period":   {Budgets: []Budget{{Tokens: 1, Per: "year"}}},
		"nothing":  {Budgets: []Budget{{Per: PerDay}}},
		"both":     {Budgets: []Budget{{Tokens: 1, USD: 1, Per: PerDay}}},
		"two":      {Budgets: []Budget{{Tokens: 1, Per: PerDay}, {Tokens: 2, Per: PerDay}}},
	} {
		if l.Check() == nil {
			t.Errorf("%s: %+v was taken", name, l)
		}
	}
	fine := Limits{Models: []string{"claude-haiku-*", "claude-sonnet-5"}, Budgets: []Budget{{Tokens: 1, Per: PerDay}, {USD: 1, Per: PerDay}, {USD: 2, Per: PerMonth}}}
	if err := fine.Check(); err != nil {
		t.Error(err)
	}
	for model, want := range map[string]bool{"claude-haiku-5-5": true, "claude-sonnet-5": true, "claude-sonnet-5-5": false, "": true} {
		if fine.Allows(model) != want {
			t.Errorf("%q: allowed %v", model, !want)
		}
	}
}

func TestParseBudget(t *testing.T) {
	for text, want := range map[string]string{
		"20usd per day": "$20.00 per day", "0.5 usd per week": "$0.50 per week", "1.5M tokens per month": "1500000 tokens per month",
		"500tokens per day": "500 tokens per day", "2Gtokens per day": "2000000000 tokens per day",
	} {
		b, err := ParseBudget([]string{text})
		if err != nil || b.String() != want {
			t.Errorf("%s: %v, %v", text, b.String(), err)
		}
	}
	for _, text := range []string{"", "20usd", "20 per day", "20eur per day", "-5usd per day", "0usd per day", "1.5tokens per day", "20usd per year", "NaNtokens per day", "1e300tokens per day", "usd per day"} {
		if b, err := ParseBudget([]string{text}); err == nil {
			t.Errorf("%q is %v", text, b.String())
		}
	}
}
