package pool

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// View is a group's state at one moment, for people to look at.
type View struct {
	Now, Started time.Time
	Pinned       string
	LastUsed     string
	// Policy decides now, Configured is the group's own.
	Policy, Configured string
	Waiting            int
	Sessions           int
	Accounts           []AccountView
	Recent             []Record // newest first
	People             map[string]Totals
}

// AccountView is one account at one moment.
type AccountView struct {
	Member *Member
	// Identity says whose limits it draws on, as told by Identify; empty when nobody
	// knows. Shares are the names of the other accounts of the group that draw on the
	// same: together they have no more than one of them.
	Identity string
	Shares   []string
	Windows  []WindowView // by name
	Buckets  []BucketView // by name
	Benches  []BenchView  // those that last, the whole account's first, the longest of a family first
	Trying   bool         // had a trouble, and the next request finds out whether it is over
	InFlight int
	LastUsed time.Time
	Totals   Totals
	// Local counts tokens by our own clock; LocalEnds is zero when it is not running.
	Local     anthropic.Usage
	LocalEnds time.Time

	OverageStatus, OverageReason string
}

// WindowView is what is known of a usage window.
type WindowView struct {
	Name string
	// Known is false when upstream never told the utilization.
	Known bool
	// Utilization is 0 once the reset has passed.
	Utilization float64
	Status      string
	Reset       time.Time
	Updated     time.Time
	// Length is how long the window lasts. Pace is the share of it that has passed: where
	// Utilization would be by now if it were used evenly; negative when it is not running.
	Length time.Duration
	Pace   float64
}

// BucketView is what is known of a classic limit.
type BucketView struct {
	Name             string
	Limit, Remaining int64
	Reset, Updated   time.Time
	// Known is false when upstream never told both numbers. Used is the share that is
	// not there now: a limit fills up until its reset.
	Known bool
	Used  float64
}

// BenchView is a bench that lasts, or an operator's order. Until is zero for one that has
// no end.
type BenchView struct {
	// Family is empty when the whole account is benched.
	Family                          string
	Until, Since                    time.Time
	Verdict, Reason, Source, Window string
	Login                           bool
}

// Drained reports whether the operator has drained the account.
func (a *AccountView) Drained() bool {
	return len(a.Benches) > 0 && a.Benches[0].Verdict == verdictDrained
}

// Benched is the bench of the whole account that lasts longest; nil when it can
// serve.
func (a *AccountView) Benched() *BenchView {
	if len(a.Benches) > 0 && a.Benches[0].Family == wholeAccount {
		return &a.Benches[0]
	}
	return nil
}

// Window finds a window by name; false when nothing is known of it.
func (a *AccountView) Window(name string) (WindowView, bool) {
	for _, w := range a.Windows {
		if w.Name == name {
			return w, true
		}
	}
	return WindowView{}, false
}

// View is the group's state now.
func (g *Group) View() View {
	p := g.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	v := View{
		Now: now, Started: p.started, Pinned: p.pin, LastUsed: p.lastUsed, Policy: g.policyNow().Name(), Configured: g.policy.Name(),
		Waiting: len(p.waiting.line), Sessions: p.sessions.len(),
		Recent: p.recent.newestFirst(), People: make(map[string]Totals, len(p.people)),
	}
	for user, t := range p.people {
		v.People[user] = *t
	}
	for _, other := range p.peers {
		for user, t := range other.people {
			sum := v.People[user]
			sum.add(&t)
			v.People[user] = sum
		}
	}
	for i, m := range g.members {
		account := g.view(i, m, now)
		elsewhere := p.totalsElsewhere(m.Key)
		account.Totals.add(&elsewhere)
		for j, other := range g.members {
			if j != i && g.states[j].limits == g.states[i].limits {
				account.Shares = append(account.Shares, other.Name)
			}
		}
		v.Accounts = append(v.Accounts, account)
	}
	return v
}

func (g *Group) view(i int, m *Member, now time.Time) AccountView {
	a := g.states[i]
	v := AccountView{
		Benches: g.lasting(i, now),
		Member:  m, Identity: a.identity, Trying: a.suspect, InFlight: a.inFlight, LastUsed: a.lastUsed, Totals: a.totals,
		OverageStatus: a.limits.overage.Status, OverageReason: a.limits.overage.Reason,
	}
	if local := a.local.at(now); !local.Start.IsZero() {
		v.Local, v.LocalEnds = local.Usage, local.Start.Add(localWindowLife)
	}
	for _, w := range a.limits.windows {
		v.Windows = append(v.Windows, WindowView{
			Name: w.name, Known: !w.UtilizationAt.IsZero(), Utilization: w.used(now), Status: w.Status, Reset: w.Reset, Updated: latest(w.UtilizationAt, w.StatusAt, w.ResetAt),
			Length: w.length(), Pace: w.pace(now),
		})
	}
	sort.Slice(v.Windows, func(i, j int) bool { return v.Windows[i].Name < v.Windows[j].Name })
	for name, b := range a.limits.buckets {
		v.Buckets = append(v.Buckets, BucketView{Name: name, Limit: b.Limit, Remaining: b.Remaining, Reset: b.Reset, Updated: b.At, Known: b.Limit > 0 && b.Remaining >= 0, Used: b.used(now)})
	}
	sort.Slice(v.Buckets, func(i, j int) bool { return v.Buckets[i].Name < v.Buckets[j].Name })
	return v
}

// lasting are the benches that last, the whole account's first. What the operator has
// ordered by hand and a limit of the configuration's that closes all of the account are
// among them.
func (g *Group) lasting(i int, now time.Time) []BenchView {
	var benches []BenchView
	all := slices.Concat(g.states[i].benches, g.states[i].limits.benches)
	if b, _ := g.closing(i, wholeAccount, now); b != nil {
		b.Since = now
		all = append(all, *b)
	}
	var drained []BenchView
	if o := &g.states[i].order; o.Drained {
		drained = append(drained, o.bench().view())
	} else if o.closes(now) {
		all = append(all, *o.bench())
	}
	for _, b := range all {
		if now.Before(b.Until) {
			benches = append(benches, b.view())
		}
	}
	slices.SortStableFunc(benches, func(x, y BenchView) int {
		return cmp.Or(cmp.Compare(x.Family, y.Family), y.Until.Compare(x.Until))
	})
	return append(drained, benches...)
}

func (b *bench) view() BenchView {
	return BenchView{Family: b.Family, Until: b.Until, Since: b.Since, Verdict: b.Verdict, Reason: b.Reason, Source: b.Source, Window: b.Window, Login: b.Login}
}

func latest(times ...time.Time) time.Time {
	var t time.Time
	for _, u := range times {
		if u.After(t) {
			t = u
		}
	}
	return t
}

// Ready reports whether any account can serve some request now; otherwise why
// not, for a request of a person who may use every account. missing says why an
// account lacks a credential, empty when it has one; it must not call the pool.
func (g *Group) Ready(missing func(*Member) string) (ready bool, refused *Refusal) {
	p := g.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	r := &Refusal{}
	for i, m := range g.members {
		r.Allowed++
		r.Serving++
		b := g.states[i].benchOf(wholeAccount, now)
		if b == nil {
			b, _ = g.closing(i, wholeAccount, now)
		}
		if o := &g.states[i].order; o.closes(now) {
			b = o.bench()
		}
		if reason := missing(m); reason != "" {
			b = &bench{Verdict: "login_required", Login: true, Reason: reason}
		} else if b == nil {
			return true, nil
		}
		r.Closures = append(r.Closures, AccountClosure{Name: m.Name, Closure: Closure{
			Kind: ClosedBench, Until: b.Until, Verdict: b.Verdict, Window: b.Window, Login: b.Login, Reason: b.Reason,
		}})
	}
	return false, r
}
