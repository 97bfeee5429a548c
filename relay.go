package shunt

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
	"github.com/caddy-shunt/caddy-shunt/sse"
)

// Buffers are lent to relays: a small one to wait with, since thousands of streams wait,
// and a large one, as io.Copy's, while there is much to read.
var (
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}
	largeBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}
)

// maxPeek bounds how much of a stream is kept back until its first event is
// complete.
const maxPeek = 256 << 10

// peek reads a stream up to its first event before anything is committed: if
// that is an error, the answer is a failure like any other. What was read is
// kept in a.head. When the first event is slow, the head is committed, and an
// error then goes to the client as it came.
func (x *exchange) peek(a *attempt, answer *anthropic.Answer) {
	if a.body.opaque {
		return
	}
	first := sse.NewFirst(maxPeek)
	slow := time.NewTimer(time.Duration(x.h.FirstEventTimeout))
	defer slow.Stop()
	for {
		chunk, err := x.readFirst(a, slow)
		a.head = append(a.head, chunk...)
		done, name, data := first.Feed(chunk)
		if err != nil && !done {
			// An error that lacks only its blank line counts all the same. Any other
			// event that was cut is none.
			done, name, data = first.Feed([]byte("\n\n"))
			done = done && name == "error"
		}
		switch {
		case done && name == "error" && !a.committed:
			a.head = append([]byte(nil), data...)
			a.whole = true
			a.status = anthropic.StatusOfType(anthropic.ErrorType(data))
			a.verdict = anthropic.ClassifyEvent(answer, data)
			return
		case done || a.committed:
			return
		case err != nil:
			// Whatever ended it, no event came: as if no answer had.
			a.err, a.verdict = err, anthropic.Unreachable
			a.verdict.Reason = "upstream broke off before its first event"
			_ = a.body.Close()
			a.resp, a.body, a.head = nil, nil, nil
			x.usedUntold(a)
			return
		}
	}
}

// readFirst reads a chunk and meanwhile watches the time: once slow has passed,
// what there is goes to the client.
func (x *exchange) readFirst(a *attempt, slow *time.Timer) ([]byte, error) {
	type result struct {
		n   int
		err error
	}
	buf := make([]byte, 4<<10)
	read := make(chan result, 1)
	begun := time.Now()
	go func() {
		n, err := a.body.Read(buf)
		read <- result{n, err}
	}()
	select {
	case r := <-read:
		x.awaited(begun)
		return buf[:r.n], r.err
	case <-slow.C:
		x.awaited(begun)
	}
	x.commit(a)
	_, _ = x.w.Write(a.head)
	_ = http.NewResponseController(x.w).Flush()
	a.head = nil
	r := <-read
	return buf[:r.n], r.err
}

// commit sends the response head, unless waiting has made it necessary before.
// After it nothing can be tried again.
func (x *exchange) commit(a *attempt) {
	if a.committed {
		return
	}
	a.committed = true
	x.dropBody() // it is not sent again, and the answer may take minutes
	x.result.status, x.result.account, x.result.choice = a.status, a.account, a.lease.Reason
	x.result.firstByte = time.Since(x.started)
	x.result.added = max(0, x.result.firstByte-x.waited-x.away)
	if x.opened {
		return
	}
	h := x.w.Header()
	anthropic.ClientHeader(h, a.resp.Header)
	switch {
	case a.whole:
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(a.head)))
	case a.body != nil && a.body.decoded:
		h.Del("Content-Encoding")
		h.Del("Content-Length")
	case isEventStream(h):
		// With a length, a stream that lacks its end would look whole.
		h.Del("Content-Length")
	}
	x.describe()
	x.w.WriteHeader(a.status)
}

// relay gives an answer to the client, and ends it truly: an answer that broke
// off is aborted, since some clients take a clean end for success.
func (x *exchange) relay(a *attempt) error {
	defer x.endTransfer(a)
	x.result.verdict, x.result.reason, x.result.choice = a.verdict.Name, a.lease.Reason, a.lease.Reason
	if !a.verdict.Served() {
		x.result.failure = a.verdict.Reason
	}
	if !a.verdict.Served() && !a.relayable() {
		x.result.account = a.account
		x.answer(a.ownError(), a.verdict.Name)
		a.close()
		return nil
	}
	if x.opened && !a.fits() {
		x.relayInStream(a)
		return nil
	}
	tap, ended := x.newTap(a), false
	defer func() {
		if !ended && x.result.verdict == anthropic.Served {
			// Somebody's writer panicked: the client did not get all of it.
			x.result.verdict, x.result.reason = anthropic.CutShort.Name, "the answer could not be written to its end"
		}
		// The lease counts what was used before it is given back.
		x.settle(a, tap)
		a.close()
	}()
	err := x.end(a, tap, x.copy(a, tap))
	ended = true
	return err
}

// trickles reports whether the answer comes bit by bit, and each bit shall be seen at
// once. A JSON document, or what says its length, is written as it fits.
func (a *attempt) trickles() bool {
	header := a.resp.Header
	return isEventStream(header) || a.resp.ContentLength < 0 && !isJSON(header)
}

func (x *exchange) newTap(a *attempt) *sse.Tap {
	switch {
	case !a.verdict.Served() || x.endpoint != anthropic.EndpointMessages && !x.making() || a.body.opaque:
		return nil
	case isEventStream(a.resp.Header):
		return sse.NewStreamTap()
	default:
		return sse.NewJSONTap()
	}
}

// downstreamError marks a failure to write to the client.
type downstreamError struct{ error }

// copy relays what was read ahead and then the rest, chunk by chunk. The tap gets
// each chunk before the client does: it is charged, whoever reads it, and what the client
// may name in its very next request is remembered before it can know of it.
func (x *exchange) copy(a *attempt, tap *sse.Tap) error {
	control := http.NewResponseController(x.w)
	flushes, container := a.trickles(), ""
	write := func(p []byte) error {
		x.commit(a)
		if tap != nil {
			_, _ = tap.Write(p)
			if named := tap.Container(); named != container || x.making() {
				container = named
				x.remember(a, tap)
			}
		}
		_, err := x.w.Write(p)
		if err == nil && flushes {
			if err = control.Flush(); errors.Is(err, http.ErrNotSupported) {
				err = nil
			}
		}
		if err != nil {
			return downstreamError{err}
		}
		return nil
	}
	if len(a.head) > 0 {
		if err := write(a.head); err != nil {
			return err
		}
		a.head = nil
	}
	if a.whole {
		return nil
	}
	from := &smallBuffers
	buffer := from.Get().(*[]byte)
	defer func() { from.Put(buffer) }()
	for {
		n, err := x.read(a, *buffer)
		if n > 0 {
			if err := write((*buffer)[:n]); err != nil {
				return err
			}
		}
		if fits := sizeFor(n); fits != from {
			from.Put(buffer)
			from, buffer = fits, fits.Get().(*[]byte)
		}
		if errors.Is(err, io.EOF) {
			x.commit(a)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// sizeFor tells which buffers the next read should have when the last one gave n bytes.
func sizeFor(n int) *sync.Pool {
	if n >= 4<<10 {
		return &largeBuffers
	}
	return &smallBuffers
}

// read reads on in the answer. Until its head is committed, that is time that the
// client spends waiting for upstream.
func (x *exchange) read(a *attempt, p []byte) (int, error) {
	if !a.committed {
		defer x.awaited(time.Now())
	}
	return a.body.Read(p)
}

// remember takes note of what the answer made that only its account has.
func (x *exchange) remember(a *attempt, tap *sse.Tap) {
	seen := tap.Result()
	if anthropic.ValidID(seen.Container) {
		a.lease.Hold(seen.Container, pool.ContainerLife)
	}
	if x.making() && anthropic.ValidID(seen.ID) {
		a.lease.Hold(seen.ID, pool.ResourceLife)
	}
}

// end decides how the transfer ends: cleanly only when the answer was complete.
func (x *exchange) end(a *attempt, tap *sse.Tap, err error) error {
	var downstream downstreamError
	switch {
	case err == nil && a.incomplete(tap):
		x.failed(a, &anthropic.CutShort)
	case err == nil && tap != nil && tap.Result().Error != nil:
		x.result.verdict, x.result.reason = anthropic.BrokenOff.Name, anthropic.BrokenOff.Reason
		return nil
	case err == nil:
		return nil
	case errors.As(err, &downstream) || x.gone():
		if !a.committed {
			return x.clientGone()
		}
		left := x.parting()
		if x.result.verdict, x.result.reason = left.Name, left.Reason; !x.stopped.Load() {
			return nil
		}
	case errors.Is(err, errStalled):
		x.failed(a, &anthropic.Stalled)
	default:
		x.failed(a, &anthropic.CutShort)
	}
	if !a.committed {
		x.answer(&anthropic.Error{Status: http.StatusBadGateway, Message: "upstream broke off before it answered"}, x.result.verdict)
		return nil
	}
	// The server closes the connection (HTTP/1.1) or resets the stream (HTTP/2 and
	// 3): the client sees a transfer that failed, behind all that came.
	_ = http.NewResponseController(x.w).Flush()
	panic(http.ErrAbortHandler)
}

// incomplete reports whether an answer that ended cleanly lacks its end: a
// stream its last event, a JSON document its last brace.
func (a *attempt) incomplete(tap *sse.Tap) bool {
	if tap == nil {
		return false
	}
	seen := tap.Result()
	if seen.Truncated && !isEventStream(a.resp.Header) {
		return false // longer than the tap holds: nobody knows
	}
	return !seen.Complete && seen.Error == nil
}

func (x *exchange) failed(a *attempt, v *anthropic.Verdict) {
	x.result.verdict, x.result.reason = v.Name, v.Reason
	a.lease.Report(v, nil)
	x.h.metrics.attempt(x.h.Pool, a.lease.Member.Name, v.Name)
	x.h.logger.Warn("an answer broke off", logAccount(a.account), logVerdict(v.Name), logRequest(x.id))
}
