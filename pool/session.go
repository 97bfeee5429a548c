package pool

import "time"

const (
	// maxSessions bounds how many sessions are remembered; beyond it the one that
	// was used longest ago is forgotten.
	maxSessions = 100_000
	// homeLife is how long it is remembered where a session lived after its cache
	// has gone cold: some of what it had may still be there.
	homeLife = 6 * time.Hour
	// BoundLife is how long a conversation stays with the account that alone can read
	// its thinking.
	BoundLife = 24 * time.Hour
)

// sessionKey names a conversation with one model family: caches are per model,
// so its requests to another family have a place of their own. The person is part
// of it, so that nobody can take another's place by naming it.
type sessionKey struct {
	User, Session, Family string
}

// place is where a session lives.
type place struct {
	// The session lives at Account (Member.Key) until Until: as long as its prompt
	// cache is warm there, or longer when only that account can read its thinking.
	Account string
	Until   time.Time
	// Unproved is true until the account has served the session.
	Unproved bool
	// Home is the account that last served the session, at HomeAt.
	Home   string
	HomeAt time.Time
	// Tokens is the size of its last prompt, 0 when not known.
	Tokens int64
}

func (s *place) livesAt(now time.Time) bool { return s != nil && now.Before(s.Until) }

// homeOf is the account where the session lived not long ago, empty for none.
func (s *place) homeOf(now time.Time) string {
	if s == nil || now.Sub(s.HomeAt) > homeLife {
		return ""
	}
	return s.Home
}

// over reports whether nothing about the place can matter any more.
func (s *place) over(now time.Time) bool { return !s.livesAt(now) && s.homeOf(now) == "" }

// keyOf is the request's session; false when it has none.
func keyOf(req *Request, family string) (sessionKey, bool) {
	return sessionKey{User: req.User, Session: req.Session, Family: family}, req.Session != ""
}

// settle notes that the session is being served by the account.
func (p *Pool) settle(l *Lease, now time.Time) {
	key, ok := keyOf(l.req, l.family)
	if !ok || !l.req.paid() || l.Reason == ReasonPinned {
		return
	}
	s := p.sessions.put(key)
	s.Account, s.Until, s.Unproved = l.state.key, now.Add(l.req.life()), false
	s.Home, s.HomeAt = l.state.key, now
	if l.req.Prefix != 0 {
		p.prefixes.warm(l.req.Prefix, l.state, now.Add(l.req.CacheLife), now)
	}
}

// sessionSnapshot is a session's place in a snapshot.
type sessionSnapshot struct {
	User    string    `json:"user,omitempty"`
	Session string    `json:"session"`
	Family  string    `json:"family"`
	Account string    `json:"account"`
	Until   time.Time `json:"until,omitzero"`
	Home    string    `json:"home,omitempty"`
	HomeAt  time.Time `json:"home_at,omitzero"`
	Tokens  int64     `json:"tokens,omitempty"`
}

// liveSessions lists the places that still matter of sessions that were served at
// or after since, least recently used first, and forgets those that do not matter.
func (p *Pool) liveSessions(since, now time.Time) []sessionSnapshot {
	var live []sessionSnapshot
	if since.IsZero() {
		live = make([]sessionSnapshot, 0, p.sessions.len())
	}
	p.sessions.oldestFirst(func(key sessionKey, s *place) {
		if s.over(now) {
			p.sessions.remove(key)
			return
		}
		if !s.Unproved && !s.HomeAt.Before(since) {
			live = append(live, sessionSnapshot{User: key.User, Session: key.Session, Family: key.Family,
				Account: s.Account, Until: s.Until, Home: s.Home, HomeAt: s.HomeAt, Tokens: s.Tokens})
		}
	})
	return live
}

// restoreSessions takes over the saved places that are not known better by now.
func (p *Pool) restoreSessions(saved []sessionSnapshot, now time.Time) {
	for _, s := range saved {
		key := sessionKey{User: s.User, Session: s.Session, Family: s.Family}
		restored := place{Account: s.Account, Until: s.Until, Home: s.Home, HomeAt: s.HomeAt, Tokens: max(0, s.Tokens)}
		if s.Session == "" || p.sessions.get(key) != nil || restored.over(now) {
			continue
		}
		*p.sessions.put(key) = restored
	}
}
