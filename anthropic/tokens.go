package anthropic

import (
	"slices"
	"strings"
)

const (
	bytesPerToken = 4
	// imageTokens is about what a large image counts for; how large it is cannot
	// be told without decoding it.
	imageTokens = 1600
	// A page of a document counts for some 3000 tokens and takes some 100 KB in base64.
	documentBytesPerToken = 32
)

// The beginnings, in base64, of what may stand in a body: JPEG, also with the
// slashes escaped, PNG, GIF, WebP; and PDF.
var (
	imageStarts   = []string{"/9j/", `\/9j`, "iVBORw", "R0lGOD", "UklGR"}
	documentStart = "JVBERi"
)

// tokens guesses how many tokens the body is: one for four bytes, which prose, code and
// their JSON are within a third or so, but images and documents in base64 by what they
// count for and not by their length. What the body only names, by file_id or url, counts
// for nothing.
func (b *bodyFacts) tokens() int64 {
	return (int64(len(b.text))-b.binaryBytes)/bytesPerToken + b.binaryTokens
}

// binary takes the value of a member named data, which may be a file in base64.
func (b *bodyFacts) binary(value string) {
	switch {
	case strings.HasPrefix(value, documentStart):
		b.binaryTokens += int64(len(value)) / documentBytesPerToken
	case slices.ContainsFunc(imageStarts, func(start string) bool { return strings.HasPrefix(value, start) }):
		b.binaryTokens += imageTokens
	default:
		return
	}
	b.binaryBytes += int64(len(value))
}
