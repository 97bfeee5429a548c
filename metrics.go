package shunt

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the process's collectors. They are made once and registered with
// the registry of every configuration, so their values outlive a reload.
type metrics struct {
	requests   *prometheus.CounterVec
	attempts   *prometheus.CounterVec
	tokens     *prometheus.CounterVec
	toolUses   *prometheus.CounterVec
	cost       *prometheus.CounterVec
	unpriced   *prometheus.CounterVec
	hold       *prometheus.HistogramVec
	added      *prometheus.HistogramVec
	firstByte  *prometheus.HistogramVec
	duration   *prometheus.HistogramVec
	refreshes  *prometheus.CounterVec
	peers      *prometheus.GaugeVec
	peerErrors *prometheus.CounterVec

	personRequests *prometheus.CounterVec
	personTokens   *prometheus.CounterVec
	personCost     *prometheus.CounterVec

	accountTokens seriesOf[accountFamily]
	peopleTokens  seriesOf[poolPerson]
	people        peopleLabels
}

const (
	metricsNamespace = "caddy"
	metricsSubsystem = "shunt"
)

// Answers take from a few milliseconds (a refusal) to many minutes (a long
// stream); what shunt adds is less than a millisecond when all is well.
var (
	firstByteBuckets = []float64{.01, .05, .1, .25, .5, 1, 2, 5, 10, 30, 60, 120}
	durationBuckets  = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
	holdBuckets      = []float64{.01, .05, .1, .5, 1, 2.5, 5, 10, 20, 30, 45, 60, 120, 300}
	addedBuckets     = []float64{50e-6, 100e-6, 250e-6, 500e-6, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}
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
		toolUses:  counter("server_tool_uses_total", "Uses of upstream's own tools, which it charges for each.", "pool", "account", "tool"),
		cost:      counter("cost_usd_total", "Cost of the tokens by the price table, in US dollars; models without a price are not in it.", "pool", "account", "family"),
		unpriced:  counter("unpriced_requests_total", "Requests whose cost is not known, since the price table lacks their model.", "pool", "family"),
		hold:      histogram("hold_seconds", "Time in line, of the requests that waited for an account.", holdBuckets, "pool"),
		added:     histogram("added_latency_seconds", "What shunt itself added before the first byte of an answer: without the client's body, the line, credentials and upstream.", addedBuckets, "pool", "endpoint"),
		firstByte: histogram("first_byte_seconds", "Time from a request's arrival to the first byte of its answer.", firstByteBuckets, "pool", "endpoint"),
		duration:  histogram("request_duration_seconds", "Time from a request's arrival to the end of its answer.", durationBuckets, "pool", "endpoint"),
		refreshes: counter("refreshes_total", "Token refreshes, by how they ended; login_required also counts a login that was found missing.", "pool", "account", "result"),

		peers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "peers", Help: "Other instances that share the pool and live.",
		}, []string{"pool"}),
		peerErrors: counter("peer_errors_total", "Failures to share the pool with other instances: storage that failed, records that cannot be read.", "pool"),

		personRequests: counter("person_requests_total", "Requests of a person, by how they ended.", "pool", "person", "outcome"),
		personTokens:   counter("person_tokens_total", "Tokens that upstream counted for a person's requests.", "pool", "person", "kind"),
		personCost:     counter("person_cost_usd_total", "Cost of a person's tokens by the price table, in US dollars; models without a price are not in it.", "pool", "person"),
	}
}

// collectors are all that a configuration's registry is given: what is counted, and
// what is read at the scrape.
func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.requests, m.attempts, m.tokens, m.toolUses, m.cost, m.unpriced, m.hold, m.added, m.firstByte, m.duration,
		m.refreshes, m.peers, m.peerErrors, m.personRequests, m.personTokens, m.personCost,
		loginCollector{}, poolCollector{},
	}
}

// begin makes the counters exist whose first count must not be missed: what Prometheus
// sees for the first time has not increased.
func (m *metrics) begin(handlers []*Handler) {
	eachAccount(handlers, func(h *Handler, a *account) {
		m.peerErrors.WithLabelValues(h.Pool)
		if a.config.OAuth == nil && a.config.Federation == nil {
			return
		}
		for _, result := range refreshResults {
			m.refreshes.WithLabelValues(h.Pool, a.member.Name, result)
		}
	})
}

// registerMetrics registers the process's collectors with a configuration's
// registry. Several handlers of one configuration share it.
func registerMetrics(registry *prometheus.Registry) (*metrics, error) {
	m := processMetrics
	for _, c := range m.collectors() {
		if err := registry.Register(c); err != nil && !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}
