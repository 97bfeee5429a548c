package shunt

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

// watchEvery is how often the accounts and their logins are looked at for events.
const watchEvery = time.Second

// watch tells of what comes with time, and no request need be there to see: benches
// that begin and end, logins that near their end. It blocks until ctx ends.
func (a *App) watch(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		if newestApp() == a { // during a reload there are two
			handlers := a.registered()
			watchedBenches.look(handlers)
			for _, h := range handlers {
				h.watchKeys()
				h.closeAccounts()
				h.live.history.lookIn(h)
			}
			eachAccount(handlers, func(h *Handler, acct *account) { h.watchLogin(acct, time.Now()) })
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// newestApp is the app of the newest configuration that runs; nil for none.
func newestApp() *App {
	running.Lock()
	defer running.Unlock()
	if n := len(running.apps); n > 0 {
		return running.apps[n-1]
	}
	return nil
}

// eachAccount calls do for each account of the handlers' pools, once.
func eachAccount(handlers []*Handler, do func(*Handler, *account)) {
	seen := make(map[accountRef]bool)
	for _, h := range handlers {
		for _, a := range h.accounts {
			if ref := (accountRef{h.Pool, a.member.Name}); !seen[ref] {
				seen[ref] = true
				do(h, a)
			}
		}
	}
}

// benchRef names a bench: an account has one for itself and one for each family.
type benchRef struct {
	accountRef
	family string
}

// benches are those that were told of, over reloads.
type benches struct {
	mu   sync.Mutex
	told map[benchRef]pool.BenchView
}

var watchedBenches benches

// look compares the pools with what was told of them, and tells the difference.
// Benches for the overload of the whole service are none of an account's.
func (w *benches) look(handlers []*Handler) {
	now := make(map[benchRef]pool.BenchView)
	of := make(map[accountRef]*Handler)
	for _, h := range handlers {
		for name, views := range h.group.Benched() {
			ref := accountRef{h.Pool, name}
			of[ref] = h
			for _, b := range views {
				if b.Verdict != verdictOverloaded {
					now[benchRef{ref, b.Family}] = b
				}
			}
		}
	}
	w.mu.Lock()
	before := w.told
	w.told = now
	w.mu.Unlock()
	for ref, b := range now {
		if _, told := before[ref]; !told {
			of[ref.accountRef].emitBench(ref.account, &b, false)
		}
	}
	for ref, b := range before {
		if _, lasts := now[ref]; !lasts && of[ref.accountRef] != nil {
			of[ref.accountRef].emitBench(ref.account, &b, true)
		}
	}
}
