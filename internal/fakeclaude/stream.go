package fakeclaude

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// sink is where an answer's body goes: plain or compressed, flushed or counted.
type sink struct {
	out        io.Writer
	compressor *gzip.Writer
	flusher    *http.ResponseController
	eol        string
}

// send writes one event and flushes it, as the API does.
func (k *sink) send(e event) error {
	var b bytes.Buffer
	if e.name != "" {
		b.WriteString("event: " + e.name + k.eol)
	}
	b.WriteString("data: ")
	b.Write(e.data)
	b.WriteString(k.eol + k.eol)
	return k.raw(b.Bytes())
}

func (k *sink) raw(p []byte) error {
	if _, err := k.out.Write(p); err != nil {
		return err
	}
	if k.compressor != nil {
		if err := k.compressor.Flush(); err != nil {
			return err
		}
	}
	if k.flusher != nil {
		return k.flusher.Flush()
	}
	return nil
}

func (k *sink) close() {
	if k.compressor != nil {
		_ = k.compressor.Close()
	}
}

// acceptsGzip follows what the API does since it compresses streams.
func acceptsGzip(h http.Header) bool {
	for part := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) == "gzip" {
			q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
			return err != nil || q > 0
		}
	}
	return false
}

// body prepares a body of the given content type and sends the head. A positive
// length is announced as Content-Length.
func (ex *exchange) body(contentType string, sh *shape, length int) *sink {
	h := ex.w.Header()
	h.Set("Content-Type", contentType)
	k := &sink{out: ex.w, flusher: http.NewResponseController(ex.w), eol: "\n"}
	if sh.crlf {
		k.eol = "\r\n"
	}
	if sh.gzip != gzipAsAsked || length == 0 && acceptsGzip(ex.r.Header) {
		k.compressor = gzip.NewWriter(ex.w)
		k.out = k.compressor
		if sh.gzip != gzipUnlabelled {
			h.Set("Content-Encoding", "gzip")
		}
	}
	if sh.hints {
		h.Set("Link", "</v1/models>; rel=preload; as=fetch")
		ex.w.WriteHeader(http.StatusEarlyHints)
		h.Del("Link")
	}
	if length > 0 {
		h.Set("Content-Length", strconv.Itoa(length))
		k.flusher = nil
	}
	ex.open(http.StatusOK)
	return k
}

const typeSSE = "text/event-stream; charset=utf-8"

// stream delivers the reply as events, in the shape that a fault gives it.
func (ex *exchange) stream(r *reply) {
	sh := ex.shape()
	events := r.events()
	if sh.edit != nil {
		events = sh.edit(r, events)
	}
	ex.w.Header().Set("Cache-Control", "no-cache")
	if sh.shortBy > 0 {
		ex.short(r, events, sh)
		return
	}
	k := ex.body(typeSSE, sh, 0)
	if k.flusher.Flush() != nil || !ex.lead(k, sh) {
		return
	}
	meter := meter{ex: ex, reply: r}
	for _, e := range events[:sh.cut.of(events)] {
		if !ex.s.pause(ex.r.Context(), ex.s.opts.Pace) {
			ex.severIfThere()
			return
		}
		if k.send(e) != nil {
			return
		}
		meter.emitted(e)
	}
	ex.finish(k, sh)
}

// meter charges output as it leaves, so that a cancelled stream costs what it
// delivered.
type meter struct {
	ex       *exchange
	reply    *reply
	out      int64
	charged  int64
	searched bool
}

func (m *meter) emitted(e event) {
	var u Usage
	if e.name == "message_delta" && !m.searched {
		m.searched = true
		u = m.reply.searchUsage()
	}
	if e.name == "content_block_delta" {
		m.out += e.tokens
	}
	if due := max(1, m.out); due > m.charged {
		u.Output = due - m.charged
		m.charged = due
	}
	if u != (Usage{}) {
		m.ex.charge(u)
	}
}

// lead spends the time before the first event; false means that nobody is left
// to talk to.
func (ex *exchange) lead(k *sink, sh *shape) bool {
	if sh.lead == leadNone {
		return true
	}
	until := time.Now().Add(ex.fault.Delay)
	for {
		left := time.Until(until)
		if left <= 0 {
			return true
		}
		step := left
		if sh.lead != leadSilence {
			step = min(left, ex.fault.Every)
			if ex.chatter(k, sh.lead) != nil {
				return false
			}
		}
		if !ex.s.pause(ex.r.Context(), step) {
			ex.severIfThere()
			return false
		}
	}
}

func (ex *exchange) chatter(k *sink, lead leadKind) error {
	if lead == leadComments {
		return k.raw([]byte(": keep-alive" + k.eol + k.eol))
	}
	return k.send(pingEvent())
}

// finish ends the answer in the way of the fault.
func (ex *exchange) finish(k *sink, sh *shape) {
	switch sh.ending {
	case endClean:
		k.close()
	case endReset:
		ex.sever(true)
	case endClose:
		ex.sever(false)
	case endStall:
		ex.hang()
		ex.severIfThere()
	case endError:
		if k.send(errorEvent(sh.errorKind, sh.errorText)) == nil {
			k.close()
		}
	case endPings:
		until := time.Now().Add(ex.s.opts.HangLimit)
		for time.Now().Before(until) {
			if ex.chatter(k, leadPings) != nil || !ex.s.pause(ex.r.Context(), ex.fault.Every) {
				break
			}
		}
		ex.severIfThere()
	}
}

// severIfThere breaks the answer off when it was not the client who left: a cut
// answer must not look complete.
func (ex *exchange) severIfThere() {
	if ex.r.Context().Err() == nil {
		ex.sever(false)
	}
}

// unary delivers the reply as one JSON document.
func (ex *exchange) unary(r *reply) {
	sh := ex.shape()
	if sh.lead != leadNone && !ex.s.pause(ex.r.Context(), ex.fault.Delay) {
		ex.severIfThere()
		return
	}
	body := r.whole()
	ex.charge(Usage{Output: r.output, WebSearches: r.searchUsage().WebSearches, Input: r.searchUsage().Input})
	length := len(body)
	if sh.cut != cutNothing || sh.gzip != gzipAsAsked || acceptsGzip(ex.r.Header) {
		length = 0
	} else {
		length += sh.shortBy
	}
	k := ex.body("application/json", sh, length)
	if sh.cut != cutNothing {
		body = body[:len(body)/2]
	}
	if k.raw(body) != nil {
		return
	}
	if sh.ending == endError || sh.ending == endPings {
		// A JSON document cannot say that it failed; it just breaks off.
		ex.sever(false)
		return
	}
	ex.finish(k, sh)
}

// short sends a whole event stream under a Content-Length that promises more.
func (ex *exchange) short(r *reply, events []event, sh *shape) {
	var all bytes.Buffer
	buffered := &sink{out: &all, eol: "\n"}
	meter := meter{ex: ex, reply: r}
	for _, e := range events {
		_ = buffered.send(e)
		meter.emitted(e)
	}
	_ = ex.body(typeSSE, sh, all.Len()+sh.shortBy).raw(all.Bytes())
}
