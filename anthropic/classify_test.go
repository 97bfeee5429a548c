package anthropic

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 9, 30, 12, 0, 0, 0, time.UTC)

// headerOf reads "name: value" lines; a name that starts with "u:" is short for
// the unified prefix.
func headerOf(lines string) http.Header {
	h := http.Header{}
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		if rest, unified := strings.CutPrefix(name, "u:"); unified {
			name = "anthropic-ratelimit-unified-" + rest
		}
		h.Add(name, value)
	}
	return h
}

func envelope(errorType, message string) string {
	return `{"type":"error","error":{"type":"` + errorType + `","message":"` + message + `"},"request_id":"req_1"}`
}

const (
	weeklyGone = `
u:status: rejected
u:representative-claim: seven_day
u:5h-status: allowed
u:5h-utilization: 0.0
u:7d-status: rejected
u:7d-utilization: 1.0
u:7d-reset: 1791054000
u:overage-status: rejected
u:overage-disabled-reason: out_of_credits
retry-after: 309144`
	bothGone = `
u:status: rejected
u:5h-status: rejected
u:5h-reset: 1790780000
u:7d-status: rejected
u:7d-reset: 1791054000
retry-after: 10`
	modelGone = `
u:status: rejected
u:representative-claim: seven_day_overage_included
u:5h-status: allowed
u:7d-status: allowed_warning
u:7d-utilization: 0.94
u:7d_oi-status: rejected
u:7d_oi-utilization: 1.0
retry-after: 51811
x-should-retry: true`
	classicEmpty = `
anthropic-ratelimit-requests-limit: 1000
anthropic-ratelimit-requests-remaining: 0
anthropic-ratelimit-requests-reset: 2026-09-30T12:01:00Z
retry-after: 7`
	classicRoom = `
anthropic-ratelimit-requests-limit: 1000
anthropic-ratelimit-requests-remaining: 900
retry-after: 3`
)

func TestClassify(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		header string
		body   string
		fast   bool
		static bool // the credential cannot be refreshed

		want   string
		scope  Scope
		action Action
		until  time.Time
		source string
		login  bool
	}{
		{name: "served", status: 200, want: "served", scope: ScopeNobody, action: Relay},
		{name: "weekly window", status: 429, header: weeklyGone, want: "account_window", scope: ScopeAccount, action: Next, until: time.Unix(1791054000, 0), source: "reset"},
		{name: "the latest of two windows", status: 429, header: bothGone, want: "account_window", scope: ScopeAccount, action: Next, until: time.Unix(1791054000, 0), source: "reset"},
		{name: "only status", status: 429, header: "u:status: rejected\nu:reset: 1791054000", want: "account_window", scope: ScopeAccount, action: Next, until: time.Unix(1791054000, 0), source: "reset"},
		{name: "model window", status: 429, header: modelGone, want: "model_window", scope: ScopeFamily, action: Next, until: now.Add(51811 * time.Second), source: "retry-after"},
		{name: "classic bucket empty", status: 429, header: classicEmpty, want: "account_window", scope: ScopeFamily, action: Next, until: now.Add(7 * time.Second), source: "retry-after"},
		{name: "burst", status: 429, header: classicRoom, want: "burst", scope: ScopeAccount, action: Next, until: now.Add(3 * time.Second), source: "retry-after"},
		{name: "windowless", status: 429, header: "x-should-retry: true", body: envelope("rate_limit_error", "Error"), want: "windowless", scope: ScopeCaller, action: NextOnce},
		{name: "long context", status: 429, body: envelope("rate_limit_error", "Extra usage is required for long context requests."), want: "extra_usage", scope: ScopeFeature, action: NextOrRelay},
		{name: "out of extra usage as 400", status: 400, body: envelope("invalid_request_error", "You're out of extra usage. Add more at claude.ai/settings/usage"), want: "extra_usage", scope: ScopeFeature, action: NextOrRelay},
		{
			name: "spend cap by code", status: 429,
			body: `{"type":"error","error":{"type":"rate_limit_error","message":"You have reached your API usage limits: You will regain access on 2026-10-03 at 00:00 UTC.","details":{"error_code":"enforced_spend_limit_reached"}}}`,
			want: "spend_limit", scope: ScopeAccount, action: Next, until: time.Date(2026, 10, 3, 0, 0, 0, 0, time.UTC), source: "text",
		},
		{
			name: "spend cap by code alone", status: 429,
			body: `{"type":"error","error":{"type":"rate_limit_error","message":"No.","details":{"error_code":"enforced_spend_limit_reached"}}}`,
			want: "spend_limit", scope: ScopeAccount, action: Next, until: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), source: "default",
		},
		{
			name: "self-set spend limit", status: 400, body: envelope("invalid_request_error", "You have reached your specified workspace API usage limits."),
			want: "spend_limit", scope: ScopeAccount, action: Next, until: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), source: "default",
		},
		{name: "credit balance", status: 400, body: envelope("invalid_request_error", "Your credit balance is too low to access the API."), want: "no_credit", scope: ScopeAccount, action: Next, until: now.Add(10 * time.Minute), source: "default"},
		{name: "billing", status: 402, body: envelope("billing_error", "Payment required"), want: "no_credit", scope: ScopeAccount, action: Next, until: now.Add(10 * time.Minute), source: "default"},
		{name: "fast mode", status: 429, fast: true, header: "anthropic-fast-input-tokens-remaining: 0\nretry-after: 20", want: "fast_mode", scope: ScopeFeature, action: NextOrRelay},
		{name: "overloaded", status: 529, body: envelope("overloaded_error", "Overloaded"), want: "overloaded", scope: ScopeProvider, action: Again, until: now.Add(4 * time.Second), source: "default"},
		{name: "overloaded with another status", status: 503, body: envelope("overloaded_error", "Overloaded"), want: "overloaded", scope: ScopeProvider, action: Again, until: now.Add(4 * time.Second), source: "default"},
		{name: "500", status: 500, body: envelope("api_error", "Internal server error"), want: "upstream", scope: ScopeUpstream, action: NextOnce},
		{name: "cloudflare", status: 522, body: "<html>timed out</html>", want: "upstream", scope: ScopeUpstream, action: NextOnce},
		{name: "redirect", status: 307, want: "upstream", scope: ScopeUpstream, action: NextOnce},
		{name: "token expired", status: 401, body: envelope("authentication_error", "OAuth token has expired. Please obtain a new token or refresh your existing token."), want: "token", scope: ScopeAccount, action: Renew},
		{name: "key refused", status: 401, static: true, body: envelope("authentication_error", "invalid x-api-key"), want: "key_refused", scope: ScopeAccount, action: Next, until: now.Add(5 * time.Minute), source: "default", login: true},
		{name: "token revoked", status: 401, body: envelope("authentication_error", "OAuth access token has been revoked."), want: "revoked", scope: ScopeAccount, action: Next, until: now.Add(time.Hour), source: "default", login: true},
		{name: "beta missing", status: 401, body: envelope("authentication_error", "OAuth authentication is currently not supported."), want: "beta_missing", scope: ScopeFeature, action: Next},
		{name: "plan lapsed", status: 403, body: envelope("permission_error", "OAuth authentication is currently not allowed for this organization."), want: "oauth_not_allowed", scope: ScopeAccount, action: Next, until: now.Add(time.Hour), source: "default", login: true},
		{name: "scope", status: 403, body: envelope("permission_error", "any_of(user:inference, user:ccr_inference)"), want: "scope", scope: ScopeAccount, action: Next, until: now.Add(time.Hour), source: "default", login: true},
		{name: "cloudflare 1010", status: 403, body: "error code: 1010", want: "edge_refused", scope: ScopeUpstream, action: NextOnce},
		{name: "cloudflare html", status: 403, body: "<!DOCTYPE html><html></html>", want: "edge_refused", scope: ScopeUpstream, action: NextOnce},
		{name: "permission", status: 403, body: envelope("permission_error", "Your API key does not have permission"), want: "permission", scope: ScopeFamily, action: Next, until: now.Add(time.Minute), source: "default"},
		{name: "organisation disabled", status: 400, body: envelope("invalid_request_error", "This organization has been disabled."), want: "organization_disabled", scope: ScopeAccount, action: Next, until: now.Add(time.Hour), source: "default", login: true},
		{name: "claude code only", status: 400, body: envelope("invalid_request_error", "This credential is only authorized for use with Claude Code and cannot be used for other API requests."), want: "client_kind", scope: ScopeFeature, action: NextOrRelay},
		{name: "caller's 400", status: 400, body: envelope("invalid_request_error", "messages: at least one message is required"), want: "caller", scope: ScopeCaller, action: Relay},
		{name: "404", status: 404, body: envelope("not_found_error", "model: claude-nope"), want: "caller", scope: ScopeCaller, action: Relay},
		{name: "413 html", status: 413, body: "<html>too large</html>", want: "caller", scope: ScopeCaller, action: Relay},
		{name: "unknown 4xx", status: 418, want: "caller", scope: ScopeCaller, action: Relay},
		{name: "unknown status", status: 799, want: "upstream", scope: ScopeUpstream, action: NextOnce},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := headerOf(test.header)
			v := Classify(&Answer{
				Status: test.status, Header: h, Body: []byte(test.body), Limits: ReadLimits(h, now),
				Family: FamilyOpus, Fast: test.fast, Refreshable: !test.static, Now: now,
			})
			if v.Name != test.want || v.Scope != test.scope || v.Action != test.action {
				t.Errorf("got %s, %v, %v; want %s, %v, %v", v.Name, v.Scope, v.Action, test.want, test.scope, test.action)
			}
			if !v.Until.Equal(test.until) || v.Source != test.source || v.Login != test.login {
				t.Errorf("until %v (%s), login %v; want %v (%s), %v", v.Until, v.Source, v.Login, test.until, test.source, test.login)
			}
			if v.Name != "served" && v.Reason == "" {
				t.Error("no reason in words")
			}
		})
	}
}

func TestClassifyEvent(t *testing.T) {
	v := ClassifyEvent(&Answer{Status: 200, Header: http.Header{}, Limits: ReadLimits(http.Header{}, now), Now: now}, []byte(envelope("overloaded_error", "Overloaded")))
	if v.Name != "overloaded" || v.Action != Again {
		t.Errorf("an overloaded_error event is %+v", v)
	}
	v = ClassifyEvent(&Answer{Status: 200, Header: http.Header{}, Limits: ReadLimits(http.Header{}, now), Now: now}, []byte(`{"type":"error","error":{"type":"new_error"}}`))
	if v.Name != "upstream" {
		t.Errorf("an unknown error event is %+v", v)
	}
}

// TestRulesAreNamed checks what every row must have.
func TestRulesAreNamed(t *testing.T) {
	for i, r := range Rules {
		if r.Name == "" || r.Reason == "" {
			t.Errorf("rule %d has no name or reason", i)
		}
		if (r.Bench == nil) != (r.Rest == "") || (r.When == nil) != (r.If == "") {
			t.Errorf("rule %s does not say in words what it does", r.Name)
		}
		if r.Bench == nil && r.Scope == ScopeAccount && r.Action != Renew {
			t.Errorf("rule %s blames the account and benches nobody", r.Name)
		}
		for _, text := range r.Text {
			if text != strings.ToLower(text) {
				t.Errorf("rule %s: %q is not lower case and never matches", r.Name, text)
			}
		}
	}
}

func TestReadLimitsMerges(t *testing.T) {
	l := ReadLimits(headerOf(`
u:status: allowed
u:5h-status: allowed
u:5h-utilization: 0.01
u:5h-reset: 1785182400
u:7d-utilization: 1.05
u:7d_sonnet-utilization: 0.5
u:overage-status: rejected
u:overage-disabled-reason: org_level_disabled
anthropic-ratelimit-input-tokens-remaining: 12000
anthropic-ratelimit-input-tokens-limit: 50000
anthropic-ratelimit-input-tokens-reset: 2026-09-30T12:01:00Z`), now)
	byName := map[string]Window{}
	for _, w := range l.Windows {
		byName[w.Name] = w
	}
	if w := byName["5h"]; w.Utilization != 0.01 || w.Status != "allowed" || w.Reset.Unix() != 1785182400 {
		t.Errorf("5h is %+v", w)
	}
	if w := byName["7d"]; w.Utilization != 1.05 || w.Status != "" || !w.Reset.IsZero() {
		t.Errorf("7d is %+v", w)
	}
	if w := byName["7d_sonnet"]; w.Utilization != 0.5 {
		t.Errorf("7d_sonnet is %+v", w)
	}
	if len(l.Buckets) != 1 || l.Buckets[0].Remaining != 12000 || l.Buckets[0].Limit != 50000 || l.Buckets[0].Reset.IsZero() {
		t.Errorf("buckets are %+v", l.Buckets)
	}
	if l.RetryAfter >= 0 || l.OverageStatus != "rejected" {
		t.Errorf("limits are %+v", l)
	}
}

func TestReadReset(t *testing.T) {
	for value, want := range map[string]int64{"1791054000": 1791054000, "2026-09-30T12:01:00Z": 1790769660, "1791054000000000": 0, "-5": 0, "soon": 0, "": 0} {
		got := readReset(value)
		if want == 0 && !got.IsZero() || want != 0 && got.Unix() != want {
			t.Errorf("%q is read as %v", value, got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{"1500": 1500 * time.Millisecond, "": -1, "x": -1} {
		if got := ReadLimits(http.Header{"Retry-After-Ms": {value}}, now).RetryAfter; got != want {
			t.Errorf("retry-after-ms: %s is %v, want %v", value, got, want)
		}
	}
	for value, want := range map[string]time.Duration{
		"30": 30 * time.Second, "0": 0, "309144": 309144 * time.Second, "soon": -1, "-1": -1, "NaN": -1,
		now.Add(20 * time.Second).Format(http.TimeFormat): 20 * time.Second,
	} {
		if got := ReadLimits(http.Header{"Retry-After": {value}}, now).RetryAfter; got != want {
			t.Errorf("Retry-After: %s is %v, want %v", value, got, want)
		}
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(429, "Anthropic-Ratelimit-Unified-7d_opus-Status", "rejected", "{}")
	f.Add(403, "Retry-After", "7", "<html>")
	f.Add(400, "Anthropic-Ratelimit-Tokens-Reset", "x", `{"error":{"type":"billing_error"}}`)
	f.Fuzz(func(t *testing.T, status int, name, value, body string) {
		h := http.Header{name: {value}}
		v := Classify(&Answer{Status: status, Header: h, Body: []byte(body), Limits: ReadLimits(h, now), Now: now})
		if v.Name == "" {
			t.Error("no verdict")
		}
		if !v.Until.IsZero() && !v.Until.After(now) {
			t.Errorf("%s benches until the past: %v", v.Name, v.Until)
		}
	})
}
