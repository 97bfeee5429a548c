package sse

import (
	"fmt"
	"strings"
	"testing"
)

func TestFirst(t *testing.T) {
	const limit = 1000
	ping := "event: ping\ndata: {\"type\":\"ping\"}\n\n"
	errorEvent := "event: error\ndata: " + overloaded + "\n\n"
	for _, tc := range []struct {
		name, in   string
		done       bool
		want, data string
	}{
		{"nothing", "", false, "", ""},
		{"error", errorEvent, true, "error", overloaded},
		{"error with CRLF", strings.ReplaceAll(errorEvent, "\n", "\r\n"), true, "error", overloaded},
		{"error without event line", "data: " + overloaded + "\n\n", true, "error", overloaded},
		{"error named behind its data", "data: " + overloaded + "\nevent: error\n\n", true, "error", overloaded},
		{"error behind pings and comments", ": hi\n\n" + ping + ": hi\n" + ping + errorEvent, true, "error", overloaded},
		{"unfinished error", strings.TrimSuffix(errorEvent, "\n"), false, "", ""},
		{"message", "event: message_start\ndata: {}\n\n", true, "message_start", ""},
		{"only the first", "event: message_start\ndata: {}\n\n" + errorEvent, true, "message_start", ""},
		{"unknown event", "event: novel\ndata: {}\n\n" + errorEvent, true, "novel", ""},
		{"nameless", "data: {}\n\n", true, "", ""},
		{"nameless with a long type", "data: {\"type\":\"" + strings.Repeat("n", 500) + "\"}\n\n", true, strings.Repeat("n", maxName), ""},
		{"event without data", "event: message_start\n\n", false, "", ""},
		{"pings", strings.Repeat(ping, 20), false, "", ""},
		{"nameless pings", strings.Repeat("data: {\"type\":\"ping\"}\n\n", 20), false, "", ""},
		{"pings over the limit", strings.Repeat(ping, 40), true, "", ""},
		{"one endless line", strings.Repeat("x", limit), true, "", ""},
		{"just under the limit", strings.Repeat("x", limit-1), false, "", ""},
		{"endless error", "event: error\ndata: " + strings.Repeat("x", limit), true, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			check := func(how string, f *First, done bool, name string, data []byte) {
				t.Helper()
				if done != tc.done || name != tc.want || string(data) != tc.data {
					t.Errorf("%s: %v %q %q, want %v %q %q", how, done, name, data, tc.done, tc.want, tc.data)
				}
				if (data != nil) != (name == "error") {
					t.Errorf("%s: data %q of %q", how, data, name)
				}
				if done && f.parser != nil {
					t.Errorf("%s: the parser is still held", how)
				}
			}
			f := NewFirst(limit)
			b := []byte(tc.in)
			done, name, data := f.Feed(b)
			clear(b)
			check("whole", f, done, name, data)
			f = NewFirst(limit)
			done, name, data = false, "", nil
			for i := range tc.in {
				done, name, data = f.Feed([]byte{tc.in[i]})
			}
			check("byte by byte", f, done, name, data)
		})
	}
}

func TestFirstEverySplit(t *testing.T) {
	in := []byte("\uFEFF: x\r\nevent: ping\r\ndata: {}\r\n\r\nevent: error\r\ndata: a\r\ndata: b\r\n\r\ndata: c\n\n")
	for i := range in {
		f := NewFirst(1 << 10)
		f.Feed(in[:i])
		done, name, data := f.Feed(in[i:])
		if !done || name != "error" || string(data) != "a\nb" {
			t.Fatalf("cut at %d: %v %q %q", i, done, name, data)
		}
	}
}

// An upstream may close right behind an error, before the blank line.
func TestFirstAtTheEndOfTheStream(t *testing.T) {
	for _, end := range []string{"", "\n", "\r", "\r\n"} {
		f := NewFirst(1 << 10)
		if done, _, _ := f.Feed([]byte("event: error\ndata: a" + end)); done {
			t.Fatalf("done before the end, with %q", end)
		}
		if done, name, data := f.Feed([]byte("\n\n")); !done || name != "error" || string(data) != "a" {
			t.Errorf("after %q: %v %q %q", end, done, name, data)
		}
	}
}

// Of events that are not errors nothing is copied, however they are cut.
func TestFirstHoldsNothing(t *testing.T) {
	f := NewFirst(1 << 20)
	for range 1000 {
		f.Feed([]byte("event: ping\nda"))
		f.Feed([]byte("ta: {\"type\":"))
		f.Feed([]byte("\"ping\"}\n\n"))
	}
	f.Feed([]byte("event: message_start\ndata: " + strings.Repeat("x", 5000)))
	if f.parser == nil || f.parser.buf != nil {
		t.Error(fmt.Sprint("First holds a copy of the stream: ", f.parser))
	}
}
