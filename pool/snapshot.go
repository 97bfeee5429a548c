package pool

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// snapshotVersion is the version of the record that Snapshot writes. Restore
// refuses a newer one.
const snapshotVersion = 2

// forgetAfter is how long the state of an account that nobody uses is kept: no
// window is longer than a week, so after a month nothing in it can matter.
const forgetAfter = 35 * 24 * time.Hour

// maxRestored bounds what a record can make us keep of one account.
const maxRestored = 64

// mostRestored is beyond any sum of anthropic.Load that an account or a request can
// come to, and far from where sums of them become infinite.
const mostRestored = 1e15

// sane reports whether a number of a record can be one that we wrote.
func sane(x, most float64) bool { return x >= 0 && x <= most }

// maxAccounts bounds how many accounts a record can make us keep.
const maxAccounts = 10_000

type snapshot struct {
	Version  int                `json:"version"`
	Taken    time.Time          `json:"taken"`
	Pin      string             `json:"pin,omitempty"`
	PinAt    time.Time          `json:"pin_at,omitzero"` // when it was set or taken away
	Policy   string             `json:"policy,omitempty"`
	PolicyAt time.Time          `json:"policy_at,omitzero"`
	LastUsed string             `json:"last_used,omitempty"`
	Accounts []accountSnapshot  `json:"accounts"`
	Sessions []sessionSnapshot  `json:"sessions"`
	Bound    []holdingSnapshot  `json:"bound,omitempty"`
	Made     []holdingSnapshot  `json:"made,omitempty"`
	Costs    map[string]float64 `json:"costs,omitempty"` // of a request, by model family
	Recent   []Record           `json:"recent"`          // newest first
	People   map[string]*Totals `json:"people"`
}

type accountSnapshot struct {
	Key           string             `json:"key"`
	Name          string             `json:"name"`
	Identity      string             `json:"identity,omitempty"`
	IdentityAt    time.Time          `json:"identity_at,omitzero"`
	Windows       map[string]*window `json:"windows,omitempty"`
	Buckets       map[string]bucket  `json:"buckets,omitempty"`
	Benches       []bench            `json:"benches,omitempty"`
	Limit         inFlightLimit      `json:"in_flight_limit,omitzero"`
	Burn          decayed            `json:"burn,omitzero"`
	Suspect       bool               `json:"suspect,omitempty"`
	SuspectAt     time.Time          `json:"suspect_at,omitzero"`
	Strikes       int                `json:"strikes,omitempty"`
	LastUsed      time.Time          `json:"last_used,omitzero"`
	OverageStatus string             `json:"overage_status,omitempty"`
	OverageReason string             `json:"overage_reason,omitempty"`
	OverageAt     time.Time          `json:"overage_at,omitzero"`
	Totals        Totals             `json:"totals"`
	Local         localWindow        `json:"local"`
	Order         order              `json:"order,omitzero"`
}

// Snapshot is the pool's state as JSON, with the count of changes that it
// contains. It holds no secret.
func (p *Pool) Snapshot() (data []byte, changes uint64, err error) {
	p.mu.Lock()
	now := p.now()
	s := snapshot{
		Version: snapshotVersion, Taken: now, Pin: p.pin, PinAt: p.pinAt, PolicyAt: p.policyAt, LastUsed: p.lastUsed,
		Sessions: p.liveSessions(time.Time{}, now), Bound: liveHoldings(&p.bound, now), Made: liveHoldings(&p.made, now),
		Costs: make(map[string]float64, len(p.costs)), Recent: p.recent.newestFirst(), People: make(map[string]*Totals, len(p.people)),
	}
	if p.policy != nil {
		s.Policy = p.policy.Name()
	}
	for family, mean := range p.costs {
		s.Costs[family] = *mean
	}
	for user, t := range p.people {
		copied := *t
		s.People[user] = &copied
	}
	for _, a := range p.accounts {
		if !a.order.closes(now) && now.Sub(latest(a.lastUsed, a.identityAt, a.order.At)) > forgetAfter {
			continue
		}
		s.Accounts = append(s.Accounts, a.snapshot())
	}
	changes = p.changes
	p.mu.Unlock()
	// Marshalling a hundred thousand sessions takes long: not under the lock.
	data, err = json.Marshal(&s)
	if err != nil {
		return nil, 0, fmt.Errorf("marshalling the pool's state: %w", err)
	}
	return data, changes, nil
}

func (a *account) snapshot() accountSnapshot {
	s := accountSnapshot{
		Key: a.key, Name: a.name, Identity: a.identity, IdentityAt: a.identityAt, Suspect: a.suspect, SuspectAt: a.suspectAt, Strikes: a.strikes, LastUsed: a.lastUsed,
		OverageStatus: a.limits.overage.Status, OverageReason: a.limits.overage.Reason, OverageAt: a.limits.overage.At, Totals: a.totals, Local: a.local,
		Windows: a.limits.snapshotWindows(), Buckets: maps.Clone(a.limits.buckets),
		Benches: slices.Concat(a.benches, a.limits.benches), Limit: a.limit, Burn: a.limits.burn, Order: a.order,
	}
	return s
}

// Restore adds a snapshot to the pool's state. What the pool has learned since
// it was made stands, so Restore may come after the first requests. An error
// leaves the pool as it was.
func (p *Pool) Restore(data []byte) error {
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("reading the pool's state: %w", err)
	}
	if s.Version < 1 || s.Version > snapshotVersion {
		return fmt.Errorf("reading the pool's state: version %d is not known (this is version %d)", s.Version, snapshotVersion)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if at := chosenAt(s.Pin, s.PinAt, s.Taken); newer(at, s.Pin, p.pinAt, p.pin) {
		p.pin, p.pinAt = s.Pin, at
	}
	if at := chosenAt(s.Policy, s.PolicyAt, s.Taken); newer(at, s.Policy, p.policyAt, policyName(p.policy)) {
		if policy, ok := Policies[s.Policy]; ok || s.Policy == "" {
			p.policy, p.policyAt = policy, at
		}
	}
	for family, mean := range s.Costs {
		if _, known := p.costs[family]; !known && mean > 0 && sane(mean, mostRestored) && len(p.costs) < maxRestored {
			p.costs[family] = &mean
		}
	}
	if p.lastUsed == "" {
		p.lastUsed = s.LastUsed
	}
	for i := range s.Accounts {
		if saved := &s.Accounts[i]; saved.Key != "" && len(p.accounts) < maxAccounts && (saved.Order.closes(now) || now.Sub(latest(saved.LastUsed, saved.IdentityAt, saved.Order.At)) <= forgetAfter) {
			p.restoreAccount(saved, now)
		}
	}
	p.restoreSessions(s.Sessions, now)
	restoreHoldings(&p.bound, s.Bound, now)
	restoreHoldings(&p.made, s.Made, now)
	p.restoreRecent(s.Recent)
	for user, t := range s.People {
		if t == nil || len(p.people) >= maxPeople {
			continue
		}
		sum := p.people[user]
		if sum == nil {
			sum = &Totals{}
			p.people[user] = sum
		}
		sum.add(t)
	}
	return nil
}

// chosenAt is when a pin or policy of a record was chosen, zero for never. Records of
// version 2 may lack the time: it was in force then when they were taken.
func chosenAt(choice string, at, taken time.Time) time.Time {
	if at.IsZero() && choice != "" {
		at = taken
	}
	return at
}

func (t *Totals) add(u *Totals) {
	t.Requests += u.Requests
	t.Attempts += u.Attempts
	t.Usage.Add(u.Usage)
}

func (p *Pool) restoreRecent(saved []Record) {
	since, old := p.recent.newestFirst(), p.recent
	p.recent = ring{}
	for i := min(len(saved), maxRecent) - 1; i >= 0; i-- {
		p.recent.add(saved[i], nil)
	}
	for i := len(since) - 1; i >= 0; i-- {
		p.recent.add(since[i], old.trace(since[i].ID))
	}
}

// restoreAccount takes over what the account does not know better by now. Benches
// that have run out are left behind.
func (p *Pool) restoreAccount(s *accountSnapshot, now time.Time) {
	a := p.account(s.Key, s.Name)
	if s.IdentityAt.After(a.identityAt) {
		p.identify(a, s.Identity, s.IdentityAt)
	}
	a.hearOrder(s.Order)
	fresh := a.turn == 0
	l := a.limits
	l.changed()
	if l.identity == s.Identity || s.Identity == "" {
		l.restore(s, !slices.ContainsFunc(l.sharers, func(o *account) bool { return o.turn != 0 }))
	}
	for _, b := range s.Benches {
		if b.shared() && l.identity != s.Identity && s.Identity != "" {
			continue // of limits that it draws on no more
		}
		if fresh && now.Before(b.Until) && len(a.benches)+len(l.benches) < 2*maxRestored {
			suspect, at := a.suspect, a.suspectAt
			a.setBench(b)
			a.suspect, a.suspectAt = suspect, at
		}
	}
	if fresh {
		a.suspect, a.suspectAt = s.Suspect, s.SuspectAt
		a.strikes, a.lastUsed, a.local = min(max(0, s.Strikes), math.MaxInt32), s.LastUsed, s.Local
		if sane(s.Limit.Most, mostInFlight) {
			a.limit = s.Limit
		}
	}
	a.totals.add(&s.Totals)
}

// restore takes over what is not known better by now of the limits that an account
// has drawn on. fresh tells that nothing was asked of them since.
func (l *limits) restore(s *accountSnapshot, fresh bool) {
	for name, w := range s.Windows {
		if w != nil && len(l.windows) < maxRestored {
			l.window(name).merge(w)
		}
	}
	for name, b := range s.Buckets {
		l.mergeBucket(name, b)
	}
	if s.OverageAt.After(l.overage.At) || l.overage == (overage{}) {
		l.overage = overage{s.OverageStatus, s.OverageReason, s.OverageAt}
	}
	if fresh && sane(s.Burn.Sum, mostRestored) {
		l.burn = s.Burn
	}
}
