package sse

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// event is an [Event] that outlives its delivery.
type event struct {
	name, data string
	size       int
	truncated  bool
}

func (e event) String() string {
	return fmt.Sprintf("{%q %q size=%d truncated=%v}", e.name, e.data, e.size, e.truncated)
}

const testMaxEvent = 4096

// parse feeds the chunks to a parser. Each chunk is overwritten after its
// Write, as a relay reuses its buffer: data that still aliases it shows.
func parse(keep func([]byte) int, maxEvent int, chunks ...[]byte) []event {
	var got []event
	p := NewParser(maxEvent, func(ev Event) {
		got = append(got, event{string(ev.Name), string(ev.Data), ev.Size, ev.Truncated})
	})
	if keep != nil {
		p.Keep(keep)
	}
	for _, chunk := range chunks {
		b := bytes.Clone(chunk)
		p.Write(b)
		clear(b)
	}
	return got
}

// reference is the standard's algorithm for a whole stream, written for
// plainness: what [Parser] must agree with.
func reference(keep func([]byte) int, maxEvent int, stream []byte) []event {
	text := strings.TrimPrefix(string(stream), byteOrderMark)
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	lines := strings.Split(text, "\n")
	var got []event
	var name string
	var data []string
	limit := 0
	for _, line := range lines[:len(lines)-1] {
		if line == "" {
			if len(data) > 0 {
				whole := strings.Join(data, "\n")
				kept := whole[:min(len(whole), limit)]
				got = append(got, event{name, kept, len(whole), len(kept) < len(whole)})
			}
			name, data = "", nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value[:min(len(value), maxName)]
		case "data":
			if len(data) == 0 {
				limit = maxEvent
				if keep != nil {
					limit = min(max(keep([]byte(name)), 0), maxEvent)
				}
			}
			data = append(data, value)
		}
	}
	return got
}

func equal(t *testing.T, how string, got, want []event) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s:\n got %v\nwant %v", how, got, want)
	}
}

func whole(name, data string) event { return event{name, data, len(data), false} }

func TestParserRules(t *testing.T) {
	long := strings.Repeat("n", maxName+40)
	for _, tc := range []struct {
		name, in string
		want     []event
	}{
		{"nothing", "", nil},
		{"one event", "event: a\ndata: x\n\n", []event{whole("a", "x")}},
		{"no name", "data: x\n\n", []event{whole("", "x")}},
		{"name behind data", "data: x\nevent: a\n\n", []event{whole("a", "x")}},
		{"last name holds", "event: abc\nevent: z\ndata: x\n\n", []event{whole("z", "x")}},
		{"name does not outlive its event", "event: a\ndata: x\n\ndata: y\n\n", []event{whole("a", "x"), whole("", "y")}},
		{"name of an event without data is forgotten", "event: a\n\ndata: y\n\n", []event{whole("", "y")}},
		{"no data, no event", "event: a\n\nevent: b\nid: 1\n\n", nil},
		{"empty data is data", "event: a\ndata:\n\n", []event{whole("a", "")}},
		{"data without colon", "data\n\n", []event{whole("", "")}},
		{"event without colon clears the name", "event: a\nevent\ndata: x\n\n", []event{whole("", "x")}},
		{"data lines are joined", "data: x\ndata\ndata: y\n\n", []event{whole("", "x\n\ny")}},
		{"one space goes, one stays", "event:  a\ndata:  x \n\n", []event{whole(" a", " x ")}},
		{"no space", "event:a\ndata:x\n\n", []event{whole("a", "x")}},
		{"a tab stays", "data:\tx\n\n", []event{whole("", "\tx")}},
		{"colons in values", "event: a:b\ndata: x: y:\n\n", []event{whole("a:b", "x: y:")}},
		{"CRLF", "event: a\r\ndata: x\r\ndata: y\r\n\r\n", []event{whole("a", "x\ny")}},
		{"CR", "event: a\rdata: x\r\r", []event{whole("a", "x")}},
		{"mixed line ends", "event: a\rdata: x\n\r\ndata: y\r\n\n", []event{whole("a", "x"), whole("", "y")}},
		{"CR at the very end ends the event", "data: x\n\r", []event{whole("", "x")}},
		{"comments", ": hello\n:\n:data: no\ndata: x\n:still the same event\ndata: y\n\n", []event{whole("", "x\ny")}},
		{"unknown fields", "id: 3\nretry: 10\nfoo: bar\nfoo\ndata: x\n\n", []event{whole("", "x")}},
		{"longer and shorter names mean nothing", "dat: 1\ndata2: 2\n data: 3\nDATA: 4\nevents: 5\ndata: x\n\n", []event{whole("", "x")}},
		{"byte order mark", "\uFEFFdata: x\n\n", []event{whole("", "x")}},
		{"second byte order mark spoils the field", "\uFEFF\uFEFFdata: x\n\ndata: y\n\n", []event{whole("", "y")}},
		{"half a byte order mark", "\xEF\xBBdata: x\ndata: y\n\n", []event{whole("", "y")}},
		{"half a byte order mark alone is no blank line", "\xEF\n\ndata: y\n\n", []event{whole("", "y")}},
		{"byte order mark inside is data", "data: \uFEFFx\n\n", []event{whole("", "\uFEFFx")}},
		{"NUL and broken UTF-8 pass", "data: \x00\xff\n\n", []event{whole("", "\x00\xff")}},
		{"unfinished event", "data: x\n\ndata: y\n", []event{whole("", "x")}},
		{"unfinished line", "data: x\n\ndata: y", []event{whole("", "x")}},
		{"long name is cut", "event: " + long + "\ndata: x\n\n", []event{whole(long[:maxName], "x")}},
		{
			"data at and over the bound", "data: " + strings.Repeat("a", 4095) + "\ndata:\n\ndata: " + strings.Repeat("b", 4095) + "\ndata: c\n\n",
			[]event{whole("", strings.Repeat("a", 4095)+"\n"), {"", strings.Repeat("b", 4095) + "\n", 4097, true}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := []byte(tc.in)
			equal(t, "reference", reference(nil, testMaxEvent, in), tc.want)
			equal(t, "in one piece", parse(nil, testMaxEvent, in), tc.want)
			equal(t, "byte by byte", parse(nil, testMaxEvent, bytewise(in)...), tc.want)
			for i := range in {
				equal(t, fmt.Sprint("cut at ", i), parse(nil, testMaxEvent, in[:i], in[i:]), tc.want)
			}
		})
	}
}

func bytewise(b []byte) [][]byte {
	chunks := make([][]byte, 0, 2*len(b))
	for i := range b {
		chunks = append(chunks, b[i:i+1], nil)
	}
	return chunks
}

// captures returns the streams of testdata, each with LF, CRLF and CR line ends.
func captures(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.sse")
	if err != nil || len(files) < 4 {
		t.Fatalf("captures: %v, %v", files, err)
	}
	all := make(map[string][]byte, 3*len(files))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".sse")
		all[name] = b
		all[name+" CRLF"] = bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
		all[name+" CR"] = bytes.ReplaceAll(b, []byte("\n"), []byte("\r"))
	}
	return all
}

func TestParserEverySplit(t *testing.T) {
	for name, stream := range captures(t) {
		t.Run(name, func(t *testing.T) {
			for how, keep := range map[string]func([]byte) int{"all": nil, "tap": tapKeep} {
				want := reference(keep, testMaxEvent, stream)
				if len(want) < 4 {
					t.Fatalf("only %d events", len(want))
				}
				equal(t, how, parse(keep, testMaxEvent, stream), want)
				equal(t, how+" byte by byte", parse(keep, testMaxEvent, bytewise(stream)...), want)
				for i := range stream {
					equal(t, fmt.Sprintf("%s cut at %d", how, i), parse(keep, testMaxEvent, stream[:i], stream[i:]), want)
				}
			}
		})
	}
}

func TestParserKeep(t *testing.T) {
	keep := func(name []byte) int {
		switch string(name) {
		case "all":
			return testMaxEvent + 1
		case "two":
			return 2
		case "less":
			return -1
		default:
			return 0
		}
	}
	in := []byte("event: all\ndata: abc\n\nevent: two\ndata: a\ndata: b\n\nevent: less\ndata: abc\n\n" +
		"event: other\ndata: abc\ndata: d\n\ndata: abc\nevent: all\n\nevent: two\ndata: ab\n\n")
	want := []event{
		whole("all", "abc"),
		{"two", "a\n", 3, true},
		{"less", "", 3, true},
		{"other", "", 5, true},
		{"all", "", 3, true}, // asked before the name came
		whole("two", "ab"),
	}
	equal(t, "whole", parse(keep, testMaxEvent, in), want)
	for i := range in {
		equal(t, fmt.Sprint("cut at ", i), parse(keep, testMaxEvent, in[:i], in[i:]), want)
	}
	equal(t, "bound over filter", parse(keep, 1, in)[:1], []event{{"all", "a", 3, true}})
	equal(t, "no room at all", parse(nil, -1, in)[:1], []event{{"all", "", 3, true}})
}

// A data line that nobody wants must be neither copied nor held, however large,
// and one that is wanted no further than its bound.
func TestParserHugeLine(t *testing.T) {
	stream := slices.Concat([]byte("event: big\ndata: "), bytes.Repeat([]byte("x"), 2<<20), []byte("\n\n"))
	for _, tc := range []struct{ keep, atMost int }{{0, 0}, {100, 100}, {1 << 30, testMaxEvent}} {
		var got []event
		p := NewParser(testMaxEvent, func(ev Event) {
			got = append(got, event{string(ev.Name), "", ev.Size, ev.Truncated})
		})
		p.Keep(func([]byte) int { return tc.keep })
		for chunk := range slices.Chunk(stream, 1000) {
			p.Write(chunk)
		}
		equal(t, fmt.Sprint("keep ", tc.keep), got, []event{{"big", "", 2 << 20, true}})
		if cap(p.buf) > tc.atMost {
			t.Errorf("keep %d: holds %d bytes, at most %d allowed", tc.keep, cap(p.buf), tc.atMost)
		}
	}
}

// A data line that lies inside one chunk is handed out where it lies.
func TestParserZeroCopy(t *testing.T) {
	chunk := []byte("event: a\ndata: hello\n\n")
	p := NewParser(testMaxEvent, func(ev Event) {
		if want := bytes.IndexByte(chunk, 'h'); &ev.Data[0] != &chunk[want] {
			t.Error("data was copied")
		}
	})
	p.Write(chunk)
	if p.data != nil || p.buf != nil {
		t.Error("the parser still holds the event")
	}
}

func TestParserNoAllocations(t *testing.T) {
	stream := captures(t)["thinking CRLF"]
	events := 0
	p := NewParser(testMaxEvent, func(ev Event) { events += min(ev.Size, 1) })
	p.Keep(tapKeep)
	for _, size := range []int{len(stream), 4096, 61, 1} {
		feed := func() {
			for b := stream; len(b) > 0; {
				n := min(size, len(b))
				p.Write(b[:n])
				b = b[n:]
			}
		}
		events = 0
		if n := testing.AllocsPerRun(20, feed); n != 0 {
			t.Errorf("chunks of %d: %v allocations per stream", size, n)
		}
		if events < 21*9 {
			t.Errorf("chunks of %d: only %d events", size, events)
		}
	}
}
