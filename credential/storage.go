package credential

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// Storage keeps records. It is the part of certmagic.Storage that this package
// needs, so every Caddy storage module is one.
type Storage interface {
	// Store sets the value of key, creating it if need be.
	Store(ctx context.Context, key string, value []byte) error
	// Load returns the value of key. The error for a key that does not exist
	// satisfies errors.Is(err, fs.ErrNotExist).
	Load(ctx context.Context, key string) ([]byte, error)
	// Delete removes the key. A key that does not exist may be an error.
	Delete(ctx context.Context, key string) error
	// Exists reports whether there is such a key.
	Exists(ctx context.Context, key string) bool
	// Lock takes the named lock for this process, waiting until it is free or ctx
	// ends.
	Lock(ctx context.Context, name string) error
	// Unlock gives the lock back.
	Unlock(ctx context.Context, name string) error
}

const (
	// storageTimeout bounds one load, store or unlock.
	storageTimeout = 10 * time.Second
	// lockWait bounds the wait for a peer that holds the lock. It is more than one
	// exchange and its store, so that an honest holder is always outwaited.
	lockWait = 60 * time.Second
)

var errLockWait = errors.New("another process held it for too long")

// lockName derives the lock's name from the record's key. File storage drops
// slashes and case from lock names, so the readable part alone could make two
// accounts share a lock; the fingerprint keeps them apart.
func lockName(key string) string {
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '@':
			return r
		}
		return '_'
	}, key)
	return "shunt-lock-" + readable + "-" + fingerprint("lock", key)
}

// lock takes the lock of key. ctx and wait bound the waiting only: storages renew
// a held lease for as long as the context given to Lock lives, so that context
// must outlive the waiting and ends with the returned unlock, which the caller
// owes exactly once. unlock works also after ctx has ended.
func lock(ctx context.Context, st Storage, key string, wait time.Duration) (unlock func() error, err error) {
	name := lockName(key)
	held, release := context.WithCancelCause(context.WithoutCancel(ctx))
	stopCtx := context.AfterFunc(ctx, func() { release(context.Cause(ctx)) })
	timer := time.AfterFunc(wait, func() { release(errLockWait) })

	err = st.Lock(held, name)
	inTime := timer.Stop()
	wanted := stopCtx()
	unlock = func() error {
		defer release(nil)
		uctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storageTimeout)
		defer cancel()
		if err := st.Unlock(uctx, name); err != nil {
			return fmt.Errorf("unlocking %s: %w", name, err)
		}
		return nil
	}
	switch {
	case err != nil && context.Cause(held) != nil:
		err = context.Cause(held)
	case err == nil && (!inTime || !wanted):
		err = errors.Join(context.Cause(held), unlock())
	case err == nil:
		return unlock, nil
	}
	release(nil)
	return nil, fmt.Errorf("locking %s: %w", name, err)
}

func load(ctx context.Context, st Storage, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	raw, err := st.Load(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", key, err)
	}
	return raw, nil
}

// store writes even if ctx has ended: what is stored here cannot be had again.
func store(ctx context.Context, st Storage, key string, raw []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storageTimeout)
	defer cancel()
	if err := st.Store(ctx, key, raw); err != nil {
		return fmt.Errorf("storing %s: %w", key, err)
	}
	return nil
}

// remove deletes a key, whether or not it is there.
func remove(ctx context.Context, st Storage, key string) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	if err := st.Delete(ctx, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deleting %s: %w", key, err)
	}
	return nil
}

// setAside copies an unreadable record to a key of its own and returns that key.
// It never takes a name that exists.
func setAside(ctx context.Context, st Storage, key string, raw []byte, now time.Time) (string, error) {
	base := key + ".corrupt-" + strconv.FormatInt(now.Unix(), 10)
	aside := base
	for n := 2; st.Exists(ctx, aside); n++ {
		if err := ctx.Err(); err != nil || n > 100 {
			return "", errors.Join(fmt.Errorf("finding a free key for a copy of %s", key), err)
		}
		aside = base + "-" + strconv.Itoa(n)
	}
	return aside, store(ctx, st, aside, raw)
}
