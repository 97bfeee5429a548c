package sse_test

import (
	"fmt"

	"github.com/caddy-shunt/caddy-shunt/sse"
)

func ExampleParser() {
	parser := sse.NewParser(1<<20, func(e sse.Event) { fmt.Printf("%s: %s\n", e.Name, e.Data) })
	// However the stream is cut, the events are the same.
	for _, piece := range []string{"event: pi", "ng\ndata: {}\n", "\ndata: cut off"} {
		parser.Write([]byte(piece))
	}
	// Output: ping: {}
}

func ExampleTap() {
	tap := sse.NewStreamTap()
	fmt.Fprint(tap, `event: message_start
data: {"type":"message_start","message":{"id":"msg_1","model":"claude-opus-5","usage":{"input_tokens":12,"output_tokens":1}}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":34}}

event: message_stop
data: {"type":"message_stop"}

`)
	seen := tap.Result()
	fmt.Println(seen.Complete, seen.Counted, seen.Usage.InputTokens, seen.Usage.OutputTokens, seen.StopReason)
	// Output: true true 12 34 end_turn
}
