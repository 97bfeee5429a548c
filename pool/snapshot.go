package pool

import (
	"encoding/json"
	"fmt"
	"time"
)

// snapshotVersion is the version of the record that Snapshot writes. Restore
// refuses a newer one.
const snapshotVersion = 1

// forgetAfter is how long the state of an account that nobody uses is kept: no
// window is longer than a week, so after a month nothing in it can matter.
const forgetAfter = 35 * 24 * time.Hour

type snapshot struct {
	Version  int                `json:"version"`
	Taken    time.Time          `json:"taken"`
	Pin      string             `json:"pin,omitempty"`
	LastUsed string             `json:"last_used,omitempty"`
	Accounts []accountSnapshot  `json:"accounts"`
	Sessions []session          `json:"sessions"`
	Bound    []session          `json:"bound,omitempty"`
	Recent   []Record           `json:"recent"` // newest first
	People   map[string]*Totals `json:"people"`
}

type accountSnapshot struct {
	Key           string             `json:"key"`
	Name          string             `json:"name"`
	Windows       map[string]*window `json:"windows,omitempty"`
	Buckets       map[string]bucket  `json:"buckets,omitempty"`
	Benches       map[string]bench   `json:"benches,omitempty"`
	Suspect       bool               `json:"suspect,omitempty"`
	Strikes       int                `json:"strikes,omitempty"`
	LastUsed      time.Time          `json:"last_used,omitzero"`
	OverageStatus string             `json:"overage_status,omitempty"`
	OverageReason string             `json:"overage_reason,omitempty"`
	Totals        Totals             `json:"totals"`
	Local         localWindow        `json:"local"`
}

// Snapshot is the pool's state as JSON, with the count of changes that it
// contains. It holds no secret.
func (p *Pool) Snapshot() (data []byte, changes uint64, err error) {
	p.mu.Lock()
	now := p.now()
	s := snapshot{
		Version: snapshotVersion, Taken: now, Pin: p.pin, LastUsed: p.lastUsed,
		Sessions: p.sessions.live(now), Bound: p.bound.live(now), Recent: p.recent.newestFirst(), People: make(map[string]*Totals, len(p.people)),
	}
	for user, t := range p.people {
		copied := *t
		s.People[user] = &copied
	}
	for _, a := range p.accounts {
		if a.lastUsed.IsZero() || now.Sub(a.lastUsed) > forgetAfter {
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
		Key: a.key, Name: a.name, Suspect: a.suspect, Strikes: a.strikes, LastUsed: a.lastUsed,
		OverageStatus: a.overageStatus, OverageReason: a.overageReason, Totals: a.totals, Local: a.local,
		Windows: make(map[string]*window, len(a.windows)),
		Buckets: make(map[string]bucket, len(a.buckets)),
		Benches: make(map[string]bench, len(a.benches)),
	}
	for name, w := range a.windows {
		copied := *w
		s.Windows[name] = &copied
	}
	for name, b := range a.buckets {
		s.Buckets[name] = b
	}
	for family, b := range a.benches {
		s.Benches[family] = b
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
	if p.pin == "" {
		p.pin = s.Pin
	}
	if p.lastUsed == "" {
		p.lastUsed = s.LastUsed
	}
	for i := range s.Accounts {
		if saved := &s.Accounts[i]; saved.Key != "" && now.Sub(saved.LastUsed) <= forgetAfter {
			p.account(saved.Key, saved.Name).restore(saved, now)
		}
	}
	p.sessions.restore(s.Sessions, now)
	p.bound.restore(s.Bound, now)
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

func (t *Totals) add(u *Totals) {
	t.Requests += u.Requests
	t.Attempts += u.Attempts
	t.Usage.Add(u.Usage)
}

func (p *Pool) restoreRecent(saved []Record) {
	since := p.recent.newestFirst()
	p.recent = ring{}
	for i := min(len(saved), maxRecent) - 1; i >= 0; i-- {
		p.recent.add(saved[i])
	}
	for i := len(since) - 1; i >= 0; i-- {
		p.recent.add(since[i])
	}
}

// restore takes over what the account does not know better by now. Benches that
// have run out are left behind.
func (a *account) restore(s *accountSnapshot, now time.Time) {
	fresh := a.lastUsed.IsZero()
	for name, w := range s.Windows {
		if w == nil {
			continue
		}
		if a.windows == nil {
			a.windows = make(map[string]*window)
		}
		if known := a.windows[name]; known == nil {
			a.windows[name] = w
		} else {
			known.merge(w)
		}
	}
	for name, b := range s.Buckets {
		if _, known := a.buckets[name]; !known {
			if a.buckets == nil {
				a.buckets = make(map[string]bucket)
			}
			a.buckets[name] = b
		}
	}
	for family, b := range s.Benches {
		if _, known := a.benches[family]; !known && fresh && now.Before(b.Until) {
			if a.benches == nil {
				a.benches = make(map[string]bench)
			}
			a.benches[family] = b
		}
	}
	if fresh {
		a.suspect, a.strikes, a.lastUsed, a.local = s.Suspect, max(0, s.Strikes), s.LastUsed, s.Local
		a.overageStatus, a.overageReason = s.OverageStatus, s.OverageReason
	}
	a.totals.add(&s.Totals)
}

// merge takes over each field that was told later than ours.
func (w *window) merge(o *window) {
	if o.UtilizationAt.After(w.UtilizationAt) {
		w.Utilization, w.UtilizationAt = o.Utilization, o.UtilizationAt
	}
	if o.StatusAt.After(w.StatusAt) {
		w.Status, w.StatusAt = o.Status, o.StatusAt
	}
	if o.ResetAt.After(w.ResetAt) {
		w.Reset, w.ResetAt = o.Reset, o.ResetAt
	}
}
