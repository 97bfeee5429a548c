package faults

import (
	"net/http"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// oneMegabyte of prompt is more than the buffers of sockets hold, so that a
// refusal comes while the proxy still sends.
var oneMegabyte = request{padding: 1 << 20}

// shortStall makes a proxy of ours give up on silence soon.
const shortStall = "stall_timeout 1s"

// beforeStall is by when an answer must be there that had to wait for one stall.
const beforeStall = 6 * time.Second

// noConnection is the outcome where a sick account's upstream cannot even be
// asked.
var noConnection = outcome{ending: whole, tries: 1, exactly: true, next: away}

// connectRows: there is no connection, or it is none of HTTP's.
var connectRows = []row{
	{name: "connect_refused", place: "connect", sick: sickness{door: doorClosed}, one: noConnection, all: unreachable},
	{name: "connect_toxiproxy_down", place: "connect", sick: sickness{cut: true}, one: noConnection, all: unreachable},
	{name: "connect_reset", place: "connect", sick: sickness{door: doorResets}, one: noConnection, all: unreachable},
	{name: "connect_tls_to_plain_http", place: "connect", sick: sickness{https: true}, one: noConnection, all: unreachable},
	{name: "connect_plain_http_to_tls", place: "connect", sick: sickness{door: doorGarbage}, one: noConnection, all: unreachable},
	{
		name: "connect_black_hole", place: "connect", kinds: []kind{stream}, settings: shortStall,
		sick: poisoned(asking("timeout", map[string]int{"timeout": 0})),
		one:  noConnection.with(func(o *outcome) { o.longest = beforeStall }),
		all:  unreachable.with(func(o *outcome) { o.longest = 2 * beforeStall }),
	},
	{
		// Nothing is wrong with an account whose upstream has closed an idle
		// connection, at worst in the moment of the request.
		name: "connect_idle_closed", place: "connect", runs: []run{oneSick}, sick: sickness{door: doorRestarts},
		one: outcome{ending: whole, tries: 2},
	},
	{
		name: "connect_reset_by_toxiproxy", place: "connect",
		sick: poisoned(answering("reset_peer", map[string]int{"timeout": 0})),
		one:  movedOnBlamed, all: unreachable,
	},
}

// headRows: what comes, or does not come, where the head of an answer belongs.
var headRows = []row{
	{name: "reset_before_head", place: "head", sick: fault(fakeclaude.ResetBeforeHead), one: movedOnBlamed, all: unreachable},
	{name: "reset_in_upload", place: "head", sick: fault(fakeclaude.ResetInUpload), request: oneMegabyte, one: movedOnBlamed, all: unreachable},
	{name: "close_before_head", place: "head", sick: fault(fakeclaude.CloseBeforeHead), one: movedOnBlamed, all: unreachable},
	{
		name: "hang_before_head", place: "head", kinds: []kind{stream}, settings: shortStall, sick: fault(fakeclaude.HangBeforeHead),
		one: movedOnBlamed.with(func(o *outcome) { o.longest = beforeStall }),
		all: unreachable.with(func(o *outcome) { o.longest = 2 * beforeStall }),
	},
	{
		// The client has said how long it waits, and is told before it gives up.
		name: "hang_beyond_patience", place: "head", kinds: []kind{document}, sick: fault(fakeclaude.HangBeforeHead),
		request: request{header: map[string]string{"X-Stainless-Timeout": "4"}},
		one:     unreachable.with(func(o *outcome) { o.longest, o.next = 4*time.Second, anyNext }),
		all:     unreachable.with(func(o *outcome) { o.longest, o.next = 4*time.Second, anyNext }),
	},
	{
		name: "slow_head", place: "head", sick: slow(fakeclaude.SlowHead, 400*time.Millisecond, 0),
		one: served.with(func(o *outcome) { o.shortest = 400 * time.Millisecond }),
		all: served.with(func(o *outcome) { o.shortest = 400 * time.Millisecond }),
	},
	{name: "early_hints", place: "head", sick: fault(fakeclaude.EarlyHints), one: served, all: served},
	{
		name: "early_429_in_upload", place: "head", sick: fault(fakeclaude.Early429), request: oneMegabyte,
		one: movedOn, all: briefly("1..3", 0),
	},
	{name: "early_413_in_upload", place: "head", sick: fault(fakeclaude.TooLarge), request: oneMegabyte, one: callers, all: callersAll},
	{name: "garbage_head", place: "head", sick: scripted(script{raw: "SSH-2.0-OpenSSH_9.9\r\n\r\n"}), one: movedOnBlamed, all: unreachable},
	{name: "cut_in_head", place: "head", sick: scripted(script{raw: "HTTP/1.1 200 OK\r\nContent-Type: text/ev"}), one: movedOnBlamed, all: unreachable},
	{
		name: "data_limit_in_head", place: "head", sick: poisoned(answering("limit_data", map[string]int{"bytes": 60})),
		one: movedOnBlamed, all: unreachable,
	},
	{
		name: "latency", place: "way", sick: poisoned(answering("latency", map[string]int{"latency": 150, "jitter": 50})),
		one: served, all: served,
	},
	{
		name: "bandwidth", place: "way", sick: poisoned(answering("bandwidth", map[string]int{"rate": 64})),
		one: served, all: served,
	},
	{
		name: "bandwidth_of_upload", place: "way", request: request{padding: 100_000},
		sick: poisoned(asking("bandwidth", map[string]int{"rate": 200})),
		one:  served.with(func(o *outcome) { o.shortest = 400 * time.Millisecond }),
		all:  served.with(func(o *outcome) { o.shortest = 400 * time.Millisecond }),
	},
	{
		name: "small_packets", place: "way",
		sick: poisoned(answering("slicer", map[string]int{"average_size": 40, "size_variation": 20, "delay": 200})),
		one:  served, all: served,
	},
	{
		name: "slow_close", place: "way", sick: poisoned(answering("slow_close", map[string]int{"delay": 500})),
		one: served, all: served,
	},
}

// requestRows: the request is at fault, and every account says the same.
var requestRows = []row{
	{name: "invalid_request", place: "status", sick: fault(fakeclaude.InvalidRequest), one: callers, all: callersAll},
	{name: "prompt_too_long", place: "status", sick: fault(fakeclaude.PromptTooLong), one: callers, all: callersAll},
	{name: "unknown_model_404", place: "status", sick: fault(fakeclaude.UnknownModel), one: callers, all: callersAll},
	{name: "method_405", place: "status", sick: says(http.StatusMethodNotAllowed, "invalid_request_error", "Method Not Allowed"), one: callers, all: callersAll},
	{name: "conflict_409", place: "status", sick: fault(fakeclaude.Conflict), one: callers, all: callersAll},
	{name: "too_large_413", place: "status", sick: page(http.StatusRequestEntityTooLarge, "413 Request Entity Too Large"), one: callers, all: callersAll},
	{name: "unprocessable_422", place: "status", sick: says(http.StatusUnprocessableEntity, "invalid_request_error", "messages: wrong"), one: callers, all: callersAll},
	{name: "signature_400", place: "status", sick: says(http.StatusBadRequest, "invalid_request_error", "messages.1.content.0: Invalid `signature` in `thinking` block"), one: callers, all: callersAll},
}

// overloadedByAll: the service has no capacity, which is no account's fault: it
// is asked again a little later, once more elsewhere, and then the client is told.
var (
	overloadedOne = outcome{ending: whole, sickTries: 2, tries: 3, reopens: 6500 * time.Millisecond}
	overloadedAll = outcome{ending: same, tries: 3, reopens: 6500 * time.Millisecond}
)

// noRedirect: redirects are never followed, for they would take a credential
// along, and never passed on.
var noRedirects = outcome{ending: own, status: []int{http.StatusBadGateway}, head: map[string]string{"Location": ""}, tries: 2, exactly: true, next: asked}

// serviceRows: the service or its edge is in trouble.
var serviceRows = []row{
	{name: "overloaded_529", place: "status", sick: fault(fakeclaude.Overloaded), one: overloadedOne, all: overloadedAll},
	{
		name: "internal_500", place: "status", sick: fault(fakeclaude.Internal),
		one: movedOnBlamed.with(func(o *outcome) { o.reopens = 5500 * time.Millisecond }), all: relayedByAll,
	},
	{name: "empty_500", place: "status", sick: scripted(script{status: http.StatusInternalServerError}), one: movedOnBlamed, all: relayedByAll},
	{name: "bad_gateway_502_html", place: "status", sick: fault(fakeclaude.BadGateway), one: movedOnBlamed, all: relayedByAll},
	{name: "unavailable_503", place: "status", sick: fault(fakeclaude.Unavailable), one: movedOnBlamed, all: relayedByAll},
	{name: "timeout_504", place: "status", sick: fault(fakeclaude.GatewayTimeout), one: movedOnBlamed, all: relayedByAll},
	{name: "edge_520", place: "status", sick: fault(fakeclaude.EdgeUnknown), one: movedOnBlamed, all: relayedByAll},
	{name: "edge_525", place: "status", sick: page(525, "525: SSL handshake failed"), one: movedOnBlamed, all: relayedByAll},
	{name: "redirect_307", place: "status", sick: fault(fakeclaude.Redirect), one: movedOnBlamed, all: noRedirects},
	{
		name: "redirect_301_elsewhere", place: "status",
		sick: scripted(script{status: http.StatusMovedPermanently, header: map[string]string{"Location": "http://127.0.0.1:9/v1/messages?redirected"}}),
		one:  movedOnBlamed, all: noRedirects,
	},
	{
		name: "html_200", place: "status", sick: page(http.StatusOK, "Please sign in to this network"),
		one: movedOnBlamed, all: unreachable,
	},
}
