package pool

import "math"

// Instances that know the same draw the same account for a session without asking
// one another: each account's lot is a hash of the session and the account, and the
// highest lot wins (rendezvous hashing). The hash must not change from one process
// or version to the next, or sessions move.

// FNV-1a of 64 bits.
const (
	fnvOffset = 0xcbf29ce484222325
	fnvPrime  = 0x100000001b3
)

func hashText(h uint64, text string) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * fnvPrime
	}
	// A byte that is in no text keeps neighbours apart.
	return (h ^ 0xff) * fnvPrime
}

// hash names the session for its lots.
func (k *sessionKey) hash() uint64 {
	return hashText(hashText(hashText(fnvOffset, k.User), k.Session), k.Family)
}

// lot is the account's for the session: evenly spread over all 64 bits.
func lot(session, account uint64) uint64 {
	// The finalizer of SplitMix64.
	x := session ^ account
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// draw chooses among accounts that are equally good, by weight: for a session
// always the same, else by chance.
func (g *Group) draw(best []scored, key *sessionKey) int {
	switch {
	case len(best) == 0:
		return -1
	case len(best) == 1:
		return best[0].index
	case key == nil:
		return g.drawLots(best)
	}
	session := key.hash()
	weight := g.members[best[0].index].Weight
	alike := true
	for _, s := range best[1:] {
		alike = alike && g.members[s.index].Weight == weight
	}
	chosen, highest, top := -1, uint64(0), math.Inf(-1)
	for _, s := range best {
		l := lot(session, g.hashes[s.index])
		if alike {
			if chosen < 0 || l > highest {
				chosen, highest = s.index, l
			}
			continue
		}
		// The chance of the highest -w/ln(u) of even u is by weight w.
		u := (float64(l>>11) + 0.5) / (1 << 53)
		if v := -g.members[s.index].weight() / math.Log(u); v > top {
			chosen, top = s.index, v
		}
	}
	return chosen
}

// drawLots draws by chance.
func (g *Group) drawLots(best []scored) int {
	chosen, total := -1, 0
	for _, s := range best {
		w := int(g.members[s.index].weight())
		total += w
		if g.pool.rnd.IntN(total) < w {
			chosen = s.index
		}
	}
	return chosen
}
