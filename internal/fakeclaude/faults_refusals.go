package fakeclaude

import (
	"net/http"
	"time"
)

func unauthenticated(text string) *refusal {
	return &refusal{status: http.StatusUnauthorized, kind: "authentication_error", text: text}
}

func forbidden(text string) *refusal {
	return &refusal{status: http.StatusForbidden, kind: "permission_error", text: text}
}

func badRequest(text string) *refusal {
	return &refusal{status: http.StatusBadRequest, kind: "invalid_request_error", text: text}
}

var credentialFaults = []misbehaviour{
	{
		name:    TokenExpired,
		doc:     "401: the OAuth token has expired.",
		fact:    "One refresh and one replay mend it.",
		refusal: unauthenticated("OAuth token has expired. Please obtain a new token or refresh your existing token."),
	}, {
		name:    InvalidBearer,
		doc:     "401: invalid bearer token.",
		fact:    "The token is unknown; a refresh may mend it, otherwise the login is dead.",
		refusal: unauthenticated("Invalid bearer token"),
	}, {
		name:    InvalidKey,
		doc:     "401: invalid x-api-key.",
		fact:    "The key was deleted or mistyped.",
		refusal: unauthenticated("invalid x-api-key"),
	}, {
		name:    TokenRevoked,
		doc:     "401: the access token has been revoked.",
		fact:    "Somebody ended the login.",
		refusal: unauthenticated("OAuth access token has been revoked."),
	}, {
		name:    OAuthUnsupported,
		doc:     "401: OAuth is not supported.",
		fact:    "The beta value for OAuth is missing: the caller's error, the login is well.",
		refusal: unauthenticated("OAuth authentication is currently not supported."),
	}, {
		name: OrgNotAllowed,
		doc:  "401: OAuth is not allowed for this organisation.",
		fact: "The plan has lapsed or an administrator has switched it off.",
		refusal: &refusal{status: http.StatusUnauthorized, kind: "authentication_error", text: orgNotAllowed,
			details: map[string]any{"error_code": "oauth_org_not_allowed"}},
	}, {
		name: OrgNotAllowed403,
		doc:  "The same with status 403.",
		fact: "Seen with both codes.",
		refusal: &refusal{status: http.StatusForbidden, kind: "permission_error", text: orgNotAllowed,
			details: map[string]any{"error_code": "oauth_org_not_allowed"}},
	}, {
		name:    TokenRevoked403,
		doc:     "403: the token has been revoked.",
		fact:    "Somebody ended the login.",
		refusal: forbidden("OAuth token has been revoked. Please obtain a new token."),
	}, {
		name:    Permission,
		doc:     "403 permission_error of no special kind.",
		fact:    "The key may not use this resource.",
		refusal: forbidden("Your API key does not have permission to use the specified resource."),
	}, {
		name: ScopeProfile,
		doc:  "403: the token lacks the scope user:profile.",
		fact: "A setup token asked for the owner's profile; inference still works.",
		refusal: &refusal{status: http.StatusForbidden, kind: "permission_error", text: scopeError.Message,
			details: scopeError.Details.(map[string]any)},
	}, {
		name: ScopeInference,
		doc:  "403: the token lacks every scope that allows inference.",
		fact: "This credential can never serve.",
		refusal: forbidden("OAuth token does not meet scope requirement " +
			"any_of(user:inference, user:ccr_inference, user:voice, org:service_key_inference)"),
	}, {
		name:    Edge1010,
		doc:     "403 with an HTML page of the edge, error 1010.",
		fact:    "The edge dislikes the client's signature; no verdict on the account.",
		refusal: &refusal{status: http.StatusForbidden, page: "Access denied | error code: 1010"},
	}, {
		name:    OrgDisabled,
		doc:     "400: this organisation has been disabled.",
		fact:    "The account is gone for now.",
		refusal: badRequest("This organization has been disabled."),
	}, {
		name:    ClaudeCodeOnly,
		doc:     "400: the credential is only for Claude Code.",
		fact:    "A subscription refuses a request of another shape; an API key may serve it.",
		refusal: badRequest("This credential is only authorized for use with Claude Code and cannot be used for other API requests."),
	}, {
		name:    ThirdParty,
		doc:     "400: third-party apps draw from extra usage.",
		fact:    "As above, while plans billed such requests separately.",
		refusal: badRequest("Third-party apps now draw from your extra usage, not your plan limits."),
	},
}

const orgNotAllowed = "OAuth authentication is currently not allowed for this organization."

var requestFaults = []misbehaviour{
	{
		name:    InvalidRequest,
		doc:     "400 invalid_request_error about the request itself.",
		fact:    "The caller's error; every account says the same.",
		refusal: badRequest("messages.0.content: Input should be a valid list"),
	}, {
		name:    PromptTooLong,
		doc:     "400: the prompt is too long.",
		fact:    "The caller's error; clients compact on this text.",
		refusal: badRequest("prompt is too long: 213462 tokens > 200000 maximum"),
	}, {
		name:    UnknownModel,
		doc:     "404 not_found_error that names the model.",
		fact:    "The model does not exist, or not for this account.",
		refusal: &refusal{status: http.StatusNotFound, kind: "not_found_error", text: "model: {model}"},
	}, {
		name:    Conflict,
		doc:     "409 conflict_error.",
		fact:    "A resource changed meanwhile; SDKs retry it.",
		refusal: &refusal{status: http.StatusConflict, kind: "conflict_error", text: "The resource was changed by another request."},
	}, {
		name:    TooLarge,
		doc:     "413 with an HTML page of the edge, before the body was read.",
		fact:    "The edge refuses large requests before the API sees them.",
		early:   true,
		refusal: &refusal{status: http.StatusRequestEntityTooLarge, page: "413 Request Entity Too Large"},
	},
}

var grantFaults = []misbehaviour{
	{
		name:    InvalidGrant,
		path:    pathToken,
		doc:     "The token endpoint answers 400 invalid_grant and spends nothing.",
		fact:    "Another refresher was faster, or the login has ended.",
		refusal: &refusal{status: http.StatusBadRequest, grant: "invalid_grant", text: unknownRefresh},
	}, {
		name: TokenRateLimited,
		path: pathToken,
		doc:  "The token endpoint answers 429 with a long retry-after.",
		fact: "The token endpoint is limited hard; the login is well.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: "Rate limited. Please try again later.",
			retryAfter: 500 * time.Second},
	}, {
		name:    RefreshUnavailable,
		path:    pathToken,
		doc:     "The token endpoint answers 503.",
		fact:    "Passing trouble; the refresh token is not spent.",
		refusal: &refusal{status: http.StatusServiceUnavailable, kind: "api_error", text: "Service unavailable"},
	}, {
		name: RefreshLostAnswer,
		path: pathToken,
		doc:  "The token endpoint rotates the tokens and closes the connection without an answer.",
		fact: "The answer got lost: the old refresh token is spent, the new one is known to nobody.",
	},
}
