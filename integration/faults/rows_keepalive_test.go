package faults

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// shuntsPing is a ping as shunt writes it; the fake upstream leaves out the blank.
const shuntsPing = "event: ping\ndata: {\"type\": \"ping\"}\n\n"

// keepaliveRows: all accounts are out for longer than it takes until the stream is
// opened with a ping, so the answer has a status before anybody knows it.
var keepaliveRows = []row{
	{
		name: "pings_then_served", place: "in line", runs: []run{allSick}, kinds: streamOnly, protocols: everywhere,
		settings: "hold 18s {\nkeepalive\n}", ownSettings: true,
		sick: sickness{fault: fakeclaude.Fault{Name: fakeclaude.Burst, Times: 1, RetryAfter: 16 * time.Second}},
		all:  outcome{ending: whole, text: []string{shuntsPing}, tries: 3, exactly: true, shortest: 15 * time.Second, next: asked},
	},
	{
		name: "pings_then_exhausted", place: "in line", runs: []run{allSick}, kinds: streamOnly,
		settings: "hold 18s {\nkeepalive\n}", ownSettings: true,
		sick: refuses(fakeclaude.Burst, 16*time.Second),
		all: outcome{
			ending: ownEvent, status: []int{http.StatusOK}, text: []string{shuntsPing, "rate_limit_error"}, clock: true,
			head: map[string]string{"Content-Type": "text/event-stream", "Retry-After": ""}, tries: 4, exactly: true,
		},
	},
	{
		name: "pings_then_refused", place: "in line", runs: []run{allSick}, kinds: streamOnly,
		settings: "hold 18s {\nkeepalive\n}", ownSettings: true,
		sick: sickness{
			fault: fakeclaude.Fault{Name: fakeclaude.Burst, Times: 1, RetryAfter: 16 * time.Second},
			then:  []fakeclaude.Fault{fakeclaude.Always(fakeclaude.InvalidRequest)},
		},
		all: outcome{ending: ownEvent, status: []int{http.StatusOK}, text: []string{shuntsPing, "invalid_request_error"}, tries: 3, exactly: true},
	},
}

// isEvent: what isOwn wants, as the error event that ends a stream of pings.
func (j *judge) isEvent(want *outcome, a *answer) {
	inside := *a
	data, begins := strings.CutPrefix(heartbeats.ReplaceAllString(a.body, ""), "event: error\ndata: ")
	data, ends := strings.CutSuffix(data, "\n\n")
	if !begins || !ends || strings.Contains(data, "\n") {
		j.errorf("not pings and one error event: %s", excerpt(a.body))
	}
	inside.body = data
	j.isOwn(want, &inside)
}
