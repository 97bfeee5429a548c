package fakeclaude

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"time"
)

var transportFaults = []misbehaviour{
	{
		name:  ResetBeforeHead,
		doc:   "TCP reset before any answer; the body has not been read.",
		fact:  "A dying load balancer or a firewall.",
		early: true,
		act:   func(ex *exchange) bool { ex.sever(true); return true },
	}, {
		name:  ResetInUpload,
		doc:   "TCP reset after at most a kilobyte of the body.",
		fact:  "The connection breaks while the prompt is being sent.",
		early: true,
		act: func(ex *exchange) bool {
			_, _ = io.CopyN(io.Discard, ex.r.Body, 1024)
			ex.sever(true)
			return true
		},
	}, {
		name: CloseBeforeHead,
		doc:  "The connection is closed without an answer, after the body was read.",
		fact: "The serving process went away.",
		act:  func(ex *exchange) bool { ex.sever(false); return true },
	}, {
		name: HangBeforeHead,
		doc:  "No head at all, until the client leaves.",
		fact: "A lost request; only a header timeout ends it.",
		act: func(ex *exchange) bool {
			ex.hang()
			ex.severIfThere()
			return true
		},
	}, {
		name:  SlowHead,
		doc:   "The head comes after Delay, then all is well.",
		fact:  "The API queues under load.",
		delay: 5 * time.Second,
		act: func(ex *exchange) bool {
			if ex.s.pause(ex.r.Context(), ex.fault.Delay) {
				return false
			}
			ex.severIfThere()
			return true
		},
	}, {
		name: Redirect,
		doc:  "307 to the same path.",
		fact: "Gateways must not redirect; a proxy must not follow with a credential.",
		act: func(ex *exchange) bool {
			ex.w.Header().Set("Location", ex.r.URL.Path+"?redirected=1")
			ex.open(http.StatusTemporaryRedirect)
			return true
		},
	},
}

func firstError(kind, text string) *shape {
	return &shape{firstError: true, errorKind: kind, errorText: text}
}

func errorThen(cut cutPoint, kind, text string) *shape {
	return &shape{cut: cut, ending: endError, errorKind: kind, errorText: text}
}

var streamFaults = []misbehaviour{
	{
		name:  FirstOverloaded,
		doc:   "200, and the first event is an overloaded_error.",
		fact:  "Overload noticed after the head was out; stands for 529.",
		shape: firstError("overloaded_error", "Overloaded"),
	}, {
		name:  FirstRateLimit,
		doc:   "200, and the first event is a rate_limit_error.",
		fact:  "Stands for 429.",
		shape: firstError("rate_limit_error", windowRefusal),
	}, {
		name:  FirstAPIError,
		doc:   "200, and the first event is an api_error.",
		fact:  "Stands for 500.",
		shape: firstError("api_error", "Internal server error"),
	}, {
		name:  FirstAuth,
		doc:   "200, and the first event is an authentication_error.",
		fact:  "Stands for 401.",
		shape: firstError("authentication_error", "OAuth token has expired. Please obtain a new token or refresh your existing token."),
	}, {
		name:  SlowFirst,
		doc:   "Silence for Delay between head and first event.",
		fact:  "A long prompt is being read.",
		delay: 5 * time.Second,
		shape: &shape{lead: leadSilence},
	}, {
		name:  SlowFirstPings,
		doc:   "Pings for Delay before the first event.",
		fact:  "The API keeps a waiting stream alive.",
		delay: 5 * time.Second, every: time.Second,
		shape: &shape{lead: leadPings},
	}, {
		name:  SlowFirstComments,
		doc:   "Comment lines for Delay before the first event.",
		fact:  "A gateway on the way keeps the stream alive.",
		delay: 5 * time.Second, every: time.Second,
		shape: &shape{lead: leadComments},
	}, {
		name:  PingsOnly,
		doc:   "Pings and nothing else, until the client leaves.",
		fact:  "A stream that is alive and never says anything.",
		every: time.Second,
		shape: &shape{cut: cutAll, ending: endPings},
	}, {
		name:  EmptyStream,
		doc:   "200 and a clean end without any event.",
		fact:  "An upstream that lost its worker.",
		shape: &shape{cut: cutAll},
	}, {
		name:  CutBeforeText,
		doc:   "TCP reset after message_start.",
		fact:  "The connection breaks before any content.",
		shape: &shape{cut: cutAfterStart, ending: endReset},
	}, {
		name:  CutAfterText,
		doc:   "TCP reset after the first piece of text.",
		fact:  "The connection breaks in mid-stream.",
		shape: &shape{cut: cutAfterText, ending: endReset},
	}, {
		name:  CloseAfterText,
		doc:   "The connection is closed after the first piece of text, without a last chunk.",
		fact:  "The serving process went away in mid-stream.",
		shape: &shape{cut: cutAfterText, ending: endClose},
	}, {
		name:  EndAfterText,
		doc:   "A clean end after the first piece of text.",
		fact:  "A broken stream that HTTP takes for a whole one.",
		shape: &shape{cut: cutAfterText},
	}, {
		name:  EndWithoutStop,
		doc:   "Everything but message_stop, and a clean end.",
		fact:  "Without message_stop a stream is broken whatever the status said.",
		shape: &shape{cut: cutBeforeStop},
	}, {
		name:  StallAfterStart,
		doc:   "Silence for ever after message_start.",
		fact:  "A worker hangs before the first token.",
		shape: &shape{cut: cutAfterStart, ending: endStall},
	}, {
		name:  StallAfterText,
		doc:   "Silence for ever after the first piece of text.",
		fact:  "A worker hangs in mid-stream.",
		shape: &shape{cut: cutAfterText, ending: endStall},
	}, {
		name:  PingsAfterText,
		doc:   "Pings for ever after the first piece of text.",
		fact:  "The edge keeps a hung stream alive.",
		every: time.Second,
		shape: &shape{cut: cutAfterText, ending: endPings},
	}, {
		name:  ErrorAfterStart,
		doc:   "An overloaded_error event right after message_start.",
		fact:  "Overload before the first token.",
		shape: errorThen(cutAfterStart, "overloaded_error", "Overloaded"),
	}, {
		name:  ErrorAfterText,
		doc:   "An overloaded_error event after the first piece of text.",
		fact:  "Overload in mid-stream, which cannot be retried unseen.",
		shape: errorThen(cutAfterText, "overloaded_error", "Overloaded"),
	}, {
		name:  APIErrorAfterText,
		doc:   "An api_error event after the first piece of text.",
		fact:  "An error inside the API in mid-stream.",
		shape: errorThen(cutAfterText, "api_error", "Internal server error"),
	}, {
		name:  LimitAfterText,
		doc:   "A rate_limit_error event after the first piece of text.",
		fact:  "The window ran out in mid-stream.",
		shape: errorThen(cutAfterText, "rate_limit_error", windowRefusal),
	}, {
		name:  MalformedSSE,
		doc:   "Broken lines between good events: half a JSON object, a field without colon, a lone value.",
		fact:  "A middlebox has touched the stream.",
		shape: &shape{edit: malform},
	}, {
		name:  CRLF,
		doc:   "Lines end in CR LF.",
		fact:  "The event stream format allows it.",
		shape: &shape{crlf: true},
	}, {
		name:  HugeLine,
		doc:   "One data line of two megabytes.",
		fact:  "Tool inputs and search results come in one event.",
		shape: &shape{edit: enlarge},
	}, {
		name:  UnknownEvent,
		doc:   "Event types and delta types that nobody knows.",
		fact:  "The API announces that types will be added.",
		shape: &shape{edit: surprise},
	}, {
		name:  TwoDeltas,
		doc:   "Two message_delta events; the counts of the second one hold.",
		fact:  "Counts are cumulative, not additive.",
		shape: &shape{edit: repeatDelta},
	}, {
		name:  SparseUsage,
		doc:   "Usage fields that would be zero are null or missing.",
		fact:  "Any usage field can be null or missing.",
		shape: &shape{edit: thinOut},
	}, {
		name:  GzipAlways,
		doc:   "The body is gzip with Content-Encoding although identity was asked for.",
		fact:  "Some edges compress whatever the request says.",
		shape: &shape{gzip: gzipAlways},
	}, {
		name:  GzipUnlabelled,
		doc:   "The body is gzip without Content-Encoding.",
		fact:  "Some edges left the header off.",
		shape: &shape{gzip: gzipUnlabelled},
	}, {
		name:  JSONCut,
		doc:   "A JSON answer ends cleanly half-way; a stream lacks message_stop.",
		fact:  "An upstream that went away behind a buffering proxy.",
		shape: &shape{cut: cutBeforeStop},
	}, {
		name:  EarlyHints,
		doc:   "103 Early Hints before the answer.",
		fact:  "Intermediaries may send 1xx answers at any time.",
		shape: &shape{hints: true},
	}, {
		name:  LengthShort,
		doc:   "Content-Length promises more bytes than come.",
		fact:  "A truncated answer that HTTP can tell from a whole one.",
		shape: &shape{shortBy: 64},
	},
}

// after puts events behind the first piece of content.
func after(events []event, extra ...event) []event {
	at := cutAfterText.of(events)
	return append(events[:at:at], append(extra, events[at:]...)...)
}

// hugeLine is past every common default of line readers.
const hugeLine = 2 << 20

func enlarge(r *reply, events []event) []event {
	piece := strings.Repeat("long line ", hugeLine/10)
	index := len(r.blocks) - 1
	for i := range r.blocks {
		if r.blocks[i].kind == "text" {
			index = i
		}
	}
	delta := deltaData(index, textJSON{"text_delta", piece})
	// It adds no tokens: the counts told stay those of the reply.
	return after(events, event{name: "content_block_delta", data: delta})
}

func surprise(_ *reply, events []event) []event {
	return after(events,
		event{name: "weather_report", data: []byte(`{"type":"weather_report","outlook":["rain",{"until":null}]}`)},
		event{name: "content_block_delta", data: []byte(`{"type":"content_block_delta","index":0,"delta":{"type":"colour_delta","colour":"blue"}}`)},
		event{data: []byte(`{"type":"nameless"}`)},
	)
}

func malform(_ *reply, events []event) []event {
	return after(events,
		event{name: "content_block_delta", data: []byte(`{"type":"content_block_delta","index":0,"delta":{"type":"text_de`)},
		event{name: "content_block_delta", data: []byte("\nnocolon\nretry: soon\n: comment")},
		event{name: "", data: []byte(`42`)},
	)
}

func repeatDelta(r *reply, events []event) []event {
	at := len(events) - 2
	first := r.deltaEvent(max(1, r.output/2))
	return append(events[:at:at], append([]event{first}, events[at:]...)...)
}

func thinOut(_ *reply, events []event) []event {
	start := events[0].data
	for _, change := range [][2]string{
		{`"cache_creation_input_tokens":0`, `"cache_creation_input_tokens":null`},
		{`"cache_read_input_tokens":0,`, ``},
		{`"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}`, `"cache_creation":null`},
		{`"service_tier":"standard"`, `"service_tier":null`},
	} {
		start = bytes.Replace(start, []byte(change[0]), []byte(change[1]), 1)
	}
	events[0].data = start
	return events
}
