package faults

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// in is a time from now as the unified headers tell it.
func in(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }

// tooMany is a 429 with these headers.
func tooMany(header map[string]string) sickness {
	all := maps.Clone(jsonType)
	maps.Copy(all, header)
	return scripted(script{status: http.StatusTooManyRequests, header: all, body: envelope("rate_limit_error", "This request would exceed your account's rate limit. Please try again later.")})
}

// haiku is of another model family than the rows' model.
const haiku = "claude-haiku-4-5"

func onlyThisModel(o *outcome) { o.otherModel = haiku }

// limitRows: the seven kinds of 429 and their variants.
var limitRows = []row{
	{name: "window_5h", place: "status", sick: fault(fakeclaude.WindowFiveHour), one: movedOn, all: windowSpent("five_hour", "17900..18001")},
	{name: "window_7d", place: "status", sick: fault(fakeclaude.WindowWeek), one: movedOn, all: windowSpent("seven_day", "309000..309145")},
	{
		name: "window_5h_and_7d", place: "status", sick: tooMany(map[string]string{
			"Anthropic-Ratelimit-Unified-Status":    "rejected",
			"Anthropic-Ratelimit-Unified-Reset":     in(time.Hour),
			"Anthropic-Ratelimit-Unified-5h-Status": "rejected", "Anthropic-Ratelimit-Unified-5h-Reset": in(time.Hour),
			"Anthropic-Ratelimit-Unified-7d-Status": "rejected", "Anthropic-Ratelimit-Unified-7d-Reset": in(72 * time.Hour),
			"Anthropic-Ratelimit-Unified-Representative-Claim": "five_hour",
		}),
		// The account is out until the later of the two.
		one: movedOn, all: windowSpent("seven_day", "258900..259201"),
	},
	{
		name: "window_reset_in_the_past", place: "status", sick: tooMany(map[string]string{
			"Anthropic-Ratelimit-Unified-Status":    "rejected",
			"Anthropic-Ratelimit-Unified-5h-Status": "rejected", "Anthropic-Ratelimit-Unified-5h-Reset": in(-time.Minute),
		}),
		one: movedOn,
		all: outcome{ending: own, status: []int{http.StatusTooManyRequests}, clock: true, head: map[string]string{"Retry-After": "1..60"}, tries: 2, exactly: true, next: closed},
	},
	{
		name: "window_unnamed", place: "status", sick: tooMany(map[string]string{
			"Anthropic-Ratelimit-Unified-Status": "rejected", "Anthropic-Ratelimit-Unified-Reset": in(2 * time.Hour),
		}),
		one: movedOn, all: moneySpent("6900..7201"),
	},
	{
		name: "window_of_model", place: "status", sick: fault(fakeclaude.WindowModel),
		one: movedOn.with(onlyThisModel), all: windowSpent("seven_day_sonnet", "51700..51812").with(onlyThisModel),
	},
	{name: "classic_spent", place: "status", sick: fault(fakeclaude.ClassicSpent), one: movedOn, all: briefly("15..20", 0)},
	{
		name: "classic_spent_briefly", place: "status", sick: refuses(fakeclaude.ClassicSpent, 3*time.Second),
		one: movedOn.with(func(o *outcome) { o.reopens = 3500 * time.Millisecond }), all: briefly("1..3", 3500*time.Millisecond),
	},
	{
		name: "windowless", place: "status", sick: fault(fakeclaude.Windowless), one: movedOnUnbenched,
		all: relayedByAll.with(func(o *outcome) { o.head["X-Should-Retry"] = "true" }),
	},
	{name: "windowless_html", place: "status", sick: page(http.StatusTooManyRequests, "Error 1015: You are being rate limited"), one: movedOnUnbenched, all: relayedByAll},
	{name: "extra_usage_long_context", place: "status", sick: fault(fakeclaude.ExtraUsageLong), one: movedOnUnbenched, all: relayedByAll},
	{name: "extra_usage_out", place: "status", sick: fault(fakeclaude.ExtraUsageOut), one: movedOnUnbenched, all: relayedByAll},
	{name: "extra_usage_out_400", place: "status", sick: fault(fakeclaude.ExtraUsageOut400), one: movedOnUnbenched, all: relayedByAll},
	{name: "usage_credits_required", place: "status", sick: fault(fakeclaude.UsageCredits), one: movedOnUnbenched, all: relayedByAll},
	{
		name: "fast_mode", place: "status", sick: fault(fakeclaude.FastMode), request: request{fields: `,"speed":"fast"`},
		one: movedOnUnbenched, all: relayedByAll,
	},
	{
		name: "burst", place: "status", sick: fault(fakeclaude.Burst),
		one: movedOn.with(func(o *outcome) { o.reopens = 3500 * time.Millisecond }), all: briefly("1..3", 3500*time.Millisecond),
	},
	{name: "burst_http_date", place: "status", sick: fault(fakeclaude.BurstDate), one: movedOn, all: briefly("1..4", 0)},
	{name: "burst_milliseconds", place: "status", sick: refuses(fakeclaude.BurstMillis, 2500*time.Millisecond), one: movedOn, all: briefly("1..3", 0)},
	{name: "burst_zero_seconds", place: "status", sick: tooMany(map[string]string{"Retry-After": "0"}), one: movedOn.with(func(o *outcome) { o.next = anyNext }), all: briefly("0..1", 0).with(func(o *outcome) { o.next = anyNext })},
	{
		// Waiting a second here costs less than an error there.
		name: "burst_waited_for", place: "status", runs: []run{allSick}, settings: "hold 5s",
		sick: sickness{fault: fakeclaude.Fault{Name: fakeclaude.Burst, Times: 1, RetryAfter: time.Second}},
		all:  outcome{ending: whole, tries: 3, exactly: true, shortest: 900 * time.Millisecond, longest: 6 * time.Second, next: asked},
	},
	{
		// The other account would have to read the whole prompt anew.
		name: "burst_stayed_for", place: "status", runs: []run{oneSick}, settings: "hold 5s", ownSettings: true, request: request{padding: 32000},
		sick: sickness{fault: fakeclaude.Fault{Name: fakeclaude.Burst, Times: 1, RetryAfter: time.Second}},
		one:  outcome{ending: whole, sickTries: 2, tries: 2, exactly: true, shortest: 900 * time.Millisecond, longest: 6 * time.Second, next: asked},
	},
}

// untilNextMonth is the time until spend limits start anew, as headProblem reads it.
func untilNextMonth() string {
	now := time.Now().UTC()
	left := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC).Sub(now)
	return fmt.Sprintf("%d..%d", int(left.Seconds())-300, int(left.Seconds())+1)
}

// tenMinutes is how long an account rests that is out of money.
const tenMinutes = "500..600"

// moneyRows: the account has no money, whatever status says so.
var moneyRows = []row{
	{name: "spend_cap_429", place: "status", sick: fault(fakeclaude.SpendCap), one: movedOn, all: moneySpent(untilNextMonth())},
	{name: "spend_limit_400", place: "status", sick: fault(fakeclaude.SpendLimit), one: movedOn, all: moneySpent(untilNextMonth())},
	{name: "workspace_limit_400", place: "status", sick: fault(fakeclaude.WorkspaceLimit), one: movedOn, all: moneySpent(untilNextMonth())},
	{name: "credit_balance_400", place: "status", sick: fault(fakeclaude.CreditBalance), one: movedOn, all: moneySpent(tenMinutes)},
	{name: "billing_402", place: "status", sick: fault(fakeclaude.Billing), one: movedOn, all: moneySpent(tenMinutes)},
}

// The login as the fake upstream ends it.
func expire(fake *fakeclaude.Server, account string) { fake.Expire(account) }
func revoke(fake *fakeclaude.Server, account string) { fake.Revoke(account) }

// expireAnd expires the login while the token endpoint has that fault.
func expireAnd(name string) sickness {
	return sickness{login: func(fake *fakeclaude.Server, account string) {
		fake.Expire(account)
		fake.SetFault(account, fakeclaude.Always(name))
	}}
}

// refreshTrouble is passing trouble with renewing a login: no person is needed,
// and another account serves meanwhile.
var (
	refreshTrouble    = movedOn.with(func(o *outcome) { o.next = anyNext })
	refreshTroubleAll = outcome{ending: own, status: []int{http.StatusServiceUnavailable}, tries: 2, exactly: true, next: closed}
)

func unbenchedAndOwn(o *outcome) { o.next = asked }

// credentialRows: upstream refuses the credential, or what it may do. No client
// is ever shown a 401 or 403 of an account's.
var credentialRows = []row{
	{name: "invalid_api_key_401", place: "status", sick: fault(fakeclaude.InvalidKey), one: movedOn, all: needsLogin},
	{name: "invalid_bearer_401", place: "status", sick: fault(fakeclaude.InvalidBearer), one: movedOn, all: needsLogin},
	{name: "token_expired_401", place: "status", sick: fault(fakeclaude.TokenExpired), one: movedOn, all: needsLogin},
	{name: "token_revoked_401", place: "status", sick: fault(fakeclaude.TokenRevoked), one: movedOn, all: needsLogin},
	{name: "token_revoked_403", place: "status", sick: fault(fakeclaude.TokenRevoked403), one: movedOn, all: needsLogin},
	{name: "org_not_allowed_401", place: "status", sick: fault(fakeclaude.OrgNotAllowed), one: movedOn, all: needsLogin},
	{name: "org_not_allowed_403", place: "status", sick: fault(fakeclaude.OrgNotAllowed403), one: movedOn, all: needsLogin},
	{name: "org_disabled_400", place: "status", sick: fault(fakeclaude.OrgDisabled), one: movedOn, all: needsLogin},
	{name: "scope_inference_403", place: "status", sick: fault(fakeclaude.ScopeInference), one: movedOn, all: needsLogin},
	{
		name: "scope_profile_403", place: "status", sick: fault(fakeclaude.ScopeProfile),
		one: movedOn.with(func(o *outcome) { o.next = anyNext }), all: notPermitted,
	},
	{name: "oauth_not_supported_401", place: "status", sick: fault(fakeclaude.OAuthUnsupported), one: movedOnUnbenched, all: notPermitted.with(unbenchedAndOwn)},
	{name: "permission_403", place: "status", sick: fault(fakeclaude.Permission), one: movedOn, all: notPermitted.with(func(o *outcome) { o.next = closed; delete(o.head, "X-Should-Retry") })},
	{
		name: "edge_1010_403", place: "status", sick: fault(fakeclaude.Edge1010),
		one: movedOnBlamed.with(func(o *outcome) { o.next = anyNext }), all: notPermitted.with(unbenchedAndOwn),
	},
	{name: "claude_code_only_400", place: "status", sick: fault(fakeclaude.ClaudeCodeOnly), one: movedOnUnbenched, all: relayedByAll},
	{
		name: "claude_code_only_403", place: "status",
		sick: says(http.StatusForbidden, "permission_error", "This credential is only authorized for use with Claude Code and cannot be used for other API requests."),
		one:  movedOnUnbenched, all: notPermitted.with(unbenchedAndOwn),
	},
	{name: "third_party_400", place: "status", sick: fault(fakeclaude.ThirdParty), one: movedOnUnbenched, all: relayedByAll},
	{
		// The login is renewed once, on the same account, unseen by the client.
		name: "login_expired", place: "status", kinds: []kind{stream}, sick: sickness{login: expire},
		one: outcome{ending: whole, sickTries: 2, tries: 2, exactly: true, next: asked},
		all: outcome{ending: whole, tries: 2, exactly: true, next: asked},
	},
	{name: "login_ended", place: "status", kinds: []kind{stream}, sick: expireAnd(fakeclaude.InvalidGrant), one: movedOn, all: needsLogin},
	{name: "login_refresh_503", place: "status", kinds: []kind{stream}, sick: expireAnd(fakeclaude.RefreshUnavailable), one: refreshTrouble, all: refreshTroubleAll},
	{name: "login_refresh_429", place: "status", kinds: []kind{stream}, sick: expireAnd(fakeclaude.TokenRateLimited), one: refreshTrouble, all: refreshTroubleAll},
	{
		// The old refresh token is spent and the new one is known to nobody.
		name: "login_refresh_lost", place: "status", kinds: []kind{stream}, sick: expireAnd(fakeclaude.RefreshLostAnswer),
		one: refreshTrouble, all: refreshTroubleAll.with(func(o *outcome) { o.next = anyNext }),
	},
	{name: "login_revoked", place: "status", kinds: []kind{stream}, sick: sickness{login: revoke}, one: movedOn, all: needsLogin},
}
