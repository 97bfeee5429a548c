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

// madeSession is the session of what a person makes that lives in one account: it
// all goes to the same one, so that one request can name any of it. No client can
// give a session this name, since ours never begin with NUL.
const madeSession = "\x00made"

// boundTo says which account (Member.Key) the request must go to; empty when any
// may serve it. A refusal says why none can.
func (g *Group) boundTo(req *Request, now time.Time) (key string, refused *Refusal) {
	if len(req.Refs) == 0 && !req.Endpoint.Holds() {
		return "", nil
	}
	unknown := ""
	for _, ref := range req.Refs {
		holder, ok := g.pool.bound.get(ref, now)
		if !ok || g.byKey(holder) == nil {
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
	if key, ok := g.pool.sessions.get(sessionID(req.User, madeSession), now); ok && g.byKey(key) != nil {
		return key
	}
	if len(g.members) == 1 {
		return g.members[0].Key
	}
	return ""
}

func (g *Group) byKey(key string) *Member {
	for _, m := range g.members {
		if m.Key == key {
			return m
		}
	}
	return nil
}

// Hold remembers that the lease's account holds the thing of that id.
func (l *Lease) Hold(id string, life time.Duration) {
	p := l.group.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.changes++
	p.bound.put(id, l.Member.Key, now.Add(life))
	if l.req.Endpoint.Holds() {
		p.sessions.put(sessionID(l.req.User, madeSession), l.Member.Key, now.Add(life))
	}
}
