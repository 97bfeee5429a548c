package pool

// Benched lists the benches that last by the names of the group's accounts.
// Accounts without any are in it too. It costs less than View.
func (g *Group) Benched() map[string][]BenchView {
	p := g.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	all := make(map[string][]BenchView, len(g.members))
	for i, m := range g.members {
		all[m.Name] = g.lasting(i, now)
	}
	return all
}
