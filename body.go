package shunt

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/andybalholm/brotli"
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

	stall stallReader
	sniff sniffReader
}

func newUpstreamBody(resp *http.Response, stall time.Duration, dog *watchdog) *upstreamBody {
	b := &upstreamBody{raw: resp.Body, stall: stallReader{body: resp.Body, limit: stall, dog: dog}}
	watched := &b.stall
	b.reader = watched
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		// Some edges compress and do not say so. An event stream and JSON never begin
		// with gzip's magic number; a file that somebody stored may.
		if isEventStream(resp.Header) || isJSON(resp.Header) {
			b.sniff = sniffReader{source: watched, owner: b}
			b.reader = &b.sniff
		}
	case "gzip", "x-gzip":
		b.decode(watched, openGzip)
	case "zstd":
		b.decode(watched, openZstd)
	case "br":
		b.decode(watched, openBrotli)
	case "deflate":
		b.decode(watched, openDeflate)
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

// watchdog cancels an upstream request that is silent for too long. One watches over
// the wait for the head and then over each read of the body.
type watchdog struct {
	timer  *time.Timer
	cancel context.CancelFunc
	barked atomic.Bool
}

// watchFor returns a watchdog that waits for limit, and then for as long as its timer is
// set to.
func watchFor(limit time.Duration, cancel context.CancelFunc) *watchdog {
	d := &watchdog{cancel: cancel}
	d.timer = time.AfterFunc(limit, d.bark)
	return d
}

func (d *watchdog) bark() {
	d.barked.Store(true)
	d.cancel()
}

// stallReader gives up when a single read takes longer than limit.
type stallReader struct {
	body  io.Reader
	limit time.Duration
	dog   *watchdog
}

func (s *stallReader) Read(p []byte) (int, error) {
	s.dog.timer.Reset(s.limit)
	n, err := s.body.Read(p)
	s.dog.timer.Stop()
	if err != nil && err != io.EOF && s.dog.barked.Load() {
		err = errStalled
	}
	return n, err
}

// opener makes a decoder of an encoded source. It may read the source's beginning.
type opener func(io.Reader) (io.Reader, error)

func openGzip(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }

func openZstd(r io.Reader) (io.Reader, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(16<<20))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

func openBrotli(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil }

// openDeflate takes both of what is sent under the name deflate: zlib, as HTTP
// wants it, and the bare stream.
func openDeflate(r io.Reader) (io.Reader, error) {
	start := bufio.NewReader(r)
	if head, err := start.Peek(2); err == nil && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		return zlib.NewReader(start)
	}
	return flate.NewReader(start), nil
}

func (b *upstreamBody) decode(source io.Reader, open opener) {
	b.reader, b.decoded = &decodedReader{source: source, open: open, owner: b}, true
}

// decodedReader opens its source at the first read, so that a stream's head is not
// held up by a body that has not begun.
type decodedReader struct {
	source io.Reader
	open   opener
	owner  *upstreamBody
	inner  io.Reader
}

func (d *decodedReader) Read(p []byte) (int, error) {
	if d.inner == nil {
		inner, err := d.open(d.source)
		if err != nil {
			return 0, fmt.Errorf("decoding upstream's body: %w", err)
		}
		d.inner = inner
		if closer, ok := inner.(io.Closer); ok {
			d.owner.decoder = closer
		}
	}
	return d.inner.Read(p)
}

// unlabelled are encodings that can be told by how they begin. Neither JSON nor an
// event stream begins so.
var unlabelled = []struct {
	magic string
	open  opener
}{
	{"\x1f\x8b", openGzip},
	{"\x28\xb5\x2f\xfd", openZstd},
}

// sniffReader decodes what is compressed without a label, and passes everything
// else on untouched.
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
	for _, encoding := range unlabelled {
		if !strings.HasPrefix(encoding.magic, string(p[:min(n, len(encoding.magic))])) {
			continue
		}
		start := strings.NewReader(string(p[:n]))
		s.inner = &decodedReader{source: io.MultiReader(start, errReader{s.source, err}), open: encoding.open, owner: s.owner}
		s.owner.decoded = true
		return s.inner.Read(p)
	}
	s.inner = s.source
	return n, err
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
