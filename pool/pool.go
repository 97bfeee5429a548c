package pool

import (
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"time"
)

// Member is the configuration of one account. It is immutable.
type Member struct {
	// Name is what people call the account.
	Name string
	// Key says which account it is: a name with a fingerprint of its credential,
	// so that a new credential starts with a clean record.
	Key string
	// Weight is the account's size relative to the others; 0 means 1.
	Weight int
	// Priority orders tiers: accounts of a smaller number are used first.
	Priority int
	// Models are globs of the model ids it serves; none means all.
	Models []string
	// MaxConcurrent bounds its requests in flight; 0 means no bound.
	MaxConcurrent int
	// Owners are the people who may use it; none, or "*", means everybody.
	Owners []string
}

// Allows reports whether the person may use the account.
func (m *Member) Allows(user string) bool {
	return len(m.Owners) == 0 || slices.Contains(m.Owners, "*") || user != "" && slices.Contains(m.Owners, user)
}

// Serves reports whether the account serves the model. A request without a
// model is served by all.
func (m *Member) Serves(model string) bool {
	if len(m.Models) == 0 || model == "" {
		return true
	}
	for _, glob := range m.Models {
		if ok, err := path.Match(glob, model); err == nil && ok {
			return true
		}
	}
	return false
}

func (m *Member) weight() float64 { return float64(max(1, m.Weight)) }

// Pool is the state of one pool. Its methods and those of its groups and leases
// are safe for concurrent use.
type Pool struct {
	now func() time.Time

	mu       sync.Mutex // guards all below
	rnd      *rand.Rand
	accounts map[string]*account // by Member.Key
	sessions sessions
	bound    sessions // files, batches and containers by id
	pin      string   // Member.Name, empty for none
	waiting  queue
	brakes   map[string]*brake // by model family
	recent   ring
	people   map[string]*Totals
	lastUsed string // Member.Name
	started  time.Time
	turns    uint64
	scratch  []Candidate // reused by pick
	indices  []int       // of scratch in the group's members
	changes  uint64
}

// New makes an empty pool. now is its clock; seed fixes the choice among equals.
func New(now func() time.Time, seed uint64) *Pool {
	return &Pool{
		now:      now,
		rnd:      rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)),
		accounts: make(map[string]*account),
		sessions: newSessions(maxSessions),
		bound:    newSessions(maxBound),
		people:   make(map[string]*Totals),
		brakes:   make(map[string]*brake),
		started:  now(),
	}
}

// Changes grows whenever something happened that a snapshot would show.
func (p *Pool) Changes() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changes
}

// Group is the accounts and the policy of one configuration over a pool.
type Group struct {
	pool    *Pool
	members []*Member
	states  []*account // of members, by index; owned by the pool
	policy  Policy
}

// Group joins a configuration to the pool. Members' names must differ.
func (p *Pool) Group(members []*Member, policy Policy) *Group {
	g := &Group{pool: p, members: members, policy: policy}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range members {
		g.states = append(g.states, p.account(m.Key, m.Name))
	}
	return g
}

// Pool is the state that the group works on.
func (g *Group) Pool() *Pool { return g.pool }

// Members are the group's accounts in the order of the configuration. The
// caller must not change them.
func (g *Group) Members() []*Member { return g.members }

// account finds or makes the state of an account. mu must be held.
func (p *Pool) account(key, name string) *account {
	a, ok := p.accounts[key]
	if !ok {
		a = &account{key: key, name: name}
		p.accounts[key] = a
	}
	return a
}

// Pin sends every request that may use the named account to it while it can
// serve; an empty name unpins.
func (p *Pool) Pin(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pin = name
	p.changes++
	p.dispatch(p.now())
}

// Pinned is the pinned account's name, empty for none.
func (p *Pool) Pinned() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pin
}
