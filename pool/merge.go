package pool

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Merge takes over what the peer of that name tells. Its counters and its load take
// the place of what it told before. An error leaves the pool as it was.
func (p *Pool) Merge(name string, data []byte) error {
	var f facts
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("reading a peer's facts: %w", err)
	}
	if f.Version < 1 || f.Version > factsVersion {
		return fmt.Errorf("reading a peer's facts: version %d is not known (this is version %d)", f.Version, factsVersion)
	}
	if news, err := p.mergeFacts(name, &f, sha256.Sum256(data)); err != nil || !news {
		return err
	}
	// A peer may tell of a hundred thousand: requests must get their turn meanwhile.
	for told := range slices.Chunk(f.Sessions, 1000) {
		p.mergeSessions(told)
	}
	return nil
}

// mergeFacts takes over all but the sessions. It reports whether there was anything
// that the peer had not told before.
func (p *Pool) mergeFacts(name string, f *facts, said [sha256.Size]byte) (news bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	f.shift(now)
	told := p.peers[name]
	switch {
	case told != nil && told.said == said:
		return false, nil
	case told == nil && len(p.peers) >= maxPeers:
		return false, fmt.Errorf("hearing a peer: there are more than %d", maxPeers)
	}
	if newer(f.PinAt, f.Pin, p.pinAt, p.pin) {
		p.pin, p.pinAt = f.Pin, f.PinAt
	}
	if newer(f.PolicyAt, f.Policy, p.policyAt, policyName(p.policy)) {
		if policy, ok := Policies[f.Policy]; ok || f.Policy == "" {
			p.policy, p.policyAt = policy, f.PolicyAt
		}
	}
	heard := &peer{said: said, accounts: make(map[string]*peerAccount, len(f.Accounts)), people: make(map[string]Totals, len(f.People))}
	for i := range f.Accounts {
		if t := &f.Accounts[i]; t.Key != "" && (p.accounts[t.Key] != nil || len(p.accounts) < maxAccounts) {
			heard.accounts[t.Key] = p.hear(t, told, now)
		}
	}
	for user, t := range f.People {
		if t != nil && len(heard.people) < maxPeople {
			heard.people[user] = *t
		}
	}
	p.peers[name] = heard
	p.weigh(now)
	mergeHoldings(&p.bound, f.Bound, now)
	mergeHoldings(&p.made, f.Made, now)
	p.changes++
	p.dispatch(now)
	return true, nil
}

// hear takes over what a peer tells of an account, and gives what is to be counted
// for the peer. told is what it told before; nil for nothing.
func (p *Pool) hear(t *accountFacts, told *peer, now time.Time) *peerAccount {
	a := p.account(t.Key, t.Name)
	a.heardAt = latest(a.heardAt, t.LastUsed, t.IdentityAt)
	if newer(t.IdentityAt, t.Identity, a.identityAt, a.identity) {
		p.identify(a, t.Identity, t.IdentityAt)
	}
	a.hearOrder(t.Order)
	heard := &peerAccount{totals: t.Totals, cost: t.Cost}
	if sane(t.Burn.Sum, mostRestored) {
		heard.burn = t.Burn
	}
	if sane(t.Reserved, mostRestored) {
		heard.reserved = t.Reserved
	}
	if t.Limit.At.After(a.limit.At) && sane(t.Limit.Most, mostInFlight) {
		a.limit = t.Limit
	}
	l := a.limits
	l.changed()
	// What belongs to limits that the account draws on no more is not its own.
	same := l.identity == t.Identity || t.Identity == ""
	if same {
		l.hear(&t.accountSnapshot)
		if told != nil {
			l.spentElsewhere(told.accounts[t.Key], heard)
		}
	}
	a.hearBenches(t, same, now)
	return heard
}

// hear takes over what is told later than what is known of the limits.
func (l *limits) hear(s *accountSnapshot) {
	for name, w := range s.Windows {
		if w != nil && (len(l.windows) < maxRestored || slices.ContainsFunc(l.windows, func(o *window) bool { return o.name == name })) {
			l.window(name).merge(w)
		}
	}
	for name, b := range s.Buckets {
		l.mergeBucket(name, b)
	}
	if o := (overage{s.OverageStatus, s.OverageReason, s.OverageAt}); newer(o.At, o.Status+o.Reason, l.overage.At, l.overage.Status+l.overage.Reason) {
		l.overage = o
	}
}

// spentElsewhere counts what the peer has spent since it told last: upstream's
// utilization grows by it as by what is spent here.
func (l *limits) spentElsewhere(before, after *peerAccount) {
	if before == nil {
		return
	}
	for family, cost := range after.cost {
		more := cost - before.cost[family]
		after.cost[family] = max(cost, before.cost[family]) // an older record may come again
		if !(more > 0) || more > mostRestored {
			continue
		}
		for _, w := range l.windows {
			if w.limits(l, family) {
				w.Capacity.Spent += more
			}
		}
	}
}

// hearBenches takes over benches that were set later than ours and were not ended
// since, and ends ours that were.
func (a *account) hearBenches(t *accountFacts, same bool, now time.Time) {
	for _, b := range t.Benches {
		if !now.Before(b.Until) || b.shared() && !same {
			continue
		}
		benches, ended := &a.benches, a.ended
		if b.shared() {
			benches, ended = &a.limits.benches, a.limits.ended
		}
		if b.Since.After(ended[b.Family]) {
			*benches = mergeBench(*benches, b)
		}
	}
	for family, at := range t.Ended {
		a.ended = keepEnded(a.ended, family, at)
		a.benches = endBenches(a.benches, family, at)
		if same {
			a.limits.ended = keepEnded(a.limits.ended, family, at)
			a.limits.benches = endBenches(a.limits.benches, family, at)
		}
	}
}

// endBenches takes out the family's bench if it was set by then.
func endBenches(benches []bench, family string, at time.Time) []bench {
	return slices.DeleteFunc(benches, func(b bench) bool { return b.Family == family && !b.Since.After(at) })
}

// keepEnded notes that the family's bench was over then.
func keepEnded(ended map[string]time.Time, family string, at time.Time) map[string]time.Time {
	if _, known := ended[family]; !known && len(ended) >= maxRestored {
		return ended
	}
	if ended == nil {
		ended = make(map[string]time.Time)
	}
	ended[family] = latest(ended[family], at)
	return ended
}

// newer reports whether a fact was learned later than another; of the same time the
// greater text wins, so that everybody comes to the same.
func newer(at time.Time, text string, thanAt time.Time, than string) bool {
	if at.Equal(thanAt) {
		return !at.IsZero() && strings.Compare(text, than) > 0
	}
	return at.After(thanAt)
}

func policyName(policy Policy) string {
	if policy == nil {
		return ""
	}
	return policy.Name()
}

// mergeSessions takes over the places of sessions that were served later there.
func (p *Pool) mergeSessions(told []sessionSnapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for _, s := range told {
		key := sessionKey{User: s.User, Session: s.Session, Family: s.Family}
		theirs := place{Account: s.Account, Until: s.Until, Home: s.Home, HomeAt: s.HomeAt, Tokens: max(0, s.Tokens)}
		if s.Session == "" || theirs.over(now) {
			continue
		}
		ours := p.sessions.get(key)
		if ours == nil || newer(theirs.HomeAt, theirs.Home, ours.HomeAt, ours.Home) {
			*p.sessions.put(key) = theirs
		}
	}
}

// mergeHoldings takes over the holdings that last longer there.
func mergeHoldings(known *lru[string, holding], told []holdingSnapshot, now time.Time) {
	for _, h := range told {
		ours := known.get(h.ID)
		if now.Before(h.Expires) && (ours == nil || newer(h.Expires, h.Account, ours.expires, ours.account)) {
			*known.put(h.ID) = holding{h.Account, h.Expires}
		}
	}
}
