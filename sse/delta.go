package sse

import (
	"bytes"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// tapDelta is what is looked at of a content_block_delta, in bytes. Most deltas are far
// below it; of a longer one the rest is taken to be like this part.
const tapDelta = 4 << 10

// bytesPerToken is the usual rule of thumb for English prose.
const bytesPerToken = 4

// deltaKind is a type of delta that the model writes.
type deltaKind struct {
	name, field string
	opening     []byte // of its text, in the layout that the API writes
}

// deltaKinds leaves out what is not written by the model and not charged as output:
// signatures and citations.
var deltaKinds = []deltaKind{
	{name: "text_delta", field: "text", opening: []byte(`text_delta","text":"`)},
	{name: "input_json_delta", field: "partial_json", opening: []byte(`input_json_delta","partial_json":"`)},
	{name: "thinking_delta", field: "thinking", opening: []byte(`thinking_delta","thinking":"`)},
}

// What the API writes before the type of a delta, around the index of the block.
var (
	deltaHead  = []byte(`{"type":"content_block_delta","index":`)
	deltaInner = []byte(`,"delta":{"type":"`)
	deltaTail  = len(`"}}`)
)

// deltaTokens estimates the tokens of a content_block_delta of size bytes from data,
// which is a prefix of it or all of it: a quarter of the bytes of its text, rounded
// up, since no token is in two deltas. Escapes are no text: \" is one byte, \u00e9
// two. Deltas without text of the model's, and those that make no sense, have none.
func deltaTokens(data []byte, size int) int64 {
	text, usual := usualText(data)
	if !usual {
		text = anyText(data)
	}
	length, read, closed := unescapedLength(text)
	if unseen := size - len(data); unseen > 0 && !closed && len(text) > 0 {
		rest := max(unseen+len(text)-read-deltaTail, 0)
		if read > 0 {
			rest = rest * length / read
		}
		length += rest
	}
	return (int64(length) + bytesPerToken - 1) / bytesPerToken
}

// usualText is the delta's text as it stands in the JSON, from behind its opening
// quote, nil for a delta without text. It reads the layout that the API writes rather
// than JSON, for it runs on every delta; false says that data has another layout.
func usualText(data []byte) (text []byte, usual bool) {
	rest, ok := bytes.CutPrefix(data, deltaHead)
	if !ok {
		return nil, false
	}
	for len(rest) > 0 && '0' <= rest[0] && rest[0] <= '9' {
		rest = rest[1:]
	}
	if rest, ok = bytes.CutPrefix(rest, deltaInner); !ok {
		return nil, false
	}
	for i := range deltaKinds {
		if text, ok = bytes.CutPrefix(rest, deltaKinds[i].opening); ok {
			return text, true
		}
	}
	return nil, false
}

// anyText is usualText for any JSON.
func anyText(data []byte) []byte {
	delta := gjson.GetBytes(data, "delta")
	name := delta.Get("type").Str
	for i := range deltaKinds {
		if deltaKinds[i].name != name {
			continue
		}
		if value := delta.Get(deltaKinds[i].field); value.Type == gjson.String {
			return []byte(value.Raw[1:])
		}
	}
	return nil
}

// unescapedLength is the length in bytes of a JSON string that text goes on with, up
// to its closing quote, how many bytes of text were read for it, and whether the quote
// was there.
func unescapedLength(text []byte) (length, read int, closed bool) {
	// The next quote and backslash at or behind read, remembered over escapes so that
	// text is searched once for each.
	quote, slash := -1, -1
	for {
		if quote < read {
			quote = next(text, read, '"')
		}
		if slash < read {
			slash = next(text, read, '\\')
		}
		if quote <= slash {
			return length + quote - read, quote, quote < len(text)
		}
		length += slash - read
		written, meant := escape(text[slash:])
		if written == 0 {
			return length, slash, false
		}
		length += meant
		read = slash + written
	}
}

// escape tells the length in bytes of the escape that b begins with, as it is written
// and of what it means; zero for one that is cut off.
func escape(b []byte) (written, meant int) {
	switch {
	case len(b) < 2:
		return 0, 0
	case b[1] != 'u':
		return 2, 1
	case len(b) < 6:
		return 0, 0
	}
	first, ok := hexRune(b[2:6])
	if !ok {
		return 2, 1
	}
	if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' && 0xD800 <= first && first < 0xDC00 {
		if second, ok := hexRune(b[8:12]); ok && 0xDC00 <= second && second < 0xE000 {
			return 12, 4
		}
	}
	if n := utf8.RuneLen(first); n > 0 {
		return 6, n
	}
	return 6, utf8.RuneLen(utf8.RuneError) // half a surrogate pair
}

// hexRune reads four hexadecimal digits.
func hexRune(b []byte) (r rune, ok bool) {
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
