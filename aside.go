package shunt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

// Records of this instance that are about to be written over, and say something that would
// be lost, are kept under another key: <key>.corrupt-<time> those that cannot be read,
// <key>.newer-<time> copies of those that can, but for what only a newer version knows.

// mostAsides bounds how many of one second are told apart.
const mostAsides = 100

// keepAs stores data beside key, under a name that is not taken.
func keepAs(ctx context.Context, m *poolMeans, key, kind string, data []byte) (aside string, err error) {
	base := fmt.Sprintf("%s.%s-%d", key, kind, time.Now().Unix())
	aside = base
	for n := 2; m.storage.Exists(ctx, aside); n++ {
		if ctx.Err() != nil || n > mostAsides {
			return "", fmt.Errorf("finding a free key for a copy of %s: all are taken", key)
		}
		aside = fmt.Sprintf("%s-%d", base, n)
	}
	if err := m.storage.Store(ctx, aside, data); err != nil {
		return "", fmt.Errorf("storing a copy of %s: %w", key, err)
	}
	return aside, nil
}

// setAside keeps a record of ours that cannot be read under another key.
func setAside(ctx context.Context, m *poolMeans, key string, data []byte, broken error, pool string) error {
	aside, err := keepAs(ctx, m, key, "corrupt", data)
	if err != nil {
		return fmt.Errorf("setting a broken record aside: %w", err)
	}
	if err := m.storage.Delete(ctx, key); err != nil {
		return fmt.Errorf("removing the broken record %s, of which %s is a copy: %w", key, aside, err)
	}
	m.logger.Error("a record of this instance cannot be read; it was set aside and the pool goes on without it",
		logPool(pool), zap.String("record", key), zap.String("set_aside_as", aside), logError(broken))
	return nil
}

// keepNewer copies a record of ours of which newer says that this version would write it
// with less in it; nil means that it would not.
func keepNewer(ctx context.Context, m *poolMeans, key string, data []byte, newer error, pool string) error {
	if newer == nil {
		return nil
	}
	aside, err := keepAs(ctx, m, key, "newer", data)
	if err != nil {
		return fmt.Errorf("keeping what a newer version wrote: %w", err)
	}
	m.logger.Warn("a record of this instance says what only a newer version knows; a copy is kept, and the pool goes on with the rest",
		logPool(pool), zap.String("record", key), zap.String("copy", aside), logError(newer))
	return nil
}

// checkFacts is pool.CheckFacts for a record of facts.
func checkFacts(data []byte) error {
	strict := json.NewDecoder(bytes.NewReader(data))
	strict.DisallowUnknownFields()
	rec := new(factsRecord)
	if err := strict.Decode(rec); err != nil {
		return fmt.Errorf("a newer version wrote it: %w", err)
	}
	if len(rec.Facts) == 0 {
		return nil
	}
	return pool.CheckFacts(rec.Facts)
}

// spare keeps what would be lost when a record of facts under our name is written anew.
func (s *sharing) spare(ctx context.Context, m *poolMeans, key string) error {
	data, err := m.storage.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loading %s: %w", key, err)
	}
	if _, broken := parseFacts(data); broken != nil {
		return setAside(ctx, m, key, data, broken, s.pool)
	}
	return keepNewer(ctx, m, key, data, checkFacts(data), s.pool)
}
