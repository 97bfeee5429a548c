package shunt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/uuid"
	"go.uber.org/zap"
)

// processBoot tells this process from every other one, also from the one that had
// its name before.
var (
	processBoot    = uuid.NewString()
	processStarted = time.Now()
)

// maxTwins bounds how many processes with the same name find one of their own.
const maxTwins = 100

// errInDoubt says that it is not known yet whether another process uses the name.
var errInDoubt = errors.New("another process may be using this instance's name")

// doubt is a record under a name that we would take, of a process that may live.
type doubt struct {
	boot  string
	seq   uint64
	since time.Time // when we first saw it
}

// own is the name that this instance has claimed, empty before that.
func (s *sharing) own() string {
	if name := s.name.Load(); name != nil {
		return *name
	}
	return ""
}

// claim finds the name under which this instance keeps its records: the configured
// one or Caddy's instance id, and if another living process has that (two
// configurations with one data directory), the next free one with a number behind
// it. While it is in doubt whether the other one lives, it is errInDoubt.
func (s *sharing) claim(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := s.own(); name != "" {
		return name, nil
	}
	m := s.means.Load()
	wanted := m.instance
	if wanted == "" {
		var err error
		if wanted, err = instanceID(ctx); err != nil {
			return "", fmt.Errorf("finding the instance's id: %w", err)
		}
	}
	// Without the lock, two that start in the same moment could take the same name.
	// They would notice later; so a storage that cannot lock is no reason to stop.
	lock := s.folder("claims")
	if err := m.storage.Lock(ctx, lock); err != nil {
		s.failed(&s.writing, "locking the names of instances", err)
	} else {
		defer func() {
			if err := m.storage.Unlock(context.WithoutCancel(ctx), lock); err != nil {
				s.failed(&s.writing, "unlocking the names of instances", err)
			}
		}()
	}
	for n := 1; n <= maxTwins; n++ {
		name := wanted
		if n > 1 {
			name = fmt.Sprintf("%s-%d", wanted, n)
		}
		old, free, err := s.free(ctx, m, name)
		if err != nil {
			return "", err
		}
		if !free {
			continue
		}
		for _, key := range []string{s.factsKey(name), s.baseKey(name)} {
			if err := s.spare(ctx, m, key); err != nil {
				return "", err
			}
		}
		s.take(ctx, m, name, old)
		if n > 1 {
			m.logger.Warn("another process uses this instance's name; give each instance a name of its own with instances { name <name> }",
				logPool(s.pool), zap.String("name", wanted), zap.String("named_instead", name))
		}
		return name, nil
	}
	return "", fmt.Errorf("all names from %s to %s-%d are in use by other processes", wanted, wanted, maxTwins)
}

// settled is the age from which Caddy's file with the instance's id is not written
// any more.
const settled = 100 * time.Millisecond

// instanceID is Caddy's id of this instance. At the very first start others in the
// process make one too, and the last to write it wins; the file tells which.
func instanceID(ctx context.Context) (string, error) {
	for {
		id, err := caddy.InstanceID()
		info, unknown := os.Stat(filepath.Join(caddy.AppDataDir(), "instance.uuid"))
		if unknown != nil || time.Since(info.ModTime()).Abs() >= settled || !pause(ctx, settled/4) {
			return id.String(), err
		}
	}
}

// take makes the name ours. What the instance of that name has told stays to be
// read, now as ours.
func (s *sharing) take(ctx context.Context, m *poolMeans, name string, old *factsRecord) {
	claim := factsRecord{Version: factsVersion}
	if old != nil {
		claim = *old
		claim.Closed = false
	}
	s.sign(&claim, name)
	claim.WithinMS = s.within(m).Milliseconds()
	if err := s.store(ctx, m, s.factsKey(name), &claim); err != nil {
		// The name is ours all the same: it was free. Telling will be tried again.
		s.failed(&s.writing, "claiming the instance's name", err)
	}
	s.base, s.doubts = baseNote{}, nil
	s.name.Store(&name)
}

// free reports whether no living process has the name, and what was told under it.
func (s *sharing) free(ctx context.Context, m *poolMeans, name string) (old *factsRecord, free bool, err error) {
	key := s.factsKey(name)
	data, err := m.storage.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("loading %s: %w", key, err)
	}
	rec, broken := parseFacts(data)
	if broken != nil {
		return nil, true, setAside(ctx, m, key, data, broken, s.pool)
	}
	now := time.Now()
	age := now.Sub(rec.Written)
	switch {
	case rec.Boot == s.boot, rec.Closed, s.dead(rec), age.Abs() > rec.silence():
		return rec, true, nil
	}
	d, known := s.doubts[name]
	if !known {
		d = doubt{rec.Boot, rec.Seq, now}
		if s.doubts == nil {
			s.doubts = make(map[string]doubt)
		}
		s.doubts[name] = d
	}
	switch {
	case rec.Boot != d.boot || rec.Seq != d.seq:
		return nil, false, nil // it told something since: it lives
	case now.Sub(d.since) > rec.silence():
		return rec, true, nil
	}
	return nil, false, errInDoubt
}

// dead reports whether the record's process is known to have ended: it ran on this
// machine, and no longer does.
func (s *sharing) dead(rec *factsRecord) bool {
	return rec.Host != "" && rec.Host == s.host && !s.runs(rec.PID)
}

// processRuns reports whether a process of that id, other than this one, may be
// running here.
func processRuns(pid int) bool {
	if pid <= 0 || pid == os.Getpid() {
		return false
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	return !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH)
}

// keeps reports whether the name is still ours. Another process that began to use
// it in the same moment, or while this one was stopped, has left its record there:
// the one that was there first keeps the name.
func (s *sharing) keeps(ctx context.Context, m *poolMeans, name string) (bool, error) {
	key := s.factsKey(name)
	info, err := m.storage.Stat(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking for %s: %w", key, err)
	}
	mark := markOf(info)
	if mark == s.seenOwn && mark.fine() {
		return true, nil
	}
	data, err := m.storage.Load(ctx, key)
	if err != nil {
		return false, fmt.Errorf("loading %s: %w", key, err)
	}
	s.seenOwn = mark
	rec, broken := parseFacts(data)
	if broken != nil {
		return true, setAside(ctx, m, key, data, broken, s.pool)
	}
	if rec.Boot == s.boot || rec.Closed || s.dead(rec) {
		return true, nil
	}
	first := s.started.Before(rec.Started) || s.started.Equal(rec.Started) && s.boot < rec.Boot
	if first {
		s.contested.Store(true)
		return true, nil
	}
	s.name.Store(nil)
	return false, nil
}
