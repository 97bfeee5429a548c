package shunt

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"io"
	"net/http"
	"testing"
	"testing/iotest"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

const plainStream = "event: message_start\ndata: {\"type\":\"message_start\"}\n\n"

type encoder interface {
	io.WriteCloser
	Flush() error
}

var encoders = map[string]func(io.Writer) encoder{
	"gzip":    func(w io.Writer) encoder { return gzip.NewWriter(w) },
	"br":      func(w io.Writer) encoder { return brotli.NewWriter(w) },
	"deflate": func(w io.Writer) encoder { return zlib.NewWriter(w) },
	"bare": func(w io.Writer) encoder {
		f, _ := flate.NewWriter(w, flate.DefaultCompression)
		return f
	},
	"zstd": func(w io.Writer) encoder {
		e, _ := zstd.NewWriter(w)
		return e
	},
}

func bodyOf(encoding string, body io.Reader) *upstreamBody {
	resp := &http.Response{Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(body)}
	if encoding != "" {
		resp.Header.Set("Content-Encoding", encoding)
	}
	_, cancel := context.WithCancel(context.Background())
	return newUpstreamBody(resp, time.Minute, watchFor(time.Minute, cancel))
}

// TestCompressedBodiesAreDecoded: with a label or, where it can be told, without,
// and however the bytes come.
func TestCompressedBodiesAreDecoded(t *testing.T) {
	for name, encode := range encoders {
		var packed bytes.Buffer
		e := encode(&packed)
		_, _ = io.WriteString(e, plainStream)
		_ = e.Close()
		label := map[string]string{"bare": "deflate"}[name]
		if label == "" {
			label = name
		}
		labels := []string{label}
		if name == "gzip" || name == "zstd" {
			labels = append(labels, "")
		}
		for _, label := range labels {
			for how, source := range map[string]io.Reader{"at once": bytes.NewReader(packed.Bytes()), "byte by byte": iotest.OneByteReader(bytes.NewReader(packed.Bytes()))} {
				b := bodyOf(label, source)
				got, err := io.ReadAll(b)
				if string(got) != plainStream || err != nil || !b.decoded || b.opaque {
					t.Errorf("%s labelled %q, %s: %q, %v", name, label, how, got, err)
				}
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}
			cut := bodyOf(label, bytes.NewReader(packed.Bytes()[:packed.Len()-3]))
			if _, err := io.ReadAll(cut); err == nil {
				t.Errorf("%s labelled %q: a cut body looks whole", name, label)
			}
		}
	}
}

// TestCompressedEventsAreNotDelayed: an event that upstream flushed is readable
// before the next one is there.
func TestCompressedEventsAreNotDelayed(t *testing.T) {
	for name, encode := range encoders {
		if name == "bare" {
			continue
		}
		r, w := io.Pipe()
		b := bodyOf(name, r)
		go func() {
			e := encode(w)
			_, _ = io.WriteString(e, plainStream)
			_ = e.Flush()
			// The stream stays open until the reader has its event.
		}()
		got := make(chan string, 1)
		go func() {
			p := make([]byte, len(plainStream))
			_, _ = io.ReadFull(b, p)
			got <- string(p)
		}()
		select {
		case event := <-got:
			if event != plainStream {
				t.Errorf("%s: %q", name, event)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: an event is held back", name)
		}
		_ = w.Close()
	}
}

func TestOtherBodiesPassUntouched(t *testing.T) {
	for _, body := range []string{plainStream, "{}", "\x1f", "\x1fx", ""} {
		if got, err := io.ReadAll(bodyOf("identity", bytes.NewReader([]byte(body)))); string(got) != body && body != "\x1f" || err != nil && body != "\x1f" {
			t.Errorf("%q came as %q, %v", body, got, err)
		}
	}
	if b := bodyOf("rot13", bytes.NewReader([]byte("x"))); !b.opaque || b.decoded {
		t.Error("an encoding that is not known was touched")
	}
}
