package anthropic

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// bodies are what a coding agent sends: 100 KB of tools on its first turn, and
// 1 MB of messages late in a conversation.
func bodies() map[string][]byte {
	block := func(text string) map[string]any { return map[string]any{"type": "text", "text": text} }
	prose := strings.Repeat("Reads a file from the disk.\n\t\"Quoted\" words and a path: src/main.go. ", 60)
	var tools []any
	for i := range 25 {
		tools = append(tools, map[string]any{
			"name": "Tool" + strconv.Itoa(i), "description": prose[:3700],
			"input_schema": map[string]any{"type": "object", "properties": map[string]any{"path": block("a path")}},
		})
	}
	var messages []any
	for i := range 250 {
		role := "user"
		if i%2 == 1 {
			role = "assistant"
		}
		messages = append(messages, map[string]any{"role": role, "content": []any{block(prose[:3900])}})
	}
	body := func(tools, messages []any) []byte {
		data, err := json.Marshal(map[string]any{
			"model": "claude-opus-5-5", "stream": true, "max_tokens": 32000, "metadata": map[string]any{"user_id": `{"session_id":"s"}`},
			"system": []any{block("x-anthropic-billing-header: cc_version=2;"), block("You are an agent."), block(prose)}, "tools": tools, "messages": messages,
		})
		if err != nil {
			panic(err)
		}
		return data
	}
	return map[string][]byte{"tools": body(tools, messages[:1]), "messages": body(tools[:10], messages)}
}

func BenchmarkReadFacts(b *testing.B) {
	for name, body := range bodies() {
		for _, session := range []string{"s", ""} {
			header := http.Header{}
			if session != "" {
				header.Set("X-Claude-Code-Session-Id", session)
			} else {
				body = []byte(strings.Replace(string(body), "session_id", "sess", 1))
			}
			b.Run(name+"/named="+strconv.FormatBool(session != ""), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					ReadFacts(EndpointMessages, header, body)
				}
			})
		}
	}
}

// BenchmarkReadFactsParts shows what of ReadFacts the prefix takes.
func BenchmarkReadFactsParts(b *testing.B) {
	body := bodies()["tools"]
	facts := readBody(body)
	b.Run("prefix", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			prefixHash(&facts)
		}
	})
}
