package fakeclaude

import (
	"net/http"
	"time"
)

const tooMany = http.StatusTooManyRequests

var limitFaults = []misbehaviour{
	{
		name: WindowFiveHour,
		doc:  "429 with all unified headers: the five-hour window is rejected until its reset.",
		fact: "A subscription has spent its five hours; nothing on this account works until the reset.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: windowRefusal,
			limits: limitsFiveHour, shouldRetry: "true"},
	}, {
		name: WindowWeek,
		doc:  "429 with all unified headers: the weekly window is rejected, retry-after is days.",
		fact: "A subscription has spent its week while the five hours stand open.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: windowRefusal,
			limits: limitsWeek, retryAfter: 309144 * time.Second, shouldRetry: "true"},
	}, {
		name: WindowModel,
		doc:  "429 with unified headers: only the weekly window of the model's family is rejected.",
		fact: "Other models of the same account still work.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: windowRefusal,
			limits: limitsModelWeek, retryAfter: 51811 * time.Second, shouldRetry: "true"},
	}, {
		name: ClassicSpent,
		doc:  "429 with classic headers that say remaining 0, and retry-after.",
		fact: "An API organisation has used up its tokens of this minute.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error",
			text:   "This request would exceed your organization's rate limit of input tokens per minute. Please try again later.",
			limits: limitsClassic, retryAfter: 20 * time.Second, shouldRetry: "true"},
	}, {
		name:    Windowless,
		doc:     "429 that says just Error: no limit headers, no retry-after, x-should-retry true.",
		fact:    "The request itself is unwelcome; every account refuses the same one.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: "Error", shouldRetry: "true"},
	}, {
		name:    ExtraUsageLong,
		doc:     "429 that wants extra usage for a long context.",
		fact:    "The account may not use the one-million context; clients compact on this text.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: "Extra usage is required for long context requests."},
	}, {
		name:    UsageCredits,
		doc:     "429 that wants usage credits for this feature.",
		fact:    "The account may not use the feature on its plan.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: "Usage credits are required for long context requests."},
	}, {
		name:    ExtraUsageOut,
		doc:     "429 that says the account is out of extra usage.",
		fact:    "Plan and paid extra usage of the account are both used up.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: extraUsageOut},
	}, {
		name:    ExtraUsageOut400,
		doc:     "The same text with status 400.",
		fact:    "Seen with both codes.",
		refusal: &refusal{status: http.StatusBadRequest, kind: "invalid_request_error", text: extraUsageOut},
	}, {
		name: FastMode,
		doc:  "429 with anthropic-fast headers and retry-after; the ordinary limits stand open.",
		fact: "Fast mode has limits of its own; standard speed still works.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: "This request would exceed your rate limit for fast mode.",
			limits: limitsFast, retryAfter: 12 * time.Second},
	}, {
		name: Burst,
		doc:  "429 with a retry-after of a few seconds while all limit headers show room.",
		fact: "Use has risen too fast; it passes within seconds.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: burstText,
			limits: limitsTrue, retryAfter: 3 * time.Second, shouldRetry: "true"},
	}, {
		name: BurstDate,
		doc:  "The same with retry-after as an HTTP date.",
		fact: "HTTP allows both forms; not all clients read this one.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: burstText,
			limits: limitsTrue, retryAfter: 3 * time.Second, retryStyle: retryDate},
	}, {
		name: BurstMillis,
		doc:  "The same with retry-after-ms.",
		fact: "The SDKs obey this form first.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: burstText,
			limits: limitsTrue, retryAfter: 1500 * time.Millisecond, retryStyle: retryMillis},
	}, {
		name:  Early429,
		doc:   "The burst 429, sent before the body has been read.",
		fact:  "The edge may refuse while the client still uploads.",
		early: true,
		refusal: &refusal{status: tooMany, kind: "rate_limit_error", text: burstText,
			retryAfter: 3 * time.Second, shouldRetry: "true"},
	},
}

const (
	extraUsageOut = "You're out of extra usage. Add more at claude.ai/settings/usage and keep going."
	burstText     = "Your organization's usage has increased too quickly. Please try again in a few seconds."
)

var moneyFaults = []misbehaviour{
	{
		name: SpendCap,
		doc:  "429 with the error code of an enforced spend limit and a date, without retry-after.",
		fact: "The organisation has spent what its tier allows in a month.",
		refusal: &refusal{status: tooMany, kind: "rate_limit_error",
			text:    "You have reached your API usage limits: your tier's monthly spend is used up. You will regain access on {date}.",
			details: map[string]any{"error_code": "enforced_spend_limit_reached"}},
	}, {
		name: SpendLimit,
		doc:  "400 that says a self-set limit has been reached.",
		fact: "The organisation's own monthly limit; a verdict on the account in the clothes of a bad request.",
		refusal: &refusal{status: http.StatusBadRequest, kind: "invalid_request_error",
			text: "You have reached your specified API usage limits. You will regain access on {date}."},
	}, {
		name: WorkspaceLimit,
		doc:  "400 that says a workspace's self-set limit has been reached.",
		fact: "As above, for one workspace.",
		refusal: &refusal{status: http.StatusBadRequest, kind: "invalid_request_error",
			text: "You have reached your specified workspace API usage limits. You will regain access on {date}."},
	}, {
		name: CreditBalance,
		doc:  "400 that says the credit balance is too low.",
		fact: "A prepaid organisation is out of money.",
		refusal: &refusal{status: http.StatusBadRequest, kind: "invalid_request_error",
			text: "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."},
	}, {
		name: Billing,
		doc:  "402 billing_error.",
		fact: "The documented type for trouble with payment.",
		refusal: &refusal{status: http.StatusPaymentRequired, kind: "billing_error",
			text: "There is a problem with the payment details of your organization."},
	},
}

var upstreamFaults = []misbehaviour{
	{
		name:    Overloaded,
		doc:     "529 overloaded_error, with the limit headers as they stand.",
		fact:    "Capacity across all users, per model; no fault of the account.",
		refusal: &refusal{status: statusOverloaded, kind: "overloaded_error", text: "Overloaded", limits: limitsTrue},
	}, {
		name:    Internal,
		doc:     "500 api_error.",
		fact:    "An error inside the API.",
		refusal: &refusal{status: http.StatusInternalServerError, kind: "api_error", text: "Internal server error"},
	}, {
		name:    BadGateway,
		doc:     "502 with an HTML page, without request-id.",
		fact:    "Seen from the edge when the API does not answer it.",
		refusal: &refusal{status: http.StatusBadGateway, page: "502 Bad Gateway"},
	}, {
		name:    Unavailable,
		doc:     "503 in the envelope.",
		fact:    "Upstream is being restarted or drained.",
		refusal: &refusal{status: http.StatusServiceUnavailable, kind: "api_error", text: "Service unavailable"},
	}, {
		name:    GatewayTimeout,
		doc:     "504 timeout_error.",
		fact:    "The API gave up on a long request.",
		refusal: &refusal{status: http.StatusGatewayTimeout, kind: "timeout_error", text: "Request timed out"},
	}, {
		name:    EdgeUnknown,
		doc:     "520 with an HTML page.",
		fact:    "Seen from the edge when the API answers nonsense.",
		refusal: &refusal{status: statusUnknown, page: "520: Web server is returning an unknown error"},
	},
}
