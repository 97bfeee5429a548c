package doctor

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// route is a route of a server.
type route struct {
	Group    string                       `json:"group"`
	Match    []map[string]json.RawMessage `json:"match"`
	Handle   []json.RawMessage            `json:"handle"`
	Terminal bool                         `json:"terminal"`
}

// step is a handler on the way of a request.
type step struct {
	Handler string `json:"handler"`
	// Name is of the handler invoke: the named route.
	Name   string   `json:"name"`
	Routes []*route `json:"routes"`

	raw  json.RawMessage
	path string
}

// walker follows the way of requests through the routes of a server.
type walker struct {
	server *Server
	pool   string
	depth  int
}

// deepest bounds how deep routes are followed; named routes can invoke themselves.
const deepest = 50

// routes walks a list of routes and returns the handlers that a request which goes
// on behind it may have passed. before are those that came before the list.
func (w *walker) routes(list []*route, at string, hosts []string, before []step) (passed []step) {
	if w.depth++; w.depth > deepest {
		return nil
	}
	defer func() { w.depth-- }()
	groups := make(map[string][]step) // what the routes of a group let pass, of which one is taken
	var free []step
	for i, r := range list {
		if r == nil || !r.mayServe() {
			continue
		}
		way := slices.Concat(before, free)
		for _, group := range slices.Sorted(maps.Keys(groups)) {
			if group != r.Group {
				way = append(way, groups[group]...)
			}
		}
		through := w.handlers(r.Handle, fmt.Sprintf("%s[%d]", at, i), r.hosts(hosts), way)
		switch {
		case r.Terminal:
		case r.Group != "":
			groups[r.Group] = append(groups[r.Group], through...)
		default:
			free = append(free, through...)
		}
	}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		free = append(free, groups[group]...)
	}
	return free
}

func (w *walker) handlers(list []json.RawMessage, at string, hosts []string, before []step) (passed []step) {
	for i, raw := range list {
		s := step{raw: raw, path: fmt.Sprintf("%s.handle[%d]", at, i)}
		if json.Unmarshal(raw, &s) != nil {
			continue
		}
		way := slices.Concat(before, passed)
		switch s.Handler {
		case "shunt":
			w.found(s, hosts, way)
		case "subroute":
			passed = append(passed, w.routes(s.Routes, s.path+".routes", hosts, way)...)
		case "invoke":
			if named := w.server.NamedRoutes[s.Name]; named != nil {
				passed = append(passed, w.routes([]*route{named}, w.server.path+".named_routes."+s.Name, hosts, way)...)
			}
		default:
			passed = append(passed, s)
		}
	}
	return passed
}

// found takes note of a shunt handler.
func (w *walker) found(s step, hosts []string, before []step) {
	site := &Site{path: s.path, hosts: hosts, before: before}
	if json.Unmarshal(s.raw, site) != nil {
		return
	}
	if site.Pool == "" {
		site.Pool = "default"
	}
	if w.pool == "" || w.pool == site.Pool {
		w.server.sites = append(w.server.sites, site)
	}
}

// hosts are those that the route is for: its own, else those of the routes around
// it.
func (r *route) hosts(around []string) []string {
	var own []string
	for _, set := range r.Match {
		var hosts []string
		if json.Unmarshal(set["host"], &hosts) != nil {
			return around
		}
		own = append(own, hosts...)
	}
	if len(own) == 0 {
		return around
	}
	return own
}

// poolPath stands for the paths of the API.
const poolPath = "/v1/messages"

// mayServe reports whether requests of the API can take the route, by the paths
// that it matches. Whatever else it matches may be so.
func (r *route) mayServe() bool {
	return len(r.Match) == 0 || slices.ContainsFunc(r.Match, setMayMatch)
}

func setMayMatch(set map[string]json.RawMessage) bool {
	var paths []string
	if raw, ok := set["path"]; ok && json.Unmarshal(raw, &paths) == nil && !slices.ContainsFunc(paths, pathMayMatch) {
		return false
	}
	var not []map[string]json.RawMessage
	if raw, ok := set["not"]; ok && json.Unmarshal(raw, &not) == nil {
		return !slices.ContainsFunc(not, setDoesMatch)
	}
	return true
}

// setDoesMatch reports whether a set of matchers is sure to match the API's paths.
func setDoesMatch(set map[string]json.RawMessage) bool {
	var paths []string
	return len(set) == 1 && json.Unmarshal(set["path"], &paths) == nil &&
		slices.ContainsFunc(paths, func(p string) bool { return !strings.Contains(p, "{") && pathMayMatch(p) })
}

// pathMayMatch is Caddy's path matcher for the API's path.
func pathMayMatch(pattern string) bool {
	return strings.Contains(pattern, "{") || globMatch(strings.ToLower(pattern), poolPath)
}

// globMatch is how Caddy matches paths and header values: * at the ends stands for
// anything.
func globMatch(pattern, s string) bool {
	front, back := strings.HasPrefix(pattern, "*"), strings.HasSuffix(pattern, "*")
	switch {
	case pattern == "*":
		return true
	case front && back:
		return strings.Contains(s, strings.Trim(pattern, "*"))
	case back:
		return strings.HasPrefix(s, strings.TrimSuffix(pattern, "*"))
	case front:
		return strings.HasSuffix(s, strings.TrimPrefix(pattern, "*"))
	}
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}
