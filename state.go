package shunt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/internal/failpoint"
	"github.com/caddy-shunt/caddy-shunt/ledger"
	"github.com/caddy-shunt/caddy-shunt/people"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// livePools are the pools of the running configurations, by name. Each handler
// holds a reference, so that a pool lives through a reload.
var livePools = caddy.NewUsagePool()

// livePool is a pool's state with its place in storage, and its part in sharing it
// with other instances.
type livePool struct {
	name     string
	state    *pool.Pool
	sharing  *sharing
	gate     *people.Gate
	ledger   *ledger.Ledger
	usage    *usageStore
	history  *historyStore
	underway underway

	mu sync.Mutex // guards all below, and makes writes of the state one at a time
	// restored is the instance whose state was read: before that is known, nothing
	// is written, so that nothing is overwritten unread.
	restored string
	saved    uint64 // the count of changes that storage has
	took     time.Duration
	failing  bool

	// organizations guards what is found out about whose limits accounts draw on: one
	// at a time tells the pool. mu may be held with it.
	organizations sync.Mutex
	// sharing are the pairs of accounts, by name, that were reported.
	oneOrganization map[[2]string]bool
}

func newLivePool(name string) *livePool {
	state := pool.New(pool.SystemClock{}, rand.Uint64())
	books := ledger.New(failpoint.Now, time.UTC)
	return &livePool{
		name: name, state: state, sharing: newSharing(name, state), gate: people.NewGate(failpoint.Now), ledger: books, usage: newUsageStore(name, books),
		history: newHistoryStore(name),
	}
}

// saveEvery is the shortest time between two writes of a pool's state.
const saveEvery = 2 * time.Second

// storageTimeout bounds one operation on storage.
const storageTimeout = 10 * time.Second

// attach makes the pool work with what a configuration lends.
func (l *livePool) attach(m *poolMeans) {
	l.sharing.means.Store(m)
	l.ledger.SetZone(m.zone)
}

// tendUsage keeps the books in storage, and hears those of other processes.
func (l *livePool) tendUsage(ctx context.Context) {
	l.usage.step(ctx, l.sharing.means.Load(), l.sharing.accompanied())
}

// stateKey is where the instance keeps the pool's state.
func (l *livePool) stateKey(instance string) string {
	return "shunt/" + l.name + "/state/" + instance + ".json"
}

// restore finds out who we are and reads what storage holds of this instance,
// once. A record that cannot be read is set aside and reported; it never keeps the
// pool from serving.
func (l *livePool) restore(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restored != "" && l.restored == l.sharing.own() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	instance, err := l.sharing.claim(ctx)
	if errors.Is(err, errInDoubt) {
		return
	}
	if err == nil {
		l.state.Forget(instance)
		err = l.load(ctx, instance)
	}
	if err != nil {
		l.report("reading the pool's state", err)
		return
	}
	// Requests may have come before this, and another instance's name may have been
	// ours: what is known is still to be saved.
	if l.restored != "" {
		l.sharing.contested.Store(true)
	}
	l.restored = instance
	l.recovered()
	l.sharing.ready.Store(true)
}

// load is restore with the lock held. An error means that storage could not be
// asked, and is worth another try.
func (l *livePool) load(ctx context.Context, instance string) error {
	m, key := l.sharing.means.Load(), l.stateKey(instance)
	data, err := m.storage.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loading %s: %w", key, err)
	}
	if err := keepNewer(ctx, m, key, data, pool.CheckSnapshot(data), l.name); err != nil {
		return err
	}
	if broken := l.state.Restore(data); broken != nil {
		return setAside(ctx, m, key, data, broken, l.name)
	}
	return nil
}

// keepSaved writes the state whenever it has changed, not too often, until ctx
// ends; then once more.
func (l *livePool) keepSaved(ctx context.Context) {
	for {
		l.mu.Lock()
		wait := max(saveEvery, 20*l.took)
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			l.save()
			l.usage.lastly(l.sharing.means.Load())
			l.history.lastly(l.sharing.means.Load())
			return
		case <-time.After(wait):
			l.restore(ctx)
			l.save()
			l.tendUsage(ctx)
			l.history.step(ctx, l.sharing.means.Load())
		}
	}
}

// save writes the state if it has changed since it was last written.
func (l *livePool) save() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restored == "" || l.restored != l.sharing.own() {
		return
	}
	if again := l.sharing.contested.Swap(false); !again && l.state.Changes() == l.saved {
		return
	}
	begun := time.Now()
	if err := l.store(); err != nil {
		l.report("writing the pool's state", err)
		return
	}
	l.took = time.Since(begun)
	l.recovered()
}

// store is save with the lock held.
func (l *livePool) store() error {
	key := l.stateKey(l.restored)
	data, changes, err := l.state.Snapshot()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	if err := l.sharing.means.Load().storage.Store(ctx, key, data); err != nil {
		return fmt.Errorf("storing %s: %w", key, err)
	}
	l.saved = changes
	return nil
}

// report logs the first of a row of failures: they come every few seconds.
func (l *livePool) report(doing string, err error) {
	if !l.failing {
		l.sharing.means.Load().logger.Error(doing+" failed; it will be tried again", logPool(l.name), logError(err))
	}
	l.failing = true
}

// recovered logs the end of a row of failures.
func (l *livePool) recovered() {
	if l.failing {
		l.sharing.means.Load().logger.Info("the storage of the pool's state works again", logPool(l.name))
	}
	l.failing = false
}

// Destruct writes the state a last time, and tells the other instances that this
// one is gone: the last configuration has let go. Requests may still use the pool, but
// when the process ends.
func (l *livePool) Destruct() error {
	if caddy.Exiting() {
		l.stopUnderway()
	}
	l.save()
	if m := l.sharing.means.Load(); m != nil {
		l.usage.lastly(m)
		l.history.lastly(m)
	}
	l.sharing.lastly(true)
	return nil
}

var _ caddy.Destructor = (*livePool)(nil)
