package anthropic

import (
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/tidwall/gjson"
)

// billingPrefix starts the line that a coding agent puts before the system text;
// what follows changes from request to request.
const billingPrefix = "x-anthropic-billing-header"

// leastPrefix is the size in bytes below which a beginning is not worth a name:
// prompts of fewer than some 1000 tokens are not cached (prompt caching guide; the
// number differs by model).
const leastPrefix = 4096

// prefixHash names the beginning of the prompt, and says how many bytes it has. It hashes the JSON as the client
// wrote it, since one kind of client writes the same thing in the same way.
func prefixHash(b *bodyFacts) (hash uint64, size int) {
	var h xxhash.Digest
	h.Reset()
	_, _ = h.WriteString(b.model)
	write := func(part string) {
		_, _ = h.WriteString("\x00")
		writeUnmarked(&h, part)
		size += len(part)
	}
	if strings.Contains(b.tools.Raw, "{") {
		write(b.tools.Raw)
	}
	_, _ = h.WriteString("\x00")
	eachSystemText(b.system, write)
	if size == 0 {
		return 0, 0
	}
	return max(1, h.Sum64()), size
}

// eachSystemText calls f with the JSON of each part of the system text, without
// the billing line.
func eachSystemText(system gjson.Result, f func(string)) {
	if system.Type == gjson.String {
		text := system.Raw[1:]
		if line, billing := strings.CutPrefix(text, billingPrefix); billing {
			text = afterLine(line)
		}
		if text != `"` {
			f(text)
		}
		return
	}
	system.ForEach(func(_, block gjson.Result) bool {
		if !block.IsObject() {
			return true
		}
		before, line, billing := strings.Cut(block.Raw, `"`+billingPrefix)
		if !billing || strings.HasSuffix(before, `\`) {
			f(block.Raw)
		} else if text := afterLine(line); !strings.HasPrefix(text, `"`) {
			f(text)
		}
		return true
	})
}

// afterLine is what follows the first line of a text, given and returned from
// within a JSON string. It begins with the closing quote if nothing follows.
func afterLine(s string) string {
	for {
		i := strings.IndexAny(s, `\"`)
		switch {
		case i < 0 || s[i] == '\\' && i+1 == len(s):
			return ""
		case s[i] == '"':
			return s[i:]
		case s[i+1] == 'n':
			return s[i+2:]
		}
		s = s[i+2:]
	}
}

const space = " \t\r\n"

// writeUnmarked hashes JSON as if it had no cache_control members: they move from
// turn to turn. Inside a text that quotes JSON the quotes are escaped, so that
// there is nothing to find.
func writeUnmarked(h *xxhash.Digest, json string) {
	// The search is for the end of the word, since it is fastest for a byte that is rare.
	const begin, end = `"cache`, `_control"`
	for from := 0; ; {
		i := strings.Index(json[from:], end)
		if i < 0 {
			_, _ = h.WriteString(json)
			return
		}
		i += from
		from = i + len(end)
		before, found := strings.CutSuffix(json[:i], begin)
		after, member := strings.CutPrefix(strings.TrimLeft(json[from:], space), ":")
		if !found || !member {
			continue
		}
		after = afterValue(after)
		before = strings.TrimRight(before, space)
		// One of the commas around it goes too.
		if strings.HasSuffix(before, ",") {
			before = before[:len(before)-1]
		} else if next := strings.TrimLeft(after, space); strings.HasPrefix(next, ",") {
			after = next[1:]
		}
		_, _ = h.WriteString(before)
		json, from = after, 0
	}
}

// afterValue is what follows the small value at the beginning of json, in whose
// strings are no brackets and commas.
func afterValue(json string) string {
	depth := 0
	for i := range len(json) {
		switch json[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return json[i:]
			}
			if depth--; depth == 0 {
				return json[i+1:]
			}
		case ',':
			if depth == 0 {
				return json[i:]
			}
		}
	}
	return ""
}
