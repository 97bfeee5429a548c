package shunt

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

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

// peopleLabels gives each person the label that stands for them. The first
// maxPeopleSeries are named, for as long as the process lives.
type peopleLabels struct {
	mu     sync.RWMutex      // guards labels
	labels map[string]string // by the person's name
}

func (p *peopleLabels) label(name string) string {
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
		m.personCost.WithLabelValues(name, who).Add(r.CostUSD.Dollars())
	}
}

// countsPeople reports whether metrics name people.
func (h *Handler) countsPeople() bool { return h.PersonMetrics == nil || *h.PersonMetrics }
