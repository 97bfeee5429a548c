package fakeclaude

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

const (
	betaOAuth      = "oauth-2025-04-20"
	betaFederation = "oidc-federation-2026-04-01"
)

// betas returns the values of all anthropic-beta headers.
func betas(h http.Header) []string {
	var values []string
	for _, line := range h.Values("Anthropic-Beta") {
		for value := range strings.SplitSeq(line, ",") {
			if value = strings.TrimSpace(value); value != "" {
				values = append(values, value)
			}
		}
	}
	return values
}

// betaShape is what all published beta values look like: words and a date.
var betaShape = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*-(\d{8}|\d{4}-\d{2}-\d{2})$`)

// authenticate finds the account of the request and answers itself when there
// is none; false means that the answer is out.
func (ex *exchange) authenticate() bool {
	h := ex.r.Header
	key, authorization := h.Get("X-Api-Key"), h.Get("Authorization")
	if key != "" && authorization != "" {
		ex.s.violation("%s %s (%s): both x-api-key and authorization", ex.r.Method, ex.r.URL.Path, ex.id)
		ex.unauthorized("Send either x-api-key or Authorization, not both.")
		return false
	}
	if len(h.Values("X-Api-Key")) > 1 || len(h.Values("Authorization")) > 1 {
		ex.s.violation("%s %s (%s): a credential header twice", ex.r.Method, ex.r.URL.Path, ex.id)
	}
	if h.Get("Origin") != "" && h.Get("Anthropic-Dangerous-Direct-Browser-Access") != "true" {
		ex.unauthorized("CORS requests must set 'anthropic-dangerous-direct-browser-access' header")
		return false
	}
	var refusal string
	switch {
	case key != "":
		refusal = ex.byKey(key, "invalid x-api-key")
	case authorization != "":
		refusal = ex.byBearer(authorization)
	default:
		refusal = "x-api-key header is required"
	}
	if refusal != "" {
		ex.unauthorized(refusal)
		return false
	}
	return true
}

func (ex *exchange) unauthorized(message string) {
	ex.fail(http.StatusUnauthorized, "authentication_error", message)
}

// byKey returns why the key is refused, or nothing.
func (ex *exchange) byKey(key, refusal string) string {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	for _, a := range ex.s.accounts {
		if a.APIKey == key {
			ex.became(a)
			return ""
		}
	}
	return refusal
}

func (ex *exchange) byBearer(authorization string) string {
	bearer, found := strings.CutPrefix(authorization, "Bearer ")
	if !found {
		return "Invalid bearer token"
	}
	// Newer SDKs send API keys as bearer tokens; those need no beta value.
	if ex.byKey(bearer, "no") == "" {
		return ""
	}
	if !slices.Contains(betas(ex.r.Header), betaOAuth) {
		return "OAuth authentication is currently not supported."
	}
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	for _, a := range ex.s.accounts {
		end, known := a.access[bearer]
		if !known {
			continue
		}
		ex.became(a)
		if !end.IsZero() && !ex.s.opts.Clock().Before(end) {
			return "OAuth token has expired. Please obtain a new token or refresh your existing token."
		}
		return ""
	}
	return "Invalid bearer token"
}

// became notes whose request it is. The caller holds the server's mutex.
func (ex *exchange) became(a *account) {
	ex.acct = a
	ex.rec.Account = a.Name
}

// versioned checks the two protocol headers; false means that the answer is out.
func (ex *exchange) versioned() bool {
	if ex.r.Header.Get("Anthropic-Version") == "" {
		ex.fail(http.StatusBadRequest, "invalid_request_error", "anthropic-version: header is required")
		return false
	}
	var unexpected []string
	for _, value := range betas(ex.r.Header) {
		if !betaShape.MatchString(value) {
			unexpected = append(unexpected, "`"+value+"`")
		}
	}
	if len(unexpected) > 0 {
		ex.fail(http.StatusBadRequest, "invalid_request_error",
			"Unexpected value(s) "+strings.Join(unexpected, ", ")+" for the `anthropic-beta` header.")
		return false
	}
	return true
}

// Expire ends all access tokens of the account now, as if their time had come.
// A login can refresh; a setup token is finished.
func (s *Server) Expire(accountName string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.must(accountName)
	now := s.opts.Clock()
	for bearer := range a.access {
		a.access[bearer] = now
	}
}

// Revoke ends the login for good: its access tokens are unknown from now on and
// its refresh token answers invalid_grant.
func (s *Server) Revoke(accountName string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.must(accountName)
	clear(a.access)
	a.refresh = ""
}

// Tokens returns the access and refresh token that are valid now.
func (s *Server) Tokens(accountName string) (access, refresh string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.must(accountName)
	now := s.opts.Clock()
	for bearer, end := range a.access {
		if end.IsZero() || now.Before(end) {
			if access == "" || end.After(a.access[access]) {
				access = bearer
			}
		}
	}
	return access, a.refresh
}

// must finds an account that the program named itself. The caller holds mu.
func (s *Server) must(name string) *account {
	a := s.find(name)
	if a == nil {
		panic("fakeclaude: there is no account " + name)
	}
	return a
}
