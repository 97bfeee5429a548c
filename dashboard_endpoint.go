package shunt

import (
	"net/http"
	"strings"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/dashboard"
)

// The page, the files that it loads, and what it watches.
const (
	dashboardPath   = "/dashboard"
	dashboardFiles  = dashboardPath + "/"
	dashboardEvents = dashboardFiles + "events"
)

// serveDashboard answers anybody with the page and its files: they hold no data, and the
// page asks for the key.
func (h *Handler) serveDashboard(w http.ResponseWriter, r *http.Request) error {
	if !takes(w, r, http.MethodGet, http.MethodHead) {
		return nil
	}
	name, below := strings.CutPrefix(r.URL.Path, dashboardFiles)
	switch {
	case !below:
		name = dashboard.Page
	case name == "":
		// Addresses in the page are relative to its own.
		w.Header().Set("Location", "../dashboard")
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	case name == dashboard.Page:
		name = "" // it works at one address only
	}
	if !dashboard.Serve(w, r, name) {
		(&anthropic.Error{Status: http.StatusNotFound, Message: "the dashboard has no such file", NoRetry: true}).Write(w)
	}
	return nil
}
