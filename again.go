package shunt

import (
	"net/http"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// mayGoOn reports whether another account may be asked after a. An account's own
// refusal does not count against the limit: it is not asked again, and another
// may well serve. A fault that accounts share gets one other try.
func (x *exchange) mayGoOn(a *attempt) bool {
	switch a.verdict.Action {
	case anthropic.Next, anthropic.NextOrRelay, anthropic.Renew:
		return true
	default:
		if x.making() {
			return false // it may have been made all the same: twice costs more than an error
		}
		if x.hopped || x.failures >= x.h.Retries {
			return false
		}
		x.hopped = true
		return true
	}
}

// outOfTime reports whether the client would be gone before another answer.
func (x *exchange) outOfTime() bool {
	return x.facts.Patience > 0 && x.facts.Patience-time.Since(x.started) < 2*time.Second
}

// maxBursts is how often an account is asked for one request that says each time
// that there are too many at once.
const maxBursts = 3

// maxStays is how often a request waits for its own account and asks it again
// while that is overloaded.
const maxStays = 3

// mayReturn reports whether the request may come back to the account that answered
// a. After a burst it may: the account rests for a moment that upstream has named,
// and the pool weighs that against a move. After an overload a conversation may
// whose prompt cache is warm there, a few times; these do not count as failures, so
// that the one other account can still be asked. The free endpoints' limits
// bench nobody, so there the account would be asked again at once.
func (x *exchange) mayReturn(a *attempt) bool {
	if a.verdict.Until.IsZero() || x.endpoint != anthropic.EndpointMessages || x.h.holdDuration() == 0 {
		return false
	}
	if a.verdict.Name == verdictOverloaded && a.lease.Reason == pool.ReasonSession && x.stayed < maxStays {
		x.stayed++
		x.failures--
		return true
	}
	if a.verdict.Name != verdictBurst {
		return false
	}
	if x.bursts == nil {
		x.bursts = make(map[string]int)
	}
	key := a.lease.Member.Key
	x.bursts[key]++
	return x.bursts[key] < maxBursts
}

// usedUp lists the accounts that this request never comes back to.
func (x *exchange) usedUp() (keys []string) {
	for key, n := range x.bursts {
		if n >= maxBursts {
			keys = append(keys, key)
		}
	}
	return keys
}

// making reports whether the request makes a file or a batch.
func (x *exchange) making() bool {
	return x.endpoint.Holds() && x.r.Method == http.MethodPost && x.route.Ref == ""
}

// maxAsked is how often the other instances are asked for one request.
const maxAsked = 2

// mayHearOfIt reports whether another instance may have told by now who holds what
// the request names. They are asked again only if what they told was something else.
func (x *exchange) mayHearOfIt(refused *pool.Refusal) bool {
	if x.asked >= maxAsked || refused.Unknown == "" && !refused.Unlisted {
		return false
	}
	asked, news := x.h.live.sharing.ask(x.r.Context())
	if x.asked++; !news {
		x.asked = maxAsked
	}
	return asked
}

// mayWaitAgain reports whether the accounts that this request has been to will be
// open again soon enough to start over.
func (x *exchange) mayWaitAgain(last *attempt, refused *pool.Refusal) bool {
	if last == nil || len(x.want.Tried) == len(x.usedUp()) || last.verdict.Action != anthropic.Next || refused.Full {
		return false
	}
	x.failures++
	if x.failures >= x.h.Retries {
		return false
	}
	reopens := refused.Reopens()
	left := x.h.holdDuration() - x.waited
	return !reopens.IsZero() && time.Until(reopens) < left
}
