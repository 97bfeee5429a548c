package shunt

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// ownEndpoints are the paths that shunt answers itself.
var ownEndpoints = map[string]func(*Handler, http.ResponseWriter, *http.Request) error{
	"/health": (*Handler).serveHealth,
	"/status": (*Handler).serveStatus,
	"/use":    (*Handler).serveUse,
}

// serveHealth answers anybody whether the pool can serve, and nothing else.
func (h *Handler) serveHealth(w http.ResponseWriter, r *http.Request) error {
	if !takes(w, r, http.MethodGet, http.MethodHead) {
		return nil
	}
	ready, refused := h.group.Ready(func(m *pool.Member) string {
		if status := h.byKey[m.Key].source.Status(); status.LoginRequired {
			return status.LoginReason
		}
		return ""
	})
	if ready {
		return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	}
	body := map[string]any{"status": "unavailable", "reason": refused.Words(time.Now())}
	if reopens := refused.Reopens(); !reopens.IsZero() {
		body["until"] = reopens.UTC().Format(time.RFC3339)
	}
	return writeJSON(w, http.StatusServiceUnavailable, body)
}

func (h *Handler) serveStatus(w http.ResponseWriter, r *http.Request) error {
	if !takes(w, r, http.MethodGet, http.MethodHead) {
		return nil
	}
	who, refusal := h.authenticate(r)
	if refusal != nil {
		refusal.Write(w)
		return nil
	}
	setPerson(r, who)
	return writeJSON(w, http.StatusOK, h.status(who))
}

// useRequest is the body of POST /use.
type useRequest struct {
	// Account is the account's name; "auto" or null unpins.
	Account *string `json:"account"`
}

func (h *Handler) serveUse(w http.ResponseWriter, r *http.Request) error {
	if !takes(w, r, http.MethodPost) {
		return nil
	}
	who, refusal := h.authenticate(r)
	setPerson(r, who)
	if refusal == nil && !who.admin {
		refusal = &anthropic.Error{Status: http.StatusForbidden, Message: "pinning an account takes a key that is marked admin", NoRetry: true}
	}
	if refusal != nil {
		refusal.Write(w)
		return nil
	}
	answer, refusal := h.use(w, r, who.name)
	if refusal != nil {
		refusal.Write(w)
		return nil
	}
	return writeJSON(w, http.StatusOK, answer)
}

// use pins or unpins what the request's body says.
func (h *Handler) use(w http.ResponseWriter, r *http.Request, by string) (map[string]any, *anthropic.Error) {
	name, refusal := readUse(w, r)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := h.pin(name, by); refusal != nil {
		return nil, refusal
	}
	if name == "" {
		return map[string]any{"pinned": nil}, nil
	}
	return map[string]any{"pinned": name}, nil
}

// readUse reads the account's name; empty to unpin.
func readUse(w http.ResponseWriter, r *http.Request) (string, *anthropic.Error) {
	const help = `expected {"account": "<name>"}, or "auto" to unpin`
	var body useRequest
	var fields map[string]json.RawMessage
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	if err := decoder.Decode(&fields); err != nil {
		return "", &anthropic.Error{Status: http.StatusBadRequest, Message: "the body is not a JSON object; " + help}
	}
	raw, ok := fields["account"]
	if !ok {
		return "", &anthropic.Error{Status: http.StatusBadRequest, Message: "account: missing; " + help}
	}
	if err := json.Unmarshal(raw, &body.Account); err != nil {
		return "", &anthropic.Error{Status: http.StatusBadRequest, Message: "account: not a string; " + help}
	}
	if body.Account == nil || *body.Account == "auto" {
		return "", nil
	}
	if *body.Account == "" {
		return "", &anthropic.Error{Status: http.StatusBadRequest, Message: "account: empty; " + help}
	}
	return *body.Account, nil
}

func (h *Handler) pin(name, by string) *anthropic.Error {
	if name != "" {
		known := make([]string, len(h.accounts))
		found := false
		for i, a := range h.accounts {
			known[i] = a.member.Name
			found = found || a.member.Name == name
		}
		if !found {
			return &anthropic.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("account: %q is not in this pool; expected one of %s, or auto", truncate(name), strings.Join(known, ", "))}
		}
	}
	h.live.state.Pin(name)
	h.logger.Info("pin changed", logPool(h.Pool), zap.String("account", name), zap.String("by", by))
	return nil
}

// takes answers 405 to other methods.
func takes(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, m := range methods {
		if r.Method == m {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	(&anthropic.Error{Status: http.StatusMethodNotAllowed, Message: "this endpoint takes " + strings.Join(methods, ", ") + " only"}).Write(w)
	return false
}

func writeJSON(w http.ResponseWriter, status int, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: fmt.Errorf("marshalling the answer: %w", err)}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
	return nil
}
