package faults

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

var (
	streamOnly   = []kind{stream}
	documentOnly = []kind{document}
	// everywhere are all protocols: each has its own way to say that an answer is
	// not whole.
	everywhere = []string{http11, http2c, http3q}
)

const ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n"

// becomes is the answer when an error event was the first of the stream, at all
// accounts: an error like any other, with the status that it stands for.
func becomes(status int, text string) outcome {
	return outcome{ending: own, status: []int{status}, text: []string{text}, tries: 2, exactly: true, next: asked}
}

// inTime bounds the answer of a stalled stream.
func inTime(o *outcome) { o.longest = beforeStall }

// twiceInTime is inTime for two accounts that stall one after the other.
func twiceInTime(o *outcome) { o.longest = 2 * beforeStall }

// firstRows: the head is there, and then, in the place of the first event, that.
var firstRows = []row{
	{
		name: "first_overloaded", place: "first event", kinds: streamOnly, sick: fault(fakeclaude.FirstOverloaded), one: overloadedOne,
		all: outcome{ending: own, status: []int{529}, text: []string{"Overloaded"}, tries: 3, reopens: 6500 * time.Millisecond},
	},
	{name: "first_rate_limit", place: "first event", kinds: streamOnly, sick: fault(fakeclaude.FirstRateLimit), one: movedOnUnbenched, all: becomes(http.StatusTooManyRequests, "rate limit")},
	{name: "first_api_error", place: "first event", kinds: streamOnly, sick: fault(fakeclaude.FirstAPIError), one: movedOnBlamed, all: becomes(http.StatusInternalServerError, "Internal server error")},
	{name: "first_authentication", place: "first event", kinds: streamOnly, sick: fault(fakeclaude.FirstAuth), one: movedOn, all: needsLogin},
	{name: "first_billing", place: "first event", kinds: streamOnly, sick: scripted(streams(errorEvent("billing_error", "Your card was refused."))), one: movedOn, all: moneySpent(tenMinutes)},
	{
		name: "first_invalid_request", place: "first event", kinds: streamOnly,
		sick: scripted(streams(errorEvent("invalid_request_error", "messages: wrong"))),
		one:  outcome{ending: own, status: []int{400}, text: []string{"messages: wrong"}, tries: 1, exactly: true, next: asked},
		all:  outcome{ending: own, status: []int{400}, text: []string{"messages: wrong"}, tries: 1, exactly: true, next: asked},
	},
	{
		// Pings and comments say nothing about how the answer goes.
		name: "ping_then_error", place: "first event", kinds: streamOnly,
		sick: scripted(streams(ping + errorEvent("api_error", "Internal server error"))),
		one:  movedOnBlamed, all: becomes(http.StatusInternalServerError, "Internal server error"),
	},
	{
		name: "comment_then_error", place: "first event", kinds: streamOnly,
		sick: scripted(streams(": hello\n\n: hello again\n\n" + errorEvent("api_error", "Internal server error"))),
		one:  movedOnBlamed, all: becomes(http.StatusInternalServerError, "Internal server error"),
	},
	{
		name: "error_without_blank_line", place: "first event", kinds: streamOnly,
		sick: scripted(streams(strings.TrimRight(errorEvent("api_error", "Internal server error"), "\n"))),
		one:  movedOnBlamed, all: becomes(http.StatusInternalServerError, "Internal server error"),
	},
	{
		name: "error_without_name", place: "first event", kinds: streamOnly,
		sick: scripted(streams("data: " + envelope("api_error", "Internal server error") + "\n\n")),
		one:  movedOnBlamed, all: becomes(http.StatusInternalServerError, "Internal server error"),
	},
	{name: "slow_first", place: "first event", sick: slow(fakeclaude.SlowFirst, 400*time.Millisecond, 0), one: served, all: served},
	{name: "slow_first_pings", place: "first event", kinds: streamOnly, sick: slow(fakeclaude.SlowFirstPings, 400*time.Millisecond, 100*time.Millisecond), one: served, all: served},
	{
		name: "slow_first_comments", place: "first event", kinds: streamOnly, sick: slow(fakeclaude.SlowFirstComments, 400*time.Millisecond, 100*time.Millisecond),
		one: served.with(keepsComments), all: served.with(keepsComments),
	},
	{
		name: "stall_before_first", place: "first event", kinds: streamOnly, settings: shortStall, sick: slow(fakeclaude.SlowFirst, patience, 0),
		one: movedOnBlamed.with(inTime), all: unreachable.with(twiceInTime),
	},
	{name: "empty_stream", place: "first event", kinds: streamOnly, sick: fault(fakeclaude.EmptyStream), one: movedOnBlamed, all: unreachable},
	{name: "cut_before_first", place: "first event", kinds: streamOnly, sick: scripted(reset(streams(""))), one: movedOnBlamed, all: unreachable},
	{name: "cut_after_ping", place: "first event", kinds: streamOnly, sick: scripted(reset(streams(ping))), one: movedOnBlamed, all: unreachable},
	{name: "end_after_ping", place: "first event", kinds: streamOnly, sick: scripted(streams(ping)), one: movedOnBlamed, all: unreachable},
	{
		name: "cut_in_first", place: "first event", kinds: streamOnly,
		sick: scripted(reset(streams(`event: message_start` + "\n" + `data: {"type":"message_start","mess`))),
		one:  movedOnBlamed, all: unreachable,
	},
}

func keepsComments(o *outcome) { o.text = []string{": keep-alive"} }

// reset ends a script with a TCP reset, once its body had the time to arrive.
func reset(s script) script {
	s.reset, s.pause = true, 100*time.Millisecond
	return s
}

// sameServed is an odd answer that is whole: it goes to the client as it is.
var sameServed = outcome{ending: same, sickTries: 1, tries: 1, exactly: true, next: asked}

func whoeverIsNext(o *outcome) { o.next = anyNext }

// streamRows: an answer that has begun goes on as it should not. Nothing can be
// tried again; what matters is that the client sees it as it is.
var streamRows = []row{
	{name: "cut_after_start", place: "mid-stream", kinds: streamOnly, protocols: everywhere, sick: fault(fakeclaude.CutBeforeText), one: brokenOff, all: brokenOffAll},
	{name: "cut_after_text", place: "mid-stream", kinds: streamOnly, protocols: everywhere, sick: fault(fakeclaude.CutAfterText), one: brokenOff, all: brokenOffAll},
	{name: "close_after_text", place: "mid-stream", kinds: streamOnly, protocols: everywhere, sick: fault(fakeclaude.CloseAfterText), one: brokenOff, all: brokenOffAll},
	{name: "clean_end_after_text", place: "mid-stream", kinds: streamOnly, protocols: everywhere, sick: fault(fakeclaude.EndAfterText), one: brokenOff, all: brokenOffAll},
	{name: "end_without_message_stop", place: "mid-stream", kinds: streamOnly, protocols: everywhere, sick: fault(fakeclaude.EndWithoutStop), one: brokenOff, all: brokenOffAll},
	{
		name: "data_limit_in_stream", place: "mid-stream", kinds: streamOnly, protocols: everywhere,
		sick: poisoned(answering("limit_data", map[string]int{"bytes": 2500})), one: brokenOff, all: brokenOffAll,
	},
	{
		name: "stall_after_start", place: "mid-stream", kinds: streamOnly, protocols: everywhere, settings: shortStall,
		sick: fault(fakeclaude.StallAfterStart), one: brokenOff.with(inTime), all: brokenOffAll.with(inTime),
	},
	{
		name: "stall_after_text", place: "mid-stream", kinds: streamOnly, protocols: everywhere, settings: shortStall,
		sick: fault(fakeclaude.StallAfterText), one: brokenOff.with(inTime), all: brokenOffAll.with(inTime),
	},
	{
		name: "gzip_cut", place: "mid-stream", kinds: streamOnly, protocols: everywhere, sick: scripted(halfGzip()),
		one: brokenOff.with(orRefused), all: brokenOffAll.with(orRefused),
	},
	{name: "error_after_start", place: "mid-stream", kinds: streamOnly, protocols: everywhere, sick: fault(fakeclaude.ErrorAfterStart), one: sameServed.with(whoeverIsNext), all: sameServed.with(whoeverIsNext)},
	{name: "error_after_text", place: "mid-stream", kinds: streamOnly, protocols: everywhere, sick: fault(fakeclaude.ErrorAfterText), one: sameServed.with(whoeverIsNext), all: sameServed.with(whoeverIsNext)},
	{name: "api_error_after_text", place: "mid-stream", kinds: streamOnly, sick: fault(fakeclaude.APIErrorAfterText), one: sameServed.with(whoeverIsNext), all: sameServed.with(whoeverIsNext)},
	{name: "rate_limit_after_text", place: "mid-stream", kinds: streamOnly, sick: fault(fakeclaude.LimitAfterText), one: sameServed.with(whoeverIsNext), all: sameServed.with(whoeverIsNext)},
	{name: "malformed_events", place: "mid-stream", kinds: streamOnly, sick: fault(fakeclaude.MalformedSSE), one: sameServed, all: sameServed},
	{name: "crlf", place: "mid-stream", kinds: streamOnly, sick: fault(fakeclaude.CRLF), one: sameServed, all: sameServed},
	{name: "line_of_2_MB", place: "mid-stream", kinds: streamOnly, protocols: everywhere, sick: fault(fakeclaude.HugeLine), one: sameServed, all: sameServed},
	{name: "unknown_events", place: "mid-stream", kinds: streamOnly, sick: fault(fakeclaude.UnknownEvent), one: sameServed, all: sameServed},
	{name: "two_message_deltas", place: "mid-stream", kinds: streamOnly, sick: fault(fakeclaude.TwoDeltas), one: sameServed, all: sameServed},
	{name: "sparse_usage", place: "mid-stream", kinds: streamOnly, sick: fault(fakeclaude.SparseUsage), one: sameServed, all: sameServed},
	{name: "gzip_labelled", place: "mid-stream", sick: fault(fakeclaude.GzipAlways), protocols: []string{http11, http2c}, one: served, all: served},
	{name: "gzip_unlabelled", place: "mid-stream", sick: fault(fakeclaude.GzipUnlabelled), protocols: []string{http11, http2c}, one: served, all: served},
}

func orRefused(o *outcome) { o.ending = failed }

// halfGzip is a compressed stream that ends in the middle, as if that were all.
func halfGzip() script {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(event("message_start", `{"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-5","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}`)))
	_ = z.Flush()
	whole := packed.Len()
	_, _ = z.Write([]byte(event("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)))
	_ = z.Flush()
	s := streams(packed.String()[:whole+8])
	s.header["Content-Encoding"] = "gzip"
	return s
}

// endRows: an answer lacks its end.
var endRows = []row{
	{name: "json_cut_cleanly", place: "end", kinds: documentOnly, protocols: everywhere, sick: fault(fakeclaude.JSONCut), one: brokenOff, all: brokenOffAll},
	{name: "json_reset", place: "end", kinds: documentOnly, protocols: everywhere, sick: fault(fakeclaude.CutAfterText), one: brokenOff.with(orRefused), all: brokenOffAll.with(orRefused)},
	{name: "json_closed", place: "end", kinds: documentOnly, protocols: everywhere, sick: fault(fakeclaude.CloseAfterText), one: brokenOff.with(orRefused), all: brokenOffAll.with(orRefused)},
	{
		name: "json_stalls", place: "end", kinds: documentOnly, protocols: everywhere, settings: shortStall, sick: fault(fakeclaude.StallAfterText),
		one: brokenOff.with(inTime), all: brokenOffAll.with(inTime),
	},
	{
		name: "json_empty", place: "end", kinds: documentOnly, sick: scripted(script{status: http.StatusOK, header: jsonType}),
		one: movedOnBlamed, all: unreachable,
	},
	{name: "length_mismatch", place: "end", protocols: everywhere, sick: fault(fakeclaude.LengthShort), one: brokenOff, all: brokenOffAll},
	{
		name: "data_limit_in_json", place: "end", kinds: documentOnly, sick: poisoned(answering("limit_data", map[string]int{"bytes": 1100})),
		one: brokenOff, all: brokenOffAll,
	},
}
