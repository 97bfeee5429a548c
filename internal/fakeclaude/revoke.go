package fakeclaude

import (
	"mime"
	"net/http"
	"net/url"
)

// revoke ends a login as RFC 7009 has it: a form with the token, its kind and the
// client. A token that is not known is no error.
func (ex *exchange) revoke() {
	body, err := ex.readBody()
	form, formErr := url.ParseQuery(string(body))
	kind, _, mimeErr := mime.ParseMediaType(ex.r.Header.Get("Content-Type"))
	if err != nil || formErr != nil || mimeErr != nil || kind != "application/x-www-form-urlencoded" {
		ex.grantRefused("invalid_request", "The request body must be a form.")
		return
	}
	token, hint := form.Get("token"), form.Get("token_type_hint")
	if token == "" || form.Get("client_id") == "" {
		ex.grantRefused("invalid_request", "token and client_id are required.")
		return
	}
	if hint != "" && hint != "refresh_token" && hint != "access_token" {
		ex.grantRefused("unsupported_token_type", "Only refresh_token and access_token are known here.")
		return
	}
	ex.ownerOf(token)
	if ex.acct == nil {
		ex.ownerOfAccess(token)
	}
	if ex.acct != nil {
		if ex.misbehaveEarly() || ex.misbehave() {
			return
		}
		ex.endLogin(token)
	}
	ex.json(http.StatusOK, struct{}{})
}

// ownerOfAccess finds whose access token that is.
func (ex *exchange) ownerOfAccess(token string) {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	for _, a := range ex.s.accounts {
		if _, ok := a.access[token]; ok {
			ex.became(a)
			return
		}
	}
}

// endLogin ends the login whose refresh token that is, with its access tokens, or
// the one access token. A spent refresh token ends nothing.
func (ex *exchange) endLogin(token string) {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	if ex.acct.refresh == token {
		ex.acct.refresh = ""
		clear(ex.acct.access)
		return
	}
	delete(ex.acct.access, token)
}
