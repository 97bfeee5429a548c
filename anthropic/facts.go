package anthropic

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/tidwall/gjson"
)

// How long a prompt cache lives after its last use (prompt caching guide).
const (
	CacheLife     = 5 * time.Minute
	CacheLifeLong = time.Hour
)

// Facts is what choosing an account needs to know of a request.
type Facts struct {
	Endpoint Endpoint
	// Model is the model id as the client wrote it, empty if it named none.
	Model string
	// Stream is true when the client asked for an event stream.
	Stream bool
	// Session is a key that stays the same through one conversation and is
	// different for its sub-agents, empty when there is nothing to tell
	// conversations apart. It is taken from the client's word and must never be
	// compared across persons.
	Session string
	// Parent is the Session of the agent that started this one, empty for a main
	// session.
	Parent string
	// Prefix tells apart what sessions of one kind share at the beginning of the
	// prompt: the model, the tools and the system text. It is 0 when there are
	// neither tools nor system text.
	Prefix uint64
	// CacheLife is how long the prompt cache of this request stays warm.
	CacheLife time.Duration
	// Fast is true when the request asked for fast mode, which has limits of its own.
	Fast bool
	// Patience is how long the client will wait for the answer, 0 if it did not say.
	Patience time.Duration
	// Refs are the ids of files and of the container that the body names: they
	// exist in one account only. At most 32.
	Refs []string
	// BoundThinking is true when the conversation may hold thinking that only the
	// account which made it can read; elsewhere it is dropped without a word.
	BoundThinking bool
	// Size is the length of the body in bytes.
	Size int
	// Tokens is an estimate of the prompt's size: a quarter of its bytes, and
	// for images and documents what they usually count for.
	Tokens int64
}

// ReadFacts reads the facts of a request. It never fails: a body that is not
// JSON has no model and no session, and is for upstream to refuse. It keeps no
// reference to body.
func ReadFacts(endpoint Endpoint, header http.Header, body []byte) Facts {
	f := Facts{Endpoint: endpoint, Size: len(body), CacheLife: CacheLife}
	if s, err := strconv.Atoi(header.Get("X-Stainless-Timeout")); err == nil && s > 0 && s <= 86400 {
		f.Patience = time.Duration(s) * time.Second
	}
	b := readBody(body)
	f.Model = strings.Clone(b.model)
	f.Stream, f.Fast = b.stream, b.fast
	if b.longCache || !b.readable && len(body) > 0 {
		// What a body asks that cannot be read, because it is compressed, is not
		// known, and too short a life is the worse mistake.
		f.CacheLife = CacheLifeLong
	}
	f.BoundThinking = b.thinking && bindsThinking(f.Model)
	f.Refs = b.refs(body)
	f.Session, f.Parent = sessionKeys(header, &b)
	if prefix, size := prefixHash(&b); size >= leastPrefix {
		f.Prefix = prefix
	}
	if b.readable {
		f.Tokens = b.tokens()
	}
	return f
}

// bodyFacts are views into the body: nothing is copied and messages is not decoded.
type bodyFacts struct {
	text                    string // all of it
	model, userID           string
	container               string
	stream, fast, thinking  bool
	readable                bool // it looks like a JSON object
	system, tools, messages gjson.Result

	longCache bool     // a cache_control asks for a ttl of one hour
	files     []string // the ids of files that it names
	// Images and documents: their bytes in base64, and about what they count for.
	binaryBytes, binaryTokens int64
}

func readBody(body []byte) bodyFacts {
	var b bodyFacts
	if len(body) == 0 || body[0] != '{' && !bytes.HasPrefix(bytes.TrimLeft(body, space), []byte("{")) {
		return b
	}
	b.readable = true
	// The facts are read before anybody may write to the body, so a string may look into it.
	b.text = unsafe.String(unsafe.SliceData(body), len(body)) //nolint:gosec // audited: see above
	b.scan()
	return b
}

// thinkingBinders are the models whose thinking blocks work only in the account
// that made them (preserved thinking guide).
var thinkingBinders = []string{"claude-sonnet-5-5", "claude-haiku-5-5"}

func bindsThinking(model string) bool {
	for _, prefix := range thinkingBinders {
		if strings.HasPrefix(model, prefix) {
			return true
		}
	}
	return false
}

// maxRefs bounds how many ids of one body are looked at.
const maxRefs = 32

// refs are copies of the container's id and the ids of files.
func (b *bodyFacts) refs(body []byte) (refs []string) {
	if b.container != "" && ValidID(b.container) {
		refs = append(refs, strings.Clone(b.container))
	}
	for _, id := range b.files {
		if len(refs) < maxRefs && !slices.Contains(refs, id) {
			refs = append(refs, strings.Clone(id))
		}
	}
	if b.readable {
		return refs
	}
	return filesIn(body)
}

// filesIn finds the values of "file_id" in a body that is no JSON, as a form is that
// holds some.
func filesIn(body []byte) (refs []string) {
	for rest := body; len(refs) < maxRefs; {
		i := bytes.Index(rest, []byte(`"file_id"`))
		if i < 0 {
			break
		}
		rest = rest[i+len(`"file_id"`):]
		v := bytes.TrimLeft(rest[:min(len(rest), maxID+16)], " \t\r\n:")
		if len(v) == 0 || v[0] != '"' {
			continue
		}
		if end := bytes.IndexByte(v[1:], '"'); end > 0 && ValidID(string(v[1:1+end])) && !slices.Contains(refs, string(v[1:1+end])) {
			refs = append(refs, string(v[1:1+end]))
		}
	}
	return refs
}
