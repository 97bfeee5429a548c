package shunt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/caddy-shunt/caddy-shunt/history"
	"github.com/caddy-shunt/caddy-shunt/internal/failpoint"
)

// historyStore keeps a pool's history in storage: shunt/<pool>/history/<process>.json.
// As with the books, a process writes its own record only, and reads those of others, and
// of the processes before it, when somebody asks.
type historyStore struct {
	pool string
	boot string // this process
	seen *history.History

	mu      sync.Mutex // guards all below; held across storage
	saved   uint64
	saveAt  time.Time
	sweepAt time.Time
	writing outage
	// others were read at readAt.
	others []*history.Past
	readAt time.Time

	looking sync.Mutex // guards lookAt
	lookAt  time.Time
}

const (
	// saveHistoryEvery bounds what a kill costs.
	saveHistoryEvery = time.Minute
	// keepHistory is a little more than the longest span.
	keepHistory = 8 * 24 * time.Hour
	// readHistoryEvery bounds how often the others' records are read, however many look.
	readHistoryEvery = 20 * time.Second
	// lookEvery is how often it is noted how full the accounts are.
	lookEvery = 10 * time.Second
)

func newHistoryStore(pool string) *historyStore {
	return &historyStore{pool: pool, boot: processBoot, seen: history.New(failpoint.Now), sweepAt: time.Now().Add(sweepFirst)}
}

func (s *historyStore) folder() string { return "shunt/" + s.pool + "/history" }

func (s *historyStore) key(process string) string { return s.folder() + "/" + process + ".json" }

// step writes what is new when that is due, and removes what nobody asks for any more.
func (s *historyStore) step(ctx context.Context, m *poolMeans) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.After(s.saveAt) {
		s.saveAt = now.Add(saveHistoryEvery)
		s.save(ctx, m)
	}
	if now.After(s.sweepAt) {
		s.sweepAt = now.Add(sweepEvery)
		s.sweep(ctx, m)
	}
}

// lastly writes what is not written yet.
func (s *historyStore) lastly(m *poolMeans) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.save(context.Background(), m)
}

func (s *historyStore) save(ctx context.Context, m *poolMeans) {
	if s.seen.Changes() == s.saved {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	data, changes, err := s.seen.Record()
	if err == nil {
		err = m.storage.Store(ctx, s.key(s.boot), data)
	}
	const doing = "writing the history"
	if err != nil {
		if !s.writing.failing {
			m.logger.Error(doing+" failed; it will be tried again", logPool(s.pool), logError(err))
		}
		s.writing.failing = true
		return
	}
	if s.writing.failing {
		m.logger.Info(doing+" works again", logPool(s.pool))
	}
	s.saved, s.writing.failing = changes, false
}

func (s *historyStore) sweep(ctx context.Context, m *poolMeans) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	names, err := listInstances(ctx, m.storage, s.folder())
	if err != nil {
		return // the next sweep tries again
	}
	for _, name := range names {
		if info, err := m.storage.Stat(ctx, s.key(name)); err == nil && name != s.boot && failpoint.Now().Sub(info.Modified) > keepHistory {
			_ = m.storage.Delete(ctx, s.key(name))
		}
	}
}

// report is a span as all processes have seen it. An error tells what is missing from the
// report, which stands without it.
func (s *historyStore) report(ctx context.Context, m *poolMeans, span history.Span) (*history.Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if now := time.Now(); now.Sub(s.readAt) >= readHistoryEvery {
		s.others, err = s.read(ctx, m)
		if err == nil {
			s.readAt = now
		}
	}
	return s.seen.Report(span, s.others), err
}

func (s *historyStore) read(ctx context.Context, m *poolMeans) (others []*history.Past, first error) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	names, err := listInstances(ctx, m.storage, s.folder())
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if name == s.boot || strings.Contains(name, ".") {
			continue
		}
		data, err := m.storage.Load(ctx, s.key(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var past *history.Past
		if err == nil {
			past, err = history.Parse(data)
		}
		if err != nil {
			if first == nil {
				first = fmt.Errorf("loading %s: %w", s.key(name), err)
			}
			continue
		}
		others = append(others, past)
	}
	return others, first
}

// lookIn notes how full the handler's accounts are, not too often.
func (s *historyStore) lookIn(h *Handler) {
	s.looking.Lock()
	defer s.looking.Unlock()
	now := time.Now()
	if now.Before(s.lookAt) && s.lookAt.Sub(now) <= lookEvery {
		return
	}
	s.lookAt = now.Add(lookEvery)
	s.look(h)
}

func (s *historyStore) look(h *Handler) {
	l := h.group.Levels()
	levels := make(map[string]history.Level, len(l.Accounts))
	for i := range l.Accounts {
		a := &l.Accounts[i]
		level := history.Unknown
		if w, ok := a.Window("5h"); ok && w.Known {
			level.FiveHour = w.Utilization
		}
		if w, ok := a.Window("7d"); ok && w.Known {
			level.SevenDay = w.Utilization
		}
		levels[a.Member.Name] = level
	}
	s.seen.Look(l.Waiting, levels)
}
