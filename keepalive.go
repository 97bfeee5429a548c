package shunt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// keepAliveEvery is how long a request waits in line before its stream is opened
// with a ping, and how often another one follows.
const keepAliveEvery = 15 * time.Second

// pingEvent is a ping as upstream writes it.
const pingEvent = "event: ping\ndata: {\"type\": \"ping\"}\n\n"

// check refuses a keepalive that no request would wait long enough to see.
func (h *Hold) check() error {
	timeout := time.Duration(h.Timeout)
	switch {
	case !h.KeepAlive || timeout == 0:
		return nil
	case timeout < 0:
		return errors.New("hold: keepalive is for requests that wait, and hold is off")
	case timeout <= keepAliveEvery:
		return fmt.Errorf("hold: keepalive sends its first ping after %v, and hold ends after %v", keepAliveEvery, timeout)
	}
	return nil
}

// keepsAlive reports whether the client can be shown life while its request waits:
// only an event stream has room for it.
func (x *exchange) keepsAlive() bool {
	return x.h.Hold.KeepAlive && x.facts.Stream && x.endpoint == anthropic.EndpointMessages
}

// keepAlive makes w ping the client, in step with what this exchange has waited
// before. The context ends with the request's, or when a ping cannot be written.
func (x *exchange) keepAlive(w *pool.Waiting) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(x.r.Context())
	every := x.h.pingEvery
	w.Every, w.First = every, every-x.waited
	if x.opened {
		w.First = every - time.Since(x.pinged)
	}
	w.Tick = func() {
		if err := x.ping(); err != nil {
			x.lost = true
			cancel()
		}
	}
	return ctx, cancel
}

// ping shows the client that its request lives. The first one opens the stream,
// after which the answer has no status and no headers any more.
func (x *exchange) ping() error {
	if !x.opened {
		x.opened = true
		h := x.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-cache")
		x.w.WriteHeader(http.StatusOK)
	}
	x.pinged = time.Now()
	return x.writeEvent([]byte(pingEvent))
}

// writeError ends a stream that was opened: to clients an error event is an end.
// envelope is one line of JSON.
func (x *exchange) writeError(envelope []byte) {
	// A client that cannot be told has left.
	_ = x.writeEvent(fmt.Appendf(nil, "event: error\ndata: %s\n\n", envelope))
}

func (x *exchange) writeEvent(event []byte) error {
	if _, err := x.w.Write(event); err != nil {
		return err
	}
	if err := http.NewResponseController(x.w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// fits reports whether an answer can go on in a stream that was opened.
func (a *attempt) fits() bool {
	return a.verdict.Served() && isEventStream(a.resp.Header) && !a.body.opaque
}

// relayInStream tells the client of an answer that does not fit into the stream
// which was opened for it.
func (x *exchange) relayInStream(a *attempt) {
	defer a.close()
	misfit := anthropic.Error{Status: a.status, Message: a.verdict.Reason, RequestID: x.id}
	if a.verdict.Served() {
		misfit.Status, misfit.Message = http.StatusBadGateway, "upstream's answer was not an event stream"
		x.result.verdict, x.result.reason = verdictUpstream, misfit.Message
		if tap := x.newTap(a); tap != nil {
			// It was made and is charged, although nobody gets it.
			_, _ = tap.Write(a.head)
			_, _ = io.Copy(tap, a.body)
			x.settle(a, tap)
		}
	}
	x.result.account = a.account
	x.writeError(envelopeOf(a.head, &misfit))
}

// envelopeOf is upstream's own error in one line, or otherwise when what came is
// no error of the API's.
func envelopeOf(body []byte, otherwise *anthropic.Error) []byte {
	var line bytes.Buffer
	if anthropic.ErrorType(body) != "" && json.Compact(&line, body) == nil {
		return line.Bytes()
	}
	return otherwise.Body()
}
