package anthropic

import (
	"net/http"
	"strings"
)

// Endpoint is one of the API's endpoints that a pool can serve.
type Endpoint uint8

// The endpoints.
const (
	EndpointNone Endpoint = iota
	EndpointMessages
	EndpointCountTokens
	EndpointModels
	// EndpointFiles and EndpointBatches hold things that exist in one account.
	EndpointFiles
	EndpointBatches
)

// String names the endpoint for logs and metric labels.
func (e Endpoint) String() string {
	return [...]string{"none", "messages", "count_tokens", "models", "files", "batches"}[e]
}

// Holds reports whether what the endpoint makes exists in one account only.
func (e Endpoint) Holds() bool { return e == EndpointFiles || e == EndpointBatches }

// Route is what a path asks for.
type Route struct {
	Endpoint Endpoint
	// Ref is the id that the path names; empty when it names none or, as for
	// models, one that exists everywhere.
	Ref string
	// Methods are those that the path takes.
	Methods []string
}

// routes are the paths that a pool serves. {id} stands for one segment; where
// bound, it is an id that exists in one account.
var routes = []struct {
	path     string
	endpoint Endpoint
	bound    bool
	methods  []string
}{
	{"/v1/messages", EndpointMessages, false, []string{http.MethodPost}},
	{"/v1/messages/count_tokens", EndpointCountTokens, false, []string{http.MethodPost}},
	{"/v1/models", EndpointModels, false, []string{http.MethodGet}},
	{"/v1/models/{id}", EndpointModels, false, []string{http.MethodGet}},
	{"/v1/files", EndpointFiles, false, []string{http.MethodPost, http.MethodGet}},
	{"/v1/files/{id}", EndpointFiles, true, []string{http.MethodGet, http.MethodDelete}},
	{"/v1/files/{id}/content", EndpointFiles, true, []string{http.MethodGet}},
	{"/v1/messages/batches", EndpointBatches, false, []string{http.MethodPost, http.MethodGet}},
	{"/v1/messages/batches/{id}", EndpointBatches, true, []string{http.MethodGet, http.MethodDelete}},
	{"/v1/messages/batches/{id}/cancel", EndpointBatches, true, []string{http.MethodPost}},
	{"/v1/messages/batches/{id}/results", EndpointBatches, true, []string{http.MethodGet}},
}

// RouteOf tells what a path asks for; its Endpoint is [EndpointNone] when the
// pool serves no such path. The query plays no part: clients post
// /v1/messages?beta=true.
func RouteOf(path string) Route {
	for i := range routes {
		r := &routes[i]
		before, after, hasID := strings.Cut(r.path, "{id}")
		if !hasID {
			if path == r.path {
				return Route{Endpoint: r.endpoint, Methods: r.methods}
			}
			continue
		}
		rest, ok := strings.CutPrefix(path, before)
		if !ok {
			continue
		}
		id, ok := strings.CutSuffix(rest, after)
		if !ok || !ValidID(id) {
			continue
		}
		route := Route{Endpoint: r.endpoint, Methods: r.methods}
		if r.bound {
			route.Ref = id
		}
		return route
	}
	return Route{}
}

// maxID bounds the length of an id in bytes.
const maxID = 200

// ValidID reports whether s can be an id of the API: letters, digits and . _ : @ -
// (model ids of other clouds have dots and colons).
func ValidID(s string) bool {
	if s == "" || len(s) > maxID || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && !strings.ContainsRune("._:@-", rune(c)) {
			return false
		}
	}
	return true
}
