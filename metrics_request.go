package shunt

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

func (m *metrics) attempt(pool, account, verdict string) {
	m.attempts.WithLabelValues(pool, account, verdict).Inc()
}

// request counts a request that has ended.
func (m *metrics) request(x *exchange, r *pool.Record, took time.Duration) {
	name := x.h.Pool
	m.requests.WithLabelValues(name, r.Endpoint, strconv.Itoa(r.Status), r.Verdict).Inc()
	m.duration.WithLabelValues(name, r.Endpoint).Observe(took.Seconds())
	if x.result.firstByte > 0 {
		m.firstByte.WithLabelValues(name, r.Endpoint).Observe(x.result.firstByte.Seconds())
		m.added.WithLabelValues(name, r.Endpoint).Observe(x.result.added.Seconds())
	}
	if x.waited > 0 {
		m.hold.WithLabelValues(name).Observe(x.waited.Seconds())
	}
	family := anthropic.Family(r.Model)
	for i := range x.uses {
		m.used(name, family, &x.uses[i])
	}
	if x.h.countsPeople() {
		m.person(name, r)
	}
}

// used counts what an account was used for.
func (m *metrics) used(name, family string, u *use) {
	account := u.account.member.Name
	m.accountTokens.get(accountFamily{name, account, family}, func(kind string) prometheus.Counter {
		return m.tokens.WithLabelValues(name, account, family, kind)
	}).add(&u.usage)
	if n := u.usage.WebSearches; n > 0 {
		m.toolUses.WithLabelValues(name, account, "web_search").Add(float64(n))
	}
	if n := u.usage.WebFetches; n > 0 {
		m.toolUses.WithLabelValues(name, account, "web_fetch").Add(float64(n))
	}
	if !u.priced {
		m.unpriced.WithLabelValues(name, family).Inc()
		return
	}
	m.cost.WithLabelValues(name, account, family).Add(u.cost.Dollars())
}

// tokenKinds are the values of the label kind, in the order of tokenCounts.
var tokenKinds = [...]string{"input", "output", "cache_read", "cache_write_5m", "cache_write_1h"}

// tokenCounts are the tokens of each kind. Together they are all that was used.
func tokenCounts(u *anthropic.Usage) [len(tokenKinds)]int64 {
	return [...]int64{u.InputTokens, u.OutputTokens, u.CacheReadTokens, max(0, u.CacheWriteTokens-u.CacheWrite1hTokens), u.CacheWrite1hTokens}
}

// tokenSeries are the counters of each kind of tokens.
type tokenSeries [len(tokenKinds)]prometheus.Counter

func (s *tokenSeries) add(u *anthropic.Usage) {
	for i, n := range tokenCounts(u) {
		if n > 0 {
			s[i].Add(float64(n))
		}
	}
}

// accountFamily and poolPerson are whose tokens are counted.
type (
	accountFamily struct{ pool, account, family string }
	poolPerson    struct{ pool, person string }
)

// seriesOf keeps the counters of tokens that were looked up once: with several for
// each request, looking them up is what counting costs most.
type seriesOf[K comparable] struct {
	mu    sync.RWMutex // guards found
	found map[K]*tokenSeries
}

// get gives the counters for key. All kinds exist once any does, so that rates
// start from zero.
func (s *seriesOf[K]) get(key K, counter func(kind string) prometheus.Counter) *tokenSeries {
	s.mu.RLock()
	series := s.found[key]
	s.mu.RUnlock()
	if series != nil {
		return series
	}
	series = new(tokenSeries)
	for i, kind := range tokenKinds {
		series[i] = counter(kind)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.found == nil {
		s.found = make(map[K]*tokenSeries)
	}
	s.found[key] = series
	return series
}
