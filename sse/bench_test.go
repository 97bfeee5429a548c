package sse

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// benchStream is an answer of n deltas, laid out as the API does.
func benchStream(b *testing.B, n, text int) []byte {
	b.Helper()
	message := capture(b, "message")
	delta := "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"" +
		strings.Repeat("w", text) + "\"}}\n\n"
	return []byte(strings.Replace(message, "event: content_block_stop", strings.Repeat(delta, n)+"event: content_block_stop", 1))
}

func benchChunks(b *testing.B, stream []byte, size int) [][]byte {
	b.Helper()
	if size > 0 {
		return slices.Collect(slices.Chunk(stream, size))
	}
	return bytes.SplitAfter(stream, []byte("\n\n"))
}

var benchShapes = []struct {
	name        string
	text, chunk int
}{
	{"short deltas/event by event", 20, 0},
	{"short deltas/32 KiB chunks", 20, 32 << 10},
	{"long deltas/event by event", 400, 0},
	{"long deltas/32 KiB chunks", 400, 32 << 10},
	{"long deltas/1000 B chunks", 400, 1000},
}

func BenchmarkTap(b *testing.B) {
	for _, shape := range benchShapes {
		b.Run(shape.name, func(b *testing.B) {
			stream := benchStream(b, 2000, shape.text)
			chunks := benchChunks(b, stream, shape.chunk)
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				tap := NewStreamTap()
				for _, chunk := range chunks {
					_, _ = tap.Write(chunk)
				}
				if r := tap.Result(); !r.Complete || r.Usage != messageUsage {
					b.Fatalf("result %+v", r)
				}
			}
		})
	}
}

// BenchmarkParserUnwanted is the parser alone, with nothing wanted of any event.
func BenchmarkParserUnwanted(b *testing.B) {
	for _, shape := range benchShapes {
		b.Run(shape.name, func(b *testing.B) {
			stream := benchStream(b, 2000, shape.text)
			chunks := benchChunks(b, stream, shape.chunk)
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			events := 0
			p := NewParser(1<<20, func(Event) { events++ })
			p.Keep(func([]byte) int { return 0 })
			for b.Loop() {
				for _, chunk := range chunks {
					p.Write(chunk)
				}
			}
			if events != b.N*2007 {
				b.Fatalf("%d events in %d runs", events, b.N)
			}
		})
	}
}

func BenchmarkParserHugeLine(b *testing.B) {
	for _, size := range []int{1 << 10, 32 << 10} {
		b.Run(fmt.Sprintf("%d KiB chunks", size>>10), func(b *testing.B) {
			stream := slices.Concat([]byte("event: content_block_start\ndata: "), bytes.Repeat([]byte("x"), 2<<20), []byte("\n\n"))
			chunks := benchChunks(b, stream, size)
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				tap := NewStreamTap()
				for _, chunk := range chunks {
					_, _ = tap.Write(chunk)
				}
			}
		})
	}
}
