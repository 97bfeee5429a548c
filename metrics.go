package shunt

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// metrics are the process's collectors. They are made once and registered with
// the registry of every configuration, so their values outlive a reload.
type metrics struct {
	requests  *prometheus.CounterVec
	attempts  *prometheus.CounterVec
	tokens    *prometheus.CounterVec
	cost      *prometheus.CounterVec
	firstByte *prometheus.HistogramVec
	duration  *prometheus.HistogramVec
	refreshes *prometheus.CounterVec

	peers      *prometheus.GaugeVec
	peerErrors *prometheus.CounterVec
}

const (
	metricsNamespace = "caddy"
	metricsSubsystem = "shunt"
)

// Answers take from a few milliseconds (a refusal) to many minutes (a long
// stream).
var (
	firstByteBuckets = []float64{.01, .05, .1, .25, .5, 1, 2, 5, 10, 30, 60, 120}
	durationBuckets  = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
)

var processMetrics = newMetrics()

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help, Buckets: buckets}, labels)
	}
	return &metrics{
		requests:  counter("requests_total", "Requests of clients, by what they were answered.", "pool", "endpoint", "status", "verdict"),
		attempts:  counter("attempts_total", "Requests to upstream, by what the answer meant.", "pool", "account", "verdict"),
		tokens:    counter("tokens_total", "Tokens that upstream counted.", "pool", "account", "family", "kind"),
		cost:      counter("cost_usd_total", "Cost of the tokens by the price table, in US dollars; models without a price are not in it.", "pool", "account", "family"),
		firstByte: histogram("first_byte_seconds", "Time from a request's arrival to the first byte of its answer.", firstByteBuckets, "pool", "endpoint"),
		refreshes: counter("refreshes_total", "Token refreshes, by how they ended; login_required also counts a login that was found missing.", "pool", "account", "result"),
		duration:  histogram("request_duration_seconds", "Time from a request's arrival to the end of its answer.", durationBuckets, "pool", "endpoint"),

		peers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "peers", Help: "Other instances that share the pool and live.",
		}, []string{"pool"}),
		peerErrors: counter("peer_errors_total", "Failures to share the pool with other instances: storage that failed, records that cannot be read.", "pool"),
	}
}

// registerMetrics registers the process's collectors with a configuration's
// registry. Several handlers of one configuration share it.
func registerMetrics(registry *prometheus.Registry) (*metrics, error) {
	m := processMetrics
	for _, c := range []prometheus.Collector{m.requests, m.attempts, m.tokens, m.cost, m.firstByte, m.duration, m.refreshes, loginCollector{}, m.peers, m.peerErrors} {
		if err := registry.Register(c); err != nil && !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) attempt(pool, account, verdict string) {
	m.attempts.WithLabelValues(pool, account, verdict).Inc()
}

func (m *metrics) request(x *exchange, r *pool.Record, took time.Duration) {
	name := x.h.Pool
	m.requests.WithLabelValues(name, r.Endpoint, strconv.Itoa(r.Status), r.Verdict).Inc()
	m.duration.WithLabelValues(name, r.Endpoint).Observe(took.Seconds())
	if x.result.firstByte > 0 {
		m.firstByte.WithLabelValues(name, r.Endpoint).Observe(x.result.firstByte.Seconds())
	}
	family := anthropic.Family(r.Model)
	for i := range x.uses {
		m.used(name, family, &x.uses[i])
	}
}

// used counts what an account was used for.
func (m *metrics) used(pool, family string, u *use) {
	account := u.account.member.Name
	for _, part := range [...]struct {
		kind string
		n    int64
	}{
		{"input", u.usage.InputTokens}, {"output", u.usage.OutputTokens}, {"cache_read", u.usage.CacheReadTokens},
		{"cache_write_5m", u.usage.CacheWriteTokens - u.usage.CacheWrite1hTokens}, {"cache_write_1h", u.usage.CacheWrite1hTokens},
	} {
		if part.n > 0 {
			m.tokens.WithLabelValues(pool, account, family, part.kind).Add(float64(part.n))
		}
	}
	if u.priced {
		m.cost.WithLabelValues(pool, account, family).Add(u.cost.Dollars())
	}
}
