package main

import (
	"fmt"
	"strings"
	"time"
)

// What a load does.
const (
	kindRequests = "requests" // one request after the other on each connection
	kindFlood    = "flood"    // the same with event streams as answers, without pause
	kindPaced    = "paced"    // each connection one event stream
	kindBurst    = "burst"    // each connection one request, whose answer is held until all are there
)

// job is what the load is told.
type job struct {
	Kind        string
	Port        int // of the Caddy, on 127.0.0.1
	Connections int
	Query       string        // of each request
	Body        int           // the bytes of a request's body, at least a small one
	Events      int           // deltas of a stream
	Warm        time.Duration // before what counts
	Run         time.Duration // what counts
	Ramp        time.Duration // in which paced streams begin
}

// outcome is what the load saw.
type outcome struct {
	Seconds  float64 // that were measured
	Requests int     // complete and right ones
	Bytes    int64   // of request bodies, in Requests
	Events   int     // that arrived
	Failed   int
	Failure  string    // the first one
	Latency  quantiles // of whole requests
	First    quantiles // until the first byte of the answer
	Delay    quantiles // of events with a time stamp
}

// The phases that the load announces. After idle and warm it waits to be told to go on.
const (
	phaseIdle = "idle" // connected with a few requests served
	phaseWarm = "warm" // the work runs
	phaseOpen = "open" // every paced stream has begun to arrive
	phaseDone = "done" // what was to be measured is over; the outcome follows
)

// clientKey is what clients send, accountKey what begins the keys of accounts. They are
// nobody's.
const (
	clientKey  = "key-of-the-benchmark"
	accountKey = "sk-ant-api03-benchmark-"
)

// requestHead is everything of a request before its body.
func requestHead(j *job, connection, length int) []byte {
	return fmt.Appendf(nil, "POST /v1/messages%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: claude-cli/2.1.0 (external, cli)\r\nAccept: application/json\r\n"+
		"X-Api-Key: %s\r\nAnthropic-Version: 2023-06-01\r\nAnthropic-Beta: claude-code-20250219,interleaved-thinking-2025-05-14\r\n"+
		"X-Claude-Code-Session-Id: 6f1c0f0e-7f5d-4f0e-9a53-%012x\r\nX-App: cli\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		j.Query, j.Port, clientKey, connection, length)
}

// requestBody is a conversation whose texts fill the body to that many bytes, in blocks
// of 8 KB with line breaks, as source code that was read into it has.
func requestBody(size int, stream bool) []byte {
	head := fmt.Sprintf(`{"model":"claude-sonnet-5","max_tokens":4096,"stream":%t,"system":[{"type":"text","text":"You are a helpful assistant."}],`+
		`"metadata":{"user_id":"user_0123_account__session_6f1c0f0e-7f5d-4f0e-9a53-000000000000"},"messages":[`, stream)
	const last = `{"role":"user","content":"Why does this loop never end?"}]}`
	var b strings.Builder
	b.Grow(size + 256)
	b.WriteString(head)
	const line = `\tif err := writer.Flush(ctx, items[:n]); err != nil { return fmt.Errorf(\"flushing: %w\", err) }\n`
	for turn := 0; ; turn++ {
		role := [2]string{"user", "assistant"}[turn%2]
		block := `{"role":"` + role + `","content":[{"type":"text","text":"` + strings.Repeat(line, 82) + `"}]},`
		if b.Len()+len(block)+len(last) > size {
			break
		}
		b.WriteString(block)
	}
	if rest := size - b.Len() - len(last) - len(`{"role":"assistant","content":""},`); rest > 0 {
		b.WriteString(`{"role":"assistant","content":"` + strings.Repeat("x", rest) + `"},`)
	}
	b.WriteString(last)
	return []byte(b.String())
}
