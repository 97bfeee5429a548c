package fakeclaude

import (
	"math"
	"net/http"
	"time"
)

// usageWindow speaks per cent and ISO 8601, unlike the response headers.
type usageWindow struct {
	Utilization float64 `json:"utilization"`
	ResetsAt    *string `json:"resets_at"`
}

// usage answers what a login may ask about its own windows.
func (ex *exchange) usage() {
	if !ex.authenticate() || ex.misbehaveEarly() || ex.misbehave() {
		return
	}
	if ex.acct.RefreshToken == "" {
		ex.failWith(http.StatusForbidden, scopeError)
		return
	}
	ex.s.mu.Lock()
	now := ex.s.opts.Clock()
	answer := map[string]any{
		"five_hour":        tellUsage(&ex.acct.fiveHour, now),
		"seven_day":        tellUsage(&ex.acct.week, now),
		"seven_day_opus":   nil,
		"seven_day_sonnet": nil,
		"extra_usage": map[string]any{
			"is_enabled": ex.acct.ExtraUsage > 0, "monthly_limit": nil, "used_credits": nil, "utilization": nil,
		},
	}
	for family, w := range ex.acct.modelWeek {
		answer["seven_day_"+family] = tellUsage(w, now)
	}
	ex.s.mu.Unlock()
	ex.json(http.StatusOK, answer)
}

func tellUsage(w *window, now time.Time) usageWindow {
	told := usageWindow{Utilization: math.Round(w.utilization(now) * 100)}
	if !w.reset.IsZero() {
		// Real answers jitter by fractions of a second.
		at := w.reset.Add(123456 * time.Microsecond).UTC().Format("2006-01-02T15:04:05.000000-07:00")
		told.ResetsAt = &at
	}
	return told
}

var scopeError = apiError{
	Type:    "permission_error",
	Message: "OAuth token does not meet scope requirement user:profile",
	Details: map[string]any{
		"required_scopes": []string{"user:profile"}, "match": "any", "error_code": "oauth_scope_insufficient",
	},
}
