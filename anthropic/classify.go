package anthropic

import (
	"bytes"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// Answer is what [Classify] looks at.
type Answer struct {
	Status int
	Header http.Header
	// Body is the beginning of the body of a refusal, 64 KiB are plenty.
	Body []byte
	// Limits are those of Header.
	Limits Limits
	// Family is the model family of the request, Fast its speed.
	Family string
	Fast   bool
	// Refreshable is true when the account's credential can be refreshed and has
	// not been for this request.
	Refreshable bool
	Now         time.Time
}

// ErrorPrefix is how much of a refusal's body Classify wants to see, in bytes.
const ErrorPrefix = 64 << 10

// Classify tells what an answer means. It always has a verdict: what no rule
// knows is the caller's if it is a 4xx and upstream's otherwise, and benches
// nobody.
func Classify(a *Answer) Verdict {
	if a.Status >= 200 && a.Status < 300 {
		return Verdict{Name: Served, Scope: ScopeNobody, Action: Relay}
	}
	f := refusalOf(a)
	for i := range Rules {
		if Rules[i].matches(a, &f) {
			return Rules[i].verdict(a, &f)
		}
	}
	if a.Status >= 400 && a.Status < 500 {
		return Verdict{Name: "caller", Scope: ScopeCaller, Action: Relay, Reason: "upstream refused the request"}
	}
	return Verdict{Name: "upstream", Scope: ScopeUpstream, Action: NextOnce, Reason: "upstream answered " + strconv.Itoa(a.Status)}
}

// ClassifyEvent classifies an `error` event that came first in a stream of
// status 200: it means what the status of its type means.
func ClassifyEvent(a *Answer, data []byte) Verdict {
	b := *a
	b.Status, b.Body = StatusOfType(ErrorType(data)), data
	return Classify(&b)
}

// refusal is the body of a refusal, read once.
type refusal struct {
	errorType, code string
	text            string // lower case
	html            bool
}

func refusalOf(a *Answer) refusal {
	body := a.Body[:min(len(a.Body), ErrorPrefix)]
	f := refusal{text: string(bytes.ToLower(body))}
	trimmed := bytes.TrimSpace(body)
	f.html = bytes.HasPrefix(trimmed, []byte("<"))
	if gjson.ValidBytes(trimmed) {
		e := gjson.GetBytes(trimmed, "error")
		f.errorType, f.code = e.Get("type").Str, e.Get("details.error_code").Str
	}
	return f
}

// Rule is one row of the table of refusals.
type Rule struct {
	// Name is the verdict's.
	Name string
	// Status lists the statuses it applies to, none for any.
	Status []int
	// Code, when not empty, must be the error's details.error_code.
	Code string
	// Type, when not empty, must be the error's type; with OrType it is enough in
	// the place of a status.
	Type   string
	OrType bool
	// Text lists fragments, lower case, one of which the body must contain.
	Text []string
	// When asks for what the columns above cannot say; nil for nothing.
	When func(*Answer, *refusal) bool
	// If says in words what When asks for.
	If string

	Scope  Scope
	Action Action
	// Bench gives the end of the bench and its source; nil for no bench.
	Bench func(*Answer, *refusal) (time.Time, string)
	// Rest says in words how long the bench is.
	Rest  string
	Login bool
	// Reason is what the verdict says in words.
	Reason string
}

func (r *Rule) matches(a *Answer, f *refusal) bool {
	ofType := r.Type != "" && f.errorType == r.Type
	standsIn := r.OrType && ofType
	if len(r.Status) > 0 && !contains(r.Status, a.Status) && !standsIn {
		return false
	}
	if r.Type != "" && !ofType && !r.OrType {
		return false
	}
	if r.Code != "" && f.code != r.Code {
		return false
	}
	if len(r.Text) > 0 && !containsAny(f.text, r.Text) {
		return false
	}
	return r.When == nil || r.When(a, f)
}

func (r *Rule) verdict(a *Answer, f *refusal) Verdict {
	v := Verdict{Name: r.Name, Scope: r.Scope, Action: r.Action, Login: r.Login, Reason: r.Reason}
	if r.Bench != nil {
		v.Until, v.Source = r.Bench(a, f)
	}
	if v.Name == nameAccountWindow || v.Name == nameModelWindow {
		v.Window = spentWindow(a)
	}
	return v
}

func contains(list []int, n int) bool {
	for _, v := range list {
		if v == n {
			return true
		}
	}
	return false
}

func containsAny(text string, fragments []string) bool {
	for _, f := range fragments {
		if strings.Contains(text, f) {
			return true
		}
	}
	return false
}

// rejected walks the windows that are spent and limit this request.
func rejected(a *Answer, scoped bool, each func(Window)) {
	for _, w := range a.Limits.Windows {
		if w.Status == StatusRejected && strings.Contains(w.Name, "_") == scoped {
			each(w)
		}
	}
}

func accountWindowSpent(a *Answer, _ *refusal) bool {
	spent := false
	rejected(a, false, func(Window) { spent = true })
	return spent
}

func modelWindowSpent(a *Answer, _ *refusal) bool {
	spent := false
	rejected(a, true, func(Window) { spent = true })
	return spent
}

func unifiedRejected(a *Answer, _ *refusal) bool { return a.Limits.Status == StatusRejected }

func bucketEmpty(a *Answer, _ *refusal) bool {
	for _, b := range a.Limits.Buckets {
		if b.Remaining == 0 {
			return true
		}
	}
	return false
}

func fastSpent(a *Answer, _ *refusal) bool {
	if !a.Fast {
		return false
	}
	for name := range a.Header {
		if strings.HasPrefix(name, fastPrefix) {
			return true
		}
	}
	return false
}

func hasRetryAfter(a *Answer, _ *refusal) bool { return a.Limits.RetryAfter >= 0 }

func fromEdge(_ *Answer, f *refusal) bool {
	return f.html || strings.Contains(f.text, "error code: 1010")
}

// untilReset is the latest reset among the windows that are spent; a window
// whose reset was not told is taken from the overall reset or Retry-After.
func untilReset(scoped bool) func(*Answer, *refusal) (time.Time, string) {
	return func(a *Answer, _ *refusal) (time.Time, string) {
		var latest time.Time
		rejected(a, scoped, func(w Window) {
			if w.Reset.After(latest) {
				latest = w.Reset
			}
		})
		if latest.After(a.Now) {
			return latest, "reset"
		}
		return untilStated(a)
	}
}

func untilTold(a *Answer, _ *refusal) (time.Time, string) { return untilStated(a) }

func untilStated(a *Answer) (time.Time, string) {
	if a.Limits.RetryAfter > 0 {
		return a.Now.Add(a.Limits.RetryAfter), "retry-after"
	}
	if a.Limits.Reset.After(a.Now) {
		return a.Limits.Reset, "reset"
	}
	return a.Now.Add(time.Minute), "default"
}

// untilRefill is when an empty classic bucket can serve again. Its reset is
// when it is full, which is later, so Retry-After is believed first.
func untilRefill(a *Answer, _ *refusal) (time.Time, string) {
	if a.Limits.RetryAfter >= 0 {
		return a.Now.Add(max(a.Limits.RetryAfter, time.Second)), "retry-after"
	}
	var latest time.Time
	for _, b := range a.Limits.Buckets {
		if b.Remaining == 0 && b.Reset.After(latest) {
			latest = b.Reset
		}
	}
	if latest.After(a.Now) {
		return latest, "reset"
	}
	return untilStated(a)
}

func untilRetryAfter(a *Answer, _ *refusal) (time.Time, string) {
	return a.Now.Add(max(a.Limits.RetryAfter, time.Second)), "retry-after"
}

// after is a bench of our own making: only where upstream states no time.
func after(d time.Duration) func(*Answer, *refusal) (time.Time, string) {
	return func(a *Answer, _ *refusal) (time.Time, string) {
		if a.Limits.RetryAfter > 0 {
			return a.Now.Add(a.Limits.RetryAfter), "retry-after"
		}
		return a.Now.Add(d), "default"
	}
}

var dateInText = regexp.MustCompile(`(?:regain access on|until) (\d{4}-\d{2}-\d{2})(?:(?: at |t| )(\d{2}:\d{2}))?`)

// untilNextMonth is the date that the text gives, else the first of next month,
// 00:00 UTC, when monthly spend limits start anew.
func untilNextMonth(a *Answer, f *refusal) (time.Time, string) {
	if m := dateInText.FindStringSubmatch(f.text); m != nil {
		clock := m[2]
		if clock == "" {
			clock = "00:00"
		}
		if t, err := time.Parse("2006-01-02 15:04", m[1]+" "+clock); err == nil && t.After(a.Now) {
			return t, "text"
		}
	}
	if a.Limits.RetryAfter > 0 {
		return a.Now.Add(a.Limits.RetryAfter), "retry-after"
	}
	now := a.Now.UTC()
	return time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC), "default"
}

// spentWindow names the window that closes the account for longest.
func spentWindow(a *Answer) string {
	var latest Window
	for _, w := range a.Limits.Windows {
		if w.Status == StatusRejected && (latest.Name == "" || w.Reset.After(latest.Reset)) {
			latest = w
		}
	}
	if latest.Name != "" {
		return latest.Name
	}
	for _, b := range a.Limits.Buckets {
		if b.Remaining == 0 {
			return b.Name
		}
	}
	return ""
}
