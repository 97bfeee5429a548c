package pool

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Several instances that use the same accounts tell each other what they know.
// Each fact carries the time at which it was learned, and the newest wins: so it
// does not matter in what order and how often they hear of one another. Counters
// are told apart by instance and added up.

// factsVersion is the version of what Facts writes. Merge refuses a newer one.
const factsVersion = 1

// facts is what an instance tells its peers.
type facts struct {
	Version  int                `json:"version"`
	Pin      string             `json:"pin,omitempty"`
	PinAt    time.Time          `json:"pin_at,omitzero"`
	Policy   string             `json:"policy,omitempty"`
	PolicyAt time.Time          `json:"policy_at,omitzero"`
	Accounts []accountFacts     `json:"accounts"`
	Sessions []sessionSnapshot  `json:"sessions,omitempty"`
	Bound    []holdingSnapshot  `json:"bound,omitempty"`
	Made     []holdingSnapshot  `json:"made,omitempty"`
	People   map[string]*Totals `json:"people,omitempty"`
}

type accountFacts struct {
	accountSnapshot
	// Ended says when a bench of the family was last found to be over before its time.
	Ended map[string]time.Time `json:"ended,omitempty"`
	// Cost is what was spent here, by model family, in anthropic.Load's unit.
	Cost     map[string]float64 `json:"cost,omitempty"`
	Reserved float64            `json:"reserved,omitempty"`
}

// Urgent receives when something has changed that peers should hear of at once: a
// bench set or ended, a pin, the policy, an account's identity, a thing that an
// account holds.
func (p *Pool) Urgent() <-chan struct{} { return p.urgent }

// hurry makes Urgent receive.
func (p *Pool) hurry() {
	select {
	case p.urgent <- struct{}{}:
	default:
	}
}

// Facts is what this instance has to tell its peers, as JSON: of sessions those
// that were served at or after since, all if that is zero. Equal facts give equal
// bytes. It holds no secret.
func (p *Pool) Facts(since time.Time) ([]byte, error) {
	p.mu.Lock()
	now := p.now()
	f := facts{
		Version: factsVersion, Pin: p.pin, PinAt: p.pinAt, PolicyAt: p.policyAt,
		Sessions: p.liveSessions(since, now), Bound: liveHoldings(&p.bound, now), Made: liveHoldings(&p.made, now),
		People: make(map[string]*Totals, len(p.people)),
	}
	if p.policy != nil {
		f.Policy = p.policy.Name()
	}
	for user, t := range p.people {
		copied := *t
		f.People[user] = &copied
	}
	for _, a := range p.accounts {
		if a.order.closes(now) || now.Sub(latest(a.lastUsed, a.identityAt, a.heardAt, a.order.At)) <= forgetAfter {
			f.Accounts = append(f.Accounts, a.facts())
		}
	}
	p.mu.Unlock()
	slices.SortFunc(f.Accounts, func(a, b accountFacts) int { return cmp.Compare(a.Key, b.Key) })
	data, err := json.Marshal(&f)
	if err != nil {
		return nil, fmt.Errorf("marshalling the pool's facts: %w", err)
	}
	return data, nil
}

func (a *account) facts() accountFacts {
	f := accountFacts{accountSnapshot: a.snapshot(), Reserved: a.reserved, Ended: make(map[string]time.Time), Cost: make(map[string]float64, len(a.cost))}
	f.Benches = slices.DeleteFunc(f.Benches, func(b bench) bool { return b.Local })
	if a.limits.sharers[0] != a {
		f.Burn = decayed{} // the first of those that share it tells it
	}
	for _, ended := range []map[string]time.Time{a.ended, a.limits.ended} {
		for family, at := range ended {
			f.Ended[family] = latest(f.Ended[family], at)
		}
	}
	for family, cost := range a.cost {
		f.Cost[family] = cost
	}
	return f
}
