package credential

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/failpoint"
)

const (
	saveFirst = time.Second
	saveMax   = time.Minute
	// lastSaveWait bounds the wait for the lock of the try that Close waits for.
	lastSaveWait = 5 * time.Second
)

// commit stores the refreshed record and only then puts it in use: a token that
// is used but not stored dies with the process, and the login with it. If storing
// fails, the token is all that is left of the login, so it is used from memory
// while storing is tried again. The caller holds slot and the storage lock.
func (o *OAuth) commit(used Record, got answer) Credential {
	if o.overtaken() {
		return o.cur.Load().cred
	}
	now := o.cfg.Clock()
	rec := used.after(got, now)
	raw, err := rec.Encode()
	if err == nil {
		err = o.blocked()
	}
	if err == nil {
		err = store(o.stop, o.cfg.Storage, o.cfg.Key, raw)
	}
	if err != nil {
		return o.keep(used, rec, err)
	}
	failpoint.Pass("stored")
	o.mu.Lock()
	was := o.unsaved
	o.settle()
	o.publish(rec, now)
	o.emit(Event{Type: EventRefreshed, Time: now})
	o.unsaved, o.seen = nil, fingerprint("record", string(raw))
	if was != nil {
		o.emit(Event{Type: EventStored, Time: now})
	}
	o.mu.Unlock()
	o.settleIntent(used, nil)
	return o.cur.Load().cred
}

// overtaken reports whether storage has another login by now than the one that was
// refreshed: who was paused for longer than the lock's lease must not write over
// what came meanwhile. A record that is gone or cannot be read is no other login.
func (o *OAuth) overtaken() bool {
	o.mu.Lock()
	before := o.seen
	o.mu.Unlock()
	if o.look(o.stop) != nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.login == "" && o.seen != before
}

// blocked tells that storage holds a record that cannot be read, which is not ours
// to write over.
func (o *OAuth) blocked() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.login != "" && o.dead != "" {
		return errors.New(o.login)
	}
	return nil
}

// keep puts a record in use that could not be stored, for that reason, and sees to
// it that storing is tried again. The caller holds slot.
func (o *OAuth) keep(used, rec Record, why error) Credential {
	now := o.cfg.Clock()
	why = hideIn(why, rec.access, rec.refresh, used.access, used.refresh)
	o.mu.Lock()
	defer o.mu.Unlock()
	was, login, dead := o.unsaved, o.login, o.dead
	o.settle()
	if dead != "" {
		o.login, o.dead = login, dead
	}
	o.publish(rec, now)
	o.emit(Event{Type: EventRefreshed, Time: now})
	o.lastErr = why.Error()
	o.emit(Event{Type: EventStoreFailed, Time: now, Err: why})
	if was != nil {
		o.unsaved = &unsaved{rec: rec, base: was.base}
	} else {
		o.unsaved = &unsaved{rec: rec, base: used.tokens()}
	}
	if !o.saving {
		o.saving = true
		o.jobs.Go(o.save)
	}
	return o.cur.Load().cred
}

// save tries to store the unsaved record until it is stored, or storage has a
// newer one, or the source is closed; then once more. There is at most one, and
// it is a job that Close waits for.
func (o *OAuth) save() {
	wait := saveFirst
	for {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			if o.trySave(o.stop, lockWait) {
				return
			}
		case <-o.stop.Done():
			timer.Stop()
			o.trySave(context.Background(), lastSaveWait)
			return
		}
		wait = min(2*wait, saveMax)
	}
}

// trySave stores the unsaved record under the lock, if storage still has what it
// was made from. It reports whether there is nothing left to save; the saver has
// then signed off.
func (o *OAuth) trySave(ctx context.Context, wait time.Duration) (done bool) {
	o.slot <- struct{}{}
	defer func() { <-o.slot }()
	unlock, err := lock(ctx, o.cfg.Storage, o.cfg.Key, wait)
	if err != nil {
		o.note(err)
		return o.saved()
	}
	defer func() {
		if err := unlock(); err != nil {
			o.note(err)
		}
	}()
	if err := o.look(ctx); err != nil {
		o.note(err)
		return o.saved()
	}
	o.mu.Lock()
	pending := o.unsaved
	// Under a required login storage holds an unreadable record, which is not ours
	// to overwrite.
	blocked := o.login != ""
	o.mu.Unlock()
	if pending == nil || blocked {
		return o.saved()
	}
	raw, err := pending.rec.Encode()
	if err == nil {
		err = store(ctx, o.cfg.Storage, o.cfg.Key, raw)
	}
	if err != nil {
		o.note(hideIn(err, pending.rec.access, pending.rec.refresh))
		return false
	}
	o.mu.Lock()
	o.unsaved, o.seen, o.lastErr = nil, fingerprint("record", string(raw)), ""
	o.emit(Event{Type: EventStored, Time: o.cfg.Clock()})
	o.mu.Unlock()
	return o.saved()
}

// saved reports whether nothing is left to save, and if so signs the saver off,
// in one step with the look, so that a record that comes later starts another.
func (o *OAuth) saved() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unsaved != nil {
		return false
	}
	o.saving = false
	return true
}
