package fakeclaude

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"time"
)

// exchange is one request on its way through the fake. It belongs to the
// handler's goroutine; only rec is shared, under the server's mutex.
type exchange struct {
	s   *Server
	w   http.ResponseWriter
	r   *http.Request
	id  string
	seq uint64
	rec *Request

	acct   *account
	prompt prompt
	fault  *Fault
	// missed is a fault whose dice have spared this request already.
	missed *Fault
	// opened says that the head is out.
	opened bool

	unwatch func() bool
}

func (s *Server) newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	ex := &exchange{s: s, w: w, r: r}
	s.mu.Lock()
	s.sequence++
	ex.seq = s.sequence
	ex.id = "req_01" + token(fmt.Sprintf("request/%d/%d", s.opts.Seed, ex.seq), 22)
	ex.rec = &Request{
		Number: ex.seq, ID: ex.id, At: s.opts.Clock(), Method: r.Method, URI: r.RequestURI,
		Host: r.Host, Proto: r.Proto, Header: r.Header.Clone(),
	}
	if ex.rec.URI == "" {
		ex.rec.URI = r.URL.RequestURI()
	}
	s.remember(ex.rec)
	s.announce()
	s.mu.Unlock()
	ex.unwatch = context.AfterFunc(r.Context(), ex.cancelled)
	return ex
}

func (ex *exchange) cancelled() {
	ex.update(func(rec *Request) {
		if !rec.Done && !rec.Cancelled {
			rec.Cancelled, rec.CancelledAt = true, ex.s.opts.Clock()
		}
	})
}

// update changes the record and wakes those who wait for it.
func (ex *exchange) update(change func(*Request)) {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	change(ex.rec)
	ex.s.announce()
}

func (ex *exchange) end() {
	// net/http cancels the context of every finished request: only what
	// happened before the handler was through counts as leaving.
	ex.unwatch()
	if ex.r.Context().Err() != nil {
		ex.cancelled()
	}
	ex.update(func(rec *Request) {
		rec.Done = true
		rec.Trailer = ex.r.Trailer.Clone()
	})
}

// open sends the head with the headers that every answer of the API has.
func (ex *exchange) open(status int) {
	h := ex.w.Header()
	h.Set("Request-Id", ex.id)
	h.Set("Cf-Cache-Status", "DYNAMIC")
	if ex.acct != nil {
		h.Set("Anthropic-Organization-Id", ex.acct.Org)
		if status != http.StatusUnauthorized {
			h.Set("Anthropic-Workspace-Id", ex.acct.Workspace)
		}
	}
	ex.openEdge(status)
}

// openEdge sends a head as the network edge does, which knows no account and no
// request id.
func (ex *exchange) openEdge(status int) {
	h := ex.w.Header()
	h.Set("Server", "cloudflare")
	h.Set("Cf-Ray", token(fmt.Sprintf("ray/%d/%d", ex.s.opts.Seed, ex.seq), 16)+"-FRA")
	if ex.seq%3 == 1 {
		h.Set("Set-Cookie", "__cf_bm="+token(fmt.Sprintf("bm/%d", ex.seq), 24)+"; path=/; HttpOnly; Secure; SameSite=None")
	}
	ex.opened = true
	ex.update(func(rec *Request) { rec.Status = status })
	ex.w.WriteHeader(status)
}

// maxBody is the size at which the edge refuses a request.
const maxBody = 32 << 20

var errTooLarge = errors.New("request too large")

// readBody reads the whole body and records its digest and size.
func (ex *exchange) readBody() ([]byte, error) {
	if ex.r.ContentLength > maxBody {
		return nil, errTooLarge
	}
	digest := sha256.New()
	body, err := readDigested(ex.r.Body, digest, ex.r.ContentLength)
	if err == nil && len(body) > maxBody {
		err = errTooLarge
	}
	ex.update(func(rec *Request) {
		rec.BodyBytes = int64(len(body))
		if err == nil {
			rec.BodySHA256 = hex.EncodeToString(digest.Sum(nil))
		}
		if ex.s.opts.KeepBodies {
			rec.Body = body
		}
	})
	return body, err
}

func readDigested(body io.Reader, digest hash.Hash, hint int64) ([]byte, error) {
	buffer := make([]byte, 0, max(hint, 512)+1)
	limited := io.LimitReader(body, maxBody+1)
	for {
		n, err := limited.Read(buffer[len(buffer):cap(buffer)])
		digest.Write(buffer[len(buffer) : len(buffer)+n])
		buffer = buffer[:len(buffer)+n]
		if errors.Is(err, io.EOF) {
			return buffer, nil
		}
		if err != nil {
			return buffer, err
		}
		if len(buffer) == cap(buffer) {
			buffer = append(buffer, 0)[:len(buffer)]
		}
	}
}

// drain reads and records the body without keeping it, so that net/http starts
// to watch the connection and the client's leaving is noticed.
func (ex *exchange) drain() { _, _ = ex.readBody() }

// hang waits until the client leaves, the server stops or the bound is reached.
func (ex *exchange) hang() { ex.s.pause(ex.r.Context(), ex.s.opts.HangLimit) }

// sever ends the connection without a proper end of the answer: with a TCP
// reset when hard, by closing it otherwise. It does not return on HTTP/2, where
// the stream is reset instead.
func (ex *exchange) sever(hard bool) {
	conn, _, err := http.NewResponseController(ex.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if hard {
		resetOnClose(conn)
	}
	conn.Close()
}

func resetOnClose(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		// The error could only mean that the connection is gone already.
		_ = tcp.SetLinger(0)
	}
}

func ceilSeconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
