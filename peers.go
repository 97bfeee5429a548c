package shunt

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// peer is another instance, as its records show it.
type peer struct {
	name  string
	boot  string
	seq   uint64
	mark  stamp
	heard time.Time // up to when its facts are known here, by its clock
	// lastNews is when it was seen to have written, by our clock.
	lastNews time.Time
	silence  time.Duration
	closed   bool
	live     bool
	broken   [sha256.Size]byte // of the record that was reported last
	askAt    time.Time         // not before
}

// forgetInstance is how long the records of an instance are kept that writes none:
// nothing that it knew of an account can matter any more.
const forgetInstance = 35 * 24 * time.Hour

// look finds the instances there are, and hears what they have told.
func (s *sharing) look(ctx context.Context, m *poolMeans) error {
	names, err := listInstances(ctx, m.storage, s.folder("facts"))
	if err != nil {
		return err
	}
	own := s.own()
	for _, name := range names {
		if _, doubted := s.doubts[name]; name == own || own == "" && doubted || s.peers[name] != nil {
			continue
		}
		s.peers[name] = &peer{name: name}
	}
	delete(s.peers, own)
	return s.hearAll(ctx, m, false)
}

// listInstances names the instances that have a record in the folder. Storages
// that are files may show others in it while they are written, and fail when
// these go away.
func listInstances(ctx context.Context, storage certmagic.Storage, folder string) ([]string, error) {
	keys, err := storage.List(ctx, folder, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing %s: %w", folder, err)
	}
	var names []string
	for _, key := range keys {
		name, ok := strings.CutSuffix(key[strings.LastIndexByte(key, '/')+1:], ".json")
		if ok && instanceSyntax.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// hearAll hears each peer; quickly means those only that live, and of which
// storage tells when they have written.
func (s *sharing) hearAll(ctx context.Context, m *poolMeans, quickly bool) error {
	var first error
	for _, p := range s.peers {
		now := time.Now()
		if quickly && !p.live || now.Before(p.askAt) {
			continue
		}
		if err := s.hear(ctx, m, p, quickly); err != nil {
			first = errors.Join(first, err)
			if ctx.Err() != nil {
				break
			}
		}
		s.judge(m, p, time.Now())
	}
	return first
}

// hear takes over what a peer has told since it was last heard.
func (s *sharing) hear(ctx context.Context, m *poolMeans, p *peer, quickly bool) error {
	key := s.factsKey(p.name)
	info, err := m.storage.Stat(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		p.closed = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("asking for %s: %w", key, err)
	}
	mark := markOf(info)
	if mark == p.mark && (quickly || mark.fine()) {
		return nil
	}
	data, err := m.storage.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loading %s: %w", key, err)
	}
	rec, err := parseFacts(data)
	if err == nil && (rec.Boot != p.boot || rec.Seq != p.seq) {
		if err := s.catchUp(ctx, m, p, rec); err != nil {
			return err
		}
		if len(rec.Facts) > 0 {
			s.merges.Add(1)
			err = s.state.Merge(p.name, rec.Facts)
		}
		s.note(p, rec, time.Now())
	}
	p.mark = mark
	if err != nil {
		s.unreadable(m, p, key, data, err)
	}
	return nil
}

// catchUp takes over everything that a peer knows if what it tells now does not
// join on to what was heard before.
func (s *sharing) catchUp(ctx context.Context, m *poolMeans, p *peer, rec *factsRecord) error {
	if rec.Since.IsZero() || rec.Boot == p.boot && !rec.Since.After(p.heard) {
		return nil
	}
	key := s.baseKey(p.name)
	data, err := m.storage.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loading %s: %w", key, err)
	}
	base, err := parseFacts(data)
	if err == nil && len(base.Facts) > 0 {
		s.merges.Add(1)
		err = s.state.Merge(p.name, base.Facts)
	}
	if err != nil {
		s.unreadable(m, p, key, data, err)
	}
	return nil
}

// note keeps what a record says of its instance.
func (s *sharing) note(p *peer, rec *factsRecord, now time.Time) {
	switch age := now.Sub(rec.Written); {
	case p.boot != "":
		p.lastNews = now
	case age.Abs() <= rec.silence():
		p.lastNews = now.Add(-max(0, age))
	default:
		p.lastNews = rec.Written // of an instance that may be long gone
	}
	p.boot, p.seq, p.heard, p.closed, p.silence = rec.Boot, rec.Seq, rec.Taken, rec.Closed, rec.silence()
	p.live = true // its load was merged with the rest: judge drops it unless it lives
}

// judge decides whether the peer lives. The load of one that does not is dropped.
func (s *sharing) judge(m *poolMeans, p *peer, now time.Time) {
	quiet := now.Sub(p.lastNews)
	// Who seldom asks hears late.
	lives := !p.closed && p.boot != "" && quiet.Abs() <= max(p.silence, 3*s.lookEvery(m))
	switch {
	case lives:
		p.askAt = time.Time{}
		if !s.greeted[p.name] {
			s.greeted[p.name] = true
			s.hello = true
			m.logger.Info("another instance shares the pool", logPool(s.pool), zap.String("instance", p.name))
		}
	case p.live:
		s.state.Drop(p.name)
		if s.greeted[p.name] {
			delete(s.greeted, p.name)
			m.logger.Info("another instance is silent: its load counts no longer", logPool(s.pool), zap.String("instance", p.name), zap.Bool("stopped", p.closed))
		}
	}
	if p.live = lives; !lives && !p.lastNews.IsZero() {
		p.askAt = now.Add(min(quiet.Abs()/20, 12*m.interval))
	}
}

// unreadable reports a record of a peer, once for each that it writes. It is the
// peer's own, perhaps of a newer version, and stays where it is.
func (s *sharing) unreadable(m *poolMeans, p *peer, key string, data []byte, err error) {
	if sum := sha256.Sum256(data); sum != p.broken {
		p.broken = sum
		processMetrics.peerErrors.WithLabelValues(s.pool).Inc()
		m.logger.Error("the record of another instance cannot be read; it is passed over", logPool(s.pool), zap.String("record", key), logError(err))
	}
}

const (
	sweepFirst = time.Hour
	sweepEvery = 24 * time.Hour
)

// sweep removes the records of instances that have not written for so long that
// nothing in them matters. A machine whose clock is wrong might think so of all;
// those that live have been heard by the time of the first sweep.
func (s *sharing) sweep(ctx context.Context, m *poolMeans, now time.Time) error {
	for _, kind := range []string{"facts", "base", "state"} {
		names, err := listInstances(ctx, m.storage, s.folder(kind))
		if err != nil {
			return err
		}
		for _, name := range names {
			key := s.folder(kind) + "/" + name + ".json"
			if p := s.peers[name]; name == s.own() || p != nil && p.live {
				continue
			}
			info, err := m.storage.Stat(ctx, key)
			if err != nil || info.Modified.IsZero() || now.Sub(info.Modified) <= forgetInstance {
				continue
			}
			if err := m.storage.Delete(ctx, key); err != nil {
				return fmt.Errorf("removing %s: %w", key, err)
			}
			delete(s.peers, name)
			m.logger.Info("removed what an instance left behind that has not written for 35 days", logPool(s.pool), zap.String("record", key))
		}
	}
	return nil
}
