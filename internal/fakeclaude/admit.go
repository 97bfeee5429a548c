package fakeclaude

import (
	"net/http"
	"strconv"
	"time"
)

const windowRefusal = "This request would exceed your account's rate limit. Please try again later."

// admit lets the request in and charges its prompt, or refuses it with the 429
// of the limit that it met. After true the caller must call leave.
func (ex *exchange) admit() (Usage, bool) {
	ex.s.mu.Lock()
	now := ex.s.opts.Clock()
	used := ex.split(now)
	message, wait := ex.limitMet(now, used)
	if message != "" {
		ex.acct.ledger.Refused++
		ex.tellLimits(ex.w.Header(), now)
		ex.s.mu.Unlock()
		h := ex.w.Header()
		h.Set("Retry-After", strconv.FormatInt(max(1, ceilSeconds(wait)), 10))
		h.Set("X-Should-Retry", "true")
		ex.fail(http.StatusTooManyRequests, "rate_limit_error", message)
		return Usage{}, false
	}
	ex.acct.inFlight++
	ex.acct.ledger.Requests++
	if !ex.acct.subscription() {
		ex.s.bucketsOf(ex.acct, ex.prompt.model, now).requests.level--
	}
	ex.keep(now)
	ex.s.mu.Unlock()
	ex.charge(used)
	return used, true
}

func (ex *exchange) leave() {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	ex.acct.inFlight--
}

// limitMet returns the refusal and how long it lasts, or nothing.
// The caller holds mu.
func (ex *exchange) limitMet(now time.Time, used Usage) (string, time.Duration) {
	a := ex.acct
	if a.MaxInFlight > 0 && a.inFlight >= a.MaxInFlight {
		return "Number of concurrent connections has exceeded your rate limit. Please try again later.",
			time.Duration(2+ex.s.dice.IntN(7)) * time.Second
	}
	if !a.subscription() {
		b := ex.s.bucketsOf(a, ex.prompt.model, now)
		if lacking, wait := b.lacking(used.Prompt() - used.CacheRead); lacking != nil {
			return lacking.refusal(), wait
		}
		return "", 0
	}
	if speaker, shut := representative(a.readings(now, family(ex.prompt.model))); shut && !a.paysExtra() {
		return windowRefusal, speaker.reset.Sub(now)
	}
	return "", 0
}

// tellLimits writes the headers that answers on the messages path carry, as
// things stand. The caller holds mu.
func (ex *exchange) tellLimits(h http.Header, now time.Time) {
	if ex.acct.subscription() {
		ex.acct.tellUnified(h, now, ex.acct.readings(now, family(ex.prompt.model)))
		return
	}
	ex.s.bucketsOf(ex.acct, ex.prompt.model, now).tell(h)
}

func (ex *exchange) tellLimitsNow() {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	ex.tellLimits(ex.w.Header(), ex.s.opts.Clock())
}
