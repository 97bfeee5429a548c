package pool

import (
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// Record is one request as it ended.
type Record struct {
	Time     time.Time       `json:"time"`
	ID       string          `json:"id"`
	User     string          `json:"user,omitempty"`
	Account  string          `json:"account,omitempty"`
	Model    string          `json:"model,omitempty"`
	Endpoint string          `json:"endpoint"`
	Stream   bool            `json:"stream"`
	Status   int             `json:"status"`
	Verdict  string          `json:"verdict"`
	Reason   string          `json:"reason,omitempty"`
	Attempts int             `json:"attempts"`
	Usage    anthropic.Usage `json:"usage"`
	CostUSD  *float64        `json:"cost_usd,omitempty"`
	// FirstByte and Duration are in milliseconds.
	FirstByte int64 `json:"first_byte_ms"`
	Duration  int64 `json:"duration_ms"`
	Waited    int64 `json:"waited_ms,omitempty"`
}

// Totals are sums since the pool was first used.
type Totals struct {
	// Requests counts what clients asked, Attempts what was sent upstream.
	Requests int64           `json:"requests"`
	Attempts int64           `json:"attempts,omitempty"`
	Usage    anthropic.Usage `json:"usage"`
}

// maxRecent is how many requests are remembered.
const maxRecent = 200

// ring keeps the last requests.
type ring struct {
	records []Record
	next    int
}

func (r *ring) add(rec Record) {
	if len(r.records) < maxRecent {
		r.records = append(r.records, rec)
		return
	}
	r.records[r.next] = rec
	r.next = (r.next + 1) % maxRecent
}

// newestFirst copies the records.
func (r *ring) newestFirst() []Record {
	n := len(r.records)
	out := make([]Record, 0, n)
	for i := range n {
		out = append(out, r.records[(r.next-1-i+2*n)%n])
	}
	return out
}

// maxPeople bounds the totals that are kept by person.
const maxPeople = 10_000

// Finish records how a request ended. account is the name of the one that
// answered, as in r, key its Member.Key; both are empty when none did.
func (p *Pool) Finish(r Record, key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes++
	p.recent.add(r)
	if a, ok := p.accounts[key]; ok {
		a.totals.Requests++
	}
	t, ok := p.people[r.User]
	if !ok {
		if len(p.people) >= maxPeople {
			return
		}
		t = &Totals{}
		p.people[r.User] = t
	}
	t.Requests++
	t.Usage.Add(r.Usage)
}
