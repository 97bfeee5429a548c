package shunt

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
)

var errStalled = errors.New("upstream sent nothing for too long")

// upstreamBody reads the body of an upstream answer as the client shall get it:
// decoded if upstream compressed it although it was asked not to, and with a
// limit on how long it may be silent.
type upstreamBody struct {
	raw     io.Closer
	reader  io.Reader
	decoder io.Closer // nil when nothing is decoded
	// decoded is true when Content-Encoding and Content-Length no longer hold.
	decoded bool
	// opaque is true when the encoding is one that cannot be read here: it goes to
	// the client as it is, and tells nothing.
	opaque bool
}

func newUpstreamBody(resp *http.Response, stall time.Duration, cancel context.CancelFunc) *upstreamBody {
	watched := &stallReader{body: resp.Body, limit: stall, cancel: cancel}
	watched.timer = time.AfterFunc(stall, watched.expire)
	watched.timer.Stop()
	b := &upstreamBody{raw: resp.Body, reader: watched}
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		// Some edges compress and do not say so. An event stream and JSON never begin
		// with gzip's magic number; a file that somebody stored may.
		if isEventStream(resp.Header) || strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
			b.reader = &sniffReader{source: watched, owner: b}
		}
	case "gzip":
		b.reader, b.decoded = &gzipReader{source: watched}, true
	case "zstd":
		if d, err := zstd.NewReader(watched, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(16<<20)); err == nil {
			b.reader, b.decoder, b.decoded = d, d.IOReadCloser(), true
		}
	default:
		b.opaque = true
	}
	return b
}

func (b *upstreamBody) Read(p []byte) (int, error) { return b.reader.Read(p) }

func (b *upstreamBody) Close() error {
	if b.decoder != nil {
		_ = b.decoder.Close()
	}
	return b.raw.Close()
}

// stallReader gives up when a single read takes longer than limit.
type stallReader struct {
	body    io.Reader
	limit   time.Duration
	timer   *time.Timer
	cancel  context.CancelFunc
	stalled atomic.Bool
}

func (s *stallReader) expire() {
	s.stalled.Store(true)
	s.cancel()
}

func (s *stallReader) Read(p []byte) (int, error) {
	s.timer.Reset(s.limit)
	n, err := s.body.Read(p)
	s.timer.Stop()
	if err != nil && err != io.EOF && s.stalled.Load() {
		err = errStalled
	}
	return n, err
}

// gzipReader opens its source at the first read, so that a stream's head is not
// held up by a body that has not begun.
type gzipReader struct {
	source io.Reader
	z      *gzip.Reader
}

func (g *gzipReader) Read(p []byte) (int, error) {
	if g.z == nil {
		z, err := gzip.NewReader(g.source)
		if err != nil {
			return 0, fmt.Errorf("decoding upstream's gzip: %w", err)
		}
		g.z = z
	}
	return g.z.Read(p)
}

// sniffReader decodes gzip that is not labelled, and passes everything else on
// untouched.
type sniffReader struct {
	source io.Reader
	owner  *upstreamBody
	inner  io.Reader
}

func (s *sniffReader) Read(p []byte) (int, error) {
	if s.inner != nil {
		return s.inner.Read(p)
	}
	n, err := s.source.Read(p)
	if n == 0 {
		return n, err
	}
	if p[0] != 0x1f || n > 1 && p[1] != 0x8b {
		s.inner = s.source
		return n, err
	}
	start := append([]byte(nil), p[:n]...)
	s.inner = &gzipReader{source: bufio.NewReader(io.MultiReader(strings.NewReader(string(start)), errReader{s.source, err}))}
	s.owner.decoded = true
	return s.inner.Read(p)
}

// errReader gives an error that came with the first bytes before it reads on.
type errReader struct {
	source io.Reader
	err    error
}

func (e errReader) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	return e.source.Read(p)
}
