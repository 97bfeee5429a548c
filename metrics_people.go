package shunt

import (
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

const (
	// maxPeopleSeries is how many people have series of their own: names may come from
	// an authentication that knows any number.
	maxPeopleSeries = 1000
	// otherPeople is the label of all that come after.
	otherPeople = "other"
	// noPerson is the label of requests without a name: those of the machine's owner.
	noPerson = "-"
)

// people gives each person the label that stands for them. The first
// maxPeopleSeries are named, for as long as the process lives.
type people struct {
	mu     sync.RWMutex      // guards labels
	labels map[string]string // by the person's name
}

func (p *people) label(name string) string {
	if name == "" {
		return noPerson
	}
	name = truncate(name)
	p.mu.RLock()
	label, known := p.labels[name]
	full := len(p.labels) >= maxPeopleSeries
	p.mu.RUnlock()
	switch {
	case known:
		return label
	case full:
		return otherPeople
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if label, known = p.labels[name]; known {
		return label
	}
	if len(p.labels) >= maxPeopleSeries {
		return otherPeople
	}
	if p.labels == nil {
		p.labels = make(map[string]string)
	}
	// A label that is not UTF-8 would be a panic.
	label = strings.ToValidUTF8(name, "\uFFFD")
	p.labels[strings.Clone(name)] = label
	return label
}

// How a person's requests end: the values of the label outcome.
const (
	outcomeServed     = "served"
	outcomeRejected   = "rejected" // by a 4xx that is about the request
	outcomeExhausted  = "exhausted"
	outcomeFailed     = "failed"
	outcomeClientGone = "client_gone"
)

// outcomes are by verdict; any other is told by its status.
var outcomes = map[string]string{
	"served":                  outcomeServed,
	"caller":                  outcomeRejected,
	verdictExhausted:          outcomeExhausted,
	anthropic.ClientGone.Name: outcomeClientGone,
}

func outcomeOf(r *pool.Record) string {
	if outcome, ok := outcomes[r.Verdict]; ok {
		return outcome
	}
	if r.Status >= 400 && r.Status < 500 && r.Status != http.StatusTooManyRequests {
		return outcomeRejected
	}
	return outcomeFailed
}

// person counts a request for the person who made it.
func (m *metrics) person(name string, r *pool.Record) {
	who := m.people.label(r.User)
	m.personRequests.WithLabelValues(name, who, outcomeOf(r)).Inc()
	if r.Usage.IsZero() {
		return
	}
	m.peopleTokens.get(poolPerson{name, who}, func(kind string) prometheus.Counter {
		return m.personTokens.WithLabelValues(name, who, kind)
	}).add(&r.Usage)
	if r.CostUSD != nil {
		m.personCost.WithLabelValues(name, who).Add(*r.CostUSD)
	}
}

// countsPeople reports whether metrics name people.
func (h *Handler) countsPeople() bool { return h.PersonMetrics == nil || *h.PersonMetrics }
