package pool

import (
	"container/list"
	"time"
)

// maxSessions bounds how many sessions are remembered; beyond it the one that
// was used longest ago is forgotten.
const maxSessions = 100_000

// session is the place of one conversation: the account whose prompt cache is
// warm for it.
type session struct {
	ID      string    `json:"id"`
	Account string    `json:"account"` // Member.Key
	Expires time.Time `json:"expires"`
}

// sessions remembers the places, the most recently used first.
type sessions struct {
	limit int
	byID  map[string]*list.Element // of session
	order *list.List
}

func newSessions(limit int) sessions {
	return sessions{limit: limit, byID: make(map[string]*list.Element), order: list.New()}
}

// sessionID scopes a client's session to the person, so that nobody can take
// another's place by naming it.
func sessionID(user, key string) string {
	if key == "" {
		return ""
	}
	return user + "\x00" + key
}

func (s *sessions) get(id string, now time.Time) (account string, ok bool) {
	e, found := s.byID[id]
	if !found {
		return "", false
	}
	place := e.Value.(*session)
	if !now.Before(place.Expires) {
		s.remove(e)
		return "", false
	}
	return place.Account, true
}

func (s *sessions) put(id, account string, expires time.Time) {
	if e, ok := s.byID[id]; ok {
		place := e.Value.(*session)
		place.Account, place.Expires = account, expires
		s.order.MoveToFront(e)
		return
	}
	s.byID[id] = s.order.PushFront(&session{ID: id, Account: account, Expires: expires})
	for s.order.Len() > s.limit {
		s.remove(s.order.Back())
	}
}

func (s *sessions) remove(e *list.Element) {
	delete(s.byID, e.Value.(*session).ID)
	s.order.Remove(e)
}

// live lists the sessions that have not expired, least recently used first, and
// forgets the others.
func (s *sessions) live(now time.Time) []session {
	live := make([]session, 0, s.order.Len())
	for e := s.order.Back(); e != nil; {
		place, prev := e.Value.(*session), e.Prev()
		if now.Before(place.Expires) {
			live = append(live, *place)
		} else {
			s.remove(e)
		}
		e = prev
	}
	return live
}

// restore takes over the saved places that are not known better by now.
func (s *sessions) restore(saved []session, now time.Time) {
	for _, place := range saved {
		if _, known := s.get(place.ID, now); !known && place.ID != "" && now.Before(place.Expires) {
			s.put(place.ID, place.Account, place.Expires)
		}
	}
}
