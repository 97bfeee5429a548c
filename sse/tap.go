package sse

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/tidwall/gjson"
)

// Bounds of what a tap holds, in bytes.
const (
	// maxTapEvent is for the events that carry usage. They are a kilobyte or
	// two; message_start grows with what it says about the request.
	maxTapEvent = 256 << 10
	// maxTapError is enough to classify an error and to log it.
	maxTapError = 4 << 10
	// maxTapJSON is far above the longest answer a model can write in one go.
	maxTapJSON = 8 << 20
	// maxTapString is for identifiers.
	maxTapString = 256
)

// Result is what a tap has learned so far.
type Result struct {
	// Usage is what the answer itself said, in tokens. Of a stream that was cut
	// before its message_delta it is the opening statement, with an
	// OutputTokens that is only a starting number.
	Usage anthropic.Usage
	// EstimatedOutputTokens stands in for Usage.OutputTokens, is not in addition
	// to it, when a stream gave output but never its final count: the output is
	// charged all the same. It is one token for each four bytes of text that a
	// delta delivers, rounded up for each delta, and not below Usage.OutputTokens.
	// Text that is not streamed (hidden thinking) is not in it. It is zero once the
	// count is known, and for plain JSON answers.
	EstimatedOutputTokens int64

	// Terms are what the answer says of how it is priced.
	Terms anthropic.Terms
	// Counted reports that Usage is final: a message_delta, or a whole JSON document,
	// stated the output.
	Counted bool

	// Model, ID and StopReason are the message's, at most 256 bytes each, empty
	// if not (yet) said.
	Model      string
	ID         string
	StopReason string
	// Container is the id of the container that the answer ran code in, if any.
	Container string

	// Complete reports that the answer came to its regular end: message_stop in
	// a stream, one whole JSON document otherwise.
	Complete bool
	// Error is the first error of the answer, as its JSON envelope, cut at 4 KiB;
	// nil if there was none. It belongs to the caller.
	Error []byte
	// Deltas counts the content_block_delta events.
	Deltas int64
	// Truncated reports that something which states facts was longer than the
	// tap holds (256 KiB for an event, 8 MiB for a JSON answer), so that facts
	// may be missing.
	Truncated bool
}

// Tap learns what an answer consumed and how it ended from the bytes that go to
// the client. It never fails, never blocks and holds a bounded amount of memory.
// It wants the bytes without any content coding.
//
// Use [NewStreamTap] or [NewJSONTap]. A Tap is not safe for concurrent use.
type Tap struct {
	result  Result
	counted bool // a message_delta, or the whole document, stated the output tokens

	// Of an event stream.
	parser      *Parser
	deltaTokens int64

	// Of a plain JSON answer, nil parser: the body as far as it is held, and
	// whether that has changed since result was last filled from it.
	body  []byte
	fresh bool
	// named is where a member named container begins in body, -1 for nowhere yet.
	named int
}

// NewStreamTap returns a tap for a text/event-stream answer. It holds at most
// 256 KiB, a few hundred bytes as a rule.
func NewStreamTap() *Tap {
	t := &Tap{}
	t.parser = NewParser(maxTapEvent, t.event)
	t.parser.Keep(tapKeep)
	return t
}

// NewJSONTap returns a tap for a plain JSON answer. It holds the answer up to
// 8 MiB; beyond that it lets go of it and keeps what it could tell by then.
func NewJSONTap() *Tap { return &Tap{named: -1} }

// Write takes the next bytes of the answer. It always returns len(p) and nil,
// and does not keep p.
func (t *Tap) Write(p []byte) (int, error) {
	switch {
	case t.parser != nil:
		t.parser.Write(p)
	case t.result.Truncated:
	case len(p) > maxTapJSON-len(t.body):
		t.readJSON()
		t.body = nil
		t.result.Complete = false
		t.result.Truncated = true
	default:
		t.body = appendWithin(t.body, p, maxTapJSON)
		t.fresh = true
		t.lookForContainer(len(p))
	}
	return len(p), nil
}

// Container is the id of the container that the answer ran code in, empty if it has not
// said so by now. It costs nothing, unlike Result.
func (t *Tap) Container() string { return t.result.Container }

var containerName = []byte(`"container"`)

// lookForContainer looks for the id in the last n bytes of body. It may be cut off at
// their end; then it is looked for again, within a bound.
func (t *Tap) lookForContainer(n int) {
	const most = 1 << 10
	if t.result.Container != "" {
		return
	}
	if t.named < 0 || len(t.body)-t.named-n > most {
		from := max(0, len(t.body)-n-len(containerName)+1)
		at := bytes.LastIndex(t.body[from:], containerName)
		if at < 0 {
			return
		}
		t.named = from + at
	}
	if id := gjson.GetBytes(t.body, "container.id"); strings.HasSuffix(id.Raw, `"`) {
		setString(&t.result.Container, id)
	}
}

// Result returns what is known by now. It may be called at any time.
func (t *Tap) Result() Result {
	if t.fresh {
		t.readJSON()
	}
	r := t.result
	r.Error = bytes.Clone(r.Error)
	r.Counted = t.counted
	if !t.counted && t.deltaTokens > 0 {
		r.EstimatedOutputTokens = max(t.deltaTokens, r.Usage.OutputTokens)
	}
	return r
}

// tapKeep tells the parser which data the tap reads. Events that have no name
// (yet) may turn out to be any.
func tapKeep(name []byte) int {
	switch string(name) {
	case "message_start", "message_delta", "":
		return maxTapEvent
	case "error":
		return maxTapError
	case "content_block_delta":
		return tapDelta
	default:
		return 0
	}
}

// kind is the event's type: its name or, for upstreams that leave out the event
// line, the type that the data states.
func kind(ev Event) []byte {
	if len(ev.Name) > 0 {
		return ev.Name
	}
	name := gjson.GetBytes(ev.Data, "type").Str
	return []byte(name[:min(len(name), maxName)])
}

func (t *Tap) event(ev Event) {
	switch string(kind(ev)) {
	case "content_block_delta":
		t.result.Deltas++
		t.deltaTokens += deltaTokens(ev.Data, ev.Size)
	case "message_start":
		t.messageStart(ev)
	case "message_delta":
		t.messageDelta(ev)
	case "message_stop":
		t.result.Complete = true
	case "error":
		if t.result.Error == nil {
			t.result.Error = bounded(ev.Data)
		}
	}
}

func (t *Tap) messageStart(ev Event) {
	message := gjson.GetBytes(t.stated(ev), "message")
	setString(&t.result.ID, message.Get("id"))
	setString(&t.result.Model, message.Get("model"))
	setString(&t.result.StopReason, message.Get("stop_reason"))
	setString(&t.result.Container, message.Get("container.id"))
	usage := message.Get("usage")
	t.result.Usage.Merge(usage)
	t.terms(usage)
}

func (t *Tap) messageDelta(ev Event) {
	data := t.stated(ev)
	setString(&t.result.StopReason, gjson.GetBytes(data, "delta.stop_reason"))
	setString(&t.result.Container, gjson.GetBytes(data, "delta.container.id"))
	usage := gjson.GetBytes(data, "usage")
	t.result.Usage.Merge(usage)
	t.terms(usage)
	if usage.Get("output_tokens").Type == gjson.Number {
		t.counted = true
	}
}

func (t *Tap) terms(usage gjson.Result) {
	setString(&t.result.Terms.Tier, usage.Get("service_tier"))
	setString(&t.result.Terms.Geo, usage.Get("inference_geo"))
	setString(&t.result.Terms.Speed, usage.Get("speed"))
}

// readJSON makes the result anew from the body held so far: what was said of a
// shorter part of it does not count any more.
func (t *Tap) readJSON() {
	t.fresh, t.counted = false, false
	t.result = Result{Complete: json.Valid(t.body)}
	if gjson.GetBytes(t.body, "type").Str == "error" {
		t.result.Error = bounded(t.body)
		return
	}
	body := t.body
	if !t.result.Complete {
		body = settled(body)
	}
	setString(&t.result.ID, gjson.GetBytes(body, "id"))
	setString(&t.result.Model, gjson.GetBytes(body, "model"))
	setString(&t.result.StopReason, gjson.GetBytes(body, "stop_reason"))
	setString(&t.result.Container, gjson.GetBytes(body, "container.id"))
	// Only this object is usage: count_tokens answers with an input_tokens of
	// its own at the top, for which nothing is charged.
	usage := gjson.GetBytes(body, "usage")
	t.result.Usage.Merge(usage)
	t.terms(usage)
	t.counted = t.result.Complete && usage.Get("output_tokens").Type == gjson.Number
}

// stated is the data of an event that states facts, as far as it can be relied
// on.
func (t *Tap) stated(ev Event) []byte {
	if !ev.Truncated {
		return ev.Data
	}
	t.result.Truncated = true
	return settled(ev.Data)
}

// settled leaves off the last member of a JSON text that was cut off somewhere:
// half a number would be read as another number, half a name as another name.
// gjson reads the rest as far as it goes.
func settled(data []byte) []byte {
	return data[:max(bytes.LastIndexByte(data, ','), 0)]
}

// bounded copies what a tap keeps of an error.
func bounded(data []byte) []byte {
	return append([]byte{}, data[:min(len(data), maxTapError)]...)
}

// setString takes over a JSON string; anything else leaves *s as it is. It
// clones because the value may be a part of a much larger string.
func setString(s *string, value gjson.Result) {
	if value.Type == gjson.String {
		*s = strings.Clone(value.Str[:min(len(value.Str), maxTapString)])
	}
}
