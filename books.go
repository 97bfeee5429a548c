package shunt

import (
	"slices"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/ledger"
	"github.com/caddy-shunt/caddy-shunt/pool"
	"github.com/caddy-shunt/caddy-shunt/sse"
)

// use is what one account was used for by an exchange. A request that went on to
// another account may have used several.
type use struct {
	account   *account
	usage     anthropic.Usage
	estimated bool
	cost      anthropic.Money
	priced    bool
}

// used takes note of what upstream charged for an answer, once for each that it began
// to give.
func (x *exchange) used(a *attempt, usage anthropic.Usage, terms anthropic.Terms, estimated bool) {
	u := use{account: a.account, usage: usage, estimated: estimated}
	if terms.Speed == "" && x.facts.Fast {
		terms.Speed = "fast"
	}
	u.cost, u.priced = x.h.prices.Cost(x.facts.Model, usage, terms, x.h.now())
	x.uses = append(x.uses, u)
	a.usage = usage
	c := ledger.Counts{Usage: usage, Cost: u.cost}
	if estimated {
		c.Estimated = 1
	}
	if !u.priced && !usage.IsZero() {
		c.Unpriced = 1
	}
	x.h.live.ledger.Add(ledger.Key{Person: x.who.name, Account: a.account.member.Name, Model: truncate(x.facts.Model)}, &c)
	// Whoever is let in when the lease ends must find budgets as they are now.
	x.watchBudgets(a.account)
}

// settle books what the tap has read. Upstream tells what an answer costs with its
// beginning and its end; of one that broke off, and of one that cannot be read, the
// rest is estimated, since it is charged all the same.
func (x *exchange) settle(a *attempt, tap *sse.Tap) {
	if x.endpoint != anthropic.EndpointMessages || !a.verdict.Served() {
		return
	}
	if tap == nil {
		x.usedUntold(a)
		return
	}
	seen := tap.Result()
	usage := seen.Usage
	usage.OutputTokens = max(usage.OutputTokens, seen.EstimatedOutputTokens)
	if usage.PromptTokens() == 0 {
		usage.InputTokens = x.facts.Tokens
		x.used(a, usage, seen.Terms, true)
		return
	}
	x.used(a, usage, seen.Terms, !seen.Counted)
}

// usedUntold books an answer that upstream began to give without saying what it costs:
// the prompt was read, and its size is all that can be estimated.
func (x *exchange) usedUntold(a *attempt) {
	if x.endpoint == anthropic.EndpointMessages {
		x.used(a, anthropic.Usage{InputTokens: x.facts.Tokens}, anthropic.Terms{}, true)
	}
}

// sum is what all of the exchange's answers used together. priced is false when the
// cost of any is not known.
func (x *exchange) sum() (usage anthropic.Usage, cost anthropic.Money, priced bool) {
	priced = true
	for i := range x.uses {
		usage.Add(x.uses[i].usage)
		cost += x.uses[i].cost
		priced = priced && x.uses[i].priced
	}
	return usage, cost, priced
}

// refusedHere are the verdicts of requests that went to no account.
var refusedHere = []string{verdictExhausted, verdictModel, verdictRate, verdictConcurrency, verdictBudget}

// How requests end: the fields of a report, and the values of the label outcome.
const (
	outcomeServed    = "served"
	outcomeCancelled = "cancelled" // left by the client
	outcomeRefused   = "refused"   // kept out here: by a limit, or since no account was open
	outcomeFailed    = "failed"    // everything else
)

func outcomeOf(r *pool.Record) string {
	switch {
	case r.Verdict == anthropic.ClientGone.Name:
		return outcomeCancelled
	case slices.Contains(refusedHere, r.Verdict):
		return outcomeRefused
	case r.Verdict == anthropic.Served:
		return outcomeServed
	default:
		return outcomeFailed
	}
}

// book counts the request, with the account that answered.
func (x *exchange) book(r *pool.Record) {
	request := ledger.Counts{Requests: 1}
	switch outcomeOf(r) {
	case outcomeCancelled:
		request.Cancelled = 1
	case outcomeRefused:
		request.Refused = 1
	case outcomeServed:
		request.Served = 1
	default:
		request.Failed = 1
	}
	x.h.live.ledger.Add(ledger.Key{Person: r.User, Account: r.Account, Model: r.Model}, &request)
}
