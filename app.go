package shunt

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App runs what the pools need in the background: keeping their state in
// storage, sharing it with other instances, and keeping their credentials fresh.
// Caddy makes one for each configuration that
// has a shunt handler; it takes no settings.
type App struct {
	logger *zap.Logger
	ctx    caddy.Context
	events *caddyevents.App
	ready  atomic.Bool // all apps of this configuration have been started

	mu       sync.Mutex // guards handlers
	handlers []*Handler

	stop    context.CancelFunc
	stopped chan struct{} // closed when the configuration has been left
	done    sync.WaitGroup
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "shunt", New: func() caddy.Module { return new(App) }}
}

// Provision sets the app up.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	a.stopped = make(chan struct{})
	return a.provisionEvents(ctx)
}

// register takes note of a handler of this configuration. Handlers that name the
// same pool must mean the same account by the same name, and agree on instances.
func (a *App) register(h *Handler) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, other := range a.handlers {
		if other.Pool != h.Pool {
			continue
		}
		if other.sealedBy != h.sealedBy {
			return fmt.Errorf("pool %q is configured twice with different keys in encrypt; expected the same in each block", h.Pool)
		}
		if other.Prices != h.Prices {
			return fmt.Errorf("pool %q is configured twice with different prices; expected the same file in each block", h.Pool)
		}
		if other.zone.String() != h.zone.String() {
			return fmt.Errorf("pool %q is configured twice with different time zones; expected the same time_zone in each block", h.Pool)
		}
		if err := other.Instances.agrees(h.Instances); err != nil {
			return fmt.Errorf("pool %q: %w", h.Pool, err)
		}
		for _, mine := range h.accounts {
			for _, theirs := range other.accounts {
				if mine.member.Name == theirs.member.Name && mine.member.Key != theirs.member.Key {
					return fmt.Errorf("account %q of pool %q is configured twice with different credentials or upstreams; give one of the pools another name with pool <name>",
						mine.member.Name, h.Pool)
				}
				if mine.member.Name == theirs.member.Name && (mine.config.PlanOnly != theirs.config.PlanOnly || !slices.Equal(mine.config.Budgets, theirs.config.Budgets)) {
					return fmt.Errorf("account %q of pool %q is configured twice with different plan_only or budget; expected the same in each block", mine.member.Name, h.Pool)
				}
			}
		}
	}
	a.handlers = append(a.handlers, h)
	return nil
}

// running are the apps that have been started and not stopped, oldest first.
// There are two during a reload, and after one that failed the older remains.
var running struct {
	sync.Mutex
	apps []*App
}

// runningHandlers are the handlers of the configuration that serves, one for
// each pool.
func runningHandlers() []*Handler {
	running.Lock()
	defer running.Unlock()
	if len(running.apps) == 0 {
		return nil
	}
	app := running.apps[len(running.apps)-1]
	app.mu.Lock()
	defer app.mu.Unlock()
	var handlers []*Handler
	seen := make(map[string]bool)
	for _, h := range app.handlers {
		if !seen[h.Pool] {
			seen[h.Pool] = true
			handlers = append(handlers, h)
		}
	}
	return handlers
}

// Start begins the background work. Requests may have come before it.
func (a *App) Start() error {
	processMetrics.begin(a.registered())
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = cancel
	a.lend(func(l *livePool) {
		l.restore(ctx)
		l.sharing.meet(ctx)
		l.tendUsage(ctx)
		a.run(func() { l.keepSaved(ctx) })
		a.run(func() { l.sharing.share(ctx) })
	}, func(k *keeper) {
		a.run(func() { k.runs.Run(ctx) })
	})
	running.Lock()
	running.apps = append(running.apps, a)
	running.Unlock()
	a.run(func() { a.tendRecords(ctx) })
	a.run(func() { a.watch(ctx) })
	return nil
}

// registered are the handlers of this configuration.
func (a *App) registered() []*Handler {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.handlers)
}

// lend makes the pools and keepers work with what this configuration has, and
// calls the functions for each of them once; they may be nil.
func (a *App) lend(eachPool func(*livePool), eachKeeper func(*keeper)) {
	pools, keepers := make(map[*livePool]bool), make(map[*keeper]bool)
	handlers := a.registered()
	for _, h := range handlers {
		if !pools[h.live] {
			pools[h.live] = true
			h.live.attach(meansAmong(handlers, h, a.logger))
			if eachPool != nil {
				eachPool(h.live)
			}
		}
		for _, acct := range h.accounts {
			if k := acct.keeper; k != nil && !keepers[k] {
				keepers[k] = true
				k.attach(h)
				if eachKeeper != nil {
					eachKeeper(k)
				}
			}
		}
	}
}

// meansAmong are what the handlers lend to the pool of h: the storage of that one,
// and the settings of the one that says something about instances.
func meansAmong(handlers []*Handler, h *Handler, logger *zap.Logger) *poolMeans {
	m := h.poolMeans(logger)
	for _, other := range handlers {
		if other.live == h.live && other.Instances != nil {
			m.interval, m.instance = other.interval, other.instance
		}
	}
	return m
}

func (a *App) run(work func()) {
	a.done.Add(1)
	go func() {
		defer a.done.Done()
		work()
	}()
}

// retire takes the app off the list of those that run. It returns the app that
// runs on if this one was the newest.
func (a *App) retire() (successor *App) {
	running.Lock()
	defer running.Unlock()
	for i, app := range running.apps {
		if app != a {
			continue
		}
		running.apps = append(running.apps[:i:i], running.apps[i+1:]...)
		if i > 0 && i == len(running.apps) {
			return running.apps[i-1]
		}
	}
	return nil
}

// stopWithin bounds how long Stop waits for the background work.
const stopWithin = 10 * time.Second

// Stop ends the background work. Requests may go on: what they use stays, and
// what they change is saved when the last configuration lets go of the pool.
func (a *App) Stop() error {
	if a.stop == nil {
		return nil
	}
	if successor := a.retire(); successor != nil {
		// This configuration was the newest and failed after all: the one before it
		// goes on, with means of its own.
		successor.lend(nil, nil)
	}
	a.stop()
	a.stop = nil
	close(a.stopped)
	ended := make(chan struct{})
	go func() {
		a.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(stopWithin):
		a.logger.Warn("the background work did not end in time", zap.Duration("waited", stopWithin))
	}
	return nil
}

var (
	_ caddy.App         = (*App)(nil)
	_ caddy.Provisioner = (*App)(nil)
)
