package shunt

import (
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

const (
	verdictExhausted  = "exhausted"
	verdictBurst      = "burst"
	verdictOverloaded = "overloaded"
	verdictUpstream   = "upstream"
)

// longestWait is the longest Retry-After that Claude Code waits for; SDKs wait
// for any, so beyond it clients are told not to try again by themselves.
const longestWait = 59 * time.Second

// refusalError is the answer when no account can serve: truly why, and until
// when, in a form that clients understand.
func refusalError(refused *pool.Refusal, now time.Time) *anthropic.Error {
	words := refused.Words(now)
	if refused.Serving == 0 || refused.Unknown != "" || refused.Unlisted || refused.Apart {
		return &anthropic.Error{Status: http.StatusBadRequest, Message: words, NoRetry: true}
	}
	reopens := refused.Reopens()
	if refused.Full {
		return &anthropic.Error{Status: http.StatusTooManyRequests, Message: "too many requests are waiting for an account; " + words, RetryAfter: 5 * time.Second}
	}
	if refused.Busy {
		return &anthropic.Error{Status: http.StatusTooManyRequests, Message: words, RetryAfter: time.Second}
	}
	if reopens.IsZero() || onlyTrouble(refused) {
		return trouble(refused, words, reopens, now)
	}
	e := &anthropic.Error{Status: http.StatusTooManyRequests, Message: words, Header: http.Header{}}
	claim, unified := claimOf(refused)
	if unified {
		e.Header.Set("Anthropic-Ratelimit-Unified-Status", anthropic.StatusRejected)
		e.Header.Set("Anthropic-Ratelimit-Unified-Reset", strconv.FormatInt(reopens.Unix(), 10))
		e.Header.Set("Anthropic-Ratelimit-Unified-Representative-Claim", claim)
	}
	e.RetryAfter = max(time.Second, reopens.Sub(now))
	e.NoRetry = e.RetryAfter > longestWait
	return e
}

// onlyTrouble reports whether no account is out for a limit of its own: then it
// is the service that is in trouble, and no quota.
func onlyTrouble(refused *pool.Refusal) bool {
	for _, c := range refused.Closures {
		if limitVerdicts[c.Verdict] {
			return false
		}
	}
	return true
}

// limitVerdicts are the verdicts that speak of an account's own limits.
var limitVerdicts = map[string]bool{"account_window": true, "model_window": true, verdictBurst: true, "spend_limit": true, "no_credit": true, "plan_only": true, "account_budget": true}

// trouble is the answer when the accounts are not out of quota but out of order.
func trouble(refused *pool.Refusal, words string, reopens, now time.Time) *anthropic.Error {
	for _, c := range refused.Closures {
		if c.Verdict == verdictOverloaded {
			return &anthropic.Error{Status: 529, Message: words, RetryAfter: max(time.Second, reopens.Sub(now))}
		}
	}
	e := &anthropic.Error{Status: http.StatusServiceUnavailable, Message: words, NoRetry: true}
	if !reopens.IsZero() && reopens.Sub(now) <= longestWait {
		e.RetryAfter, e.NoRetry = max(time.Second, reopens.Sub(now)), false
	}
	return e
}

// claims are the names that upstream gives the windows when one speaks for all.
var claims = map[string]string{
	"5h": "five_hour", "7d": "seven_day", "7d_opus": "seven_day_opus", "7d_sonnet": "seven_day_sonnet", "7d_oi": "seven_day_overage_included",
}

// claimOf names the window of the account that reopens soonest.
func claimOf(refused *pool.Refusal) (claim string, ok bool) {
	var soonest time.Time
	for _, c := range refused.Closures {
		if name, known := claims[c.Window]; known && (soonest.IsZero() || c.Until.Before(soonest)) {
			claim, soonest, ok = name, c.Until, true
		}
	}
	return claim, ok
}
