package fakeclaude

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Request is what the upstream saw of one request and did with it.
type Request struct {
	// Number counts requests from 1 in order of arrival.
	Number uint64
	// ID is the request-id that the answer carried.
	ID      string
	At      time.Time
	Account string
	Method  string
	// URI is path and query as they came.
	URI    string
	Host   string
	Proto  string
	Header http.Header
	// Trailer is there when the client sent one.
	Trailer http.Header

	// BodySHA256 is the hex digest of the body as it came over the wire,
	// before any decoding; empty when the body was not read to its end.
	BodySHA256 string
	BodyBytes  int64
	// Body is kept with Options.KeepBodies only.
	Body   []byte
	Model  string
	Stream bool

	// Fault is the misbehaviour that was applied, if any.
	Fault string
	// Status is the code sent; zero when there was no head.
	Status int
	// Done says that the upstream is through with the request.
	Done bool
	// Cancelled says that the client left before the upstream was through.
	Cancelled   bool
	CancelledAt time.Time
	// Usage is what was charged, so far when not Done.
	Usage Usage
}

// Requests returns what the upstream saw, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Request, len(s.records))
	for i, r := range s.records {
		all[i] = r.copy()
	}
	return all
}

func (r *Request) copy() Request {
	c := *r
	c.Header = r.Header.Clone()
	c.Trailer = r.Trailer.Clone()
	c.Body = slices.Clone(r.Body)
	return c
}

// Await returns the first request, oldest first, that matches, as soon as there
// is one. It is how a test waits for "the upstream has noticed".
func (s *Server) Await(ctx context.Context, match func(Request) bool) (Request, error) {
	s.mu.Lock()
	s.waiting++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
	}()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		for _, r := range s.Requests() {
			if match(r) {
				return r, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Request{}, fmt.Errorf("fakeclaude: no request matched: %w", ctx.Err())
		}
	}
}

// Violations lists what no correct client does: both credentials at once, a
// spent refresh token used again, and so on.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

func (s *Server) violation(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
}

// announce wakes everybody in Await. The caller holds mu.
func (s *Server) announce() {
	if s.waiting == 0 {
		return
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// remember appends a record within the bound. The caller holds mu.
func (s *Server) remember(r *Request) {
	if s.opts.KeepRequests < 0 {
		return
	}
	// Cutting at twice the bound makes forgetting cost nothing per request.
	if len(s.records) >= 2*s.opts.KeepRequests {
		s.records = slices.Clone(s.records[len(s.records)-s.opts.KeepRequests+1:])
	}
	s.records = append(s.records, r)
}
