package pool

import "time"

// maxPrefixes bounds how many prompt beginnings are remembered.
const maxPrefixes = 4096

// prefixes tells where the beginning of a prompt that sessions share, its tools
// and system text, is warm in the prompt cache.
type prefixes struct{ lru[uint64, []warmPlace] }

type warmPlace struct {
	account *account
	until   time.Time
}

func newPrefixes() prefixes { return prefixes{newLRU[uint64, []warmPlace](maxPrefixes)} }

// warm notes that the account has the prefix until then.
func (p *prefixes) warm(prefix uint64, a *account, until, now time.Time) {
	places := p.put(prefix)
	free := -1
	for i := range *places {
		w := &(*places)[i]
		if w.account == a {
			w.until = later(w.until, until)
			return
		}
		if !now.Before(w.until) {
			free = i
		}
	}
	if free >= 0 {
		(*places)[free] = warmPlace{a, until}
		return
	}
	*places = append(*places, warmPlace{a, until})
}

// stamp marks the accounts that have the prefix now with the number of the pick.
func (p *prefixes) stamp(prefix uint64, number uint64, now time.Time) {
	if prefix == 0 {
		return
	}
	if places := p.get(prefix); places != nil {
		for _, w := range *places {
			if now.Before(w.until) {
				w.account.prefixStamp = number
			}
		}
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
