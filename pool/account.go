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

	benches []bench // at most one for each family
	// suspect is set by a trouble whose end is a guess: until an answer shows
	// that the account serves again, one request at a time tries it.
	suspect  bool
	inFlight int
	limit    inFlightLimit
	// The pool's pick in which the account was last found to have the prefix, to be
	// the session's home, or its parent's.
	prefixStamp, homeStamp, parentStamp uint64
	rating                              rating

	key, name string
	windows   []*window // one for each name that was ever told
	// fiveHour and sevenDay are those of windows that limit every model; nil until told.
	fiveHour, sevenDay *window
	buckets            map[string]bucket // classic limits of an API key, by name
	suspectAt          time.Time         // when suspect was set last
	strikes            int               // troubles without a stated end in a row, with no served request between
	strikeAt           time.Time         // when the last one was counted
	lastUsed           time.Time
	turn               uint64 // the pool's pick that this account last got

	// reserved is what the requests in flight are expected to cost, burn what the
	// sessions here cost lately: see capacity.go.
	reserved float64
	burn     decayed

	overageStatus, overageReason string

	totals Totals
	local  localWindow
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
}

// guessed reports whether nobody stated the bench's end.
func (b *bench) guessed() bool { return b.Source != "reset" }

func (a *account) learn(l *anthropic.Limits, now time.Time) {
	a.changed()
	for _, said := range l.Windows {
		a.window(said.Name).learn(&said, now)
	}
	for _, said := range l.Buckets {
		if said.Limit < 0 && said.Remaining < 0 {
			continue
		}
		if a.buckets == nil {
			a.buckets = make(map[string]bucket)
		}
		a.buckets[said.Name] = bucket{Limit: said.Limit, Remaining: said.Remaining, Reset: said.Reset, At: now}
	}
	if l.OverageStatus != "" {
		a.overageStatus, a.overageReason = l.OverageStatus, l.OverageReason
	}
}

// window finds or makes the window of that name.
func (a *account) window(name string) *window {
	for _, w := range a.windows {
		if w.name == name {
			return w
		}
	}
	w := &window{name: name}
	a.windows = append(a.windows, w)
	switch name {
	case "5h":
		a.fiveHour = w
	case "7d":
		a.sevenDay = w
	}
	return w
}

// benchOf is the bench that keeps the account from serving the family now, the
// one that lasts longest; nil when there is none.
func (a *account) benchOf(family string, now time.Time) (longest *bench) {
	for i := range a.benches {
		b := &a.benches[i]
		if b.Family != wholeAccount && b.Family != family || !now.Before(b.Until) {
			continue
		}
		if longest == nil || b.Until.After(longest.Until) {
			longest = b
		}
	}
	return longest
}

// heal shortens benches that were set in what is now the future: the clock went
// back, and a length that was guessed or counted from then must not grow by it.
func (a *account) heal(now time.Time) {
	for i := range a.benches {
		if b := &a.benches[i]; b.guessed() && now.Before(b.Since) {
			b.Since, b.Until = now, now.Add(b.Until.Sub(b.Since))
		}
	}
}

func (a *account) setBench(b bench) {
	for i := range a.benches {
		if a.benches[i].Family != b.Family {
			continue
		}
		if old := &a.benches[i]; old.Until.After(b.Until) && old.Source == "reset" {
			// What upstream stated stands against a later, shorter guess.
			return
		}
		a.benches[i] = b
		a.doubt(&b)
		return
	}
	a.benches = append(a.benches, b)
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
func (a *account) clear(family string, begun, now time.Time) {
	a.benches = slices.DeleteFunc(a.benches, func(b bench) bool {
		proved := (b.Family == wholeAccount || b.Family == family) && begun.After(b.Since)
		return proved || !now.Before(b.Until)
	})
	// A request that was sent before the trouble does not show that it is over. If
	// the clock went back since, that can no longer be told.
	if begun.After(a.suspectAt) || a.suspectAt.After(now) {
		a.suspect, a.strikes = false, 0
	}
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
