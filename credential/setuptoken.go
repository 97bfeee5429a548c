package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"
)

// SetupTokenLife is how long a setup token lives (`claude setup-token`: one year).
const SetupTokenLife = 365 * 24 * time.Hour

const (
	// datePoll is how often Run of a SetupToken sees whether the token is another one.
	datePoll = 5 * time.Second
	// dateRetry is the wait after storage has failed.
	dateRetry = time.Minute
	// maxSightings bounds how many tokens one record dates.
	maxSightings = 16
	// sightingsVersion is the version of the stored form.
	sightingsVersion = 1
)

const probablyEnded = "the setup token has probably ended"

// SetupTokenConfig says what dates a setup token.
type SetupTokenConfig struct {
	// Token gives the token: a StaticSource, or a FileSource whose Run then runs in
	// SetupToken's.
	Token Source
	// Made is when the token was made that Token gives at first; zero when unknown.
	Made time.Time
	// Storage keeps at Key when each token was first seen, by its fingerprint. They
	// are not used while Made says more.
	Storage Storage
	Key     string
	// Clock gives the time; nil means time.Now. Waiting itself is on real timers.
	Clock func() time.Time
	// OnEvent is told EventStoreFailed when the date cannot be kept, once for each
	// row of failures, and EventStored when it is after all.
	OnEvent func(Event)
}

// SetupToken is a setup token whose end is known, or guessed from when it was first
// seen. It is sent whatever the date: the API decides.
type SetupToken struct {
	Source
	cfg    SetupTokenConfig
	dated  string // the Version of the token that Made speaks of
	events teller

	mu      sync.Mutex // guards all below; never held across I/O
	seen    map[string]time.Time
	failing bool
}

// NewSetupToken makes the source. It does no I/O but Token's Status.
func NewSetupToken(cfg SetupTokenConfig) (*SetupToken, error) {
	if cfg.Token == nil || cfg.Storage == nil || cfg.Key == "" {
		return nil, errors.New("making a setup token source: a token, a storage and a key are needed")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	s := &SetupToken{Source: cfg.Token, cfg: cfg, events: teller{to: cfg.OnEvent}, seen: map[string]time.Time{}}
	if !cfg.Made.IsZero() {
		s.dated = cfg.Token.Status().Version
	}
	return s, nil
}

// Status is that of the token, with its end: a year after it was made, or, guessed,
// after it was first seen.
func (s *SetupToken) Status() Status {
	st := s.Source.Status()
	if st.Version == s.dated {
		st.LoginExpires = s.cfg.Made.Add(SetupTokenLife)
	} else if first := s.sighting(st.Version); !first.IsZero() {
		st.LoginExpires, st.LoginExpiresGuessed = first.Add(SetupTokenLife), true
	}
	if st.LastError == "" && !st.LoginExpires.IsZero() && !s.cfg.Clock().Before(st.LoginExpires) {
		st.LastError = probablyEnded
	}
	return st
}

func (s *SetupToken) sighting(version string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[version]
}

// Run keeps what Token keeps, and dates each token that nobody dated, until ctx ends.
func (s *SetupToken) Run(ctx context.Context) {
	var inner sync.WaitGroup
	defer inner.Wait()
	if r, ok := s.Source.(interface{ Run(context.Context) }); ok {
		inner.Go(func() { r.Run(ctx) })
	}
	for {
		wait := datePoll
		if err := s.date(ctx); err != nil && ctx.Err() == nil {
			wait = dateRetry
			s.failed(err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// Close ends Token's source if it needs that.
func (s *SetupToken) Close(ctx context.Context) error {
	if c, ok := s.Source.(interface{ Close(context.Context) error }); ok {
		return c.Close(ctx)
	}
	return nil
}

// date finds out when the token in use was first seen, and keeps it.
func (s *SetupToken) date(ctx context.Context) error {
	version := s.Source.Status().Version
	if version == s.dated || !s.sighting(version).IsZero() {
		return nil
	}
	all, err := s.load(ctx)
	if err != nil {
		return err
	}
	if _, known := all[version]; !known {
		all[version] = s.cfg.Clock().UTC()
		if err := s.store(ctx, all, version); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = all
	if s.failing {
		s.failing = false
		s.events.tell(Event{Type: EventStored, Key: s.cfg.Key, Time: s.cfg.Clock()})
	}
	return nil
}

func (s *SetupToken) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.failing {
		s.failing = true
		now := s.cfg.Clock()
		s.events.tell(Event{Type: EventStoreFailed, Key: s.cfg.Key, Time: now, Next: now.Add(dateRetry), Err: err})
	}
}

// sightings is the stored form: when which token was first seen.
type sightings struct {
	Version int                  `json:"version"`
	Tokens  map[string]time.Time `json:"tokens"`
}

// load reads the record. One that cannot be read is copied aside, and a new one takes
// its place; one of a later version is an error and stays.
func (s *SetupToken) load(ctx context.Context) (map[string]time.Time, error) {
	raw, err := load(ctx, s.cfg.Storage, s.cfg.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]time.Time{}, nil
	}
	if err != nil {
		return nil, err
	}
	var rec sightings
	if err := json.Unmarshal(raw, &rec); err == nil && rec.Version > sightingsVersion {
		return nil, fmt.Errorf("reading %s: it was written by a later version (%d)", s.cfg.Key, rec.Version)
	} else if err != nil || rec.Version < 1 {
		if _, err := setAside(ctx, s.cfg.Storage, s.cfg.Key, raw, s.cfg.Clock()); err != nil {
			return nil, fmt.Errorf("keeping the unreadable record %s: %w", s.cfg.Key, err)
		}
		rec.Tokens = nil
	}
	if rec.Tokens == nil {
		rec.Tokens = map[string]time.Time{}
	}
	return rec.Tokens, nil
}

// store writes the record, without the oldest of too many tokens; the one in use
// stays.
func (s *SetupToken) store(ctx context.Context, all map[string]time.Time, inUse string) error {
	for len(all) > maxSightings {
		others := slices.DeleteFunc(slices.Collect(maps.Keys(all)), func(v string) bool { return v == inUse })
		delete(all, slices.MinFunc(others, func(a, b string) int { return all[a].Compare(all[b]) }))
	}
	raw, err := json.Marshal(sightings{Version: sightingsVersion, Tokens: all})
	if err != nil {
		return fmt.Errorf("encoding %s: %w", s.cfg.Key, err)
	}
	return store(ctx, s.cfg.Storage, s.cfg.Key, raw)
}
