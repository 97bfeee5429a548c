package sse

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// cutUp cuts b into chunks of lengths that seed determines, some of them empty.
func cutUp(b []byte, seed uint64) [][]byte {
	random := rand.New(rand.NewPCG(seed, 1))
	longest := 1 + random.IntN(40)
	var chunks [][]byte
	for len(b) > 0 {
		n := min(random.IntN(longest+1), len(b))
		chunks = append(chunks, b[:n])
		b = b[n:]
	}
	return chunks
}

// fuzzKeep has every sort of answer.
func fuzzKeep(name []byte) int { return len(name)*5 - 5 }

func FuzzParser(f *testing.F) {
	for _, stream := range captures(f) {
		f.Add(stream, uint64(1))
	}
	f.Add([]byte("\uFEFFdata\rdata: x\r\n\r\nevent:a\n:c\ndata:  y\n\nevent"), uint64(2))
	f.Add([]byte("\xEF\xBB\ndata:\n\r\revent: abcdefgh\ndata: 0123456789\ndata:\n\n"), uint64(3))
	f.Add([]byte(strings.Repeat("event: aa\ndata: 0123456789\n\n", 9)), uint64(4))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		for _, tc := range []struct {
			keep     func([]byte) int
			maxEvent int
		}{{nil, 1 << 20}, {nil, 9}, {fuzzKeep, 30}, {tapKeep, 64}} {
			want := reference(tc.keep, tc.maxEvent, stream)
			equal(t, "whole", parse(tc.keep, tc.maxEvent, stream), want)
			equal(t, "cut up", parse(tc.keep, tc.maxEvent, cutUp(stream, seed)...), want)
		}
	})
}

func FuzzTap(f *testing.F) {
	for _, stream := range captures(f) {
		f.Add(stream, uint64(1))
	}
	f.Add([]byte(`{"type":"message","id":"a","usage":{"input_tokens":1,"output_tokens":-3}}`), uint64(2))
	f.Add([]byte("event: message_delta\ndata: {\"usage\":{\"output_tokens\":1e99}}\n\n"), uint64(3))
	f.Add([]byte("event: content_block_delta\ndata: \"delta\":{\"type\":\"x\":\"\n\n"), uint64(4))
	f.Add([]byte("data: {\"type\":\"error\"}\n\n"), uint64(5))
	f.Fuzz(func(t *testing.T, answer []byte, seed uint64) {
		chunks := cutUp(answer, seed)
		for _, open := range []func() *Tap{NewStreamTap, NewJSONTap} {
			once, pieces := open(), open()
			want := tapped(t, once, answer)
			for _, chunk := range chunks {
				tapped(t, pieces, chunk)
			}
			got := pieces.Result()
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("cut up:\n got %+v\nwant %+v", got, want)
			}
			checkBounds(t, pieces, got, len(answer))
		}
		first := NewFirst(256)
		for _, chunk := range chunks {
			first.Feed(chunk)
		}
		whole := NewFirst(256)
		done, name, data := whole.Feed(answer)
		// Where the limit falls depends on the chunks, what is found does not.
		if len(answer) < 256 && (done != first.done || name != first.name || !bytes.Equal(data, first.data)) {
			t.Fatalf("first: %v %q %q, cut up %v %q %q", done, name, data, first.done, first.name, first.data)
		}
	})
}

func checkBounds(t *testing.T, tap *Tap, r Result, size int) {
	t.Helper()
	held := cap(tap.body)
	if tap.parser != nil {
		held = cap(tap.parser.buf)
	}
	if held > max(2*size, 512) {
		t.Fatalf("holds %d bytes of an answer of %d", held, size)
	}
	if len(r.Error) > maxTapError || max(len(r.ID), len(r.Model), len(r.StopReason)) > maxTapString {
		t.Fatalf("result out of bounds: %+v", r)
	}
	if r.EstimatedOutputTokens < 0 || r.Deltas < 0 || r.Usage.Total() < 0 || r.Usage.OutputTokens < 0 {
		t.Fatalf("negative counts: %+v", r)
	}
	if r.EstimatedOutputTokens > max(int64(size), r.Usage.OutputTokens) {
		t.Fatalf("estimate of %d from %d bytes", r.EstimatedOutputTokens, size)
	}
}
