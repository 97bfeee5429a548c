package fakeclaude

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// refusal is an answer in place of the model's.
type refusal struct {
	status int
	kind   string
	// text may contain {model} and {date}, the first day of the next month.
	text    string
	details map[string]any
	// page makes it an HTML page of the edge with this title.
	page string
	// grant makes it an error of the token endpoint.
	grant string
	// limits are the rate limit headers that go with it.
	limits limitsKind
	// retryAfter is told in the given style; for limits that reject a window the
	// default is the time until its reset.
	retryAfter  time.Duration
	retryStyle  retryStyle
	shouldRetry string
}

// limitsKind says which rate limit headers a refusal carries.
type limitsKind int

const (
	_ limitsKind = iota // no limit headers
	// limitsTrue tells how things stand.
	limitsTrue
	limitsFiveHour
	limitsWeek
	limitsModelWeek
	limitsClassic
	limitsFast
)

type retryStyle int

const (
	retrySeconds retryStyle = iota
	retryDate
	retryMillis
)

func (ex *exchange) countRefusal() {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	ex.acct.ledger.Refused++
}

func (ex *exchange) refuse(r *refusal) {
	ex.countRefusal()
	if r.page != "" {
		ex.edgePage(r.status, r.page)
		return
	}
	now := ex.s.opts.Clock()
	wait := r.retryAfter
	if ex.fault.RetryAfter > 0 {
		wait = ex.fault.RetryAfter
	}
	wait = ex.refusalLimits(r.limits, now, wait)
	ex.tellRetry(r, now, wait)
	text := strings.NewReplacer("{model}", ex.prompt.model,
		"{date}", nextMonth(now).Format("2006-01-02 at 15:04 MST")).Replace(r.text)
	if r.grant != "" {
		ex.json(r.status, grantError{r.grant, text})
		return
	}
	e := apiError{Type: r.kind, Message: text}
	if r.details != nil {
		e.Details = r.details
	}
	ex.failWith(r.status, e)
}

func (ex *exchange) tellRetry(r *refusal, now time.Time, wait time.Duration) {
	h := ex.w.Header()
	if wait > 0 {
		switch r.retryStyle {
		case retrySeconds:
			h.Set("Retry-After", strconv.FormatInt(ceilSeconds(wait), 10))
		case retryDate:
			h.Set("Retry-After", ceilToSecond(now.Add(wait)).UTC().Format(http.TimeFormat))
		case retryMillis:
			h.Set("Retry-After-Ms", strconv.FormatInt(wait.Milliseconds(), 10))
		}
	}
	if r.shouldRetry != "" {
		h.Set("X-Should-Retry", r.shouldRetry)
	}
}

// refusalLimits writes the limit headers of a refusal and returns how long the
// limit that it names lasts: the given time, or else until the reset told.
func (ex *exchange) refusalLimits(kind limitsKind, now time.Time, wait time.Duration) time.Duration {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	h := ex.w.Header()
	switch kind {
	case limitsTrue:
		ex.tellLimits(h, now)
	case limitsFiveHour:
		return ex.claimRejected(h, now, "5h", "five_hour", faster(fiveHours, ex.s.opts.Speed), wait)
	case limitsWeek:
		return ex.claimRejected(h, now, "7d", "seven_day", faster(sevenDays, ex.s.opts.Speed), wait)
	case limitsModelWeek:
		suffix, claim := modelWindowNames(family(ex.prompt.model))
		return ex.claimRejected(h, now, suffix, claim, faster(sevenDays, ex.s.opts.Speed), wait)
	case limitsClassic:
		b := *ex.s.bucketsOf(ex.acct, ex.prompt.model, now)
		b.input.level, b.output.level = 0, 0
		b.tell(h)
	case limitsFast:
		reset := ceilToSecond(now.Add(wait)).UTC().Format(time.RFC3339)
		for _, kind := range []string{"Input", "Output"} {
			prefix := "Anthropic-Fast-" + kind + "-Tokens-"
			h.Set(prefix+"Limit", "100000")
			h.Set(prefix+"Remaining", "0")
			h.Set(prefix+"Reset", reset)
		}
		ex.tellLimits(h, now)
	}
	return wait
}

// claimRejected tells the unified headers as if one window were spent.
func (ex *exchange) claimRejected(h http.Header, now time.Time, suffix, claim string, length, wait time.Duration) time.Duration {
	// The claim stands without extra usage, which would let the request pass.
	told := *ex.acct
	told.ExtraUsage = 0
	all := told.readings(now, family(ex.prompt.model))
	i := slices.IndexFunc(all, func(r reading) bool { return r.suffix == suffix })
	if i < 0 {
		i = len(all)
		all = append(all, reading{suffix: suffix, claim: claim})
	}
	switch {
	case wait > 0:
		all[i].reset = ceilToSecond(now.Add(wait))
	case all[i].reset.IsZero():
		all[i].reset = ceilToSecond(now.Add(length))
	}
	all[i].utilization, all[i].rejected = 1, true
	told.tellUnified(h, now, all)
	return all[i].reset.Sub(now)
}
