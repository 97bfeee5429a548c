package anthropic

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
)

// Error is an answer of our own in the API's error envelope.
type Error struct {
	Status int
	// Type is the error's type; empty for the one that belongs to Status.
	Type string
	// Message is for the person: Claude Code prints it.
	Message string
	// RequestID is told in the body and as request-id, as upstream does: SDKs show
	// it with the error.
	RequestID string
	// RetryAfter is told in whole seconds, rounded up, when it is positive.
	RetryAfter time.Duration
	// NoRetry tells clients not to try again by themselves (x-should-retry).
	NoRetry bool
	// Header holds further headers; it may be nil.
	Header http.Header
}

// Error makes an Error usable as a Go error.
func (e *Error) Error() string { return e.Message }

// Body is the JSON envelope.
func (e *Error) Body() []byte {
	t := e.Type
	if t == "" {
		t = TypeOfStatus(e.Status)
	}
	var v struct {
		Type  string `json:"type"`
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
		RequestID string `json:"request_id,omitempty"`
	}
	v.Type, v.Error.Type, v.Error.Message, v.RequestID = "error", t, e.Message, e.RequestID
	b, err := json.Marshal(v)
	if err != nil { // strings always marshal
		return []byte(`{"type":"error","error":{"type":"api_error","message":"internal error"}}`)
	}
	return b
}

// Write writes the error as the whole response.
func (e *Error) Write(w http.ResponseWriter) {
	h := w.Header()
	for name, values := range e.Header {
		h[name] = values
	}
	h.Set("Content-Type", "application/json")
	if e.RequestID != "" {
		h.Set("Request-Id", e.RequestID)
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if e.NoRetry {
		h.Set("X-Should-Retry", "false")
	}
	body := e.Body()
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.Status)
	_, _ = w.Write(body)
}

// ErrorType reads the type of an error from its envelope; empty when it has none.
func ErrorType(envelope []byte) string { return gjson.GetBytes(envelope, "error.type").Str }
