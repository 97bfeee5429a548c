package chaos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// judge is an http.RoundTripper that compares each answer with what upstream sent.
type judge struct {
	base   http.RoundTripper
	person string
	key    string
	w      *world
}

// hearing is one exchange under judgement.
type hearing struct {
	j      *judge
	nonce  string
	digest [32]byte
	stream bool
	from   time.Time
	ctx    context.Context

	resp *http.Response
	got  []byte
	body io.ReadCloser
	over bool
}

var errAsked = errors.New("the judge could not read the request")

func (j *judge) RoundTrip(r *http.Request) (*http.Response, error) {
	h := &hearing{j: j, from: time.Now(), ctx: r.Context()}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, errors.Join(errAsked, err)
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	h.digest = sha256.Sum256(data)
	h.stream = bytes.Contains(data[max(0, len(data)-200):], []byte(`"stream":true`)) || bytes.Contains(data[:min(len(data), 200)], []byte(`"stream":true`))
	if m := nonceIn.FindSubmatch(data[:min(len(data), 512)]); m != nil {
		h.nonce = string(m[1])
	}
	j.w.truth.countSent(j.person)
	resp, err := j.base.RoundTrip(r)
	if err != nil {
		h.broken(err)
		return nil, err
	}
	h.resp, h.body = resp, resp.Body
	resp.Body = h
	return resp, nil
}

func (tr *truth) countSent(person string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.sent[person]++
}

// excused reports whether Caddy's own end or change of listeners explains that a
// connection broke before there was an answer.
func (w *world) excused(err error, from, to time.Time) bool {
	if w.truth.killed(from, to) {
		return true
	}
	dropped := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, net.ErrClosed) || // the client's transport saw the end while it wrote
		strings.Contains(err.Error(), "server closed idle connection") || strings.Contains(err.Error(), "connection reset")
	return dropped && w.truth.reloaded(from, to)
}

// broken judges an exchange without an answer.
func (h *hearing) broken(err error) {
	now := time.Now()
	tr := h.j.w.truth
	switch {
	case h.ctx.Err() != nil:
		tr.count("left by the client")
	case h.j.w.excused(err, h.from, now):
		tr.count("cut by Caddy's end or reload, sent again")
	default:
		tr.lost(h.from, now, "%s: no answer: %v", h.nonce, err)
	}
}

func (h *hearing) Read(p []byte) (int, error) {
	n, err := h.body.Read(p)
	h.got = append(h.got, p[:n]...)
	if err != nil {
		h.end(err)
	}
	return n, err
}

func (h *hearing) Close() error {
	if !h.over && (h.resp.StatusCode != http.StatusOK || h.complete()) {
		// A client need not read an event stream up to the end of the transfer, nor an
		// error after which it tries again.
		_, _ = io.Copy(io.Discard, h)
	}
	h.end(context.Canceled)
	return h.body.Close()
}

// complete reports whether what came is a whole answer, by its own words.
func (h *hearing) complete() bool {
	if h.stream {
		tail := bytes.TrimRight(h.got, "\r\n")
		return bytes.HasSuffix(tail, []byte(`"message_stop"}`)) || bytes.HasSuffix(tail, []byte(`"message_stop" }`))
	}
	return json.Valid(h.got)
}

func (h *hearing) end(err error) {
	if h.over {
		return
	}
	h.over = true
	h.leaks()
	if h.resp.StatusCode != http.StatusOK {
		h.refused(err)
		return
	}
	h.answered(err)
}

// answered judges a 200 by what upstream sent under its request id.
func (h *hearing) answered(err error) {
	now, w := time.Now(), h.j.w
	tr := w.truth
	id, account := h.resp.Header.Get("Request-Id"), h.resp.Header.Get("X-Shunt-Account")
	a := w.recorder.take(id)
	switch {
	case a == nil:
		tr.wrong(h.from, now, "%s: upstream never sent an answer %q, or it came twice", h.nonce, id)
		return
	case a.nonce != h.nonce || a.digest != h.digest:
		tr.wrong(h.from, now, "%s: got the answer to request %s", h.nonce, a.nonce)
		return
	case account != w.nameOf(a.account):
		tr.wrong(h.from, now, "%s: said to be of account %s, was of %s", h.nonce, account, w.nameOf(a.account))
		return
	}
	if bytes.Contains(h.got, []byte(`"type":"message_start"`)) {
		tr.mu.Lock()
		tr.begun[id] = true
		tr.mu.Unlock()
	}
	left := h.ctx.Err() != nil || errors.Is(err, context.Canceled)
	ended := errors.Is(err, io.EOF)
	switch {
	case ended && bytes.Equal(h.got, a.sent) && h.complete():
		tr.mu.Lock()
		tr.served[id] = h.j.person
		tr.counts["served"]++
		tr.counts["served by "+account]++
		tr.mu.Unlock()
	case !bytes.HasPrefix(a.sent, h.got):
		tr.wrong(h.from, now, "%s: other bytes than account %s sent: %d of %d, from %q", h.nonce, account, len(h.got), len(a.sent), differ(h.got, a.sent))
	case left:
		tr.count("left by the client")
	case w.truth.killed(h.from, now):
		tr.count("cut by Caddy's end or reload, sent again")
	case !tr.accountSick(account, a.at, now):
		tr.lost(h.from, now, "%s: cut after %d of %d bytes from account %s, which was well: %v", h.nonce, len(h.got), len(a.sent), account, err)
	case ended && !bytes.Contains(h.got, []byte("event: error")):
		tr.wrong(h.from, now, "%s: ends well, but is not complete: %d of %d bytes from account %s", h.nonce, len(h.got), len(a.sent), account)
	default:
		tr.count("visibly cut with its account")
	}
}

func differ(got, want []byte) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	return string(got[i:min(len(got), i+120)])
}

// honest are the codes that docs/failures.md names for when no account can serve, with
// those that upstream answers itself.
var honest = map[int]bool{429: true, 500: true, 502: true, 503: true, 504: true, 520: true, 529: true}

// refused judges an error.
func (h *hearing) refused(err error) {
	now, tr := time.Now(), h.j.w.truth
	if h.ctx.Err() != nil && !errors.Is(err, io.EOF) {
		tr.count("left by the client")
		return
	}
	if !tr.accountSick(steady, h.from, now) {
		tr.lost(h.from, now, "%s: %d %s, while an account was well", h.nonce, h.resp.StatusCode, h.got[:min(len(h.got), 300)])
		return
	}
	var envelope struct {
		Type  string
		Error struct{ Type, Message string }
	}
	page := strings.HasPrefix(h.resp.Header.Get("Content-Type"), "text/html")
	switch {
	case !honest[h.resp.StatusCode]:
		tr.wrong(h.from, now, "%s: status %d %s", h.nonce, h.resp.StatusCode, h.got[:min(len(h.got), 300)])
	case page:
		tr.count("honest errors")
	case json.Unmarshal(h.got, &envelope) != nil || envelope.Type != "error" || envelope.Error.Type == "" || envelope.Error.Message == "":
		tr.wrong(h.from, now, "%s: an error %d without envelope: %s", h.nonce, h.resp.StatusCode, h.got[:min(len(h.got), 300)])
	case h.resp.StatusCode == 429 && h.resp.Header.Get("Retry-After") == "" && h.resp.Header.Get("Retry-After-Ms") == "":
		tr.wrong(h.from, now, "%s: a 429 without retry-after: %s", h.nonce, h.got)
	default:
		tr.count("honest errors")
	}
}

// leaks looks for keys in what a client got.
func (h *hearing) leaks() {
	var text bytes.Buffer
	_ = h.resp.Header.Write(&text)
	text.Write(h.got)
	if name := h.j.w.secretIn(text.Bytes()); name != "" {
		h.j.w.truth.wrong(h.from, time.Now(), "%s: the answer holds the secret of %s", h.nonce, name)
	}
}
