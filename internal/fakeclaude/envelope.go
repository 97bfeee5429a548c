package fakeclaude

import (
	"bytes"
	"encoding/json"
	"net/http"
)

type apiError struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Details any    `json:"details,omitempty"`
}

type envelope struct {
	Type      string   `json:"type"`
	Error     apiError `json:"error"`
	RequestID string   `json:"request_id,omitempty"`
}

// fail answers with the error envelope of the Messages API.
func (ex *exchange) fail(status int, kind, message string) {
	ex.failWith(status, apiError{Type: kind, Message: message})
}

func (ex *exchange) failWith(status int, e apiError) {
	ex.json(status, envelope{Type: "error", Error: e, RequestID: ex.id})
}

func (ex *exchange) json(status int, v any) {
	ex.w.Header().Set("Content-Type", "application/json")
	ex.open(status)
	if ex.r.Method != http.MethodHead {
		ex.write(encode(v))
	}
}

// write ignores the error: a client that left is seen through its context.
func (ex *exchange) write(p []byte) { _, _ = ex.w.Write(p) }

// encode marshals values of this package, which cannot fail.
func encode(v any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	// The API writes <, > and & as they are.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
