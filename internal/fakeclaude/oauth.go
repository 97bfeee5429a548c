package fakeclaude

import (
	"encoding/base64"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

const (
	grantRefresh = "refresh_token"
	grantJWT     = "urn:ietf:params:oauth:grant-type:jwt-bearer"

	loginScopes = "org:create_api_key user:profile user:inference user:sessions:claude_code user:mcp_servers user:file_upload"
)

// grantError is the error shape of the token endpoint, which is OAuth's own.
type grantError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

type grant struct {
	AccessToken      string        `json:"access_token"`
	TokenType        string        `json:"token_type"`
	ExpiresIn        int64         `json:"expires_in"`
	RefreshToken     string        `json:"refresh_token,omitempty"`
	RefreshExpiresIn int64         `json:"refresh_token_expires_in,omitempty"`
	Scope            string        `json:"scope"`
	Account          *grantAccount `json:"account,omitempty"`
	Organization     grantOrg      `json:"organization"`
}

type grantAccount struct {
	UUID  string `json:"uuid"`
	Email string `json:"email_address"`
}

type grantOrg struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
}

func (ex *exchange) token() {
	body, err := ex.readBody()
	request := gjson.ParseBytes(body)
	if err != nil || !gjson.ValidBytes(body) || !request.IsObject() {
		ex.grantRefused("invalid_request", "The request body must be a JSON object.")
		return
	}
	switch request.Get("grant_type").String() {
	case grantRefresh:
		ex.refreshGrant(request)
	case grantJWT:
		ex.federationGrant(request)
	default:
		ex.grantRefused("unsupported_grant_type", "Only refresh_token and jwt-bearer are known here.")
	}
}

func (ex *exchange) grantRefused(code, description string) {
	ex.json(http.StatusBadRequest, grantError{code, description})
}

const unknownRefresh = "Refresh token not found or invalid"

func (ex *exchange) refreshGrant(request gjson.Result) {
	old := request.Get("refresh_token").String()
	if old == "" || request.Get("client_id").String() == "" {
		ex.grantRefused("invalid_request", "refresh_token and client_id are required.")
		return
	}
	if slices.Contains(betas(ex.r.Header), betaFederation) {
		ex.s.violation("refresh (%s): carries the federation beta", ex.id)
	}
	ex.ownerOf(old)
	if ex.acct == nil {
		ex.grantRefused("invalid_grant", unknownRefresh)
		return
	}
	if ex.misbehaveEarly() || ex.misbehave() {
		return
	}
	answer, ok := ex.rotate(old)
	switch {
	case !ok:
		ex.grantRefused("invalid_grant", unknownRefresh)
	case ex.fault != nil && ex.fault.Name == RefreshLostAnswer:
		ex.sever(false)
	default:
		ex.json(http.StatusOK, answer)
	}
}

// ownerOf finds whose refresh token that is or was.
func (ex *exchange) ownerOf(refresh string) {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	for _, a := range ex.s.accounts {
		if a.refresh == refresh || a.spent[refresh] {
			ex.became(a)
			return
		}
	}
}

// rotate spends the refresh token and mints the next pair. It fails for a token
// that is spent already, which is also what the loser of a race meets, and after
// the end of the login.
func (ex *exchange) rotate(old string) (grant, bool) {
	s, a := ex.s, ex.acct
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Clock()
	if a.refresh != old {
		s.violations = append(s.violations, fmt.Sprintf("account %s: a spent refresh token was used again (%s)", a.Name, ex.id))
		return grant{}, false
	}
	if !now.Before(a.loginEnd) {
		return grant{}, false
	}
	a.spent[old] = true
	life := faster(accessLife, s.opts.Speed)
	access := a.mint(s.opts.Seed, "oat01", now.Add(life))
	a.refresh = mintName(s.opts.Seed, a.Name, "ort01", a.mints)
	return grant{
		AccessToken: access, TokenType: "Bearer", ExpiresIn: wholeSeconds(life),
		RefreshToken: a.refresh, RefreshExpiresIn: wholeSeconds(a.loginEnd.Sub(now)),
		Scope:        loginScopes,
		Account:      &grantAccount{uuidOf("person/" + a.Name), a.Name + "@example.com"},
		Organization: grantOrg{a.Org, a.Name + "'s Organization"},
	}, true
}

// mint makes an access token and forgets those that expired long ago. The
// caller holds the server's mutex.
func (a *account) mint(seed uint64, kind string, end time.Time) string {
	a.mints++
	access := mintName(seed, a.Name, kind, a.mints)
	for bearer, old := range a.access {
		if !old.IsZero() && end.Sub(old) > sevenDays {
			delete(a.access, bearer)
		}
	}
	a.access[access] = end
	return access
}

func mintName(seed uint64, account, kind string, n int) string {
	id := fmt.Sprintf("mint/%d/%s/%s/%d", seed, account, kind, n)
	return "sk-ant-" + kind + "-" + token(id, 32) + token("more/"+id, 12)
}

// wholeSeconds rounds a life down, so that it is never told too long.
func wholeSeconds(d time.Duration) int64 { return int64(math.Floor(d.Seconds())) }

func (ex *exchange) federationGrant(request gjson.Result) {
	for _, beta := range []string{betaOAuth, betaFederation} {
		if !slices.Contains(betas(ex.r.Header), beta) {
			ex.grantRefused("invalid_request", "The anthropic-beta header must contain "+beta+".")
			return
		}
	}
	for _, field := range []string{"assertion", "federation_rule_id", "organization_id", "service_account_id"} {
		if request.Get(field).String() == "" {
			ex.grantRefused("invalid_request", field+" is required.")
			return
		}
	}
	if ex.r.Header.Get("Authorization") != "" || ex.r.Header.Get("X-Api-Key") != "" {
		ex.s.violation("federation (%s): carries a credential beside the assertion", ex.id)
	}
	ex.serviceAccount(request.Get("service_account_id").String(), request.Get("organization_id").String())
	if ex.acct == nil || !ex.accepts(request) {
		ex.grantRefused("invalid_grant", "The assertion was not accepted for this service account.")
		return
	}
	if ex.misbehaveEarly() || ex.misbehave() {
		return
	}
	ex.json(http.StatusOK, ex.federated())
}

// accepts reports whether the assertion is a JWT that has not ended, and the workspace,
// if one is named, the account's own. Signatures are not checked.
func (ex *exchange) accepts(request gjson.Result) bool {
	parts := strings.Split(request.Get("assertion").String(), ".")
	if len(parts) != 3 {
		return false
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || !gjson.ValidBytes(claims) {
		return false
	}
	if exp := gjson.GetBytes(claims, "exp"); exp.Exists() && !ex.s.opts.Clock().Before(time.Unix(exp.Int(), 0)) {
		return false
	}
	workspace := request.Get("workspace_id").String()
	return workspace == "" || workspace == ex.acct.Workspace
}

func (ex *exchange) serviceAccount(name, org string) {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	for _, a := range ex.s.accounts {
		if a.ServiceAccount == name && a.Org == org {
			ex.became(a)
		}
	}
}

func (ex *exchange) federated() grant {
	s := ex.s
	s.mu.Lock()
	defer s.mu.Unlock()
	life := faster(time.Hour, s.opts.Speed)
	return grant{
		AccessToken: ex.acct.mint(s.opts.Seed, "oat01", s.opts.Clock().Add(life)),
		TokenType:   "Bearer", ExpiresIn: wholeSeconds(life),
		Scope:        "workspace:developer workspace:inference",
		Organization: grantOrg{ex.acct.Org, ex.acct.Name},
	}
}
