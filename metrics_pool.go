package shunt

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

// poolCollector tells how the pools of the running configuration stand at the time
// of the scrape. It looks at memory only. What a reload removed is not there any more.
type poolCollector struct{}

// allFamilies is the family of a bench of the whole account.
const allFamilies = "all"

var (
	poolWaiting      = gauge("waiting", "Requests that wait in line for an account.", "pool")
	poolSessions     = gauge("sessions", "Conversations that the pool remembers the account of.", "pool")
	accountInFlight  = gauge("in_flight", "Requests that the account is serving.", "pool", "account")
	accountAvailable = gauge("account_available", "1 when the account can take requests now, else 0.", "pool", "account")
	accountBenched   = gauge("account_benched", "1 while the account rests, for one model family or for all, and why.", "pool", "account", "family", "reason")
	benchSeconds     = gauge("bench_seconds", "Time until the account's rest ends; missing when it takes a new key or login.", "pool", "account", "family", "reason")
	windowUsed       = gauge("window_utilization_ratio", "Share of a usage window that is spent; more than 1 is possible.", "pool", "account", "window")
	windowReset      = gauge("window_reset_seconds", "Time until a usage window starts anew; missing when not known.", "pool", "account", "window")
	limitRemaining   = gauge("limit_remaining_ratio", "Share of a classic limit of an API key that is left, with what has filled up since it was told.", "pool", "account", "limit")
	cacheHits        = gauge("cache_hit_ratio", "Share of the prompts' tokens that were read from the prompt cache, of all answers that were counted; missing before the first.", "pool", "account")
)

var poolGauges = []*prometheus.Desc{
	poolWaiting, poolSessions, accountInFlight, accountAvailable, accountBenched, benchSeconds, windowUsed, windowReset, limitRemaining, cacheHits,
	personBudget, accountBudget,
}

// Describe tells the names.
func (poolCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range poolGauges {
		to <- d
	}
}

// Collect tells the values. Several handlers may name one pool, with accounts in
// common: each series is told once.
func (poolCollector) Collect(to chan<- prometheus.Metric) {
	app := newestApp()
	if app == nil {
		return
	}
	pools, accounts := make(map[string]bool), make(map[accountRef]bool)
	for _, h := range app.registered() {
		levels := h.group.Levels()
		s := samples{to: to, pool: h.Pool}
		if !pools[h.Pool] {
			pools[h.Pool] = true
			s.put(poolWaiting, float64(levels.Waiting))
			s.put(poolSessions, float64(levels.Sessions))
			s.budgets(h)
		}
		for i := range levels.Accounts {
			v := &levels.Accounts[i]
			ref := accountRef{h.Pool, v.Member.Name}
			if accounts[ref] {
				continue
			}
			accounts[ref] = true
			s.account(h.byKey[v.Member.Key], v, levels.Now)
		}
	}
}

// samples sends the gauges of one pool.
type samples struct {
	to   chan<- prometheus.Metric
	pool string
}

func (s *samples) put(d *prometheus.Desc, value float64, labels ...string) {
	s.to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{s.pool}, labels...)...)
}

func (s *samples) account(a *account, v *pool.AccountView, now time.Time) {
	name := v.Member.Name
	s.put(accountInFlight, float64(v.InFlight), name)
	s.put(accountAvailable, oneIf(a.available(v, now)), name)
	s.benches(v, now)
	for _, w := range v.Windows {
		if w.Known {
			s.put(windowUsed, w.Utilization, name, w.Name)
		}
		if left := w.Reset.Sub(now); left > 0 {
			s.put(windowReset, left.Seconds(), name, w.Name)
		}
	}
	for _, b := range v.Buckets {
		if b.Known {
			s.put(limitRemaining, 1-b.Used, name, b.Name)
		}
	}
	if prompt := v.Totals.Usage.PromptTokens(); prompt > 0 {
		s.put(cacheHits, float64(v.Totals.Usage.CacheReadTokens)/float64(prompt), name)
	}
}

// benches tells the rests of an account. The pool keeps those for want of quota apart
// from others, so a family may have two of a reason: the longer one counts.
func (s *samples) benches(v *pool.AccountView, now time.Time) {
	told := make(map[[2]string]bool, len(v.Benches))
	for _, b := range v.Benches {
		family := b.Family
		if family == "" {
			family = allFamilies
		}
		ref := [2]string{family, b.Verdict}
		if told[ref] {
			continue
		}
		told[ref] = true
		s.put(accountBenched, 1, v.Member.Name, family, b.Verdict)
		if !b.Login && !b.Until.IsZero() {
			s.put(benchSeconds, b.Until.Sub(now).Seconds(), v.Member.Name, family, b.Verdict)
		}
	}
}

// available reports whether the account can take a request now: it does not rest, and
// there is a credential to send.
func (a *account) available(v *pool.AccountView, now time.Time) bool {
	status := a.source.Status()
	return v.Benched() == nil && !status.LoginRequired && !lacksToken(&status, now)
}

var _ prometheus.Collector = poolCollector{}
