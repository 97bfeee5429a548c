package shunt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

// livePools are the pools of the running configurations, by name. Each handler
// holds a reference, so that a pool lives through a reload.
var livePools = caddy.NewUsagePool()

// livePool is a pool's state with its place in storage.
type livePool struct {
	name  string
	state *pool.Pool

	mu sync.Mutex // guards all below, and makes writes to storage one at a time
	// storage and logger are those of the newest configuration that was started.
	storage certmagic.Storage
	logger  *zap.Logger
	// restored is true once it is known what storage holds: before that nothing is
	// written, so that nothing is overwritten unread.
	restored bool
	saved    uint64 // the count of changes that storage has
	took     time.Duration
	failing  bool

	// organizations guards what is found out about whose limits accounts draw on: one
	// at a time tells the pool. mu may be held with it.
	organizations sync.Mutex
	// sharing are the pairs of accounts, by name, that were reported.
	sharing map[[2]string]bool
}

// saveEvery is the shortest time between two writes of a pool's state.
const saveEvery = 2 * time.Second

// storageTimeout bounds one operation on storage.
const storageTimeout = 10 * time.Second

func (l *livePool) attach(storage certmagic.Storage, logger *zap.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.storage, l.logger = storage, logger
}

// stateKey is where this instance keeps the pool's state.
func (l *livePool) stateKey() (string, error) {
	id, err := caddy.InstanceID()
	if err != nil {
		return "", fmt.Errorf("finding the instance's id: %w", err)
	}
	return "shunt/" + l.name + "/state/" + id.String() + ".json", nil
}

// restore reads what storage holds, once. A record that cannot be read is set
// aside and reported; it never keeps the pool from serving.
func (l *livePool) restore(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restored {
		return
	}
	if err := l.load(ctx); err != nil {
		l.report("reading the pool's state", err)
		return
	}
	// Requests may have come before this: what they changed is still to be saved,
	// so saved stays as it is.
	l.restored, l.failing = true, false
}

// load is restore with the lock held. An error means that storage could not be
// asked, and is worth another try.
func (l *livePool) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	key, err := l.stateKey()
	if err != nil {
		return err
	}
	data, err := l.storage.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loading %s: %w", key, err)
	}
	broken := l.state.Restore(data)
	if broken == nil {
		return nil
	}
	aside := fmt.Sprintf("%s.corrupt-%d", key, time.Now().Unix())
	if err := l.storage.Store(ctx, aside, data); err != nil {
		return fmt.Errorf("setting the broken record %s aside: %w", key, err)
	}
	if err := l.storage.Delete(ctx, key); err != nil {
		return fmt.Errorf("removing the broken record %s, of which %s is a copy: %w", key, aside, err)
	}
	l.logger.Error("the pool's state cannot be read; it was set aside and the pool starts without it",
		logPool(l.name), zap.String("record", key), zap.String("set_aside_as", aside), logError(broken))
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
			return
		case <-time.After(wait):
			l.restore(ctx)
			l.save()
		}
	}
}

// save writes the state if it has changed since it was last written.
func (l *livePool) save() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.restored || l.storage == nil || l.state.Changes() == l.saved {
		return
	}
	begun := time.Now()
	if err := l.store(); err != nil {
		l.report("writing the pool's state", err)
		return
	}
	l.took, l.failing = time.Since(begun), false
}

// store is save with the lock held.
func (l *livePool) store() error {
	key, err := l.stateKey()
	if err != nil {
		return err
	}
	data, changes, err := l.state.Snapshot()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), storageTimeout)
	defer cancel()
	if err := l.storage.Store(ctx, key, data); err != nil {
		return fmt.Errorf("storing %s: %w", key, err)
	}
	l.saved = changes
	return nil
}

// report logs the first of a row of failures: they come every few seconds.
func (l *livePool) report(doing string, err error) {
	if !l.failing {
		l.logger.Error(doing+" failed; it will be tried again", logPool(l.name), logError(err))
	}
	l.failing = true
}

// Destruct writes the state a last time: the last configuration has let go.
// Requests may still use the pool.
func (l *livePool) Destruct() error {
	l.save()
	return nil
}

var _ caddy.Destructor = (*livePool)(nil)
