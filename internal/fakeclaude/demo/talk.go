package demo

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// talk is one conversation as the API wants it.
type talk struct {
	session, model string
	system         string
	messages       []message
}

type message struct {
	Role    string  `json:"role"`
	Content []block `json:"content"`
}

type block struct {
	Type  string     `json:"type"`
	Text  string     `json:"text"`
	Cache *cacheMark `json:"cache_control,omitempty"`
}

type cacheMark struct {
	Type string `json:"type"`
}

var ephemeral = &cacheMark{"ephemeral"}

// house is the part of the prompt that all sessions share, as the tools and
// instructions of a coding agent are: about eight thousand tokens.
var house = strings.Repeat("You help a small team with its programs. Read before you write, and say what you did. ", 370)

func newTalk(model string, dice *rand.Rand) *talk {
	id := make([]byte, 16)
	binary.BigEndian.PutUint64(id, dice.Uint64())
	binary.BigEndian.PutUint64(id[8:], dice.Uint64())
	h := hex.EncodeToString(id)
	return &talk{
		session: fmt.Sprintf("%s-%s-4%s-8%s-%s", h[:8], h[8:12], h[13:16], h[17:20], h[20:]),
		model:   model,
		system:  house,
	}
}

var topics = strings.Fields("parser cache window budget login stream header timer queue ledger router probe socket theme index")

// ask adds a question with what a tool would have read, some hundred tokens.
func (t *talk) ask(dice *rand.Rand) {
	topic := topics[dice.IntN(len(topics))]
	read := strings.Repeat("line of the "+topic+" source; ", 40+dice.IntN(120))
	t.messages = append(t.messages, message{"user", []block{{Type: "text", Text: "Look at the " + topic + ". " + read}}})
}

func (t *talk) hear(text string) {
	t.messages = append(t.messages, message{"assistant", []block{{Type: "text", Text: text}}})
}

func (t *talk) size() int {
	size := len(t.system)
	for _, m := range t.messages {
		size += len(m.Content[0].Text)
	}
	return size
}

// body marks the system prompt and the last message for the cache, as coding
// agents do.
func (t *talk) body() []byte {
	messages := append([]message(nil), t.messages...)
	last := &messages[len(messages)-1]
	last.Content = []block{{"text", last.Content[0].Text, ephemeral}}
	user, _ := json.Marshal(map[string]string{"device_id": strings.Repeat("0", 64), "account_uuid": "", "session_id": t.session})
	body, err := json.Marshal(map[string]any{
		"model": t.model, "max_tokens": 1024, "stream": true,
		"system":   []block{{"text", t.system, ephemeral}},
		"messages": messages,
		"metadata": map[string]string{"user_id": string(user)},
	})
	if err != nil {
		panic(err) // Strings and numbers only: it cannot fail.
	}
	return body
}
