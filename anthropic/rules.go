package anthropic

import "time"

const (
	nameAccountWindow = "account_window"
	nameModelWindow   = "model_window"
)

// Rules is the table of refusals: the first row that matches gives the verdict.
// Texts drift, so each is a fragment in lower case and no row depends on one
// alone where a status or type says the same.
var Rules = []Rule{
	// Money. These come as 400 or 429 and are the account's all the same.
	{
		Name: "spend_limit", Code: "enforced_spend_limit_reached",
		Scope: ScopeAccount, Action: Next, Bench: untilNextMonth, Rest: "until the date in the text, else 00:00 UTC on the first of next month",
		Reason: "spend limit reached",
	},
	{
		Name: "spend_limit", Status: []int{400, 403, 429},
		Text:  []string{"you have reached your api usage limits", "you have reached your specified api usage limits", "you have reached your specified workspace api usage limits"},
		Scope: ScopeAccount, Action: Next, Bench: untilNextMonth, Rest: "until the date in the text, else 00:00 UTC on the first of next month",
		Reason: "spend limit reached",
	},
	{
		Name: "no_credit", Status: []int{400, 402, 403, 429},
		Text:  []string{"credit balance is too low"},
		Scope: ScopeAccount, Action: Next, Bench: after(10 * time.Minute), Rest: "10 min, doubled each time up to 160 min, or `retry-after`",
		Reason: "out of credit",
	},
	{
		Name: "no_credit", Status: []int{402}, Type: TypeBilling, OrType: true,
		Scope: ScopeAccount, Action: Next, Bench: after(10 * time.Minute), Rest: "10 min, doubled each time up to 160 min, or `retry-after`",
		Reason: "billing refused",
	},

	// What this account may not do but another may.
	{
		Name: "extra_usage", Status: []int{400, 402, 403, 429},
		Text:  []string{"extra usage is required", "usage credits are required", "out of extra usage"},
		Scope: ScopeFeature, Action: NextOrRelay,
		Reason: "extra usage is not available to this account",
	},
	{
		Name: "client_kind", Status: []int{400, 401, 403},
		Text:  []string{"only authorized for use with claude code", "third-party apps now draw from your extra usage"},
		Scope: ScopeFeature, Action: NextOrRelay,
		Reason: "the account's credential serves other clients only",
	},

	// Logins that are over, whatever status says so.
	{
		Name: "organization_disabled", Status: []int{400, 401, 403},
		Text:  []string{"organization has been disabled"},
		Scope: ScopeAccount, Action: Next, Bench: after(time.Hour), Rest: "1 h, doubled each time up to 16 h; a new login ends it", Login: true,
		Reason: "the organization is disabled",
	},
	{
		Name: "oauth_not_allowed", Status: []int{401, 403},
		Text:  []string{"oauth authentication is currently not allowed for this organization", "oauth_org_not_allowed"},
		Scope: ScopeAccount, Action: Next, Bench: after(time.Hour), Rest: "1 h, doubled each time up to 16 h; a new login ends it", Login: true,
		Reason: "the organization does not allow this login",
	},
	{
		Name: "revoked", Status: []int{401, 403},
		Text:  []string{"has been revoked"},
		Scope: ScopeAccount, Action: Next, Bench: after(time.Hour), Rest: "1 h, doubled each time up to 16 h; a new login ends it", Login: true,
		Reason: "the login was revoked",
	},
	{
		Name: "scope", Status: []int{403},
		Text:  []string{"scope requirement", "oauth_scope_insufficient", "any_of(user:inference"},
		Scope: ScopeAccount, Action: Next, Bench: after(time.Hour), Rest: "1 h, doubled each time up to 16 h; a new login ends it", Login: true,
		Reason: "the login may not do this",
	},

	// A header of ours is missing, which says nothing about the credential.
	{
		Name: "beta_missing", Status: []int{401},
		Text:  []string{"oauth authentication is currently not supported"},
		Scope: ScopeFeature, Action: Next,
		Reason: "upstream did not take the login's kind",
	},
	{
		Name: "token", Status: []int{401},
		When:  func(a *Answer, _ *refusal) bool { return a.Refreshable },
		If:    "the token can be refreshed",
		Scope: ScopeAccount, Action: Renew,
		Reason: "the access token is no longer good",
	},
	{
		Name: "key_refused", Status: []int{401},
		Scope: ScopeAccount, Action: Next, Bench: after(5 * time.Minute), Rest: "5 min, doubled each time up to 80 min; a new key or login ends it", Login: true,
		Reason: "upstream refuses the credential",
	},
	{
		Name: "edge_refused", Status: []int{403}, When: fromEdge, If: "HTML or error 1010: from the edge",
		Scope: ScopeUpstream, Action: NextOnce,
		Reason: "upstream's edge refused the request",
	},
	{
		Name: "permission", Status: []int{403},
		Scope: ScopeFamily, Action: Next, Bench: after(time.Minute), Rest: "1 min for the model family",
		Reason: "the account lacks permission",
	},

	// Limits.
	{
		Name: "fast_mode", Status: []int{429}, When: fastSpent, If: "fast mode asked and its limits told",
		Scope: ScopeFeature, Action: NextOrRelay,
		Reason: "fast mode is used up",
	},
	{
		Name: nameAccountWindow, Status: []int{429}, When: accountWindowSpent, If: "`5h` or `7d` rejected",
		Scope: ScopeAccount, Action: Next, Bench: untilReset(false), Rest: "until the latest reset among the rejected windows",
		Reason: "usage window spent",
	},
	{
		Name: nameModelWindow, Status: []int{429}, When: modelWindowSpent, If: "a model window such as `7d_opus` rejected",
		Scope: ScopeFamily, Action: Next, Bench: untilReset(true), Rest: "until the latest reset among the rejected model windows",
		Reason: "the model family's usage window is spent",
	},
	{
		Name: nameAccountWindow, Status: []int{429}, When: unifiedRejected, If: "unified status rejected, no window named",
		Scope: ScopeAccount, Action: Next,
		Bench: untilTold, Rest: "`retry-after`, else until the reset",
		Reason: "usage window spent",
	},
	{
		Name: nameAccountWindow, Status: []int{429}, When: bucketEmpty, If: "a classic limit with nothing remaining",
		Scope: ScopeFamily, Action: Next, Bench: untilRefill, Rest: "`retry-after`, else until the reset, for the model family",
		Reason: "rate limit used up",
	},
	{
		Name: "burst", Status: []int{429}, When: hasRetryAfter, If: "with `retry-after`, windows open",
		Scope: ScopeAccount, Action: Next, Bench: untilRetryAfter, Rest: "`retry-after`",
		Reason: "too many requests at once",
	},
	{
		Name: "windowless", Status: []int{429},
		Scope: ScopeCaller, Action: NextOnce,
		Reason: "upstream limits this request, whichever account asks",
	},

	// The service.
	{
		Name: "overloaded", Status: []int{529}, Type: "overloaded_error", OrType: true,
		Scope: ScopeProvider, Action: Again, Bench: after(4 * time.Second), Rest: "4 s for the model family; a brake for all when accounts agree",
		Reason: "upstream is overloaded",
	},
}

// typeOfStatus is the error type of each status that has one (Messages API,
// errors).
var typeOfStatus = map[int]string{
	400: "invalid_request_error",
	401: "authentication_error",
	402: TypeBilling,
	403: "permission_error",
	404: "not_found_error",
	409: "conflict_error",
	413: "request_too_large",
	429: "rate_limit_error",
	500: "api_error",
	504: "timeout_error",
	529: "overloaded_error",
}

// StatusOfType is the status an error type stands for, 500 for a type that is
// not known.
func StatusOfType(errorType string) int {
	for status, t := range typeOfStatus {
		if t == errorType {
			return status
		}
	}
	return 500
}

// TypeBilling is the type of errors about money. Anthropic's own gateway gives it to
// the 429 of a spend cap (Claude Code documentation, apps gateway).
const TypeBilling = "billing_error"

// TypeOfStatus is the error type of a status.
func TypeOfStatus(status int) string {
	if t, ok := typeOfStatus[status]; ok {
		return t
	}
	if status >= 400 && status < 500 {
		return "invalid_request_error"
	}
	return "api_error"
}
