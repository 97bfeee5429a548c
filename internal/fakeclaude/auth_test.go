package fakeclaude_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

func TestWhoMayCome(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	for name, c := range map[string]struct {
		call
		text string
	}{
		"nobody":         {call{}, "x-api-key header is required"},
		"unknown key":    {call{key: "sk-ant-api03-no"}, "invalid x-api-key"},
		"token as key":   {call{key: tokenA}, "invalid x-api-key"},
		"unknown bearer": {call{bearer: "sk-ant-oat01-no"}, "Invalid bearer token"},
		"no bearer":      {call{header: map[string]string{"Authorization": "Basic x"}}, "Invalid bearer token"},
		"no beta":        {call{bearer: tokenA, header: map[string]string{"Anthropic-Beta": ""}}, "OAuth authentication is currently not supported."},
		"both":           {call{key: keyK, header: map[string]string{"Authorization": "Bearer " + tokenA}}, "not both"},
		"browser":        {call{key: keyK, header: map[string]string{"Origin": "https://example.com"}}, "CORS requests must set 'anthropic-dangerous-direct-browser-access' header"},
	} {
		t.Run(name, func(t *testing.T) {
			v := *w
			v.T = t
			c.body = ask(modelID, false, "x")
			v.refused(v.do(c.call), 401, "authentication_error", c.text)
		})
	}
	for name, c := range map[string]call{
		"key":           {key: keyK},
		"key as bearer": {header: map[string]string{"Authorization": "Bearer " + keyK}},
		"setup token":   {bearer: tokenA},
		"beta in list":  {bearer: tokenB, header: map[string]string{"Anthropic-Beta": "effort-2025-11-24, oauth-2025-04-20"}},
		"browser opted": {key: keyK, header: map[string]string{"Origin": "https://example.com", "Anthropic-Dangerous-Direct-Browser-Access": "true"}},
	} {
		c.body = ask(modelID, false, "x")
		w.equal(name, w.do(c).StatusCode, 200)
	}
	if v := w.fake.Violations(); len(v) != 1 || !strings.Contains(v[0], "both x-api-key and authorization") {
		t.Errorf("violations: %q", v)
	}
}

func (w *world) refresh(token string) answer {
	w.Helper()
	return w.do(call{path: "/v1/oauth/token", body: `{"grant_type":"refresh_token","refresh_token":"` + token + `","client_id":"c"}`})
}

func TestRefreshRotatesAndOldTokensDie(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	w.clock.advance(8*time.Hour - time.Second)
	w.equal("before the end", w.do(call{bearer: tokenB, body: ask(modelID, false, "x")}).StatusCode, 200)
	w.clock.advance(time.Second)
	w.refused(w.do(call{bearer: tokenB, body: ask(modelID, false, "x")}), 401, "authentication_error", "OAuth token has expired.")

	first := w.refresh(renewB)
	w.equal("status", first.StatusCode, 200)
	w.equal("expires_in", first.get("expires_in").Int(), int64(28800))
	w.equal("token_type", first.get("token_type").String(), "Bearer")
	w.equal("refresh_token_expires_in", first.get("refresh_token_expires_in").Int(), int64(28*86400-28800))
	access, renew := first.get("access_token").String(), first.get("refresh_token").String()
	if !strings.HasPrefix(access, "sk-ant-oat01-") || !strings.HasPrefix(renew, "sk-ant-ort01-") || renew == renewB {
		t.Fatalf("tokens: %s", first.body)
	}
	w.equal("new token", w.do(call{bearer: access, body: ask(modelID, false, "x")}).StatusCode, 200)
	if got, gotRenew := w.fake.Tokens("b"); got != access || gotRenew != renew {
		t.Errorf("Tokens: %s %s", got, gotRenew)
	}

	w.equal("violations so far", len(w.fake.Violations()), 0)
	again := w.refresh(renewB)
	w.equal("reuse", again.StatusCode, 400)
	w.equal("reuse error", again.get("error").String(), "invalid_grant")
	w.equal("reuse description", again.get("error_description").String(), "Refresh token not found or invalid")
	if v := w.fake.Violations(); len(v) != 1 || !strings.Contains(v[0], "spent refresh token") {
		t.Errorf("violations: %q", v)
	}
	w.equal("the newest still works", w.refresh(renew).StatusCode, 200)
}

func TestRefreshRaceHasOneWinner(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	statuses := make([]int, 8)
	var wait sync.WaitGroup
	for i := range statuses {
		wait.Go(func() { statuses[i] = w.refresh(renewB).StatusCode })
	}
	wait.Wait()
	slices.Sort(statuses)
	if !slices.Equal(statuses, []int{200, 400, 400, 400, 400, 400, 400, 400}) {
		t.Errorf("statuses: %v", statuses)
	}
	w.equal("violations", len(w.fake.Violations()), 7)
}

func TestLoginsEnd(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	w.fake.Expire("b")
	w.refused(w.do(call{bearer: tokenB, body: ask(modelID, false, "x")}), 401, "authentication_error", "has expired")
	w.clock.advance(28 * 24 * time.Hour)
	w.equal("after the end of the login", w.refresh(renewB).get("error").String(), "invalid_grant")

	w = start(t, fakeclaude.Options{})
	w.fake.Revoke("b")
	w.refused(w.do(call{bearer: tokenB, body: ask(modelID, false, "x")}), 401, "authentication_error", "Invalid bearer token")
	w.equal("after revocation", w.refresh(renewB).get("error").String(), "invalid_grant")
	w.equal("violations", len(w.fake.Violations()), 0)
	w.equal("grant of another kind", w.do(call{path: "/v1/oauth/token", body: `{"grant_type":"password"}`}).get("error").String(), "unsupported_grant_type")
	w.equal("a form", w.do(call{path: "/v1/oauth/token", body: `grant_type=refresh_token`}).get("error").String(), "invalid_request")
}

func TestSpeedShortensTokenLife(t *testing.T) {
	w := start(t, fakeclaude.Options{Speed: 288})
	w.equal("expires_in", w.refresh(renewB).get("expires_in").Int(), int64(100))
}

func TestFederation(t *testing.T) {
	w := start(t, fakeclaude.Options{Accounts: []fakeclaude.Account{{Name: "f", ServiceAccount: "svac_1", Org: "org-1"}}})
	c := call{path: "/v1/oauth/token", body: `{"grant_type":"urn:ietf:params:oauth:grant-type:jwt-bearer","assertion":"e30.eyJzdWIiOiJ4In0.c2ln",
		"federation_rule_id":"r","organization_id":"org-1","service_account_id":"svac_1"}`}
	w.equal("without betas", w.do(c).StatusCode, 400)
	c.header = map[string]string{"Anthropic-Beta": "oauth-2025-04-20,oidc-federation-2026-04-01"}
	a := w.do(c)
	w.equal("status", a.StatusCode, 200)
	w.equal("expires_in", a.get("expires_in").Int(), int64(3600))
	w.equal("refresh_token", a.get("refresh_token").Exists(), false)
	bearer := a.get("access_token").String()
	served := w.do(call{bearer: bearer, body: ask(modelID, false, "x")})
	w.equal("served", served.StatusCode, 200)
	w.equal("classic limits", served.Header.Get("Anthropic-Ratelimit-Requests-Limit"), "1000")
	w.clock.advance(time.Hour)
	w.equal("an hour later", w.do(call{bearer: bearer, body: ask(modelID, false, "x")}).StatusCode, 401)
	for name, change := range map[string][2]string{
		"another service account": {"svac_1", "svac_2"},
		"another workspace":       {`"federation_rule_id"`, `"workspace_id":"wrkspc_2","federation_rule_id"`},
		"an assertion that ended": {"eyJzdWIiOiJ4In0", "eyJleHAiOjF9"},
		"no JWT":                  {"e30.eyJzdWIiOiJ4In0.c2ln", "e30"},
	} {
		bad := c
		bad.body = strings.Replace(c.body, change[0], change[1], 1)
		w.equal(name, w.do(bad).get("error").String(), "invalid_grant")
	}
	w.equal("violations", len(w.fake.Violations()), 0)
	c.bearer = bearer
	w.do(c)
	w.equal("violations of a call with a credential", len(w.fake.Violations()), 1)
}

func TestUsageEndpoint(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	reset := w.fake.Spend("b", "5h", 0.434)
	a := w.do(call{method: http.MethodGet, path: "/api/oauth/usage", bearer: tokenB})
	w.equal("per cent", a.get("five_hour.utilization").Float(), 43.0)
	at, err := time.Parse(time.RFC3339Nano, a.get("five_hour.resets_at").String())
	if err != nil || !at.Truncate(time.Second).Equal(reset) {
		t.Errorf("resets_at %v, want %v", a.get("five_hour.resets_at"), reset)
	}
	w.equal("a window that rests", a.get("seven_day.resets_at").Raw, "null")
	setup := w.do(call{method: http.MethodGet, path: "/api/oauth/usage", bearer: tokenA})
	w.refused(setup, 403, "permission_error", "user:profile")
	w.equal("error_code", setup.get("error.details.error_code").String(), "oauth_scope_insufficient")
}
