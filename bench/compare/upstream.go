package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The upstream answers POST /v1/messages as the API does, and as fast as net/http can.
// What it answers is said by the request's query: events is the number of deltas
// (without it the answer is JSON), spacing the time between two of them, batch how many
// go out in one write, hold how long a JSON answer waits.

const answerJSON = `{"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","model":"claude-sonnet-5","content":[{"type":"text","text":"The function returns early when the list is empty, so the counter is never reset. Move the reset above the check."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":412,"cache_creation_input_tokens":0,"cache_read_input_tokens":18233,"output_tokens":31}}`

const streamHead = "event: message_start\n" +
	`data: {"type":"message_start","message":{"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","model":"claude-sonnet-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":412,"cache_creation_input_tokens":0,"cache_read_input_tokens":18233,"output_tokens":1}}}` +
	"\n\nevent: content_block_start\n" +
	`data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}` +
	"\n\nevent: ping\n" + `data: {"type":"ping"}` + "\n\n"

const streamTail = "event: content_block_stop\n" + `data: {"type":"content_block_stop","index":0}` +
	"\n\nevent: message_delta\n" +
	`data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":531}}` +
	"\n\nevent: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n"

// frameEvents is how many events a stream has besides its deltas.
var frameEvents = strings.Count(streamHead+streamTail, "\n\n")

const (
	deltaBefore = "event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"`
	deltaAfter  = ` the list is"}}` + "\n\n"
	// unstamped stands where the time would; a reader takes only what is between two
	// stampMarks for one.
	unstamped = "and then the counter."
	stampMark = '@'
)

// upstream counts what it should not have been asked.
type upstream struct {
	unexpected atomic.Int64
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/v1/messages" || !strings.HasPrefix(r.Header.Get("X-Api-Key"), accountKey) {
		u.unexpected.Add(1)
		http.Error(w, "not a request of the benchmark", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Request-Id", "req_011CSHoEeqs5C35K2UUqR7Fy")
	h.Set("Anthropic-Organization-Id", "9a2a94b2-ea3b-4d5f-a0a9-4b5c5e0d5e4b")
	reset := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	for _, bucket := range []string{"Requests", "Tokens"} {
		h.Set("Anthropic-Ratelimit-"+bucket+"-Limit", "8000000")
		h.Set("Anthropic-Ratelimit-"+bucket+"-Remaining", "7999000")
		h.Set("Anthropic-Ratelimit-"+bucket+"-Reset", reset)
	}
	query := r.URL.Query()
	events, err := strconv.Atoi(query.Get("events"))
	if err != nil {
		hold, _ := time.ParseDuration(query.Get("hold"))
		time.Sleep(hold)
		h.Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answerJSON)
		return
	}
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	spacing, _ := time.ParseDuration(query.Get("spacing"))
	batch, _ := strconv.Atoi(query.Get("batch"))
	stream(w, r, events, max(1, batch), spacing)
}

// stream writes an event stream, and ends when the client has gone.
func stream(w http.ResponseWriter, r *http.Request, events, batch int, spacing time.Duration) {
	flusher := http.NewResponseController(w)
	send := func(data []byte) bool {
		_, err := w.Write(data)
		return err == nil && flusher.Flush() == nil
	}
	if !send([]byte(streamHead)) {
		return
	}
	begun := time.Now()
	chunk := make([]byte, 0, 256*batch)
	for sent := 0; sent < events; sent += batch {
		if spacing > 0 {
			time.Sleep(time.Until(begun.Add(time.Duration(sent+1) * spacing)))
			if r.Context().Err() != nil {
				return
			}
		}
		chunk = chunk[:0]
		for range min(batch, events-sent) {
			chunk = append(chunk, deltaBefore...)
			if spacing > 0 {
				chunk = append(chunk, stampMark)
				chunk = strconv.AppendInt(chunk, time.Now().UnixNano(), 10)
				chunk = append(chunk, stampMark)
			} else {
				chunk = append(chunk, unstamped...)
			}
			chunk = append(chunk, deltaAfter...)
		}
		if !send(chunk) {
			return
		}
	}
	send([]byte(streamTail))
}

// serveUpstream is the role of the upstream: it says its port on standard output and
// serves every loopback address until standard input ends; then it says how many
// requests it did not expect.
func serveUpstream() error {
	// Collections of its own would be seen as delays of whoever is measured.
	debug.SetGCPercent(800)
	listener, err := net.Listen("tcp4", "0.0.0.0:0") //nolint:gosec // all of 127/8: a destination of its own for each run
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	u := new(upstream)
	server := &http.Server{Handler: u, ReadHeaderTimeout: time.Minute}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Println(u.unexpected.Load())
		_ = server.Close()
	}()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
