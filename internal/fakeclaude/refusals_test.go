package fakeclaude_test

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// refusals maps every fault that answers in place of the model to what comes.
var refusals = map[string]struct {
	status     int
	kind, text string
	// header lines that must be there; "-" means absent.
	header map[string]string
}{
	fakeclaude.WindowFiveHour: {429, "rate_limit_error", "exceed your account's rate limit", unifiedOf("status=rejected representative-claim=five_hour 5h-status=rejected 5h-utilization=1.0 5h-surpassed-threshold=1.0 7d-status=allowed overage-status=rejected", "Retry-After=18000 X-Should-Retry=true")},
	fakeclaude.WindowWeek:     {429, "rate_limit_error", "exceed your account's rate limit", unifiedOf("status=rejected representative-claim=seven_day 7d-status=rejected 7d-utilization=1.0 5h-status=allowed 5h-utilization=0.0", "Retry-After=309144 X-Should-Retry=true")},
	fakeclaude.WindowModel:    {429, "rate_limit_error", "exceed your account's rate limit", unifiedOf("status=rejected representative-claim=seven_day_sonnet 7d_sonnet-status=rejected 7d-status=allowed 5h-status=allowed", "Retry-After=51811 X-Should-Retry=true")},
	fakeclaude.ClassicSpent: {429, "rate_limit_error", "your organization's rate limit", map[string]string{
		"Anthropic-Ratelimit-Input-Tokens-Remaining": "0", "Anthropic-Ratelimit-Tokens-Remaining": "0", "Retry-After": "20", "Anthropic-Ratelimit-Unified-Status": "-"}},
	fakeclaude.Windowless:       {429, "rate_limit_error", "Error", unifiedOf("status=-", "Retry-After=- X-Should-Retry=true Anthropic-Ratelimit-Requests-Limit=-")},
	fakeclaude.ExtraUsageLong:   {429, "rate_limit_error", "Extra usage is required for long context requests.", unifiedOf("status=-", "Retry-After=-")},
	fakeclaude.UsageCredits:     {429, "rate_limit_error", "Usage credits are required", nil},
	fakeclaude.ExtraUsageOut:    {429, "rate_limit_error", "You're out of extra usage. Add more at claude.ai/settings/usage", nil},
	fakeclaude.ExtraUsageOut400: {400, "invalid_request_error", "You're out of extra usage.", nil},
	fakeclaude.FastMode: {429, "rate_limit_error", "fast mode", unifiedOf("status=allowed",
		"Retry-After=12 Anthropic-Fast-Input-Tokens-Remaining=0 Anthropic-Fast-Output-Tokens-Remaining=0")},
	fakeclaude.Burst:          {429, "rate_limit_error", "increased too quickly", unifiedOf("status=allowed 5h-status=allowed", "Retry-After=3")},
	fakeclaude.BurstDate:      {429, "rate_limit_error", "increased too quickly", unifiedOf("status=allowed", "Retry-After=Fri,_20_Nov_2026_09:00:03_GMT")},
	fakeclaude.BurstMillis:    {429, "rate_limit_error", "increased too quickly", unifiedOf("status=allowed", "Retry-After=- Retry-After-Ms=1500")},
	fakeclaude.Early429:       {429, "rate_limit_error", "increased too quickly", map[string]string{"Retry-After": "3"}},
	fakeclaude.SpendCap:       {429, "rate_limit_error", "You will regain access on 2026-12-01 at 00:00 UTC", map[string]string{"Retry-After": "-"}},
	fakeclaude.SpendLimit:     {400, "invalid_request_error", "You have reached your specified API usage limits", nil},
	fakeclaude.WorkspaceLimit: {400, "invalid_request_error", "specified workspace API usage limits", nil},
	fakeclaude.CreditBalance:  {400, "invalid_request_error", "credit balance is too low", nil},
	fakeclaude.Billing:        {402, "billing_error", "payment", nil},

	fakeclaude.Overloaded:     {529, "overloaded_error", "Overloaded", unifiedOf("status=allowed", "Retry-After=-")},
	fakeclaude.Internal:       {500, "api_error", "Internal server error", nil},
	fakeclaude.BadGateway:     {502, "", "502 Bad Gateway", nil},
	fakeclaude.Unavailable:    {503, "api_error", "unavailable", nil},
	fakeclaude.GatewayTimeout: {504, "timeout_error", "timed out", nil},
	fakeclaude.EdgeUnknown:    {520, "", "520", nil},

	fakeclaude.TokenExpired:     {401, "authentication_error", "OAuth token has expired.", map[string]string{"Anthropic-Workspace-Id": "-"}},
	fakeclaude.InvalidBearer:    {401, "authentication_error", "Invalid bearer token", nil},
	fakeclaude.InvalidKey:       {401, "authentication_error", "invalid x-api-key", nil},
	fakeclaude.TokenRevoked:     {401, "authentication_error", "OAuth access token has been revoked.", nil},
	fakeclaude.OAuthUnsupported: {401, "authentication_error", "OAuth authentication is currently not supported.", nil},
	fakeclaude.OrgNotAllowed:    {401, "authentication_error", "not allowed for this organization", nil},
	fakeclaude.OrgNotAllowed403: {403, "permission_error", "not allowed for this organization", nil},
	fakeclaude.TokenRevoked403:  {403, "permission_error", "OAuth token has been revoked.", nil},
	fakeclaude.Permission:       {403, "permission_error", "does not have permission", nil},
	fakeclaude.ScopeProfile:     {403, "permission_error", "scope requirement user:profile", nil},
	fakeclaude.ScopeInference:   {403, "permission_error", "any_of(user:inference,", nil},
	fakeclaude.Edge1010:         {403, "", "1010", nil},
	fakeclaude.OrgDisabled:      {400, "invalid_request_error", "This organization has been disabled.", nil},
	fakeclaude.ClaudeCodeOnly:   {400, "invalid_request_error", "only authorized for use with Claude Code", nil},
	fakeclaude.ThirdParty:       {400, "invalid_request_error", "Third-party apps now draw from your extra usage", nil},
	fakeclaude.InvalidRequest:   {400, "invalid_request_error", "messages.0", nil},
	fakeclaude.PromptTooLong:    {400, "invalid_request_error", "prompt is too long", nil},
	fakeclaude.UnknownModel:     {404, "not_found_error", "model: " + modelID, nil},
	fakeclaude.Conflict:         {409, "conflict_error", "", nil},
	fakeclaude.TooLarge:         {413, "", "413 Request Entity Too Large", nil},
	fakeclaude.Redirect:         {307, "", "", map[string]string{"Location": "/v1/messages?redirected=1"}},
	fakeclaude.FirstOverloaded:  {200, "overloaded_error", "Overloaded", unifiedOf("status=allowed", "Content-Type=text/event-stream;_charset=utf-8")},
	fakeclaude.FirstRateLimit:   {200, "rate_limit_error", "rate limit", nil},
	fakeclaude.FirstAPIError:    {200, "api_error", "Internal", nil},
	fakeclaude.FirstAuth:        {200, "authentication_error", "expired", nil},
}

// unifiedOf writes header expectations short; "_" stands for a blank.
func unifiedOf(prefixed, plain string) map[string]string {
	header := map[string]string{}
	for pair := range strings.FieldsSeq(prefixed) {
		name, value, _ := strings.Cut(pair, "=")
		header["Anthropic-Ratelimit-Unified-"+name] = value
	}
	for pair := range strings.FieldsSeq(plain) {
		name, value, _ := strings.Cut(pair, "=")
		header[name] = strings.ReplaceAll(value, "_", " ")
	}
	return header
}

func TestRefusals(t *testing.T) {
	for name, want := range refusals {
		t.Run(name, func(t *testing.T) {
			w := start(t, fakeclaude.Options{})
			w.fake.SetFault("b", fakeclaude.Once(name))
			a := w.do(call{bearer: tokenB, body: ask(modelID, true, "x")})
			switch {
			case want.status == 200:
				w.equal("status", a.StatusCode, 200)
				w.equal("events", a.names(), "error")
				w.equal("type", a.last("error").Get("error.type").String(), want.kind)
				w.contains(a.last("error").Get("error.message").String(), want.text)
			case want.kind == "":
				w.equal("status", a.StatusCode, want.status)
				w.contains(a.body, want.text)
				if want.status != 307 {
					w.equal("request-id of an edge page", a.Header.Get("Request-Id"), "")
					w.equal("server", a.Header.Get("Server"), "cloudflare")
				}
			default:
				w.refused(a, want.status, want.kind, want.text)
			}
			for header, value := range want.header {
				w.equal(header, a.Header.Get(header), strings.TrimPrefix(value, "-"))
			}
			r := w.await(done)
			w.equal("recorded fault", r.Fault, name)
			w.equal("recorded status", r.Status, want.status)
			w.equal("charged", r.Usage, fakeclaude.Usage{})
			w.equal("afterwards", w.do(call{bearer: tokenB, body: ask(modelID, true, "x")}).StatusCode, 200)
		})
	}
}

func (w *world) contains(text, part string) {
	w.Helper()
	if !strings.Contains(text, part) {
		w.Errorf("%q is not in %q", part, text)
	}
}

func TestRefusalDetails(t *testing.T) {
	w := start(t, fakeclaude.Options{Accounts: append(accounts(), fakeclaude.Account{Name: "e", AccessToken: tokenA + "e", ExtraUsage: 1000})})
	w.fake.SetFault("e", fakeclaude.Once(fakeclaude.WindowWeek))
	w.equal("extra usage does not help", unified(w.do(call{bearer: tokenA + "e", body: ask(modelID, true, "x")}), "status"), "rejected")
	for name, code := range map[string]string{
		fakeclaude.SpendCap:      "enforced_spend_limit_reached",
		fakeclaude.OrgNotAllowed: "oauth_org_not_allowed",
		fakeclaude.ScopeProfile:  "oauth_scope_insufficient",
	} {
		w.fake.SetFault("k", fakeclaude.Once(name))
		a := w.do(call{key: keyK, body: ask(modelID, true, "x")})
		w.equal(name, a.get("error.details.error_code").String(), code)
	}
	w.fake.SetFault("k", fakeclaude.Once(fakeclaude.Overloaded))
	w.equal("529 for a key", w.do(call{key: keyK, body: ask(modelID, true, "x")}).Header.Get("Anthropic-Ratelimit-Requests-Limit"), "1000")
	w.fake.SetFault("k", fakeclaude.Once(fakeclaude.FirstOverloaded))
	w.equal("without streaming", w.do(call{key: keyK, body: ask(modelID, false, "x")}).StatusCode, 529)
	w.fake.SetFault("b", fakeclaude.Fault{Name: fakeclaude.WindowFiveHour, RetryAfter: 40 * time.Second})
	a := w.do(call{bearer: tokenB, body: ask(modelID, true, "x")})
	w.equal("retry-after", a.Header.Get("Retry-After"), "40")
	w.equal("reset", unified(a, "5h-reset"), seconds(w.clock.Now().Add(40*time.Second)))
}
