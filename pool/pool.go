package pool

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
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
	// PlanOnly keeps requests away that might be paid for as extra usage.
	PlanOnly bool
	// Owners are the people who may use it; none, or "*", means everybody.
	Owners []string
}

// Allows reports whether the person may use the account.
func (m *Member) Allows(user string) bool {
	return len(m.Owners) == 0 || slices.Contains(m.Owners, "*") || user != "" && slices.Contains(m.Owners, user)
}

// Owned reports whether the account is the person's own: it names them.
func (m *Member) Owned(user string) bool {
	return user != "" && slices.Contains(m.Owners, user)
}

// ownFirst is how much further ahead in the tiers a person's own account is.
const ownFirst = 1 << 40

// tier orders accounts for the person: their own come before those that others may
// use, too, and the smaller Priority first among each.
func (m *Member) tier(user string) int {
	if len(m.Owners) > 0 && m.Owned(user) {
		return m.Priority - ownFirst
	}
	return m.Priority
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

// mostWeight keeps sums of weights within an int.
const mostWeight = 1e6

func (m *Member) weight() float64 { return float64(min(max(1, m.Weight), mostWeight)) }

// Pool is the state of one pool. Its methods and those of its groups and leases
// are safe for concurrent use.
type Pool struct {
	clock Clock

	mu       sync.Mutex // guards all below
	pcg      *rand.PCG  // the source of rnd
	rnd      *rand.Rand
	accounts map[string]*account // by Member.Key
	limits   map[string]*limits  // of the accounts whose identity is known, by identity
	sessions lru[sessionKey, place]
	prefixes prefixes
	bound    lru[string, holding] // files, batches and containers by id
	made     lru[string, holding] // where each person's are, by person
	pin      string               // Member.Name, empty for none
	pinAt    time.Time            // when it was set or unset
	policyAt time.Time            // when policy was
	peers    map[string]*peer     // by name
	policy   Policy               // in the place of the groups' own; nil for theirs
	waiting  queue
	shares   shares
	costs    costs
	brakes   map[string]*brake // by model family
	recent   ring
	spare    []*Trace
	people   map[string]*Totals
	lastUsed string // Member.Name
	started  time.Time
	turns    uint64
	changes  uint64

	urgent chan struct{} // see Urgent

	// Used by one choice at a time.
	stamps    uint64
	candidate Candidate
	scores    []scored
}

// New makes an empty pool. seed fixes the choice among equals.
func New(clock Clock, seed uint64) *Pool {
	pcg := rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)
	return &Pool{
		clock:    clock,
		pcg:      pcg,
		rnd:      rand.New(pcg),
		accounts: make(map[string]*account),
		limits:   make(map[string]*limits),
		sessions: newLRU[sessionKey, place](maxSessions),
		prefixes: newPrefixes(),
		bound:    newLRU[string, holding](maxBound),
		made:     newLRU[string, holding](maxBound),
		shares:   shares{of: make(map[string]*share)},
		costs:    make(costs),
		people:   make(map[string]*Totals),
		brakes:   make(map[string]*brake),
		peers:    make(map[string]*peer),
		urgent:   make(chan struct{}, 1),
		started:  clock.Now(),
	}
}

func (p *Pool) now() time.Time { return p.clock.Now() }

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
	hashes  []uint64 // of members' names, by index
	// Indexes of members.
	byKey, byName map[string]int
}

// Group joins a configuration to the pool. Members' names must differ.
func (p *Pool) Group(members []*Member, policy Policy) *Group {
	g := &Group{pool: p, members: members, policy: policy, byKey: make(map[string]int), byName: make(map[string]int)}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, m := range members {
		g.byKey[m.Key], g.byName[m.Name] = i, i
		g.states = append(g.states, p.account(m.Key, m.Name))
		g.hashes = append(g.hashes, hashText(fnvOffset, m.Name))
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
		a.join(&limits{})
		p.accounts[key] = a
	}
	return a
}

// Pin sends every request that may use the named account to it while it can
// serve; an empty name unpins.
func (p *Pool) Pin(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pin, p.pinAt = name, p.now()
	p.changes++
	p.hurry()
	p.dispatch(p.now())
}

// Pinned is the pinned account's name, empty for none.
func (p *Pool) Pinned() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pin
}

// SwitchPolicy chooses by the built-in policy of that name from now on, whatever
// the groups are configured with; an empty name gives them back their own.
func (p *Pool) SwitchPolicy(name string) error {
	policy, ok := Policies[name]
	if !ok && name != "" {
		return fmt.Errorf("policy: %q is not known; expected one of %s", name, strings.Join(slices.Sorted(maps.Keys(Policies)), ", "))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policy, p.policyAt = policy, p.now()
	p.changes++
	p.hurry()
	return nil
}

// policyNow is the policy that decides. mu must be held.
func (g *Group) policyNow() Policy {
	if g.pool.policy != nil {
		return g.pool.policy
	}
	return g.policy
}
