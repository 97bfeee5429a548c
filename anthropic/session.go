package anthropic

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/tidwall/gjson"
)

// maxSession bounds what a client can make us remember as a session's name.
const maxSession = 200

// sessionKeys takes the session from where real clients put it, best first, and
// the one that started it. Sub-agents have a session of their own inside the one
// that the person sees.
func sessionKeys(header http.Header, b *bodyFacts) (session, parent string) {
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
		return conversationHash(b), ""
	}
	agent := header.Get("X-Claude-Code-Agent-Id")
	if agent == "" {
		return agentKey(id, ""), ""
	}
	return agentKey(id, agent), agentKey(id, header.Get("X-Claude-Code-Parent-Agent-Id"))
}

// agentKey is the key of an agent's session, or without an agent of the main one.
func agentKey(id, agent string) string {
	if agent != "" {
		id += "/" + agent
	}
	if len(id) > maxSession {
		return "h" + strconv.FormatUint(xxhash.Sum64String(id), 16)
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

// conversationHash names a conversation by what does not change from turn to
// turn: the model, the system text, the tools' names and the first user
// message. Only texts, images and documents count, since cache_control markers
// move between turns.
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
		_, _ = h.WriteString(withoutBilling(content.Str))
		return
	}
	content.ForEach(func(_, block gjson.Result) bool {
		if text := block.Get("text").Str; text != "" {
			_, _ = h.WriteString(withoutBilling(text))
		} else {
			_, _ = h.WriteString(block.Get("source").Raw)
		}
		return true
	})
}

// withoutBilling is a system text without its billing line.
func withoutBilling(text string) string {
	if strings.HasPrefix(text, billingPrefix) {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}
