package shunt

import (
	"encoding/json"
	"net/http"

	"github.com/tidwall/gjson"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/people"
)

// Verdicts of requests that a limit of their person keeps out.
const (
	verdictModel       = "model_not_allowed"
	verdictRate        = "person_rate"
	verdictConcurrency = "person_concurrency"
	verdictBudget      = "person_budget"
)

// spends reports whether the request may cost something: those are what the limits
// of people are about.
func (x *exchange) spends() bool {
	return x.endpoint == anthropic.EndpointMessages || x.endpoint == anthropic.EndpointBatches && x.making()
}

// admit lets the request in as far as its person's limits go. leave must be called at
// its end; it is nil when the request has been answered, or its client has left.
func (x *exchange) admit() (leave func()) {
	limits := x.limits
	if e := x.modelRefused(limits); e != nil {
		x.answer(e, verdictModel)
		return nil
	}
	if !x.spends() {
		return func() {}
	}
	if x.budgetRefused() {
		return nil
	}
	hold := min(x.h.holdDuration(), DefaultHold)
	if left := x.patience(); left > 0 {
		hold = min(hold, left)
	}
	leave, busy, waited := x.h.live.gate.Enter(x.r.Context(), x.who.name, limits, people.Waiting{Hold: hold, Queue: x.h.Hold.Queue})
	x.waited += waited
	if busy != nil {
		e := &anthropic.Error{Status: http.StatusTooManyRequests, Message: busy.Message, RetryAfter: busy.RetryAfter, NoRetry: busy.RetryAfter > longestWait}
		x.answer(e, limitVerdict(busy))
		return nil
	}
	return leave
}

// budgetRefused answers the request if a budget of its person is reached, or cannot be
// kept with it.
func (x *exchange) budgetRefused() bool {
	if e := x.unpricedRefused(x.limits); e != nil {
		x.answer(e, verdictModel)
		return true
	}
	if e := x.h.overBudget(x.who.name, x.limits); e != nil {
		x.answer(e, verdictBudget)
		return true
	}
	return false
}

func limitVerdict(busy *people.Busy) string {
	if busy.Rate {
		return verdictRate
	}
	return verdictConcurrency
}

// modelRefused is the answer to a request for what the person may not use. What a
// body asks for that cannot be read is not known, so it may not pass.
func (x *exchange) modelRefused(l *people.Limits) *anthropic.Error {
	refuse := func(message string) *anthropic.Error {
		return &anthropic.Error{Status: http.StatusBadRequest, Message: message, NoRetry: true}
	}
	batch := x.endpoint == anthropic.EndpointBatches && x.making()
	if batch && len(l.Budgets) > 0 {
		return refuse("batches: you have a budget here, and what a batch costs is not told to this endpoint; send its requests one by one")
	}
	if len(l.Models) == 0 {
		return nil
	}
	switch {
	case batch:
		return x.batchRefused(l, refuse)
	case x.endpoint != anthropic.EndpointMessages && x.endpoint != anthropic.EndpointCountTokens:
		return nil
	case x.facts.Model == "":
		return refuse("model: it cannot be read from this request, and you may not use every model here; send a JSON body that is not compressed")
	case !l.Allows(x.facts.Model):
		return refuse(l.NotAllowed(truncate(x.facts.Model)))
	}
	return nil
}

// batchRefused looks at the model of each request of a batch.
func (x *exchange) batchRefused(l *people.Limits, refuse func(string) *anthropic.Error) (e *anthropic.Error) {
	requests := gjson.GetBytes(x.body, "requests")
	// Not gjson's check: it calls itself for each bracket, and a body holds enough of them
	// to end the process.
	if !requests.IsArray() || !json.Valid(x.body) {
		return refuse("requests: they cannot be read, and you may not use every model here; send a JSON body that is not compressed")
	}
	requests.ForEach(func(_, request gjson.Result) bool {
		if model := request.Get("params.model").Str; model == "" || !l.Allows(model) {
			e = refuse(l.NotAllowed(truncate(model)))
		}
		return e == nil
	})
	return e
}
