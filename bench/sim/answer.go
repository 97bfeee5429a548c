package main

import (
	"math"
	"net/http"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// answerKind is what an account says to a request.
type answerKind uint8

const (
	served answerKind = iota
	quotaSpent
	opusSpent
	burst
	windowless
	overloaded
	revoked
	answerKinds
)

// verdicts are what anthropic.Classify says of each kind; times and windows are
// filled in for each answer.
var verdicts = classifyAll()

func classifyAll() (all [answerKinds]anthropic.Verdict) {
	now := epoch
	window := func(name string) []anthropic.Window {
		return []anthropic.Window{{Name: name, Status: anthropic.StatusRejected, Utilization: 1, Reset: now.Add(time.Hour)}}
	}
	none := anthropic.Limits{RetryAfter: -1}
	body := func(errorType, message string) []byte {
		return []byte(`{"type":"error","error":{"type":"` + errorType + `","message":"` + message + `"}}`)
	}
	for kind, a := range map[answerKind]anthropic.Answer{
		served:     {Status: http.StatusOK, Limits: none},
		quotaSpent: {Status: http.StatusTooManyRequests, Limits: anthropic.Limits{Status: anthropic.StatusRejected, Windows: window("5h"), RetryAfter: -1}},
		opusSpent:  {Status: http.StatusTooManyRequests, Limits: anthropic.Limits{Windows: window("7d_opus"), RetryAfter: -1}},
		burst:      {Status: http.StatusTooManyRequests, Limits: anthropic.Limits{RetryAfter: 2 * time.Second}, Body: body("rate_limit_error", "slow down")},
		windowless: {Status: http.StatusTooManyRequests, Limits: none, Body: body("rate_limit_error", "slow down")},
		overloaded: {Status: 529, Limits: none, Body: body("overloaded_error", "Overloaded")},
		revoked:    {Status: http.StatusUnauthorized, Limits: none, Body: body("authentication_error", "OAuth token has been revoked.")},
	} {
		a.Now = now
		all[kind] = anthropic.Classify(&a)
	}
	return all
}

// answer is what came back, as the client's side sees it.
type answer struct {
	kind    answerKind
	verdict anthropic.Verdict
	limits  anthropic.Limits
	windows [3]anthropic.Window
}

// read fills in the answer of an account at that time.
func (r *answer) read(kind answerKind, a *account, model uint8, retryAfter time.Duration, now time.Duration) {
	r.kind = kind
	r.verdict = verdicts[kind]
	r.limits = anthropic.Limits{RetryAfter: -1}
	at := epoch.Add(now)
	switch kind {
	case served:
		r.tell(a, model, now)
	case burst:
		r.tell(a, model, now)
		r.limits.RetryAfter = retryAfter
		r.verdict.Until = at.Add(retryAfter)
	case quotaSpent, opusSpent:
		r.tell(a, model, now)
		r.limits.Status = anthropic.StatusRejected
		r.verdict.Until = time.Time{}
		for i := range r.limits.Windows {
			w := &r.limits.Windows[i]
			if w.Status != anthropic.StatusRejected || kind == quotaSpent && i == opusWeekly {
				continue
			}
			if w.Reset.After(r.verdict.Until) {
				r.verdict.Until, r.verdict.Window = w.Reset, w.Name
			}
		}
		r.limits.Reset = r.verdict.Until
	case overloaded:
		r.verdict.Until = at.Add(verdicts[kind].Until.Sub(epoch))
	case revoked:
		r.verdict.Until = at.Add(verdicts[kind].Until.Sub(epoch))
	}
}

// tell makes the limit headers: utilization is rounded to a hundredth.
func (r *answer) tell(a *account, model uint8, now time.Duration) {
	r.limits.Status = anthropic.StatusAllowed
	for i := range a.windows {
		w := &a.windows[i]
		w.roll(now)
		said := anthropic.Window{Name: w.name, Status: anthropic.StatusAllowed, Utilization: math.Round(100*w.used/w.capacity) / 100}
		if w.reset > 0 {
			said.Reset = epoch.Add(w.reset)
		}
		if r.kind != served && w.spent() && w.limits(model) {
			said.Status = anthropic.StatusRejected
		}
		r.windows[i] = said
	}
	r.limits.Windows = r.windows[:len(a.windows)]
}
