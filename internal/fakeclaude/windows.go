package fakeclaude

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// window is a quota that starts with its first use and resets at a time that is
// fixed from then on; what is unused by then is lost.
type window struct {
	capacity float64
	length   time.Duration
	used     float64
	// reset is zero while the window is not running. It is a whole second, so
	// that the epoch seconds told to clients are exact.
	reset time.Time
}

func (w *window) roll(now time.Time) {
	if !w.reset.IsZero() && !now.Before(w.reset) {
		w.used, w.reset = 0, time.Time{}
	}
}

func (w *window) charge(now time.Time, cost float64) {
	w.roll(now)
	if w.reset.IsZero() {
		w.reset = ceilToSecond(now.Add(w.length))
	}
	w.used += cost
}

func (w *window) utilization(now time.Time) float64 {
	w.roll(now)
	return w.used / w.capacity
}

func ceilToSecond(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); !whole.Equal(t) {
		return whole.Add(time.Second)
	}
	return t
}

// reading is a window as one answer tells it.
type reading struct {
	suffix, claim string
	utilization   float64
	reset         time.Time
	rejected      bool
}

// modelWindowNames gives header suffix and claim of a family's weekly window.
// Fable's goes by the name "overage included".
func modelWindowNames(family string) (suffix, claim string) {
	if family == "fable" {
		return "7d_oi", "seven_day_overage_included"
	}
	return "7d_" + family, "seven_day_" + family
}

// readings lists the windows that bind a request for that family.
// The caller holds the server's mutex.
func (a *account) readings(now time.Time, family string) []reading {
	read := func(suffix, claim string, w *window) reading {
		u := w.utilization(now)
		return reading{suffix, claim, u, w.reset, u >= 1}
	}
	all := []reading{read("5h", "five_hour", &a.fiveHour), read("7d", "seven_day", &a.week)}
	if w := a.modelWeek[family]; w != nil {
		suffix, claim := modelWindowNames(family)
		all = append(all, read(suffix, claim, w))
	}
	return all
}

// shut says whether a window is spent for that family.
func (a *account) shut(now time.Time, family string) bool {
	_, rejected := representative(a.readings(now, family))
	return rejected
}

// paysExtra says whether extra usage may still be drawn.
func (a *account) paysExtra() bool { return a.extra < a.ExtraUsage }

// representative picks the window that speaks: among the rejected ones the one
// that resets last, otherwise the fullest.
func representative(all []reading) (speaker reading, rejected bool) {
	speaker = all[0]
	for _, r := range all[1:] {
		switch {
		case r.rejected && (!speaker.rejected || r.reset.After(speaker.reset)):
			speaker = r
		case !r.rejected && !speaker.rejected && r.utilization > speaker.utilization:
			speaker = r
		}
	}
	return speaker, speaker.rejected
}

const (
	unifiedPrefix = "Anthropic-Ratelimit-Unified-"
	warnAt        = 0.8
	firstSurpass  = "0.75"
)

func (r reading) status() string {
	switch {
	case r.rejected:
		return "rejected"
	case r.utilization >= warnAt:
		return "allowed_warning"
	}
	return "allowed"
}

// tellUnified writes the unified headers. The caller holds the server's mutex.
func (a *account) tellUnified(h http.Header, now time.Time, all []reading) {
	set := func(name, value string) { h.Set(unifiedPrefix+name, value) }
	speaker, rejected := representative(all)
	status := "allowed"
	for _, r := range all {
		if s := r.status(); s != "allowed" && status != "rejected" {
			status = s
		}
		set(r.suffix+"-status", r.status())
		set(r.suffix+"-utilization", fraction(r.utilization))
		if !r.reset.IsZero() {
			set(r.suffix+"-reset", epoch(r.reset))
		}
		switch {
		case r.utilization >= 1:
			set(r.suffix+"-surpassed-threshold", "1.0")
		case r.utilization >= warnAt:
			set(r.suffix+"-surpassed-threshold", firstSurpass)
		}
	}
	claim, reset := speaker.claim, speaker.reset
	if a.ExtraUsage > 0 {
		month := nextMonth(now)
		set("overage-status", "allowed")
		set("overage-reset", epoch(month))
		set("overage-utilization", fraction(a.extra/a.ExtraUsage))
		if rejected && a.paysExtra() {
			status, claim, reset = "allowed", "overage", month
			set("overage-in-use", "true")
		}
	}
	if !a.paysExtra() {
		set("overage-status", "rejected")
		set("overage-disabled-reason", a.whyNoExtra())
	}
	set("status", status)
	set("representative-claim", claim)
	if !reset.IsZero() {
		set("reset", epoch(reset))
	}
	set("fallback-percentage", "0.5")
	if len(all) > 2 && status != "allowed" {
		set("fallback", "available")
	}
}

func (a *account) whyNoExtra() string {
	if a.ExtraUsage > 0 {
		return "out_of_credits"
	}
	return "org_level_disabled"
}

// fraction rounds to hundredths and always shows a decimal point.
func fraction(u float64) string {
	u = math.Round(u*100) / 100
	if u == math.Trunc(u) {
		return strconv.FormatFloat(u, 'f', 1, 64)
	}
	return strconv.FormatFloat(u, 'f', -1, 64)
}

func epoch(t time.Time) string { return strconv.FormatInt(ceilToSecond(t).Unix(), 10) }

func nextMonth(now time.Time) time.Time {
	now = now.UTC()
	return time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
}

// Spend fills a window ("5h", "7d" or "7d_<family>") of a subscription up to a
// utilization, as if it had been used elsewhere; the window starts if it was
// not running. It returns when the window resets.
func (s *Server) Spend(accountName, windowName string, utilization float64) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.must(accountName).windowNamed(windowName)
	if w == nil {
		panic("fakeclaude: account " + accountName + " has no window " + windowName)
	}
	w.charge(s.opts.Clock(), 0)
	w.used = utilization * w.capacity
	return w.reset
}

func (a *account) windowNamed(name string) *window {
	if !a.subscription() {
		return nil
	}
	switch name {
	case "5h":
		return &a.fiveHour
	case "7d":
		return &a.week
	}
	for family, w := range a.modelWeek {
		if suffix, _ := modelWindowNames(family); suffix == name {
			return w
		}
	}
	return nil
}
