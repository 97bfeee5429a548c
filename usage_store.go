package shunt

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/internal/failpoint"
	"github.com/caddy-shunt/caddy-shunt/ledger"
)

// usageStore keeps a pool's books in storage: shunt/<pool>/usage/<day>/<process>.json.
// A process writes records of its own only, so none is ever written by two; it reads
// those of all others, also of the processes before it.
type usageStore struct {
	pool  string
	boot  string // this process
	books *ledger.Ledger

	mu sync.Mutex // guards all below; held across storage, so that one thing is done at a time
	// heard are the records that were taken over, broken those that could not be.
	heard  map[string]stamp
	broken map[string][sha256.Size]byte
	// needed is up to which day all that budgets look at was read; hearAt, sweepAt and
	// saveAt are when to do the next of each.
	needed                  ledger.Day
	hearAt, sweepAt, saveAt time.Time
	reading, writing        outage
}

func newUsageStore(pool string, books *ledger.Ledger) *usageStore {
	return &usageStore{
		pool: pool, boot: processBoot, books: books, heard: make(map[string]stamp), broken: make(map[string][sha256.Size]byte),
		sweepAt: time.Now().Add(sweepFirst),
	}
}

// keepUsage is how many days the books are kept.
const keepUsage = 400

// hearAlone is how often other processes' records are looked for when none is known
// to live.
const hearAlone = time.Minute

func (u *usageStore) folder() string { return "shunt/" + u.pool + "/usage" }

func (u *usageStore) key(d ledger.Day, process string) string {
	return u.folder() + "/" + d.String() + "/" + process + ".json"
}

// parseUsageKey says which day and process a record is of.
func (u *usageStore) parseKey(key string) (d ledger.Day, process string, ok bool) {
	rest, inFolder := strings.CutPrefix(key, u.folder()+"/")
	day, name, found := strings.Cut(rest, "/")
	process, isRecord := strings.CutSuffix(name, ".json")
	if !inFolder || !found || !isRecord || !instanceSyntax.MatchString(process) {
		return 0, "", false
	}
	d, err := ledger.ParseDay(day)
	return d, process, err == nil
}

// step does what is due: it hears the others and writes what was counted. company
// says that another instance lives.
func (u *usageStore) step(ctx context.Context, m *poolMeans, company bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	from, today := u.books.Needed()
	every := m.interval
	if !company {
		every = max(every, hearAlone)
	}
	if u.needed < today || !now.Before(u.hearAt) || u.hearAt.Sub(now) > every {
		if u.needed == today {
			from = u.books.Written()
		}
		u.hearDays(ctx, m, from, today)
		u.hearAt = time.Now().Add(every)
		u.books.Forget(today - keepInMemory)
		maps.DeleteFunc(u.heard, func(key string, _ stamp) bool {
			d, _, ok := u.parseKey(key)
			return !ok || d < today-keepInMemory
		})
	}
	if now.After(u.saveAt) {
		u.save(ctx, m)
	}
	if now.After(u.sweepAt) {
		u.sweepAt = now.Add(sweepEvery)
		if err := u.sweep(ctx, m, today); err != nil {
			u.failed(m, &u.reading, "removing old records of usage", err)
		}
	}
}

// keepInMemory is how many days are kept in memory: more than a month and a week.
const keepInMemory = 45

func (u *usageStore) failed(m *poolMeans, o *outage, doing string, err error) {
	if !o.failing {
		m.logger.Error(doing+" failed; it will be tried again", logPool(u.pool), logError(err))
	}
	o.failing = true
}

func (u *usageStore) passed(m *poolMeans, o *outage, doing string) {
	if o.failing {
		m.logger.Info(doing+" works again", logPool(u.pool))
	}
	o.failing = false
}

const (
	sayHearingUsage = "reading what was used"
	sayStoringUsage = "writing what was used"
)

// hearDays takes over the other processes' records of some days.
func (u *usageStore) hearDays(ctx context.Context, m *poolMeans, from, to ledger.Day) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	for d := from; d <= to; d++ {
		if err := u.hearDay(ctx, m, d); err != nil {
			u.failed(m, &u.reading, sayHearingUsage, err)
			return
		}
	}
	u.needed = to
	u.passed(m, &u.reading, sayHearingUsage)
}

func (u *usageStore) hearDay(ctx context.Context, m *poolMeans, d ledger.Day) error {
	names, err := listInstances(ctx, m.storage, u.folder()+"/"+d.String())
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == u.boot {
			continue
		}
		if err := u.hear(ctx, m, d, name); err != nil {
			return err
		}
	}
	return nil
}

func (u *usageStore) hear(ctx context.Context, m *poolMeans, d ledger.Day, process string) error {
	key := u.key(d, process)
	info, err := m.storage.Stat(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("asking for %s: %w", key, err)
	}
	mark := markOf(info)
	if mark == u.heard[key] && mark.fine() {
		return nil
	}
	data, err := m.storage.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loading %s: %w", key, err)
	}
	if err := u.books.Hear(process, d, data); err != nil {
		u.unreadable(m, key, data, err)
		return nil
	}
	u.heard[key] = mark
	return nil
}

// unreadable reports a record that cannot be read, once. It stays where it is: it may
// be of a newer version.
func (u *usageStore) unreadable(m *poolMeans, key string, data []byte, err error) {
	if sum := sha256.Sum256(data); u.broken[key] != sum {
		u.broken[key] = sum
		m.logger.Error("a record of what was used cannot be read; what it says is not counted", logPool(u.pool), zap.String("record", key), logError(err))
	}
}

// save writes the days that have changed.
func (u *usageStore) save(ctx context.Context, m *poolMeans) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	begun := time.Now()
	for _, d := range u.books.Unsaved() {
		data, changes, err := u.books.Record(d)
		if err == nil {
			err = m.storage.Store(ctx, u.key(d, u.boot), data)
		}
		if err != nil {
			u.failed(m, &u.writing, sayStoringUsage, err)
			break
		}
		u.books.Saved(d, changes)
		u.passed(m, &u.writing, sayStoringUsage)
	}
	u.saveAt = time.Now().Add(20 * time.Since(begun))
}

// lastly writes what is not written yet.
func (u *usageStore) lastly(m *poolMeans) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.save(context.Background(), m)
}

// rows are all that was counted from one day to another, of all processes. An error
// means that something is missing.
func (u *usageStore) rows(ctx context.Context, m *poolMeans, from, to ledger.Day) ([]ledger.Row, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*storageTimeout)
	defer cancel()
	keys, err := m.storage.List(ctx, u.folder(), true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing %s: %w", u.folder(), err)
	}
	var all []ledger.Row
	for _, key := range keys {
		d, process, ok := u.parseKey(key)
		if !ok || d < from || d > to || process == u.boot && u.books.Holds(d) {
			continue
		}
		data, err := m.storage.Load(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("loading %s: %w", key, err)
		}
		rows, err := ledger.Parse(d, data)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", key, err)
		}
		all = append(all, rows...)
	}
	return append(all, u.books.OwnBetween(from, to)...), nil
}

// sweep removes the records of days that nobody asks for any more.
func (u *usageStore) sweep(ctx context.Context, m *poolMeans, today ledger.Day) error {
	ctx, cancel := context.WithTimeout(ctx, 3*storageTimeout)
	defer cancel()
	keys, err := m.storage.List(ctx, u.folder(), true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing %s: %w", u.folder(), err)
	}
	oldest := failpoint.Now().Add(-keepUsage * 24 * time.Hour)
	for _, key := range keys {
		d, _, ok := u.parseKey(key)
		if !ok || d >= today-keepUsage {
			continue
		}
		info, err := m.storage.Stat(ctx, key)
		if err != nil || info.Modified.After(oldest) {
			continue
		}
		if err := m.storage.Delete(ctx, key); err != nil {
			return fmt.Errorf("removing %s: %w", key, err)
		}
		delete(u.heard, key)
		delete(u.broken, key)
	}
	return nil
}
