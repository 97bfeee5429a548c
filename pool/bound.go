package pool

import "time"

// How long it is remembered which account holds a thing: a container lives for
// 30 days (Messages API), files and batches until they are deleted or forgotten
// for newer ones.
const (
	ContainerLife = 30 * 24 * time.Hour
	ResourceLife  = 400 * 24 * time.Hour
)

// maxBound bounds how many things are remembered; the one that was used longest
// ago is forgotten first.
const maxBound = 100_000

// holding says which account (Member.Key) has a thing, and until when.
type holding struct {
	account string
	expires time.Time
}

// holderOf finds the account that has it, empty when none is known.
func holderOf[K comparable](known *lru[K, holding], key K, now time.Time) string {
	h := known.get(key)
	if h == nil || !now.Before(h.expires) {
		return ""
	}
	return h.account
}

// boundTo says which account (Member.Key) the request must go to; empty when any
// may serve it. A refusal says why none can.
func (g *Group) boundTo(req *Request, now time.Time) (key string, refused *Refusal) {
	if len(req.Refs) == 0 && !req.Endpoint.Holds() {
		return "", nil
	}
	unknown := ""
	for _, ref := range req.Refs {
		holder := holderOf(&g.pool.bound, ref, now)
		if _, ours := g.byKey[holder]; !ours {
			unknown = ref
			continue
		}
		if key != "" && key != holder {
			return "", &Refusal{Apart: true}
		}
		key = holder
	}
	switch {
	case key != "":
		return key, nil
	case len(req.Refs) == 0 && !req.List:
		// Something new: any account will do, best the one that has the person's other
		// things.
		return g.homeKey(req, now), nil
	}
	if key = g.homeKey(req, now); key == "" {
		return "", &Refusal{Unknown: unknown, Unlisted: unknown == ""}
	}
	return key, nil
}

// homeKey is where things of unknown place are looked for: the configured
// account, else the one that has what this person made here, else the only one.
func (g *Group) homeKey(req *Request, now time.Time) string {
	for _, m := range g.members {
		if req.Home != "" && m.Name == req.Home {
			return m.Key
		}
	}
	holder := holderOf(&g.pool.made, req.User, now)
	if _, ours := g.byKey[holder]; ours {
		return holder
	}
	if len(g.members) == 1 {
		return g.members[0].Key
	}
	return ""
}

// Hold remembers that the lease's account holds the thing of that id.
func (l *Lease) Hold(id string, life time.Duration) {
	p := l.group.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.changes++
	p.hurry()
	*p.bound.put(id) = holding{l.Member.Key, now.Add(life)}
	if l.req.Endpoint.Holds() {
		// All that a person makes goes to the same account, so that one request can
		// name any of it.
		*p.made.put(l.req.User) = holding{l.Member.Key, now.Add(life)}
	}
}

// holdingSnapshot is a holding in a snapshot.
type holdingSnapshot struct {
	ID      string    `json:"id"`
	Account string    `json:"account"`
	Expires time.Time `json:"expires"`
}

// liveHoldings lists the holdings that last, least recently used first, and
// forgets the others.
func liveHoldings(known *lru[string, holding], now time.Time) []holdingSnapshot {
	live := make([]holdingSnapshot, 0, known.len())
	known.oldestFirst(func(id string, h *holding) {
		if now.Before(h.expires) {
			live = append(live, holdingSnapshot{ID: id, Account: h.account, Expires: h.expires})
		} else {
			known.remove(id)
		}
	})
	return live
}

// restoreHoldings takes over the saved holdings that are not known better by now.
func restoreHoldings(known *lru[string, holding], saved []holdingSnapshot, now time.Time) {
	for _, h := range saved {
		if holderOf(known, h.ID, now) == "" && now.Before(h.Expires) {
			*known.put(h.ID) = holding{h.Account, h.Expires}
		}
	}
}
