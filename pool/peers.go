package pool

import (
	"crypto/sha256"
	"time"
)

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
