package pool

import (
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// window is what is known of a usage window, each field with the time it was
// told: answers may arrive in another order than they were made, and an answer
// without a field does not unmake it.
type window struct {
	name          string
	Utilization   float64   `json:"utilization"`
	UtilizationAt time.Time `json:"utilization_at,omitzero"`
	Status        string    `json:"status,omitempty"`
	StatusAt      time.Time `json:"status_at,omitzero"`
	Reset         time.Time `json:"reset,omitzero"`
	ResetAt       time.Time `json:"reset_at,omitzero"`
	Capacity      capacity  `json:"capacity,omitzero"`
	// toldSince is when the request was sent whose answer told the utilization last:
	// what has ended since may not be in it.
	toldSince time.Time
}

func (w *window) learn(said *anthropic.Window, now time.Time) {
	if !said.Reset.IsZero() {
		w.Reset, w.ResetAt = said.Reset, now
	}
	if said.Utilization >= 0 {
		w.Capacity.told(said.Utilization, w.Reset)
		w.Utilization, w.UtilizationAt = said.Utilization, now
	}
	if said.Status != "" {
		w.Status, w.StatusAt = said.Status, now
	}
}

// used is the utilization now: nothing once the window has started anew.
func (w *window) used(now time.Time) float64 {
	if w == nil || !w.Reset.IsZero() && !now.Before(w.Reset) {
		return 0
	}
	return w.Utilization
}

// length is how long a window of that name lasts.
func (w *window) length() time.Duration {
	if strings.HasPrefix(w.name, "5h") {
		return 5 * time.Hour
	}
	return 7 * 24 * time.Hour
}

// pace is the share of the window's time that has passed, negative when it is not
// running.
func (w *window) pace(now time.Time) float64 {
	in := w.Reset.Sub(now)
	if w.Reset.IsZero() || in <= 0 {
		return -1
	}
	return max(0, 1-float64(in)/float64(w.length()))
}

// standing is the window as a policy sees it. A window that nothing is known of,
// or that has ended, is not running: nothing is used and all its time is left.
func (w *window) standing(now time.Time) Window {
	if w == nil {
		return Window{Left: 1}
	}
	if w.Reset.IsZero() {
		return Window{Used: w.Utilization, Left: 1, Capacity: w.Capacity.units()}
	}
	in := w.Reset.Sub(now)
	if in <= 0 {
		return Window{Left: 1, Idle: true, Capacity: w.Capacity.units()}
	}
	return Window{Used: w.Utilization, Left: min(1, float64(in)/float64(w.length())), ResetIn: in, Capacity: w.Capacity.units()}
}

// merge takes over each field that was told later than ours.
func (w *window) merge(o *window) {
	if o.UtilizationAt.After(w.UtilizationAt) && sane(o.Utilization, mostUtilization) {
		w.Utilization, w.UtilizationAt = o.Utilization, o.UtilizationAt
	}
	if o.StatusAt.After(w.StatusAt) {
		w.Status, w.StatusAt = o.Status, o.StatusAt
	}
	if o.ResetAt.After(w.ResetAt) {
		w.Reset, w.ResetAt = o.Reset, o.ResetAt
	}
	// What is learned is not exchanged but for a start: what others spend is counted
	// here, see spentElsewhere.
	if w.Capacity == (capacity{}) && o.Capacity.sane() {
		w.Capacity = o.Capacity
	}
}

// bucket is a classic limit of an API key. It fills up all the time and is full
// at Reset.
type bucket struct {
	Limit     int64     `json:"limit"`
	Remaining int64     `json:"remaining"`
	Reset     time.Time `json:"reset,omitzero"`
	At        time.Time `json:"at"`
}

// used is the share of the bucket that is not there now.
func (b bucket) used(now time.Time) float64 {
	if b.Limit <= 0 || b.Remaining < 0 {
		return 0
	}
	used := 1 - min(1, float64(b.Remaining)/float64(b.Limit))
	switch {
	case b.Reset.IsZero():
		// Buckets of a minute: what was told longer ago says nothing.
		if now.Sub(b.At) >= time.Minute {
			return 0
		}
		return used
	case !now.Before(b.Reset):
		return 0
	}
	if whole := b.Reset.Sub(b.At); whole > 0 && now.After(b.At) {
		used *= float64(b.Reset.Sub(now)) / float64(whole)
	}
	return used
}
