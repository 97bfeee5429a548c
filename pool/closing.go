package pool

import (
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// Verdicts of accounts that limits of the operator's own close: they are no trouble,
// and no served request ends them.
const (
	verdictPlan   = "plan_only"
	verdictBudget = "account_budget"
)

// CloseFor keeps requests that cost something from the account (Member.Key) until a
// time, for a reason in words; a zero time opens it again. An account that the pool
// does not have is ignored.
func (p *Pool) CloseFor(key string, until time.Time, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.accounts[key]
	if !ok || a.closedUntil.Equal(until) {
		return
	}
	a.closedUntil, a.closedReason = until, reason
	p.dispatch(p.now())
}

const (
	// told is how exactly upstream tells utilization.
	told = 0.01
	// unsure is by how much more than on average the requests that are under way may
	// cost.
	unsure = 2
	// windowsOfWeek is how many five-hour windows a week is taken to hold until more is
	// known.
	windowsOfWeek = 7
)

// closing says which limit of the operator's own closes the account to the family;
// nil for none. busy says that it is the requests in flight that do: there may be
// room again when they have ended.
func (g *Group) closing(i int, family string, now time.Time) (b *bench, busy bool) {
	m, a := g.members[i], g.states[i]
	if now.Before(a.closedUntil) {
		return &bench{Until: a.closedUntil, Verdict: verdictBudget, Reason: a.closedReason, Source: "reset"}, false
	}
	if m.PlanOnly {
		return a.endOfPlan(m, family, g.pool.costs.expect(family), now)
	}
	return nil, false
}

// endOfPlan says whether one more request might be paid for as extra usage: a window is
// used up, or what is under way and this one may use the rest of it.
func (a *account) endOfPlan(m *Member, family string, expected float64, now time.Time) (latest *bench, busy bool) {
	l := a.limits
	close := func(until time.Time, window string) {
		if latest == nil || until.After(latest.Until) {
			latest = &bench{
				Family: familyOf(window), Until: until, Verdict: verdictPlan, Window: window, Source: "reset",
				Reason: "its plan is used up, and extra usage would be paid for",
			}
		}
	}
	if now.Before(l.paidUntil) {
		close(l.paidUntil, "")
	}
	for _, w := range l.windows {
		if !w.limits(l, family) || !now.Before(w.Reset) {
			continue
		}
		holds := l.holds(w, m.weight())
		rest := 1 - told - w.Utilization - max(w.Capacity.Spent, l.recent.since(w.toldSince))/holds
		switch {
		case w.Status == anthropic.StatusRejected || rest < unsure*expected/holds:
			close(w.Reset, w.name)
		case rest < unsure*(expected+l.reserved+l.reservedElsewhere)/holds:
			busy = true
		}
	}
	return latest, busy && latest == nil
}

// recentCosts are what the last requests cost, by when they ended. What is told with
// the head of one answer is older than what another's end has told us meanwhile.
type recentCosts struct {
	costs [64]struct {
		at   time.Time
		cost float64
	}
	next int
}

func (r *recentCosts) add(cost float64, now time.Time) {
	r.costs[r.next].at, r.costs[r.next].cost = now, cost
	r.next = (r.next + 1) % len(r.costs)
}

// since is the sum of those that ended after a time; zero means that nobody knows.
func (r *recentCosts) since(t time.Time) (sum float64) {
	if t.IsZero() {
		return 0
	}
	for i := range r.costs {
		if r.costs[i].at.After(t) {
			sum += r.costs[i].cost
		}
	}
	return sum
}

// toldBy takes note of when the request was sent whose answer told what it did.
func (l *limits) toldBy(said *anthropic.Limits, begun time.Time) {
	for i := range said.Windows {
		if said.Windows[i].Utilization >= 0 {
			l.window(said.Windows[i].Name).toldSince = begun
		}
	}
}

// familyOf is the family that a window closes, wholeAccount for one that limits every
// model.
func familyOf(window string) string {
	for _, family := range anthropic.FamiliesOf(window) {
		return family
	}
	return wholeAccount
}

// holds is how much the window holds, as far as it was learned; of two estimates the
// smaller, since too large a window would be paid for.
func (l *limits) holds(w *window, weight float64) float64 {
	guess := firstCapacity * weight
	if w.length() > 5*time.Hour {
		guess = windowsOfWeek * l.fiveHourCapacity(weight)
	}
	holds := max((guess*firstTrust+w.Capacity.Cost)/(firstTrust+w.Capacity.Growth), guess*1e-3)
	if learned := w.Capacity.units(); learned > 0 {
		holds = min(holds, learned)
	}
	return holds
}

// pays takes note of whether an answer was paid for as extra usage. Accounts that pay
// may tell no windows at all, only when what they pay for begins anew.
func (l *limits) pays(said *anthropic.Limits, now time.Time) {
	const most = 5 * time.Hour // by then there is a new window
	switch {
	case said.OverageInUse, said.Claim == "overage", !said.OverageReset.IsZero() && len(said.Windows) == 0 && said.Status == "":
		l.paidUntil = now.Add(most)
		if reset := l.soonest(now); reset.After(now) && reset.Before(l.paidUntil) {
			l.paidUntil = reset
		}
	case len(said.Windows) > 0:
		l.paidUntil = time.Time{}
	}
}

// soonest is when the first of the running windows that are used up, or nearly so, ends.
func (l *limits) soonest(now time.Time) (soonest time.Time) {
	for _, w := range l.windows {
		if now.Before(w.Reset) && (w.Status == anthropic.StatusRejected || w.Utilization >= 0.9) && (soonest.IsZero() || w.Reset.Before(soonest)) {
			soonest = w.Reset
		}
	}
	return soonest
}
