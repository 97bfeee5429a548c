package shunt

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// The names of the events. Their data never holds a secret; times in it are
// RFC 3339 texts, empty when unknown.
const (
	eventTokenRefreshed   = "shunt_token_refreshed" //nolint:gosec // a name, no token
	eventLoginAdopted     = "shunt_login_adopted"
	eventRefreshFailed    = "shunt_refresh_failed"
	eventLoginRequired    = "shunt_login_required"
	eventLoginStoreFailed = "shunt_login_store_failed"
	eventLoginStored      = "shunt_login_stored"
	eventLoginExpiring    = "shunt_login_expiring"
	eventAccountBenched   = "shunt_account_benched"
	eventAccountRecovered = "shunt_account_recovered"
	eventPoolExhausted    = "shunt_pool_exhausted"
	eventBudgetReached    = "shunt_budget_reached"
	eventSameOrganization = "shunt_same_organization"
)

// mostEvents bounds the events that wait for handlers.
const mostEvents = 256

// emitter hands events to Caddy's events app, one at a time and in order. Handlers
// of events run as long as they like, so they run in a goroutine of their own,
// which lives while there is something to tell.
type emitter struct {
	mu       sync.Mutex // guards all below; never held across a call out
	queue    []event
	telling  bool
	dropping bool // the last event found the queue full
}

type event struct {
	name string
	data map[string]any
}

var events emitter

// emit tells of an event and returns at once. data must not be changed after. The
// event goes to the handlers of the newest configuration that runs by then.
func emit(name string, data map[string]any) { events.add(event{name, data}) }

// emit is emit for an event of the handler's pool.
func (h *Handler) emit(name string, data map[string]any) {
	data["pool"] = h.Pool
	emit(name, data)
}

func (q *emitter) add(e event) {
	if q.push(e) {
		caddy.Log().Named("shunt").Error("events are dropped: the handlers of earlier ones do not end", zap.String("event", e.name), zap.Int("waiting", mostEvents))
	}
	q.kick()
}

// push queues an event. It reports whether the event is the first of a row that the
// full queue drops.
func (q *emitter) push(e event) (firstDropped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) >= mostEvents {
		firstDropped, q.dropping = !q.dropping, true
		return firstDropped
	}
	q.queue, q.dropping = append(q.queue, e), false
	return false
}

// kick sees to it that somebody tells what is queued, if there is an app to tell.
func (q *emitter) kick() {
	if eventful() == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.telling && len(q.queue) > 0 {
		q.telling = true
		go q.tell()
	}
}

func (q *emitter) tell() {
	for {
		app := eventful()
		q.mu.Lock()
		if app == nil || len(q.queue) == 0 {
			q.telling = false
			q.mu.Unlock()
			q.kick() // for an app that has come since
			return
		}
		e := q.queue[0]
		q.queue = q.queue[1:]
		q.mu.Unlock()
		app.deliver(e)
	}
}

// eventful is the newest app that runs and whose events may be emitted; nil for
// none.
func eventful() *App {
	running.Lock()
	defer running.Unlock()
	for i := len(running.apps) - 1; i >= 0; i-- {
		if app := running.apps[i]; app.ready.Load() {
			return app
		}
	}
	return nil
}

func (a *App) deliver(e event) {
	defer func() {
		if r := recover(); r != nil {
			a.logger.Error("a handler of an event panicked", zap.String("event", e.name), zap.String("panic", fmt.Sprintf("%v", r)))
		}
	}()
	a.events.Emit(a.ctx, e.name, e.data)
}

// provisionEvents finds the events app. It takes subscriptions until all apps have
// been started, so before that nothing is emitted.
func (a *App) provisionEvents(ctx caddy.Context) error {
	mod, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("loading the events app: %w", err)
	}
	a.ctx, a.events = ctx, mod.(*caddyevents.App)
	if err := a.events.On("started", appsStarted{a}); err != nil {
		return fmt.Errorf("subscribing to Caddy's start: %w", err)
	}
	return nil
}

// appsStarted is told by Caddy that the configuration runs.
type appsStarted struct{ a *App }

// Handle lets events out.
func (s appsStarted) Handle(context.Context, caddy.Event) error {
	s.a.ready.Store(true)
	events.kick()
	return nil
}

// loginEvents are the events that a credential source tells of.
var loginEvents = map[credential.EventType]string{
	credential.EventRefreshed:     eventTokenRefreshed,
	credential.EventAdopted:       eventLoginAdopted,
	credential.EventRefreshFailed: eventRefreshFailed,
	credential.EventLoginRequired: eventLoginRequired,
	credential.EventStoreFailed:   eventLoginStoreFailed,
	credential.EventStored:        eventLoginStored,
}

// refreshResults are the results in the metric of refreshes.
var refreshResults = map[credential.EventType]string{
	credential.EventRefreshed:     "ok",
	credential.EventRefreshFailed: "failed",
	credential.EventLoginRequired: "login_required",
}

// tell makes what happened to a credential known, for each account that uses it.
func (m *loginMeans) tell(e credential.Event) {
	for _, account := range m.accounts {
		if result := refreshResults[e.Type]; result != "" {
			processMetrics.refreshes.WithLabelValues(m.pool, account, result).Inc()
		}
		if name := loginEvents[e.Type]; name != "" {
			data := map[string]any{
				"pool": m.pool, "account": account, "record": e.Key, "time": rfc3339(e.Time), "expires": rfc3339(e.Expires),
				"next": rfc3339(e.Next), "reason": e.Reason, "error": "",
			}
			if e.Err != nil {
				data["error"] = e.Err.Error()
			}
			emit(name, data)
		}
	}
}

// emitBench tells that a bench has come, or is over.
func (h *Handler) emitBench(account string, b *pool.BenchView, over bool) {
	name := eventAccountBenched
	if over {
		name = eventAccountRecovered
	}
	h.emit(name, map[string]any{
		"account": account, "family": b.Family, "verdict": b.Verdict, "reason": b.Reason, "window": b.Window,
		"since": rfc3339(b.Since), "until": rfc3339(b.Until), "source": b.Source,
	})
}

// exhaustedEvery is the least time between two events of a pool that is exhausted.
const exhaustedEvery = time.Minute

// exhaustedTold is when the event was last emitted, by pool.
var exhaustedTold struct {
	sync.Mutex
	at map[string]time.Time
}

// emitExhausted tells that a request was refused because no account is open, not
// too often.
func (h *Handler) emitExhausted(e *anthropic.Error, refused *pool.Refusal, now time.Time) {
	if e.Status < 429 {
		return // the request is at fault
	}
	exhaustedTold.Lock()
	told, ok := exhaustedTold.at[h.Pool]
	due := !ok || now.Sub(told) >= exhaustedEvery || now.Before(told)
	if due {
		if exhaustedTold.at == nil {
			exhaustedTold.at = make(map[string]time.Time)
		}
		exhaustedTold.at[h.Pool] = now
	}
	exhaustedTold.Unlock()
	if due {
		h.emit(eventPoolExhausted, map[string]any{"reason": e.Message, "until": rfc3339(refused.Reopens()), "status": e.Status})
	}
}

// rfc3339 is a time for people and their scripts.
func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

var _ caddyevents.Handler = appsStarted{}
