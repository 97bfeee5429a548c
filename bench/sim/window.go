package main

import "time"

// window is a usage window as upstream keeps it: it starts at the first use, ends
// a fixed time later, and what was not used by then is lost.
type window struct {
	name     string
	length   time.Duration
	capacity float64
	used     float64
	reset    time.Duration // 0 when it is not running
}

// roll ends the window when its time has come.
func (w *window) roll(now time.Duration) {
	if w.reset > 0 && now >= w.reset {
		w.used, w.reset = 0, 0
	}
}

func (w *window) spent() bool { return w.used >= w.capacity }

func (w *window) use(cost float64, now time.Duration) {
	if w.reset == 0 {
		w.reset = now + w.length
	}
	w.used += cost
}
