package credential

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// FilePoll is how often Run of a FileSource looks at its files by default.
const FilePoll = 2 * time.Second

// FileConfig says what a FileSource works with. Kind, Files and Read are required.
type FileConfig struct {
	// Name is what events call the source.
	Name string
	// Kind is KindAPIKey or KindSetupToken.
	Kind Kind
	// Files are the files that the secret is made of. A change of one of them is
	// what makes Run read the secret again.
	Files []string
	// Read gives the secret as it is now. It fails when a file is missing or empty;
	// its errors must not quote the secret.
	Read func() (string, error)
	// Poll is how often Run looks at the files; 0 means FilePoll.
	Poll time.Duration
	// OnEvent is told EventAdopted when the secret has changed, and
	// EventRefreshFailed once for each row of failures to read it.
	OnEvent func(Event)
}

// FileSource is a credential that somebody else keeps in files and replaces there.
// While the files are missing, empty or cannot be read, the last secret stays in use.
// Run looks at the files; Refresh reads them at once.
type FileSource struct {
	cfg    FileConfig
	cur    atomic.Pointer[Credential]
	flight singleflight.Group
	events teller

	mu sync.Mutex // guards what follows it; held while the files are read
	// last is what the files were like at the last look, and seen what they were like
	// when they were read after having settled; nil when they were not.
	seen, last stamps

	lastErr atomic.Pointer[string] // nil when all is well
}

var _ Source = (*FileSource)(nil)

// NewFileSource reads the secret and makes the source. Its errors are those of Read
// and of Static.
func NewFileSource(cfg FileConfig) (*FileSource, error) {
	if len(cfg.Files) == 0 || cfg.Read == nil {
		return nil, errors.New("making a file source: files and a way to read them are needed")
	}
	if cfg.Poll <= 0 {
		cfg.Poll = FilePoll
	}
	s := &FileSource{cfg: cfg, events: teller{to: cfg.OnEvent}}
	cred, err := s.read()
	if err != nil {
		return nil, err
	}
	s.cur.Store(&cred)
	return s, nil
}

func (s *FileSource) read() (Credential, error) {
	text, err := s.cfg.Read()
	if err != nil {
		return Credential{}, err
	}
	static, err := Static(s.cfg.Kind, text)
	if err != nil {
		return Credential{}, err
	}
	return static.cred, nil
}

// Get returns the credential as last read.
func (s *FileSource) Get(context.Context) (Credential, error) { return *s.cur.Load(), nil }

// Refresh reads the files now and returns the credential if it is another one than
// used. It fails with ErrNotRefreshable when it is not, or when the files cannot be
// read.
func (s *FileSource) Refresh(ctx context.Context, used Credential) (Credential, error) {
	if c := *s.cur.Load(); c.version != used.version {
		return c, nil
	}
	select {
	case <-s.flight.DoChan("", func() (any, error) { s.look(true); return nil, nil }):
	case <-ctx.Done():
		return Credential{}, fmt.Errorf("waiting for a secret to be read: %w", ctx.Err())
	}
	if c := *s.cur.Load(); c.version != used.version {
		return c, nil
	}
	return Credential{}, ErrNotRefreshable
}

// Proved does nothing.
func (s *FileSource) Proved(Credential) {}

// Refreshable returns true: the files may have another secret by now.
func (s *FileSource) Refreshable() bool { return true }

// Status tells what the secret is called, and why it could not be read last.
func (s *FileSource) Status() Status {
	c := s.cur.Load()
	st := Status{Kind: c.kind, Version: c.version, Login: c.version}
	if e := s.lastErr.Load(); e != nil {
		st.LastError = *e
	}
	return st
}

// Run reads the files at the start, and again whenever they have changed and then
// stayed the same from one look to the next: who writes a file in steps is given the
// time to end. It blocks until ctx ends.
func (s *FileSource) Run(ctx context.Context) {
	s.look(true)
	tick := time.NewTicker(s.cfg.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.look(false)
		}
	}
}

// Close does nothing: there is nothing to end.
func (s *FileSource) Close(context.Context) error { return nil }

// look reads the secret again: if now is set in any case, else when the files have
// changed since they were last read and not since the last look.
func (s *FileSource) look(now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := stampsOf(s.cfg.Files)
	settled := found.same(s.last)
	s.last = found
	if !now && (!settled || found.same(s.seen)) {
		return
	}
	s.seen = nil
	if err := found.missing(); err != nil {
		s.failed(err)
		return
	}
	if settled && !now {
		// What is read right after a change may be changed again within the precision
		// of the file's time, so only this counts as read.
		s.seen = found
	}
	cred, err := s.read()
	if err != nil {
		s.failed(err)
		return
	}
	s.lastErr.Store(nil)
	if cred.version == s.cur.Load().version {
		return
	}
	s.cur.Store(&cred)
	s.events.tell(Event{Type: EventAdopted, Key: s.cfg.Name, Time: time.Now()})
}

// failed notes that the secret could not be read. The first failure of a row is told.
// The caller holds mu.
func (s *FileSource) failed(err error) {
	text := err.Error()
	if s.lastErr.Swap(&text) == nil {
		s.events.tell(Event{Type: EventRefreshFailed, Key: s.cfg.Name, Time: time.Now(), Err: err})
	}
}

// stamps tell versions of files apart without reading them.
type stamps []stamp

type stamp struct {
	info os.FileInfo // nil when err is set
	err  error
}

func stampsOf(files []string) stamps {
	list := make(stamps, len(files))
	for i, name := range files {
		list[i].info, list[i].err = os.Stat(name)
	}
	return list
}

// same reports whether nothing has changed, as far as times, sizes and the files'
// identities tell.
func (s stamps) same(other stamps) bool {
	if len(s) != len(other) {
		return false
	}
	for i := range s {
		a, b := s[i].info, other[i].info
		if a == nil || b == nil {
			if a != b {
				return false
			}
			continue
		}
		if !os.SameFile(a, b) || a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()) {
			return false
		}
	}
	return true
}

// missing is why a file is not there.
func (s stamps) missing() error {
	for i := range s {
		if s[i].err != nil {
			return s[i].err
		}
	}
	return nil
}
