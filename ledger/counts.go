package ledger

import "github.com/caddy-shunt/caddy-shunt/anthropic"

// Counts are sums over requests.
type Counts struct {
	// Requests is how many there were, each counted once, as one of the four that
	// follow.
	Requests int64 `json:"requests,omitempty"`
	// Served were answered in full.
	Served int64 `json:"served,omitempty"`
	// Cancelled were left by their clients.
	Cancelled int64 `json:"cancelled,omitempty"`
	// Refused were kept out here: by a limit, or since no account was open.
	Refused int64 `json:"refused,omitempty"`
	// Failed is everything else: answers that broke off, upstream's errors, requests
	// that were wrong.
	Failed int64 `json:"failed,omitempty"`

	// Estimated is of how many answers upstream did not tell all tokens; what it did
	// not tell is estimated in Usage.
	Estimated int64 `json:"estimated,omitempty"`
	// Unpriced is of how many answers the cost is not known. It is not in Cost.
	Unpriced int64           `json:"unpriced,omitempty"`
	Usage    anthropic.Usage `json:"usage,omitzero"`
	Cost     anthropic.Money `json:"cost_usd,omitempty"`
}

// Add adds other to c.
func (c *Counts) Add(other *Counts) {
	c.Requests += other.Requests
	c.Served += other.Served
	c.Cancelled += other.Cancelled
	c.Refused += other.Refused
	c.Failed += other.Failed
	c.Estimated += other.Estimated
	c.Unpriced += other.Unpriced
	c.Usage.Add(other.Usage)
	c.Cost += other.Cost
}

// Key says whose use it was, of which account and model. Each may be empty: nobody in
// particular, no account, no model.
type Key struct {
	Person  string `json:"person,omitempty"`
	Account string `json:"account,omitempty"`
	Model   string `json:"model,omitempty"`
}

// Row is what was counted under a key on a day.
type Row struct {
	Day Day `json:"-"`
	Key
	Counts
}

// Overflow is the name under which is counted what is too much to be kept apart.
const Overflow = "(other)"

// Bounds of what clients can make of a day's rows. Models are their words, and so are
// people where other authentication lets in anybody.
const (
	mostPeople   = 10_000
	mostOfPerson = 500
	mostName     = 200
)

// rows are a day's counts.
type rows struct {
	counts map[Key]*Counts
	// of is how many rows a person has.
	of map[string]int
}

func newRows() *rows { return &rows{counts: make(map[Key]*Counts), of: make(map[string]int)} }

// at finds or makes the counts of a key, or of what stands for it.
func (r *rows) at(k Key) *Counts {
	if c := r.counts[k]; c != nil {
		return c
	}
	n, known := r.of[k.Person]
	if !known && len(r.of) >= mostPeople {
		k.Person, n = Overflow, r.of[Overflow]
	}
	if n >= mostOfPerson {
		k.Model = Overflow
	}
	c := r.counts[k]
	if c == nil {
		c = new(Counts)
		r.counts[k] = c
		r.of[k.Person]++
	}
	return c
}

func clip(s string) string {
	if len(s) > mostName {
		return s[:mostName]
	}
	return s
}
