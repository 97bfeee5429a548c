package faults

import (
	"net/http"
	"time"
)

// The outcomes that many faults have in common. They are the proxy's contract:
// what each kind of answer means, and what is to be done about it.
var (
	// served is as if nothing were wrong.
	served = outcome{ending: whole, sickTries: 1, tries: 1, exactly: true, next: asked}

	// movedOn: the account's own refusal. It is asked once, another one serves, and
	// it is left alone from then on.
	movedOn = outcome{ending: whole, sickTries: 1, tries: 2, exactly: true, next: away}

	// movedOnUnbenched: another one serves, and the account stays in use.
	movedOnUnbenched = outcome{ending: whole, sickTries: 1, tries: 2, exactly: true, next: asked}

	// movedOnBlamed: a failure of upstream or the network that the other account
	// did not share.
	movedOnBlamed = outcome{ending: whole, sickTries: 1, tries: 2, next: away}

	// callers: the request is at fault, so upstream's word goes back at once.
	callers = outcome{ending: same, sickTries: 1, tries: 1, exactly: true, next: asked}

	// callersAll is callers when every account says so.
	callersAll = callers

	// relayedByAll: everybody was asked once, and the last answer is relayed.
	relayedByAll = outcome{ending: same, tries: 2, exactly: true, next: asked}

	// unreachable: no account's upstream answers, which is nobody's fault.
	unreachable = outcome{
		ending: own, status: []int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout},
		tries: 2, next: asked,
	}

	// needsLogin: only a person can put the accounts right. The client must not
	// take it for its own login, nor try on its own.
	needsLogin = outcome{
		ending: own, status: []int{http.StatusServiceUnavailable}, text: []string{"login"},
		head:  map[string]string{"X-Should-Retry": "false"},
		tries: 2, exactly: true, next: closed,
	}

	// notPermitted: no account may serve this, and it is not the client's login.
	notPermitted = outcome{
		ending: own, status: []int{http.StatusServiceUnavailable}, head: map[string]string{"X-Should-Retry": "false"},
		tries: 2, exactly: true,
	}

	// brokenOff: what was sent cannot be taken back, so the client must see that the
	// answer is not complete. Nobody is benched for it.
	brokenOff = outcome{ending: broken, sickTries: 1, tries: 1, exactly: true, next: asked}

	// brokenOffAll is brokenOff when every account does so.
	brokenOffAll = brokenOff
)

// windowSpent is the answer when every account is at a limit that ends in so
// many seconds, beyond what clients wait for by themselves.
func windowSpent(claim, seconds string) outcome {
	return outcome{
		ending: own, status: []int{http.StatusTooManyRequests}, clock: true,
		head: map[string]string{
			"Retry-After": seconds, "X-Should-Retry": "false",
			"Anthropic-Ratelimit-Unified-Status":               "rejected",
			"Anthropic-Ratelimit-Unified-Representative-Claim": claim,
			"Anthropic-Ratelimit-Unified-Reset":                "+" + seconds,
		},
		tries: 2, exactly: true, next: closed,
	}
}

// moneySpent is the answer when every account is out of money.
func moneySpent(seconds string) outcome {
	return outcome{
		ending: own, status: []int{http.StatusTooManyRequests}, clock: true,
		head:  map[string]string{"Retry-After": seconds, "X-Should-Retry": "false"},
		tries: 2, exactly: true, next: closed,
	}
}

// briefly is the answer when every account is open again within so many
// seconds: clients may wait for it by themselves.
func briefly(seconds string, reopens time.Duration) outcome {
	return outcome{
		ending: own, status: []int{http.StatusTooManyRequests}, clock: true,
		head:  map[string]string{"Retry-After": seconds, "X-Should-Retry": "!false"},
		tries: 2, exactly: true, next: closed, reopens: reopens,
	}
}
