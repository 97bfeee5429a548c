package shunt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

const (
	// liveEvery is the shortest time between two pictures of a pool, liveAtLeast the
	// longest: what only time changes is seen then.
	liveEvery   = time.Second
	liveAtLeast = 5 * time.Second
	// maxViewers bounds the streams of one process.
	maxViewers = 200
	// liveWrite bounds a write to a viewer who does not read.
	liveWrite = 10 * time.Second
)

var viewers atomic.Int64

// liveView is one viewer's stream of the dashboard's events: status, which is GET /status
// without the recent requests, and requests, those that are new, oldest first.
type liveView struct {
	h        *Handler
	w        http.ResponseWriter
	r        *http.Request
	deadline func(time.Time) error
	flush    func() error

	changes uint64
	sentAt  time.Time
	seen    map[string]bool // the requests of the last picture, by id
}

// serveLive streams until the client leaves, its key ends, or another configuration takes
// over: the page connects again then.
func (h *Handler) serveLive(w http.ResponseWriter, r *http.Request) error {
	if !takes(w, r, http.MethodGet) {
		return nil
	}
	who, refusal := h.authenticate(r)
	// Not before the end: the key is looked at again and again, and what Caddy knows of the
	// person counts as well as a key.
	defer setPerson(r, who)
	if refusal == nil && viewers.Add(1) > maxViewers {
		viewers.Add(-1)
		refusal = &anthropic.Error{Status: http.StatusServiceUnavailable, Message: fmt.Sprintf("%d dashboards are being watched already", maxViewers), RetryAfter: 30 * time.Second}
	}
	if refusal != nil {
		refusal.Write(w)
		return nil
	}
	defer viewers.Add(-1)
	c := http.NewResponseController(w)
	v := &liveView{h: h, w: w, r: r, deadline: c.SetWriteDeadline, flush: c.Flush}
	// The server's write timeout counts from the request: a stream has one for each write.
	defer func() { _ = c.SetWriteDeadline(time.Time{}) }()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	v.run(who)
	return nil
}

func (v *liveView) run(who person) {
	ticker := time.NewTicker(liveEvery)
	defer ticker.Stop()
	for {
		if err := v.picture(who); err != nil {
			return
		}
		select {
		case <-v.r.Context().Done():
			return
		case <-v.h.app.stopped:
			return
		case <-ticker.C:
		}
		var refusal *anthropic.Error
		if who, refusal = v.h.authenticate(v.r); refusal != nil || caddy.Exiting() {
			return
		}
	}
}

// picture sends how the pool stands, if anything has changed.
func (v *liveView) picture(who person) error {
	changes, now := v.h.live.state.Changes(), time.Now()
	if changes == v.changes && now.Sub(v.sentAt) < liveAtLeast && !v.sentAt.IsZero() {
		return nil
	}
	v.changes, v.sentAt = changes, now
	status := v.h.status(who)
	recent := status.Recent
	status.Recent = []recentRequest{}
	var events bytes.Buffer
	if err := writeEvent(&events, "status", struct {
		*statusView
		NowMS int64  `json:"now_ms"`
		Who   string `json:"who"`
		Admin bool   `json:"admin"`
	}{status, now.UnixMilli(), who.name, who.admin}); err != nil {
		return err
	}
	seen, fresh := make(map[string]bool, len(recent)), []recentRequest{}
	for i := len(recent) - 1; i >= 0; i-- {
		seen[recent[i].ID] = true
		if !v.seen[recent[i].ID] {
			fresh = append(fresh, recent[i])
		}
	}
	v.seen = seen
	if len(fresh) > 0 {
		if err := writeEvent(&events, "requests", fresh); err != nil {
			return err
		}
	}
	_ = v.deadline(now.Add(liveWrite))
	if _, err := v.w.Write(events.Bytes()); err != nil {
		return err
	}
	return v.flush()
}

func writeEvent(b *bytes.Buffer, name string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("marshalling the event %s: %w", name, err)
	}
	fmt.Fprintf(b, "event: %s\ndata: %s\n\n", name, text)
	return nil
}
