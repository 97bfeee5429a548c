package anthropic

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Status of a window, as upstream says it.
const (
	StatusAllowed  = "allowed"
	StatusWarning  = "allowed_warning"
	StatusRejected = "rejected"
)

// Window is what one answer says of one usage window of a subscription (5h, 7d,
// 7d_opus, ...). Fields that the answer did not mention are unknown.
type Window struct {
	Name string
	// Status is empty when unknown.
	Status string
	// Utilization is a fraction that may exceed 1; negative when unknown.
	Utilization float64
	// Reset is when the window starts anew; zero when unknown.
	Reset time.Time
}

// Bucket is what one answer says of one classic limit of an API key: requests,
// tokens, input-tokens or output-tokens.
type Bucket struct {
	Name string
	// Limit and Remaining are negative when unknown.
	Limit, Remaining int64
	// Reset is when the bucket is full again; zero when unknown.
	Reset time.Time
}

// Limits is everything an answer's headers say about limits.
type Limits struct {
	// Status and Claim are the overall verdict and the window that speaks.
	Status, Claim string
	// Reset is the reset of the window that speaks.
	Reset   time.Time
	Windows []Window
	Buckets []Bucket
	// OverageStatus tells about paid extra usage. "rejected" means that there is
	// none, not that the account is out.
	OverageStatus, OverageReason string
	OverageInUse                 bool
	// OverageReset is when what may be paid begins anew; zero when unknown.
	OverageReset time.Time
	// RetryAfter is negative when the answer has none.
	RetryAfter time.Duration
}

// Unified reports whether the answer carried a subscription's limit headers.
func (l *Limits) Unified() bool { return l.Status != "" || len(l.Windows) > 0 || !l.Reset.IsZero() }

// Empty reports whether the answer said nothing about limits.
func (l *Limits) Empty() bool { return !l.Unified() && len(l.Buckets) == 0 && l.RetryAfter < 0 }

const (
	ratelimitPrefix = "Anthropic-Ratelimit-"
	fastPrefix      = "Anthropic-Fast-"
)

// lowered are the names of the limit headers that answers usually have, behind
// [ratelimitPrefix], as they are documented.
var lowered = func() map[string]string {
	names := make(map[string]string)
	add := func(kinds []string, fields ...string) {
		for _, kind := range kinds {
			for _, field := range fields {
				name := kind + field
				names[http.CanonicalHeaderKey(name)] = name
			}
		}
	}
	add([]string{"requests", "tokens", "input-tokens", "output-tokens"}, "-limit", "-remaining", "-reset")
	add([]string{"unified-5h", "unified-7d", "unified-7d_opus", "unified-7d_sonnet"}, "-status", "-utilization", "-reset")
	add([]string{"unified-"}, "status", "representative-claim", "reset", "overage-status", "overage-disabled-reason", "overage-reset", "overage-in-use")
	return names
}()

// ReadLimits reads the limit headers of an answer. Values that cannot be read
// count as not sent.
func ReadLimits(h http.Header, now time.Time) Limits {
	l := Limits{RetryAfter: retryAfter(h, now)}
	for name, values := range h {
		rest, ok := strings.CutPrefix(name, ratelimitPrefix)
		if !ok || len(values) == 0 {
			continue
		}
		name, ok := lowered[rest]
		if !ok {
			name = strings.ToLower(rest)
		}
		if unified, ok := strings.CutPrefix(name, "unified-"); ok {
			l.unified(unified, values[0])
		} else {
			l.Buckets = readBucket(l.Buckets, name, values[0])
		}
	}
	return l
}

func (l *Limits) unified(name, value string) {
	switch name {
	case "status":
		l.Status = value
	case "representative-claim":
		l.Claim = value
	case "reset":
		l.Reset = readReset(value)
	case "overage-status":
		l.OverageStatus = value
	case "overage-disabled-reason":
		l.OverageReason = value
	case "overage-reset":
		l.OverageReset = readReset(value)
	case "overage-in-use":
		l.OverageInUse = value == "true" || value == "1"
	default:
		window, field, ok := cutWindow(name)
		if !ok {
			return
		}
		w := l.window(window)
		switch field {
		case "status":
			w.Status = value
		case "utilization":
			if u, err := strconv.ParseFloat(value, 64); err == nil && u >= 0 && u < 1000 {
				w.Utilization = u
			}
		case "reset":
			w.Reset = readReset(value)
		}
	}
}

// cutWindow splits the name of a window's header: 5h or 7d, perhaps with a model's name
// behind it (7d_opus), and what is said of it.
func cutWindow(name string) (window, field string, ok bool) {
	i := strings.LastIndexByte(name, '-')
	if i < 0 {
		return "", "", false
	}
	window, field = name[:i], name[i+1:]
	if field != "status" && field != "utilization" && field != "reset" {
		return "", "", false
	}
	length, of, named := strings.Cut(window, "_")
	if length != "5h" && length != "7d" || named && (of == "" || strings.Trim(of, "abcdefghijklmnopqrstuvwxyz0123456789") != "") {
		return "", "", false
	}
	return window, field, true
}

func (l *Limits) window(name string) *Window {
	for i := range l.Windows {
		if l.Windows[i].Name == name {
			return &l.Windows[i]
		}
	}
	l.Windows = append(l.Windows, Window{Name: name, Utilization: -1})
	return &l.Windows[len(l.Windows)-1]
}

func readBucket(buckets []Bucket, header, value string) []Bucket {
	i := strings.LastIndexByte(header, '-')
	if i < 0 {
		return buckets
	}
	name, field := header[:i], header[i+1:]
	if field != "limit" && field != "remaining" && field != "reset" {
		return buckets
	}
	var b *Bucket
	for i := range buckets {
		if buckets[i].Name == name {
			b = &buckets[i]
		}
	}
	if b == nil {
		if buckets == nil {
			buckets = make([]Bucket, 0, 4)
		}
		buckets = append(buckets, Bucket{Name: name, Limit: -1, Remaining: -1})
		b = &buckets[len(buckets)-1]
	}
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case field == "reset":
		b.Reset = readReset(value)
	case err != nil || n < 0:
	case field == "limit":
		b.Limit = n
	default:
		b.Remaining = n
	}
	return buckets
}

// readReset reads epoch seconds, which is what unified headers carry, or RFC
// 3339, which is what classic ones do.
func readReset(value string) time.Time {
	if len(value) > 4 && value[4] == '-' {
		t, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return time.Time{}
		}
		return t
	}
	if s, err := strconv.ParseFloat(value, 64); err == nil {
		if s > 0 && s < 1e11 {
			return time.Unix(int64(s), 0)
		}
	}
	return time.Time{}
}

// retryAfter reads Retry-After in both of its forms, else retry-after-ms; negative
// when there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return readUnits(h.Get("Retry-After-Ms"), time.Millisecond)
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(0, t.Sub(now))
	}
	return readUnits(value, time.Second)
}

// readUnits reads a number of units; negative when it is none or beyond a year.
func readUnits(value string, unit time.Duration) time.Duration {
	if value == "" {
		return -1
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || n < 0 || math.IsNaN(n) || n > 366*86400*float64(time.Second/unit) {
		return -1
	}
	return time.Duration(n * float64(unit))
}
