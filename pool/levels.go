package pool

import "time"

// Levels is where a group stands at one moment, for gauges: what View has that is
// counted, without what needs copying.
type Levels struct {
	Now time.Time
	// Waiting and Sessions are of the whole pool: requests in line, and conversations
	// that are remembered.
	Waiting, Sessions int
	// Accounts are the group's. Their totals are this instance's own, and Shares is
	// not filled in.
	Accounts []AccountView
}

// Levels is where the group stands now.
func (g *Group) Levels() Levels {
	p := g.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	l := Levels{Now: now, Waiting: len(p.waiting.line), Sessions: p.sessions.len(), Accounts: make([]AccountView, len(g.members))}
	for i, m := range g.members {
		l.Accounts[i] = g.view(i, m, now)
	}
	return l
}
