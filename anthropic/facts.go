package anthropic

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"
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
	if asksLongCache(body) {
		f.CacheLife = CacheLifeLong
	}
	f.BoundThinking = b.thinking && bindsThinking(f.Model)
	f.Refs = readRefs(body, b.container)
	f.Session = sessionKey(header, &b)
	return f
}

// bodyFacts are views into the body: nothing is copied and messages is not decoded.
type bodyFacts struct {
	model, userID           string
	container               string
	stream, fast, thinking  bool
	system, tools, messages gjson.Result
}

func readBody(body []byte) bodyFacts {
	var b bodyFacts
	if len(body) == 0 || body[0] != '{' && !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return b
	}
	// The body is read-only for its whole life, so a string may look into it.
	root := gjson.Result{Type: gjson.JSON, Raw: unsafe.String(unsafe.SliceData(body), len(body))} //nolint:gosec // audited: see above
	root.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "model":
			b.model = value.Str
		case "stream":
			b.stream = value.Type == gjson.True
		case "speed":
			b.fast = value.Str == "fast"
		case "thinking":
			b.thinking = value.IsObject() && value.Get("type").Str != "disabled"
		case "container":
			if b.container = value.Str; value.IsObject() {
				b.container = value.Get("id").Str
			}
		case "metadata":
			b.userID = value.Get("user_id").Str
		case "system":
			b.system = value
		case "tools":
			b.tools = value
		case "messages":
			b.messages = value
		}
		return true
	})
	return b
}

// asksLongCache looks for a cache_control with a ttl of one hour. A false hit
// in a text only keeps a session at its account for longer.
func asksLongCache(body []byte) bool {
	for rest := body; ; {
		i := bytes.Index(rest, []byte(`"ttl"`))
		if i < 0 {
			return false
		}
		rest = rest[i+len(`"ttl"`):]
		v := bytes.TrimLeft(rest[:min(len(rest), 16)], " \t\r\n:")
		if bytes.HasPrefix(v, []byte(`"1h"`)) {
			return true
		}
	}
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

// readRefs finds the values of "file_id" wherever they stand, and the container.
// A hit inside a text that quotes JSON is escaped there, so it is none.
func readRefs(body []byte, container string) (refs []string) {
	if container != "" && ValidID(container) {
		refs = append(refs, strings.Clone(container))
	}
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

// maxSession bounds what a client can make us remember as a session's name.
const maxSession = 200

// sessionKey takes the session from where real clients put it, best first.
func sessionKey(header http.Header, b *bodyFacts) string {
	id := header.Get("X-Claude-Code-Session-Id")
	if id == "" {
		id = sessionOfUserID(b.userID)
	}
	if id == "" {
		id = header.Get("X-Session-Affinity")
	}
	if id == "" {
		id = header.Get("X-Session-Id")
	}
	if id == "" {
		return conversationHash(b)
	}
	if agent := header.Get("X-Claude-Code-Agent-Id"); agent != "" {
		id += "/" + agent
	}
	if len(id) > maxSession {
		id = "h" + strconv.FormatUint(xxhash.Sum64String(id), 16)
	}
	return strings.Clone(id)
}

// sessionOfUserID reads the session id in metadata.user_id: a string that holds
// JSON, or in older clients one that ends in _session_<uuid>.
func sessionOfUserID(userID string) string {
	if strings.HasPrefix(userID, "{") {
		return gjson.Get(userID, "session_id").Str
	}
	if i := strings.LastIndex(userID, "_session_"); i >= 0 {
		return userID[i+len("_session_"):]
	}
	return ""
}

// billingPrefix starts the first system block of a coding agent; what follows
// changes from request to request.
const billingPrefix = "x-anthropic-billing-header"

// conversationHash names a conversation by what does not change from turn to
// turn: the model, the system text, the tools' names and the first user
// message. Only texts count, since cache_control markers move between turns.
func conversationHash(b *bodyFacts) string {
	first := firstUserMessage(b.messages)
	if !first.Exists() {
		return ""
	}
	h := xxhash.New()
	_, _ = h.WriteString(b.model)
	writeText(h, b.system)
	b.tools.ForEach(func(_, tool gjson.Result) bool {
		_, _ = h.WriteString("\x00" + tool.Get("name").Str)
		return true
	})
	writeText(h, first)
	return "c" + strconv.FormatUint(h.Sum64(), 16)
}

func firstUserMessage(messages gjson.Result) (content gjson.Result) {
	messages.ForEach(func(_, m gjson.Result) bool {
		if m.Get("role").Str == "user" {
			content = m.Get("content")
			return false
		}
		return true
	})
	return content
}

func writeText(h *xxhash.Digest, content gjson.Result) {
	_, _ = h.WriteString("\x00")
	if content.Type == gjson.String {
		_, _ = h.WriteString(content.Str)
		return
	}
	content.ForEach(func(_, block gjson.Result) bool {
		if text := block.Get("text").Str; text != "" && !strings.HasPrefix(text, billingPrefix) {
			_, _ = h.WriteString(text)
		}
		return true
	})
}
