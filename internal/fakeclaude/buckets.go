package fakeclaude

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// bucketKey says whose classic limits are shared: an organisation's, for each
// class of models. Two keys of one organisation add nothing.
type bucketKey struct{ org, class string }

// bucket refills continuously, from empty to full in one minute.
type bucket struct {
	name         string
	limit, level float64
}

type bucketSet struct {
	at                      time.Time
	requests, input, output bucket
}

// bucketsOf returns the buckets, refilled until now. The caller holds mu.
func (s *Server) bucketsOf(a *account, modelID string, now time.Time) *bucketSet {
	key := bucketKey{a.Org, class(modelID)}
	b := s.buckets[key]
	if b == nil {
		full := func(name string, limit int64) bucket { return bucket{name, float64(limit), float64(limit)} }
		b = &bucketSet{
			at:       now,
			requests: full("requests", a.RPM),
			input:    full("input tokens", a.ITPM),
			output:   full("output tokens", a.OTPM),
		}
		s.buckets[key] = b
	}
	if passed := now.Sub(b.at).Minutes(); passed > 0 {
		for _, each := range []*bucket{&b.requests, &b.input, &b.output} {
			each.level = min(each.limit, each.level+each.limit*passed)
		}
		b.at = now
	}
	return b
}

// take charges tokens. Reads from the cache are free; output may overdraw,
// because it is known only when it is there.
func (b *bucketSet) take(u Usage) {
	b.input.level -= float64(u.Input + u.CacheWrite5m + u.CacheWrite1h)
	b.output.level -= float64(u.Output)
}

// lacking returns the bucket that refuses a request of that many input tokens
// and how long it takes until it would not. A request larger than the bucket
// passes when the bucket is full.
func (b *bucketSet) lacking(input int64) (*bucket, time.Duration) {
	needs := []struct {
		of     *bucket
		amount float64
	}{
		{&b.requests, 1},
		{&b.input, math.Min(float64(input), b.input.limit)},
		{&b.output, 1},
	}
	var worst *bucket
	var wait time.Duration
	for _, need := range needs {
		if missing := need.amount - need.of.level; missing > 0 {
			if d := need.of.refill(missing); worst == nil || d > wait {
				worst, wait = need.of, d
			}
		}
	}
	return worst, wait
}

func (b *bucket) refill(amount float64) time.Duration {
	return time.Duration(amount / b.limit * float64(time.Minute))
}

// tell writes the classic headers.
func (b *bucketSet) tell(h http.Header) {
	tight := &b.input
	if b.output.level/b.output.limit < b.input.level/b.input.limit {
		tight = &b.output
	}
	b.requests.tell(h, "Requests", b.at, 1)
	b.input.tell(h, "Input-Tokens", b.at, 1000)
	b.output.tell(h, "Output-Tokens", b.at, 1000)
	tight.tell(h, "Tokens", b.at, 1000)
}

func (b *bucket) tell(h http.Header, kind string, now time.Time, roundTo float64) {
	prefix := "Anthropic-Ratelimit-" + kind
	level := max(0, b.level)
	remaining := math.Floor(level)
	if roundTo > 1 {
		remaining = math.Round(level/roundTo) * roundTo
	}
	h.Set(prefix+"-Limit", strconv.FormatInt(int64(b.limit), 10))
	h.Set(prefix+"-Remaining", strconv.FormatInt(int64(remaining), 10))
	full := ceilToSecond(now.Add(b.refill(b.limit - b.level)))
	h.Set(prefix+"-Reset", full.UTC().Format(time.RFC3339))
}

func (b *bucket) refusal() string {
	return fmt.Sprintf("This request would exceed your organization's rate limit of %d %s per minute. "+
		"Please reduce the prompt length or the maximum tokens requested, or try again later.", int64(b.limit), b.name)
}
