package pool

import (
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// Record is one request as it ended.
type Record struct {
	Time     time.Time        `json:"time"`
	ID       string           `json:"id"`
	User     string           `json:"user,omitempty"`
	Account  string           `json:"account,omitempty"`
	Model    string           `json:"model,omitempty"`
	Endpoint string           `json:"endpoint"`
	Stream   bool             `json:"stream"`
	Status   int              `json:"status"`
	Verdict  string           `json:"verdict"`
	Reason   string           `json:"reason,omitempty"`
	Attempts int              `json:"attempts"`
	Usage    anthropic.Usage  `json:"usage"`
	CostUSD  *anthropic.Money `json:"cost_usd,omitempty"`
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

// ring keeps the last requests, with their decisions.
type ring struct {
	records []Record
	traces  []*Trace // of records; nil where there is none
	next    int
}

// add returns the trace that is no longer needed.
func (r *ring) add(rec Record, trace *Trace) (old *Trace) {
	if len(r.records) < maxRecent {
		r.records, r.traces = append(r.records, rec), append(r.traces, trace)
		return nil
	}
	old = r.traces[r.next]
	r.records[r.next], r.traces[r.next] = rec, trace
	r.next = (r.next + 1) % maxRecent
	return old
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

// trace finds the decisions of a request.
func (r *ring) trace(id string) *Trace {
	for i := range r.records {
		if r.records[i].ID == id {
			return r.traces[i]
		}
	}
	return nil
}

// NewTrace gives a trace for one request, which Finish takes back.
func (p *Pool) NewTrace() *Trace {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.spare); n > 0 {
		t := p.spare[n-1]
		p.spare = p.spare[:n-1]
		return t
	}
	return new(Trace)
}

// maxSpare bounds how many traces are kept for use.
const maxSpare = 64

// maxPeople bounds the totals that are kept by person.
const maxPeople = 10_000

// Finish records how a request ended. account is the name of the one that
// answered, as in r, key its Member.Key; both are empty when none did. trace may be
// nil; otherwise its request's leases must have ended, and it must not be used again.
func (p *Pool) Finish(r Record, key string, trace *Trace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes++
	trace.forget()
	if old := p.recent.add(r, trace); old != nil && len(p.spare) < maxSpare {
		old.reset()
		p.spare = append(p.spare, old)
	}
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
