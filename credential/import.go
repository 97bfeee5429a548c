package credential

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// ErrSpent means that a login was imported before and has been refreshed since:
// the tokens of the file were used up by that.
var ErrSpent = errors.New("this login was imported before and has been refreshed since, so the tokens in the file are spent; the stored ones are newer")

// Replaced tells what an import found in its place.
type Replaced struct {
	// Found is true when there was a record.
	Found bool
	// Email is whose login it was, empty when unknown.
	Email string
	// Aside is the key of a copy of a record that could not be read.
	Aside string
}

// Import stores a login at key, under the key's lock, for every source that uses
// the key to find: at its next look into storage, or at once after Reload. A
// record that was there is replaced; one that cannot be read is copied aside
// first. ImportedAt is set when it is zero, and the login gets a name of its own.
// It fails with ErrSpent when the record that is there descends from this very
// login.
func Import(ctx context.Context, st Storage, key string, rec Record) error {
	_, err := Replace(ctx, st, key, rec)
	return err
}

// Replace is Import that tells what was there before.
func Replace(ctx context.Context, st Storage, key string, rec Record) (was Replaced, err error) {
	if rec.access.empty() && rec.refresh.empty() && rec.Follow == "" {
		return was, fmt.Errorf("importing %s: the record has no token", key)
	}
	if rec.ImportedAt.IsZero() {
		rec.ImportedAt = time.Now().UTC()
	}
	rec.LoginID = fingerprint("login", rec.access.reveal(), rec.refresh.reveal())
	if rec.Follow != "" {
		rec.LoginID = fingerprint("follow", rec.Follow)
	}
	raw, err := rec.Encode()
	if err != nil {
		return was, fmt.Errorf("importing %s: %w", key, err)
	}
	unlock, err := lock(ctx, st, key, lockWait)
	if err != nil {
		return was, fmt.Errorf("importing %s: %w", key, hideIn(err, rec.access, rec.refresh))
	}
	defer func() {
		if uerr := unlock(); uerr != nil && err == nil {
			err = fmt.Errorf("importing %s: it is stored, but %w", key, uerr)
		}
	}()
	old, was, err := found(ctx, st, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return was, fmt.Errorf("importing %s: %w", key, err)
	case old.LoginID == rec.LoginID && !old.RefreshedAt.IsZero():
		return was, fmt.Errorf("importing %s: %w", key, ErrSpent)
	}
	if err := store(ctx, st, key, raw); err != nil {
		return was, fmt.Errorf("importing %s: %w", key, hideIn(err, rec.access, rec.refresh))
	}
	return was, nil
}

// found reads the record that is to be replaced or removed. One that cannot be
// read is copied aside, and given as a zero record. The caller holds the lock.
func found(ctx context.Context, st Storage, key string) (rec Record, was Replaced, err error) {
	raw, err := load(ctx, st, key)
	if err != nil {
		return Record{}, was, err
	}
	was.Found = true
	rec, perr := ParseRecord(raw)
	if perr == nil {
		was.Email = rec.Email
		return rec, was, nil
	}
	if was.Aside, err = setAside(ctx, st, key, raw, time.Now()); err != nil {
		return Record{}, was, fmt.Errorf("keeping the unreadable record: %w", err)
	}
	return Record{}, was, nil
}
