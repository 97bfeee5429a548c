package fakeclaude

import "encoding/json"

// The shapes of the Messages API, in the order in which it writes the fields.

type usageJSON struct {
	Input         int64            `json:"input_tokens"`
	CacheCreation int64            `json:"cache_creation_input_tokens"`
	CacheRead     int64            `json:"cache_read_input_tokens"`
	Creation      cacheCreation    `json:"cache_creation"`
	Output        int64            `json:"output_tokens"`
	OutputDetails *outputDetails   `json:"output_tokens_details,omitempty"`
	ServerTools   *serverToolUsage `json:"server_tool_use,omitempty"`
	ServiceTier   string           `json:"service_tier"`
	Geo           string           `json:"inference_geo"`
}

type cacheCreation struct {
	Ephemeral5m int64 `json:"ephemeral_5m_input_tokens"`
	Ephemeral1h int64 `json:"ephemeral_1h_input_tokens"`
}

type outputDetails struct {
	Thinking int64 `json:"thinking_tokens"`
}

type serverToolUsage struct {
	Searches int64 `json:"web_search_requests"`
	Fetches  int64 `json:"web_fetch_requests"`
}

type messageJSON struct {
	ID              string            `json:"id"`
	Type            string            `json:"type"`
	Role            string            `json:"role"`
	Model           string            `json:"model"`
	Content         []json.RawMessage `json:"content"`
	StopReason      *string           `json:"stop_reason"`
	StopSequence    *string           `json:"stop_sequence"`
	Usage           usageJSON         `json:"usage"`
	Transformations []transformation  `json:"input_transformations,omitempty"`
	Container       *container        `json:"container,omitempty"`
}

// deltaUsage is what message_delta tells: cumulative counts. Input counts are
// there only when a server tool made them grow.
type deltaUsage struct {
	Input         *int64           `json:"input_tokens,omitempty"`
	CacheCreation *int64           `json:"cache_creation_input_tokens,omitempty"`
	CacheRead     *int64           `json:"cache_read_input_tokens,omitempty"`
	Output        int64            `json:"output_tokens"`
	OutputDetails *outputDetails   `json:"output_tokens_details,omitempty"`
	ServerTools   *serverToolUsage `json:"server_tool_use,omitempty"`
}

func (r *reply) message() messageJSON {
	u := r.prompt
	return messageJSON{
		ID: r.id, Type: "message", Role: "assistant", Model: r.model,
		Content: []json.RawMessage{}, Transformations: r.dropped, Container: r.container,
		Usage: usageJSON{
			Input: u.Input, CacheCreation: u.CacheWrite5m + u.CacheWrite1h, CacheRead: u.CacheRead,
			Creation: cacheCreation{u.CacheWrite5m, u.CacheWrite1h},
			Output:   1, ServiceTier: "standard", Geo: "global",
		},
	}
}

// searchFactor is by how much the results of a web search enlarge the input.
const searchFactor = 3

// searchUsage is what a web search adds to the charge of the prompt.
func (r *reply) searchUsage() Usage {
	if !r.searched {
		return Usage{}
	}
	return Usage{Input: searchFactor * (r.prompt.Input + 1), WebSearches: 1}
}

// whole renders the answer of a request that does not stream.
func (r *reply) whole() []byte {
	m := r.message()
	m.StopReason = &r.stop
	m.Usage.Output = r.output
	m.Usage.Input += r.searchUsage().Input
	if r.thought > 0 {
		m.Usage.OutputDetails = &outputDetails{r.thought}
	}
	if r.searched {
		m.Usage.ServerTools = &serverToolUsage{Searches: 1}
	}
	for i := range r.blocks {
		m.Content = append(m.Content, r.blocks[i].json())
	}
	return encode(m)
}

func (b *block) json() json.RawMessage {
	switch b.kind {
	case "thinking":
		return encode(struct {
			Type      string `json:"type"`
			Thinking  string `json:"thinking"`
			Signature string `json:"signature"`
		}{b.kind, b.whole(), b.signature})
	case "tool_use":
		return encode(toolJSON{b.kind, b.toolID, b.toolName, json.RawMessage(b.whole())})
	}
	return encode(textJSON{b.kind, b.whole()})
}

type textJSON struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type toolJSON struct {
	Type  string          `json:"type"`
	ID    string          `json:"id"`
	Name  string          `json:"name"`
	Input json.RawMessage `json:"input"`
}

// event is one event of a stream. tokens is the output that it delivers.
type event struct {
	name   string
	data   []byte
	tokens int64
	text   bool
}

func pingEvent() event { return event{name: "ping", data: []byte(`{"type":"ping"}`)} }

func errorEvent(kind, message string) event {
	return event{name: "error", data: encode(envelope{Type: "error", Error: apiError{Type: kind, Message: message}})}
}

// events renders the answer of a request that streams.
func (r *reply) events() []event {
	events := []event{{name: "message_start", tokens: 1, data: encode(struct {
		Type    string      `json:"type"`
		Message messageJSON `json:"message"`
	}{"message_start", r.message()})}}
	for i := range r.blocks {
		events = append(events, r.blocks[i].events(i)...)
		if i == 0 {
			// The first ping comes right after the first block has been opened.
			events = append(events[:2], append([]event{pingEvent()}, events[2:]...)...)
		}
	}
	events = append(events, r.deltaEvent(r.output), event{name: "message_stop", data: []byte(`{"type":"message_stop"}`)})
	return events
}

func (r *reply) deltaEvent(output int64) event {
	u := deltaUsage{Output: output}
	if r.thought > 0 {
		u.OutputDetails = &outputDetails{min(r.thought, output)}
	}
	if r.searched {
		input := r.prompt.Input + r.searchUsage().Input
		creation := r.prompt.CacheWrite5m + r.prompt.CacheWrite1h
		read := r.prompt.CacheRead
		u.Input, u.CacheCreation, u.CacheRead = &input, &creation, &read
		u.ServerTools = &serverToolUsage{Searches: 1}
	}
	type stopDelta struct {
		Reason   string  `json:"stop_reason"`
		Sequence *string `json:"stop_sequence"`
	}
	return event{name: "message_delta", data: encode(struct {
		Type  string     `json:"type"`
		Delta stopDelta  `json:"delta"`
		Usage deltaUsage `json:"usage"`
	}{"message_delta", stopDelta{Reason: r.stop}, u})}
}

func (b *block) events(index int) []event {
	events := []event{{name: "content_block_start", data: encode(struct {
		Type  string          `json:"type"`
		Index int             `json:"index"`
		Block json.RawMessage `json:"content_block"`
	}{"content_block_start", index, b.opening()})}}
	for _, piece := range b.pieces {
		events = append(events, event{
			name: "content_block_delta", data: deltaData(index, b.delta(piece)),
			tokens: pieceTokens(piece), text: b.kind != "thinking",
		})
	}
	if b.signature != "" {
		events = append(events, event{name: "content_block_delta", data: deltaData(index, struct {
			Type      string `json:"type"`
			Signature string `json:"signature"`
		}{"signature_delta", b.signature})})
	}
	return append(events, event{name: "content_block_stop", data: encode(struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
	}{"content_block_stop", index})})
}

func deltaData(index int, delta any) []byte {
	return encode(struct {
		Type  string `json:"type"`
		Index int    `json:"index"`
		Delta any    `json:"delta"`
	}{"content_block_delta", index, delta})
}

// opening is the block before any delta.
func (b *block) opening() json.RawMessage {
	switch b.kind {
	case "thinking":
		return json.RawMessage(`{"type":"thinking","thinking":"","signature":""}`)
	case "tool_use":
		return encode(toolJSON{b.kind, b.toolID, b.toolName, json.RawMessage(`{}`)})
	}
	return encode(textJSON{Type: b.kind})
}

func (b *block) delta(piece string) any {
	switch b.kind {
	case "thinking":
		return struct {
			Type     string `json:"type"`
			Thinking string `json:"thinking"`
		}{"thinking_delta", piece}
	case "tool_use":
		return struct {
			Type string `json:"type"`
			JSON string `json:"partial_json"`
		}{"input_json_delta", piece}
	}
	return textJSON{"text_delta", piece}
}
