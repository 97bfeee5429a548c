package shunt

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI serves what is below /shunt on Caddy's admin endpoint. It holds nothing: the admin server may belong to a configuration that failed, so
// the running one is looked up at each request.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.shunt",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Routes returns the admin routes.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/shunt/status", Handler: caddy.AdminHandlerFunc(adminStatus)},
		{Pattern: "/shunt/explain", Handler: caddy.AdminHandlerFunc(adminExplain)},
		{Pattern: "/shunt/use", Handler: caddy.AdminHandlerFunc(adminUse)},
		{Pattern: "/shunt/steer", Handler: caddy.AdminHandlerFunc(adminSteer)},
		{Pattern: "/shunt/history", Handler: caddy.AdminHandlerFunc(adminHistory)},
		{Pattern: "/shunt/usage", Handler: caddy.AdminHandlerFunc(adminUsage)},
		{Pattern: "/shunt/accounts", Handler: caddy.AdminHandlerFunc(adminAccounts)},
		{Pattern: "/shunt/login", Handler: caddy.AdminHandlerFunc(adminLogin)},
		{Pattern: "/shunt/check", Handler: caddy.AdminHandlerFunc(adminCheck)},
	}
}

// adminStatus answers with the status of every pool, or of the one that ?pool=
// names.
func adminStatus(w http.ResponseWriter, r *http.Request) error {
	if err := adminTakes(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	pools := []*statusView{}
	name := r.URL.Query().Get("pool")
	for _, h := range runningHandlers() {
		if name == "" || name == h.Pool {
			pools = append(pools, h.status(person{admin: true}))
		}
	}
	if name != "" && len(pools) == 0 {
		_, err := poolNamed(name)
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"pools": pools})
}

// adminExplain answers for anybody: without ?user= for nobody in particular.
func adminExplain(w http.ResponseWriter, r *http.Request) error {
	if err := adminTakes(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	h, err := poolNamed(r.URL.Query().Get("pool"))
	if err != nil {
		return err
	}
	answer, refusal := h.explain(r.URL.Query(), person{admin: true})
	if refusal != nil {
		return apiError(refusal)
	}
	return writeJSON(w, http.StatusOK, answer)
}

func adminUse(w http.ResponseWriter, r *http.Request) error {
	if err := adminTakes(w, r, http.MethodPost); err != nil {
		return err
	}
	h, err := poolNamed(r.URL.Query().Get("pool"))
	if err != nil {
		return err
	}
	answer, refusal := h.use(w, r, "admin API")
	if refusal != nil {
		return apiError(refusal)
	}
	return writeJSON(w, http.StatusOK, answer)
}

// adminTakes refuses other methods.
func adminTakes(w http.ResponseWriter, r *http.Request, methods ...string) error {
	if slices.Contains(methods, r.Method) {
		return nil
	}
	list := strings.Join(methods, ", ")
	w.Header().Set("Allow", list)
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("%s takes %s only", r.URL.Path, list)}
}

// poolNamed finds the handler of a pool. Without a name there must be just one.
func poolNamed(name string) (*Handler, error) {
	handlers := runningHandlers()
	if name == "" && len(handlers) == 1 {
		return handlers[0], nil
	}
	known := make([]string, 0, len(handlers))
	for _, h := range handlers {
		if h.Pool == name {
			return h, nil
		}
		known = append(known, h.Pool)
	}
	switch {
	case len(known) == 0:
		return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("pool: none is running; the configuration has no shunt handler")}
	case name == "":
		return nil, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("pool: several are running; expected ?pool= and one of %s", strings.Join(known, ", "))}
	}
	return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("pool: %q is not running; there is %s", truncate(name), strings.Join(known, ", "))}
}

func apiError(e *anthropic.Error) error {
	return caddy.APIError{HTTPStatus: e.Status, Err: e}
}

var _ caddy.AdminRouter = adminAPI{}
