package shunt

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// ownEndpoints are the paths that shunt answers itself.
var ownEndpoints = map[string]func(*Handler, http.ResponseWriter, *http.Request) error{
	"/health":  (*Handler).serveHealth,
	"/status":  (*Handler).serveStatus,
	"/usage":   (*Handler).serveUsage,
	"/explain": (*Handler).serveExplain,
	"/use":     (*Handler).serveUse,
	"/steer":   (*Handler).serveSteer,
	"/history": (*Handler).serveHistory,

	dashboardPath:   (*Handler).serveDashboard,
	dashboardEvents: (*Handler).serveLive,
}

// ownEndpoint is what answers a path, nil if that is not shunt's own.
func ownEndpoint(path string) func(*Handler, http.ResponseWriter, *http.Request) error {
	if own, ok := ownEndpoints[path]; ok {
		return own
	}
	if strings.HasPrefix(path, dashboardFiles) {
		return (*Handler).serveDashboard
	}
	return nil
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
