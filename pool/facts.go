package pool

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
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

// peer is what is counted for an instance that tells us facts.
type peer struct {
	said     [sha256.Size]byte       // what it told last; zero when it is to be heard anew
	accounts map[string]*peerAccount // by Member.Key
	people   map[string]Totals
}

type peerAccount struct {
	totals   Totals
	cost     map[string]float64
	burn     decayed
	reserved float64
}

// maxPeers bounds how many instances are remembered.
const maxPeers = 1000

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
		Sessions: p.liveSessions(now), Bound: liveHoldings(&p.bound, now), Made: liveHoldings(&p.made, now),
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
		if now.Sub(latest(a.lastUsed, a.identityAt, a.heardAt)) <= forgetAfter {
			f.Accounts = append(f.Accounts, a.facts())
		}
	}
	p.mu.Unlock()
	f.Sessions = slices.DeleteFunc(f.Sessions, func(s sessionSnapshot) bool { return s.HomeAt.Before(since) })
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
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	f.shift(now)
	told, said := p.peers[name], sha256.Sum256(data)
	if told != nil && told.said == said {
		return nil
	}
	if told == nil && len(p.peers) >= maxPeers {
		return fmt.Errorf("reading a peer's facts: there are more than %d peers", maxPeers)
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
	p.mergeSessions(f.Sessions, now)
	mergeHoldings(&p.bound, f.Bound, now)
	mergeHoldings(&p.made, f.Made, now)
	p.changes++
	p.dispatch(now)
	return nil
}

// hear takes over what a peer tells of an account, and gives what is to be counted
// for the peer. told is what it told before; nil for nothing.
func (p *Pool) hear(t *accountFacts, told *peer, now time.Time) *peerAccount {
	a := p.account(t.Key, t.Name)
	a.heardAt = latest(a.heardAt, t.LastUsed, t.IdentityAt)
	if newer(t.IdentityAt, t.Identity, a.identityAt, a.identity) {
		p.identify(a, t.Identity, t.IdentityAt)
	}
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
func (p *Pool) mergeSessions(told []sessionSnapshot, now time.Time) {
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

// weigh adds up the load that the peers' requests and sessions are. mu must be held.
func (p *Pool) weigh(now time.Time) {
	for _, a := range p.accounts {
		if a.limits.sharers[0] == a {
			a.limits.elsewhere, a.limits.reservedElsewhere = decayed{At: now}, 0
		}
	}
	for _, other := range p.peers {
		for key, t := range other.accounts {
			if a := p.accounts[key]; a != nil {
				a.limits.elsewhere.Sum += t.burn.at(now)
				a.limits.reservedElsewhere += t.reserved
				a.limits.changed()
			}
		}
	}
}

// Drop forgets the load of a peer that is silent. Its counters stay.
func (p *Pool) Drop(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	other := p.peers[name]
	if other == nil {
		return
	}
	for _, t := range other.accounts {
		t.burn, t.reserved = decayed{}, 0
	}
	other.said = [sha256.Size]byte{}
	p.weigh(p.now())
	p.changes++
}

// Forget takes back what is counted for the peer of that name, which turns out to
// have been this instance in another life: it knows its own counters.
func (p *Pool) Forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.peers, name)
	p.weigh(p.now())
}

// totalsElsewhere is what the peers count of an account. mu must be held.
func (p *Pool) totalsElsewhere(key string) (sum Totals) {
	for _, other := range p.peers {
		if t := other.accounts[key]; t != nil {
			sum.add(&t.totals)
		}
	}
	return sum
}

// shift moves the facts into our past if the peer's clock is ahead of ours: what it
// learns would otherwise stand against all that is learned here.
func (f *facts) shift(now time.Time) {
	last := latest(f.PinAt, f.PolicyAt)
	for i := range f.Accounts {
		last = latest(last, f.Accounts[i].latest())
	}
	for i := range f.Sessions {
		last = latest(last, f.Sessions[i].HomeAt)
	}
	by := last.Sub(now)
	if last.IsZero() || by <= 0 {
		return
	}
	for _, t := range []*time.Time{&f.PinAt, &f.PolicyAt} {
		back(t, by)
	}
	for i := range f.Accounts {
		f.Accounts[i].shift(by)
	}
	for i := range f.Sessions {
		s := &f.Sessions[i]
		back(&s.HomeAt, by)
		back(&s.Until, by)
	}
}

func back(t *time.Time, by time.Duration) {
	if !t.IsZero() {
		*t = t.Add(-by)
	}
}

// latest is when something was learned last.
func (t *accountFacts) latest() time.Time {
	last := latest(t.IdentityAt, t.LastUsed, t.OverageAt, t.Limit.At, t.Burn.At, t.SuspectAt)
	for _, w := range t.Windows {
		if w != nil {
			last = latest(last, w.UtilizationAt, w.StatusAt, w.ResetAt)
		}
	}
	for _, b := range t.Buckets {
		last = latest(last, b.At)
	}
	for _, b := range t.Benches {
		last = latest(last, b.Since)
	}
	for _, at := range t.Ended {
		last = latest(last, at)
	}
	return last
}

func (t *accountFacts) shift(by time.Duration) {
	for _, at := range []*time.Time{&t.IdentityAt, &t.LastUsed, &t.OverageAt, &t.Limit.At, &t.Burn.At, &t.SuspectAt} {
		back(at, by)
	}
	for _, w := range t.Windows {
		if w != nil {
			back(&w.UtilizationAt, by)
			back(&w.StatusAt, by)
			back(&w.ResetAt, by)
		}
	}
	for name, b := range t.Buckets {
		back(&b.At, by)
		t.Buckets[name] = b
	}
	for i := range t.Benches {
		b := &t.Benches[i]
		back(&b.Since, by)
		if b.guessed() { // what upstream states is by no clock of the peer's
			back(&b.Until, by)
		}
	}
	for family, at := range t.Ended {
		t.Ended[family] = at.Add(-by)
	}
}
