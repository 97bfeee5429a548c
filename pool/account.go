package pool

import (
	"slices"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// account is the state of one account. It is guarded by the pool's mutex and
// holds no configuration.
type account struct {
	// First what every choice looks at, of each account.

	// benches are those that no other account has part in, at most one for each
	// family; those for want of quota are with limits.
	benches []bench
	limits  *limits
	// suspect is set by a trouble whose end is a guess: until an answer shows
	// that the account serves again, one request at a time tries it.
	suspect bool
	// ordered tells that order may close the account.
	ordered  bool
	inFlight int
	limit    inFlightLimit
	// The pool's pick in which the account was last found to have the prefix, to be
	// the session's home, or its parent's.
	prefixStamp, homeStamp, parentStamp uint64
	rating                              rating

	key, name string
	// identity says whose limits these are, empty when nobody knows; see Identify.
	identity   string
	identityAt time.Time // when it was learned
	order      order     // see setOrder
	// closedUntil and closedReason are of a limit of the operator's own, see CloseFor.
	closedUntil  time.Time
	closedReason string
	suspectAt    time.Time // when suspect was set last
	strikes      int       // troubles without a stated end in a row, with no served request between
	strikeAt     time.Time // when the last one was counted
	lastUsed     time.Time
	turn         uint64  // the pool's pick that this account last got
	reserved     float64 // what its requests in flight are expected to cost

	totals Totals
	local  localWindow
	cost   map[string]float64   // what was spent here, by model family
	ended  map[string]time.Time // when a bench was found to be over before its time, by family
	// heardAt is the latest time that a peer told of.
	heardAt time.Time
}

// wholeAccount is the family of a bench that is not limited to a model family.
const wholeAccount = ""

// bench keeps an account, or one model family of it, out of the choice.
type bench struct {
	// Family is what the bench is limited to, wholeAccount if not.
	Family  string    `json:"family,omitempty"`
	Until   time.Time `json:"until"`
	Since   time.Time `json:"since"`
	Verdict string    `json:"verdict"`
	Reason  string    `json:"reason"`
	Source  string    `json:"source"`
	Login   bool      `json:"login,omitempty"`
	Window  string    `json:"window,omitempty"`
	// Local is set on what may be trouble of this instance's alone, such as its network.
	Local bool `json:"local,omitempty"`
}

// guessed reports whether nobody stated the bench's end.
func (b *bench) guessed() bool { return b.Source != "reset" }

// benchOf is the bench that keeps the account from serving the family now, the
// one that lasts longest; nil when there is none.
func (a *account) benchOf(family string, now time.Time) *bench {
	return longestBench(a.limits.benches, family, longestBench(a.benches, family, nil, now), now)
}

// longestBench is the one of benches that keeps from serving the family and lasts
// longer than longest, else longest.
func longestBench(benches []bench, family string, longest *bench, now time.Time) *bench {
	for i := range benches {
		b := &benches[i]
		if b.Family != wholeAccount && b.Family != family || !now.Before(b.Until) {
			continue
		}
		if longest == nil || b.Until.After(longest.Until) {
			longest = b
		}
	}
	return longest
}

// benched reports whether there may be a bench at all.
func (a *account) benched() bool { return len(a.benches) > 0 || len(a.limits.benches) > 0 }

// heal shortens benches that were set in what is now the future: the clock went
// back, and a length that was guessed or counted from then must not grow by it.
func (a *account) heal(now time.Time) {
	for _, benches := range [...][]bench{a.benches, a.limits.benches} {
		for i := range benches {
			if b := &benches[i]; b.guessed() && now.Before(b.Since) {
				b.Since, b.Until = now, now.Add(b.Until.Sub(b.Since))
			}
		}
	}
}

func (a *account) setBench(b bench) {
	benches := &a.benches
	if b.shared() {
		benches = &a.limits.benches
	}
	i := slices.IndexFunc(*benches, func(old bench) bool { return old.Family == b.Family })
	switch {
	case i < 0:
		*benches = append(*benches, b)
	case (*benches)[i].Until.After(b.Until) && !(*benches)[i].guessed():
		// What upstream stated stands against a later, shorter guess.
		return
	default:
		(*benches)[i] = b
	}
	a.doubt(&b)
}

// strike counts a trouble whose end nobody stated, and gives how often the rest
// that it costs is doubled. Requests that were under way when the last one was
// counted speak of the same trouble.
func (a *account) strike(begun, now time.Time) (doublings int) {
	if a.strikes == 0 || begun.After(a.strikeAt) || a.strikeAt.After(now) {
		a.strikes++
		a.strikeAt = now
	}
	return min(a.strikes-1, maxDoublings)
}

func (a *account) doubt(b *bench) {
	if b.guessed() {
		a.suspect, a.suspectAt = true, b.Since
	}
}

// clear ends benches that a served request, begun after they were set, has
// proved wrong, and forgets those that have run out.
func (a *account) clear(family string, begun, now time.Time) (ended bool) {
	over := func(ends *map[string]time.Time) func(bench) bool {
		return func(b bench) bool {
			if !now.Before(b.Until) {
				return true
			}
			proved := (b.Family == wholeAccount || b.Family == family) && begun.After(b.Since)
			if proved {
				*ends = keepEnded(*ends, b.Family, now)
				ended = true
			}
			return proved
		}
	}
	a.benches = slices.DeleteFunc(a.benches, over(&a.ended))
	a.limits.benches = slices.DeleteFunc(a.limits.benches, over(&a.limits.ended))
	// A request that was sent before the trouble does not show that it is over. If
	// the clock went back since, that can no longer be told.
	if begun.After(a.suspectAt) || a.suspectAt.After(now) {
		a.suspect, a.strikes = false, 0
	}
	return ended
}

// localWindow counts an account's tokens by our own clock, for accounts that
// tell nothing: it starts at the first counted use and lasts five hours.
type localWindow struct {
	Start time.Time       `json:"start,omitzero"`
	Usage anthropic.Usage `json:"usage"`
}

const localWindowLife = 5 * time.Hour

func (w *localWindow) add(u anthropic.Usage, now time.Time) {
	if w.Start.IsZero() || now.Sub(w.Start) >= localWindowLife {
		*w = localWindow{Start: now}
	}
	w.Usage.Add(u)
}

// at is the window as it stands now: empty once it has run out.
func (w localWindow) at(now time.Time) localWindow {
	if !w.Start.IsZero() && now.Sub(w.Start) >= localWindowLife {
		return localWindow{}
	}
	return w
}
