package shunt

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/people"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// ServeHTTP serves the pool's endpoints and shunt's own, and leaves everything
// else to next.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	route := anthropic.RouteOf(r.URL.Path)
	if route.Endpoint == anthropic.EndpointNone {
		if own := ownEndpoint(r.URL.Path); own != nil {
			return own(h, w, r)
		}
		return passOn(w, r, next)
	}
	x := &exchange{h: h, w: w, r: r, route: route, endpoint: route.Endpoint, started: time.Now(), id: newRequestID()}
	w.Header().Set("X-Shunt-Request-Id", x.id)
	if repl := replacer(r); repl != nil {
		repl.Map(x.placeholder)
	}
	if !takes(w, r, route.Methods...) {
		x.refused(http.StatusMethodNotAllowed, "caller", "the method is not one of this endpoint's")
		return nil
	}
	who, refusal := h.authenticate(r)
	if refusal != nil {
		refusal.RequestID = x.id
		x.refused(refusal.Status, verdictUnauthorized, refusal.Message)
		refusal.Write(w)
		return nil
	}
	x.who, x.limits = who, h.roster.Load().limits(who.name)
	setPerson(r, who)
	return x.serve()
}

func newRequestID() string {
	const prefix = "shunt_"
	id := uuid.New()
	var text [len(prefix) + 2*len(id)]byte
	hex.Encode(text[copy(text[:], prefix):], id[:])
	return string(text[:])
}

// passOn lets the site's next handler answer. When none does, the path is
// unknown: API clients get a JSON 404 in the place of Caddy's empty 200.
func passOn(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	watched := &watchedWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
	if err := next.ServeHTTP(watched, r); err != nil || watched.answered {
		return err
	}
	(&anthropic.Error{Status: http.StatusNotFound, Message: "nothing is served at this path", NoRetry: true}).Write(w)
	return nil
}

// watchedWriter notices whether anybody answered.
type watchedWriter struct {
	*caddyhttp.ResponseWriterWrapper
	answered bool
}

func (w *watchedWriter) WriteHeader(status int) {
	w.answered = w.answered || status >= 200 || status == http.StatusSwitchingProtocols
	w.ResponseWriterWrapper.WriteHeader(status)
}

func (w *watchedWriter) Write(b []byte) (int, error) {
	w.answered = true
	return w.ResponseWriterWrapper.Write(b)
}

func (w *watchedWriter) ReadFrom(src io.Reader) (int64, error) {
	w.answered = true
	return w.ResponseWriterWrapper.ReadFrom(src)
}

// exchange is one request on its way through the pool. It belongs to the
// goroutine that serves the request.
type exchange struct {
	h        *Handler
	w        http.ResponseWriter
	r        *http.Request
	id       string
	who      person
	limits   *people.Limits
	route    anthropic.Route
	endpoint anthropic.Endpoint
	started  time.Time
	tracer   trace.Tracer // nil when nobody traces the request

	// final is the record of the request once it has ended.
	final *pool.Record

	held  *heldBody // nil once it is not needed any more
	body  []byte    // what it holds
	facts anthropic.Facts
	want  pool.Request

	attempts int            // round trips made
	failures int            // of them, those that count against retries
	hopped   bool           // the one other try that a shared fault allows was taken
	waited   time.Duration  // time spent in line
	away     time.Duration  // time spent waiting for the client's body, for credentials and for upstream
	stayed   int            // waits for its own account while that was overloaded
	suspects []*attempt     // failed in a way that is the account's only if another serves
	bursts   map[string]int // how often each account (Member.Key) said that there were too many at once

	opened bool      // the client's event stream was opened while the request waited
	pinged time.Time // when the last ping went out
	asked  int       // how often the other instances were asked for what nobody here knows
	lost   bool      // a ping could not be written: nobody is there

	stopped atomic.Bool // the process ends; set by whoever ends it

	upstreamIDs []string // upstream's ids of its answers, for the audit

	result result
	uses   []use
}

// result is what is recorded of an exchange.
type result struct {
	account   *account
	status    int
	verdict   string
	reason    string
	choice    string // why the account was chosen whose answer it is
	failure   string // why it does not serve, if reason does not say it
	firstByte time.Duration
	added     time.Duration // of firstByte, what was neither in line nor away
}

// awaited counts the time since then as spent on waiting for somebody else.
func (x *exchange) awaited(since time.Time) { x.away += time.Since(since) }

// statusClientGone is the status that is logged when the client left before the
// answer (nginx's convention, and Caddy's).
const statusClientGone = 499

var errClientGone = errors.New("client went away")

func (x *exchange) serve() error {
	x.tracer = tracerOf(x.r.Context())
	defer x.finish()
	defer x.dropBody()
	if refusal := x.readBody(); refusal != nil {
		if x.gone() {
			return x.clientGone()
		}
		x.answer(refusal, "caller")
		return nil
	}
	x.facts = anthropic.ReadFacts(x.endpoint, x.r.Header, x.body)
	x.want = pool.Request{
		User: x.who.name, Session: x.facts.Session, Parent: x.facts.Parent, Prefix: x.facts.Prefix, Tokens: x.facts.Tokens,
		Model: x.facts.Model, Endpoint: x.endpoint, CacheLife: x.facts.CacheLife,
		Refs: x.facts.Refs, Home: x.h.ResourceAccount, Arrived: x.started, Bound: x.facts.BoundThinking, Weight: float64(x.limits.Weight), Trace: x.h.live.state.NewTrace(),
	}
	if x.route.Ref != "" {
		x.want.Refs = append(x.want.Refs, x.route.Ref)
	}
	x.want.List = x.endpoint.Holds() && x.r.Method == http.MethodGet && x.route.Ref == ""
	leave := x.admit()
	if leave == nil {
		if x.gone() {
			return x.clientGone()
		}
		return nil
	}
	defer leave()
	return x.loop()
}

// readBody reads the whole body, which must be kept to be sent again.
func (x *exchange) readBody() *anthropic.Error {
	if x.r.Method != http.MethodPost {
		return nil
	}
	limit := x.h.MaxBody
	tooLarge := &anthropic.Error{Status: http.StatusRequestEntityTooLarge, Message: "the request body is larger than this endpoint takes", NoRetry: true}
	if x.r.ContentLength > limit {
		return tooLarge
	}
	begun := time.Now()
	held, err := readAll(http.MaxBytesReader(x.w, x.r.Body, limit), x.r.ContentLength)
	x.awaited(begun)
	if err == nil {
		x.held, x.body = held, held.bytes
		return nil
	}
	var overLimit *http.MaxBytesError
	var handler caddyhttp.HandlerError
	if errors.As(err, &overLimit) || errors.As(err, &handler) && handler.StatusCode == http.StatusRequestEntityTooLarge {
		return tooLarge
	}
	return &anthropic.Error{Status: http.StatusBadRequest, Message: "the request body could not be read to its end", NoRetry: true}
}

// readAll reads a body of a known length in one piece of memory.
func readAll(body io.Reader, length int64) (*heldBody, error) {
	if length < 0 {
		b, err := io.ReadAll(body)
		return &heldBody{bytes: b, holders: 1}, err
	}
	held := holdBody(length)
	if _, err := io.ReadFull(body, held.bytes); err != nil {
		held.letGo()
		return nil, err
	}
	return held, nil
}

// dropBody lets go of the body when it will not be sent again.
func (x *exchange) dropBody() {
	if x.held != nil {
		x.held.letGo()
	}
	x.held, x.body = nil, nil
}

// loop asks one account after the other until there is an answer for the client.
func (x *exchange) loop() error {
	var last *attempt // the answer that would be relayed if there is no better one
	defer func() { last.close() }()
	for {
		lease, refused := x.acquire()
		if x.gone() {
			if lease != nil {
				lease.End(anthropic.Usage{})
			}
			return x.clientGone()
		}
		if lease == nil {
			if x.mayHearOfIt(refused) {
				continue
			}
			if x.mayWaitAgain(last, refused) {
				x.want.Tried = x.usedUp()
				continue
			}
			return x.giveUp(last, refused)
		}
		if x.waited > 0 && x.spends() && x.budgetRefused() {
			lease.End(anthropic.Usage{})
			return nil
		}
		a := x.try(lease)
		if x.gone() && !a.verdict.Served() {
			a.close()
			return x.clientGone()
		}
		if a.verdict.Served() || a.verdict.Action == anthropic.Relay {
			x.blame(a)
			last.close()
			last = nil
			return x.relay(a)
		}
		a.release()
		last.close()
		last = a
		if a.verdict.Scope == anthropic.ScopeUpstream || a.verdict.Scope == anthropic.ScopeNetwork {
			x.suspects = append(x.suspects, a)
		}
		returns := x.mayReturn(a)
		if !returns {
			x.want.Tried = append(x.want.Tried, lease.Member.Key)
		}
		if x.outOfTime() || !returns && !x.mayGoOn(a) {
			return x.giveUp(last, nil)
		}
	}
}

// blame benches the accounts that failed where another one answered. When all
// fail alike it is upstream's fault, and nobody's here.
func (x *exchange) blame(answered *attempt) {
	for _, s := range x.suspects {
		if s.lease.Member != answered.lease.Member {
			s.lease.Blame(&s.verdict)
			x.h.logger.Info("an account rests for a moment: it failed where another served", logAccount(s.account), logVerdict(s.verdict.Name), logReason(s.verdict.Reason), logRequest(x.id))
		}
	}
}

func (x *exchange) acquire() (*pool.Lease, *pool.Refusal) {
	hold := x.h.holdDuration() - x.waited
	if left := x.patience(); left > 0 {
		hold = min(hold, left)
	}
	ctx, waiting := x.r.Context(), pool.Waiting{Hold: hold, Queue: x.h.Hold.Queue, Stay: pool.MaxStay}
	if x.keepsAlive() {
		var cancel context.CancelFunc
		ctx, cancel = x.keepAlive(&waiting)
		defer cancel()
	}
	lease, refused, waited := x.h.group.Acquire(ctx, &x.want, waiting)
	x.waited += waited
	x.traceWait(waited, lease)
	return lease, refused
}

// patience is how long the client will still wait, 0 if it did not say.
func (x *exchange) patience() time.Duration {
	if x.facts.Patience == 0 {
		return 0
	}
	return max(time.Millisecond, x.facts.Patience-time.Since(x.started)-time.Second)
}

// gone reports whether there is nobody to answer any more, or no time to.
func (x *exchange) gone() bool { return x.lost || x.stopped.Load() || x.r.Context().Err() != nil }

// parting is the verdict of an exchange that is gone.
func (x *exchange) parting() *anthropic.Verdict {
	if x.stopped.Load() {
		return &anthropic.Stopped
	}
	return &anthropic.ClientGone
}

func (x *exchange) clientGone() error {
	if x.stopped.Load() {
		x.answer(&anthropic.Error{Status: http.StatusServiceUnavailable, Message: "this server is being stopped"}, anthropic.Stopped.Name)
		return nil
	}
	x.result.status, x.result.verdict, x.result.reason = statusClientGone, anthropic.ClientGone.Name, anthropic.ClientGone.Reason
	if x.opened {
		return nil
	}
	return caddyhttp.Error(statusClientGone, errClientGone)
}

// giveUp answers when no account is left: with what the last one said if that is
// the client's business, else for the pool.
func (x *exchange) giveUp(last *attempt, refused *pool.Refusal) error {
	if last != nil {
		switch last.verdict.Action {
		case anthropic.NextOrRelay, anthropic.NextOnce, anthropic.Again:
			if last.relayable() {
				return x.relay(last)
			}
			x.answer(last.ownError(), last.verdict.Name)
			return nil
		}
	}
	if refused == nil {
		var lease *pool.Lease
		if lease, refused = x.h.group.Pick(&x.want); lease != nil {
			lease.End(anthropic.Usage{})
			refused = &pool.Refusal{Busy: true, Allowed: 1, Serving: 1}
		}
	}
	now := time.Now()
	refusal := refusalError(refused, now)
	x.h.emitExhausted(refusal, refused, now)
	x.answer(refusal, verdictExhausted)
	return nil
}

// answer ends the exchange with an error of our own.
func (x *exchange) answer(e *anthropic.Error, verdict string) {
	e.RequestID = x.id
	x.result.status, x.result.verdict, x.result.reason = e.Status, verdict, e.Message
	x.describe()
	if x.opened {
		x.writeError(e.Body())
		return
	}
	e.Write(x.w)
}

func replacer(r *http.Request) *caddy.Replacer {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return repl
}

// pause waits, or returns false when the client leaves first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
