package shunt

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/certmagic"
)

// factsVersion is the version of the records that instances write for each other.
const factsVersion = 1

// factsRecord is what an instance tells the others. It keeps two of them: under
// base/ everything, rewritten seldom, and under facts/ what has changed since then,
// rewritten often. Who has kept up reads the second only.
type factsRecord struct {
	Version  int    `json:"version"`
	Instance string `json:"instance"`
	// Boot is another one for each process, Started when that began.
	Boot    string    `json:"boot"`
	Started time.Time `json:"started"`
	Host    string    `json:"host,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Seq     uint64    `json:"seq"`
	Written time.Time `json:"written"`
	// Taken is up to when the facts are whole. It is before Written when a process
	// has signed what the one before it had told.
	Taken time.Time `json:"taken,omitzero"`
	// Since says from when on the facts are whole; zero: they are everything.
	Since time.Time `json:"since,omitzero"`
	// WithinMS is the time within which the next record comes as long as the instance
	// lives, Closed that none will come.
	WithinMS int64           `json:"within_ms"`
	Closed   bool            `json:"closed,omitempty"`
	Facts    json.RawMessage `json:"facts,omitempty"`
}

// longestSilence bounds what a record may promise.
const longestSilence = time.Hour

// silence is how long the instance may say nothing before it counts as dead.
func (r *factsRecord) silence() time.Duration {
	return min(time.Duration(min(max(0, r.WithinMS), longestSilence.Milliseconds()))*time.Millisecond*3/2, longestSilence)
}

func parseFacts(data []byte) (*factsRecord, error) {
	rec := new(factsRecord)
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, err
	}
	if rec.Version < 1 || rec.Version > factsVersion {
		return nil, fmt.Errorf("version %d is not known (this is version %d)", rec.Version, factsVersion)
	}
	if rec.Boot == "" || rec.Instance == "" {
		return nil, errors.New("it does not say whose it is")
	}
	return rec, nil
}

// stamp tells versions of a record apart, as storage does.
type stamp struct {
	modified time.Time
	size     int64
}

func markOf(info certmagic.KeyInfo) stamp { return stamp{info.Modified.Round(0), info.Size} }

// fine reports whether storage tells times so exactly that two versions have two.
func (m stamp) fine() bool { return !m.modified.IsZero() && m.modified.Nanosecond() != 0 }

func (s *sharing) folder(kind string) string { return "shunt/" + s.pool + "/" + kind }
func (s *sharing) factsKey(instance string) string {
	return s.folder("facts") + "/" + instance + ".json"
}
func (s *sharing) baseKey(instance string) string { return s.folder("base") + "/" + instance + ".json" }

// sign makes a record one of this process.
func (s *sharing) sign(rec *factsRecord, name string) {
	rec.Version, rec.Instance = factsVersion, name
	rec.Boot, rec.Started, rec.Host, rec.PID = s.boot, s.started, s.host, s.pid
	s.seq++
	rec.Seq, rec.Written = s.seq, time.Now()
}

func (s *sharing) store(ctx context.Context, m *poolMeans, key string, rec *factsRecord) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("marshalling %s: %w", key, err)
	}
	if err := m.storage.Store(ctx, key, data); err != nil {
		return fmt.Errorf("storing %s: %w", key, err)
	}
	return nil
}

// baseNote is what we know of our record of everything.
type baseNote struct {
	taken time.Time
	size  int
	since int // the bytes that were told since it was written
}

// leastBase is the default of sharing.leastBase.
const leastBase = 1 << 20

// due: once the records since then are together as large as the base, what both
// cost together is least.
func (b *baseNote) due(now time.Time, least int) bool {
	return b.taken.IsZero() || now.Before(b.taken) || b.since >= max(b.size, least)
}

// told is what we know of our record of what has changed.
type told struct {
	at      time.Time
	sought  time.Time // when it was last seen whether there is something to tell
	changes uint64    // the pool's count that it holds
	sum     [sha256.Size]byte
}

const (
	// urgentPause is how long others that are urgent too may follow, urgentGap the
	// time between two records at least.
	urgentPause = 50 * time.Millisecond
	urgentGap   = 250 * time.Millisecond
)

// pace is the time from one record to the next when something has changed. Alone,
// nobody waits for it.
func (s *sharing) pace(m *poolMeans) time.Duration {
	every := max(m.interval, 20*s.tellTook)
	if !s.company {
		every *= 3
	}
	return every
}

// within is the time within which the next record comes in any case.
func (s *sharing) within(m *poolMeans) time.Duration {
	if s.company {
		return 2 * s.pace(m)
	}
	return s.pace(m)
}

// tellIn is how long it is until there may be something to tell; it is to be told
// now if that is not positive.
func (s *sharing) tellIn(m *poolMeans, now time.Time) time.Duration {
	if s.own() == "" || !s.ready.Load() {
		return m.interval
	}
	since := now.Sub(s.told.at)
	if since < 0 {
		since = s.within(m) // the clock was set back
	}
	in := s.within(m) - since
	if s.state.Changes() != s.told.changes {
		in = min(in, s.pace(m)-min(since, max(0, now.Sub(s.told.sought))))
	}
	if s.company && !s.urgentAt.IsZero() {
		in = min(in, max(urgentPause-now.Sub(s.urgentAt), max(urgentGap, 5*s.tellTook)-since))
	}
	if s.hello {
		in = min(in, urgentGap-since)
	}
	return max(in, s.notBefore.Sub(now))
}

// tell writes what this instance has to tell. closing says that it is the last
// time.
func (s *sharing) tell(ctx context.Context, m *poolMeans, closing bool) error {
	name := s.own()
	if kept, err := s.keeps(ctx, m, name); err != nil || !kept {
		return err
	}
	begun := time.Now()
	changes := s.state.Changes()
	if s.base.due(begun, s.leastBase) {
		if err := s.writeBase(ctx, m, name, begun); err != nil {
			return err
		}
	}
	within := s.within(m)
	rec := &factsRecord{Taken: begun, Since: begun.Add(-3 * within), WithinMS: within.Milliseconds(), Closed: closing}
	if s.base.taken.Before(rec.Since) {
		rec.Since = s.base.taken
	}
	facts, err := s.state.Facts(rec.Since)
	if err != nil {
		return fmt.Errorf("collecting what to tell the other instances: %w", err)
	}
	sum := sha256.Sum256(facts)
	if sum == s.told.sum && begun.Sub(s.told.at) < within && !s.hello && !closing {
		s.told.changes, s.told.sought, s.urgentAt = changes, begun, time.Time{}
		return nil
	}
	rec.Facts = facts
	s.sign(rec, name)
	if err := s.store(ctx, m, s.factsKey(name), rec); err != nil {
		return err
	}
	s.base.since += len(facts)
	s.told = told{at: begun, sought: begun, changes: changes, sum: sum}
	s.tellTook, s.urgentAt, s.hello = time.Since(begun), time.Time{}, false
	return nil
}

func (s *sharing) writeBase(ctx context.Context, m *poolMeans, name string, now time.Time) error {
	facts, err := s.state.Facts(time.Time{})
	if err != nil {
		return fmt.Errorf("collecting all that the other instances may need: %w", err)
	}
	rec := &factsRecord{Taken: now, Facts: facts}
	s.sign(rec, name)
	if err := s.store(ctx, m, s.baseKey(name), rec); err != nil {
		return err
	}
	s.base = baseNote{taken: now, size: len(facts)}
	return nil
}
