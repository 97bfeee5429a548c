package anthropic

import (
	"bytes"
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

// estimateTokens guesses how many tokens a JSON body is: one for four bytes,
// which prose, code and their JSON are within a third or so, but images and
// documents in base64 by what they count for and not by their length. What the
// body only names, by file_id or url, counts for nothing.
func estimateTokens(body []byte) int64 {
	size, more := int64(len(body)), int64(0)
	for rest := body; ; {
		i := bytes.Index(rest, []byte(`"data"`))
		if i < 0 {
			return size/bytesPerToken + more
		}
		rest = bytes.TrimLeft(rest[i+len(`"data"`):], space+":")
		if len(rest) == 0 || rest[0] != '"' {
			continue
		}
		value := rest[1:]
		image, document := startsBinary(value)
		if !image && !document {
			continue
		}
		end := bytes.IndexByte(value, '"') // base64 escapes no quote
		if end < 0 {
			end = len(value)
		}
		size -= int64(end)
		if image {
			more += imageTokens
		} else {
			more += int64(end) / documentBytesPerToken
		}
		rest = value[end:]
	}
}

func startsBinary(base64 []byte) (image, document bool) {
	start := string(base64[:min(len(base64), len(documentStart))])
	for _, s := range imageStarts {
		image = image || strings.HasPrefix(start, s)
	}
	return image, start == documentStart
}
