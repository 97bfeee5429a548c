package pool

import (
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// account is the state of one account. It is guarded by the pool's mutex and
// holds no configuration.
type account struct {
	key, name string

	windows map[string]*window // by window name: 5h, 7d, 7d_opus
	buckets map[string]bucket  // classic limits of an API key, by name
	benches map[string]bench   // by model family, wholeAccount for all
	// suspect is set by a trouble whose end is a guess: until an answer shows
	// that the account serves again, one request at a time tries it.
	suspect  bool
	strikes  int // troubles in a row without a served request
	inFlight int
	lastUsed time.Time
	turn     uint64 // the pool's pick that this account last got

	overageStatus, overageReason string

	totals Totals
	local  localWindow
}

// wholeAccount is the key of a bench that is not limited to a model family.
const wholeAccount = ""

// window is what is known of a usage window, each field with the time it was
// told: answers may arrive in another order than they were made, and an answer
// without a field does not unmake it.
type window struct {
	Utilization   float64   `json:"utilization"`
	UtilizationAt time.Time `json:"utilization_at,omitzero"`
	Status        string    `json:"status,omitempty"`
	StatusAt      time.Time `json:"status_at,omitzero"`
	Reset         time.Time `json:"reset,omitzero"`
	ResetAt       time.Time `json:"reset_at,omitzero"`
}

// used is the utilization now: nothing once the window has started anew.
func (w *window) used(now time.Time) float64 {
	if w == nil || !w.Reset.IsZero() && !now.Before(w.Reset) {
		return 0
	}
	return w.Utilization
}

type bucket struct {
	Limit     int64     `json:"limit"`
	Remaining int64     `json:"remaining"`
	Reset     time.Time `json:"reset,omitzero"`
	At        time.Time `json:"at"`
}

// bench keeps an account, or one model family of it, out of the choice.
type bench struct {
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
	for _, said := range l.Windows {
		if a.windows == nil {
			a.windows = make(map[string]*window)
		}
		w := a.windows[said.Name]
		if w == nil {
			w = &window{}
			a.windows[said.Name] = w
		}
		if said.Utilization >= 0 {
			w.Utilization, w.UtilizationAt = said.Utilization, now
		}
		if said.Status != "" {
			w.Status, w.StatusAt = said.Status, now
		}
		if !said.Reset.IsZero() {
			w.Reset, w.ResetAt = said.Reset, now
		}
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

// benchOf is the bench that keeps the account from serving the family now, the
// one that lasts longest.
func (a *account) benchOf(family string, now time.Time) (b bench, benched bool) {
	for scope, candidate := range a.benches {
		if scope != wholeAccount && scope != family || !now.Before(candidate.Until) {
			continue
		}
		if !benched || candidate.Until.After(b.Until) {
			b, benched = candidate, true
		}
	}
	return b, benched
}

// heal shortens benches that were set in what is now the future: the clock went
// back, and a length that was guessed or counted from then must not grow by it.
func (a *account) heal(now time.Time) {
	for scope, b := range a.benches {
		if b.guessed() && now.Before(b.Since) {
			b.Since, b.Until = now, now.Add(b.Until.Sub(b.Since))
			a.benches[scope] = b
		}
	}
}

func (a *account) setBench(family string, b bench) {
	if a.benches == nil {
		a.benches = make(map[string]bench)
	}
	if old, ok := a.benches[family]; ok && old.Until.After(b.Until) && old.Source == "reset" {
		// What upstream stated stands against a later, shorter guess.
		return
	}
	a.benches[family] = b
	a.suspect = a.suspect || b.guessed()
}

// clear ends benches that a served request, begun after they were set, has
// proved wrong, and forgets those that have run out.
func (a *account) clear(family string, begun, now time.Time) {
	for scope, b := range a.benches {
		proved := (scope == wholeAccount || scope == family) && begun.After(b.Since)
		if proved || !now.Before(b.Until) {
			delete(a.benches, scope)
		}
	}
	a.suspect, a.strikes = false, 0
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
