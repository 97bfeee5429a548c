// Package history keeps how a pool was used lately and how full its accounts were, for
// charts: the last hour by the minute, the last day by ten minutes, the last week by the
// hour. It takes time from an injected clock and does no I/O.
package history

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// Span is one of the times that are kept, and in what steps.
type Span struct {
	Name  string
	Step  time.Duration
	Steps int
}

// Spans are the times that are kept. Steps begin at whole multiples of their length, so
// that those of several processes can be added up.
var Spans = []Span{
	{"hour", time.Minute, 60},
	{"day", 10 * time.Minute, 144},
	{"week", time.Hour, 168},
}

// SpanNamed finds a span by name.
func SpanNamed(name string) (Span, bool) {
	i := slices.IndexFunc(Spans, func(s Span) bool { return s.Name == name })
	if i < 0 {
		return Span{}, false
	}
	return Spans[i], true
}

// Counts are what came to pass in a step.
type Counts struct {
	Requests int64 `json:"requests,omitempty"`
	// Failed counts requests that were not served, refused ones too. Retries counts what
	// upstream was asked beyond once a request.
	Failed  int64           `json:"failed,omitempty"`
	Retries int64           `json:"retries,omitempty"`
	Usage   anthropic.Usage `json:"usage,omitzero"`
	Cost    anthropic.Money `json:"cost,omitempty"`
	// Waiting is the longest that the line was when somebody looked.
	Waiting int `json:"waiting,omitempty"`
}

func (c *Counts) add(o *Counts) {
	c.Requests += o.Requests
	c.Failed += o.Failed
	c.Retries += o.Retries
	c.Usage.Add(o.Usage)
	c.Cost += o.Cost
	c.Waiting = max(c.Waiting, o.Waiting)
}

// Level is how full an account's windows were, as shares; negative when nobody knows.
type Level struct{ FiveHour, SevenDay float64 }

// Unknown is the level of an account of which nothing is known.
var Unknown = Level{-1, -1}

// permille is a Level as it is kept: thousandths, -1 for unknown.
type permille [2]int16

func (l Level) permille() (p permille) {
	for i, share := range [...]float64{l.FiveHour, l.SevenDay} {
		p[i] = -1
		if share >= 0 {
			p[i] = int16(min(share, 30)*1000 + 0.5)
		}
	}
	return p
}

func (p permille) level() Level {
	l := Unknown
	if p[0] >= 0 {
		l.FiveHour = float64(p[0]) / 1000
	}
	if p[1] >= 0 {
		l.SevenDay = float64(p[1]) / 1000
	}
	return l
}

// point is one step.
type point struct {
	// Step is the number of the step since the epoch.
	Step   int64               `json:"step"`
	Counts Counts              `json:"counts,omitzero"`
	Levels map[string]permille `json:"levels,omitempty"` // by account
}

// record is what is stored of a process, in the order of Spans.
type record struct {
	Version int       `json:"version"`
	Spans   [][]point `json:"spans"` // oldest first
}

const version = 1

// maxAccounts bounds of how many accounts levels are kept.
const maxAccounts = 1000

// History is what one process has seen. Its methods are safe for concurrent use.
type History struct {
	clock func() time.Time

	mu      sync.Mutex // guards all below
	spans   [][]point
	changes uint64
}

// New makes an empty history.
func New(clock func() time.Time) *History {
	return &History{clock: clock, spans: make([][]point, len(Spans))}
}

// now is the running step of a span, made if it has just begun. mu must be held.
func (h *History) now(i int, t time.Time) *point {
	step := t.UnixNano() / int64(Spans[i].Step)
	points := h.spans[i]
	n := len(points)
	switch {
	case n > 0 && points[n-1].Step == step:
		return &points[n-1]
	case n > 0 && points[n-1].Step > step:
		// The clock went back: what is ahead of it would stand in the way of all that comes.
		points = slices.DeleteFunc(points, func(p point) bool { return p.Step > step })
		h.spans[i] = points
		return h.now(i, t)
	}
	gone := 0
	for gone < n && points[gone].Step <= step-int64(Spans[i].Steps) {
		gone++
	}
	h.spans[i] = append(points[gone:], point{Step: step})
	return &h.spans[i][len(h.spans[i])-1]
}

// Count adds what a request came to.
func (h *History) Count(c *Counts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.clock()
	for i := range Spans {
		h.now(i, t).Counts.add(c)
	}
	h.changes++
}

// Look takes note of how long the line is and how full the accounts are: of each step the
// last look counts, and the longest line.
func (h *History) Look(waiting int, levels map[string]Level) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.clock()
	for i := range Spans {
		p := h.now(i, t)
		p.Counts.Waiting = max(p.Counts.Waiting, waiting)
		if p.Levels == nil {
			p.Levels = make(map[string]permille, len(levels))
		}
		for name, l := range levels {
			if l == Unknown {
				continue
			}
			if _, known := p.Levels[name]; known || len(p.Levels) < maxAccounts {
				p.Levels[name] = l.permille()
			}
		}
	}
	h.changes++
}

// Record is the history as JSON, with the count of changes that it contains.
func (h *History) Record() (data []byte, changes uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	data, err = json.Marshal(&record{version, h.spans})
	if err != nil {
		return nil, 0, fmt.Errorf("marshalling the history: %w", err)
	}
	return data, h.changes, nil
}

// Changes grows with everything that Record would show.
func (h *History) Changes() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changes
}
