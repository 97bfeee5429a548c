package anthropic

import (
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// scan goes once through the JSON object that b.text holds, from string to string: most
// of a request is text, and the search for the end of a string is the fastest there is.
// It takes the members of the object that are facts, and of all that is inside of them
// those few that are facts wherever they stand. What is no JSON is read as far as it goes.
func (b *bodyFacts) scan() {
	s := b.text
	depth, from, key := 0, -1, ""
	// end is called where a member of the object ends.
	end := func(at int) {
		if from >= 0 {
			b.member(key, s[from:at])
			from = -1
		}
	}
	for i := 0; i < len(s); {
		switch s[i] {
		case '"':
			word := s[i+1 : endOfString(s, i+1)]
			i += len(word) + 2
			colon := afterSpace(s, i)
			if colon >= len(s) || s[colon] != ':' {
				continue
			}
			i = afterSpace(s, colon+1)
			if depth == 1 {
				end(i)
				key, from = word, i
			}
			if i < len(s) && s[i] == '"' {
				value := s[i+1 : endOfString(s, i+1)]
				i += len(value) + 2
				b.anywhere(word, value)
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				end(i)
				return
			}
		case ',':
			if depth == 1 {
				end(i)
			}
		}
		i++
	}
	end(len(s))
}

// member takes a member of the request itself.
func (b *bodyFacts) member(key, raw string) {
	switch unescaped(key) {
	case "model":
		b.model = gjson.Parse(raw).Str
	case "stream":
		b.stream = gjson.Parse(raw).Type == gjson.True
	case "speed":
		b.fast = gjson.Parse(raw).Str == "fast"
	case "thinking":
		value := gjson.Parse(raw)
		b.thinking = value.IsObject() && value.Get("type").Str != "disabled"
	case "container":
		value := gjson.Parse(raw)
		if b.container = value.Str; value.IsObject() {
			b.container = value.Get("id").Str
		}
	case "metadata":
		b.userID = gjson.Get(raw, "user_id").Str
	case "system":
		b.system = gjson.Parse(strings.TrimRight(raw, space))
	case "tools":
		b.tools = gjson.Parse(strings.TrimRight(raw, space))
	case "messages":
		b.messages = gjson.Parse(raw)
	}
}

// anywhere takes a member with a string as its value, at any depth. A text that quotes
// JSON has its quotes escaped, so it is no member.
func (b *bodyFacts) anywhere(key, value string) {
	switch unescaped(key) {
	case "ttl":
		b.longCache = b.longCache || unescaped(value) == "1h"
	case "file_id":
		value = unescaped(value)
		if len(b.files) < maxRefs && ValidID(value) && !slices.Contains(b.files, value) {
			b.files = append(b.files, value)
		}
	case "data":
		b.binary(value)
	}
}

// unescaped is what a string means whose content is raw.
func unescaped(raw string) string {
	if strings.IndexByte(raw, '\\') < 0 {
		return raw
	}
	return gjson.Parse(`"` + raw + `"`).Str
}

// endOfString is where the string ends whose content begins at from: at its closing
// quote, or at the end of s.
func endOfString(s string, from int) int {
	for i := from; ; i++ {
		n := strings.IndexByte(s[i:], '"')
		if n < 0 {
			return len(s)
		}
		i += n
		slashes := 0
		for slashes < i-from && s[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
}

func afterSpace(s string, i int) int {
	for i < len(s) && strings.IndexByte(space, s[i]) >= 0 {
		i++
	}
	return i
}
