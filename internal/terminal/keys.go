package terminal

import "strings"

// Key is a key with a meaning in a view.
type Key uint8

// The keys. Others are not told.
const (
	KeyQuit Key = iota
	KeyUp
	KeyDown
	KeyPageUp
	KeyPageDown
	KeyTop
	KeyBottom
	KeyRedraw
)

// sequences are what terminals send for the keys, those of xterm and of the VT220 and
// Linux console, with cursor keys in both modes.
var sequences = map[string]Key{
	"q": KeyQuit, "Q": KeyQuit, "\x03": KeyQuit, "\x04": KeyQuit,
	"k": KeyUp, "\x1b[A": KeyUp, "\x1bOA": KeyUp, "\x10": KeyUp,
	"j": KeyDown, "\x1b[B": KeyDown, "\x1bOB": KeyDown, "\x0e": KeyDown, "\r": KeyDown,
	"b": KeyPageUp, "\x1b[5~": KeyPageUp, "\x02": KeyPageUp,
	"f": KeyPageDown, " ": KeyPageDown, "\x1b[6~": KeyPageDown, "\x06": KeyPageDown,
	"g": KeyTop, "\x1b[H": KeyTop, "\x1bOH": KeyTop, "\x1b[1~": KeyTop, "\x1b[7~": KeyTop,
	"G": KeyBottom, "\x1b[F": KeyBottom, "\x1bOF": KeyBottom, "\x1b[4~": KeyBottom, "\x1b[8~": KeyBottom,
	"\x0c": KeyRedraw,
}

// keyReader makes keys of what a terminal sends. A sequence may come in several reads.
type keyReader struct{ pending string }

func (r *keyReader) read(data []byte) (keys []Key) {
	text := r.pending + string(data)
	for text != "" {
		n := sequenceLength(text)
		if n == 0 {
			break // the rest is still to come
		}
		if k, ok := sequences[text[:n]]; ok {
			keys = append(keys, k)
		}
		text = text[n:]
	}
	r.pending = text
	return keys
}

// sequenceLength is the length of the key at the beginning, 0 if it is not whole: a
// character, ESC [ with parameters and a final byte (ECMA-48, 5.4), or ESC O and a byte.
func sequenceLength(text string) int {
	switch {
	case text[0] != '\x1b':
		return 1
	case len(text) == 1:
		return 0
	case text[1] == 'O':
		if len(text) < 3 {
			return 0
		}
		return 3
	case text[1] == '\x1b':
		return 1 // the escape key, and then another
	case text[1] != '[':
		return 2
	}
	end := strings.IndexFunc(text[2:], func(c rune) bool { return c < 0x20 || c > 0x3f })
	if end < 0 {
		// What never ends is no sequence.
		if len(text) > 32 {
			return len(text)
		}
		return 0
	}
	return end + 3
}
