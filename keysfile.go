package shunt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"
)

// keysFile is the file of keys and people beside the configuration. What it says
// counts as if it stood in the block, and is read again when it changes.
type keysFile struct {
	path string

	mu sync.Mutex // guards all below; only one at a time reads the file
	// look is how the file was found last, read how it was when it was read. It is
	// read once two looks find the same: until then it may be half written.
	look, read stamp
	failing    string // what was last found wrong, told once
}

// mostKeysFile bounds the size of a file of keys in bytes: about 100,000 keys.
const mostKeysFile = 16 << 20

// keysWords are the words of a file of keys.
var keysWords = map[string]func(*Handler, *caddyfile.Dispenser) error{
	"remote_key": parseRemoteKeyInto,
	"person":     parsePersonInto,
}

// parseKeys reads the text of a file of keys: the words remote_key and person, as in
// the block. Errors name file and line.
func parseKeys(name string, text []byte) ([]*RemoteKey, []*Person, error) {
	tokens, err := caddyfile.Tokenize(text, name)
	if err != nil && !errors.Is(err, io.EOF) { // there is nothing in it
		return nil, nil, fmt.Errorf("reading %s: %w", name, err)
	}
	d, h := caddyfile.NewDispenser(tokens), new(Handler)
	line := 0
	for d.Next() {
		word := d.Val()
		if d.Line() == line {
			return nil, nil, d.Errf("unexpected %q; expected a line for each remote_key and person", word)
		}
		read, known := keysWords[word]
		if !known {
			return nil, nil, d.Errf("unknown word %q; expected person or remote_key", word)
		}
		if err := read(h, d); err != nil {
			return nil, nil, err
		}
		line = d.Line()
	}
	if d.Nesting() != 0 {
		return nil, nil, d.Err("unexpected end of file; expected }")
	}
	return h.RemoteKeys, h.People, nil
}

// load reads the file.
func (f *keysFile) load() ([]*RemoteKey, []*Person, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > mostKeysFile {
		return nil, nil, fmt.Errorf("reading %s: it has %d bytes; expected at most %d", f.path, info.Size(), mostKeysFile)
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, nil, err
	}
	f.look = stamp{info.ModTime(), info.Size()}
	f.read = f.look
	return parseKeys(f.path, text)
}

// changed reports whether the file is another one than was read, and no longer
// being written.
func (f *keysFile) changed() (bool, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		f.look, f.read = stamp{}, stamp{} // once it is back it is read
		return false, err
	}
	now := stamp{info.ModTime(), info.Size()}
	settled := now == f.look
	f.look = now
	return settled && now != f.read, nil
}

// openRoster makes the roster of the configuration and of the file of keys, if there
// is one.
func (h *Handler) openRoster() error {
	h.roster = new(atomic.Pointer[roster])
	var keys []*RemoteKey
	var persons []*Person
	if h.KeysFile != "" {
		path, err := resolve("keys", h.KeysFile)
		if err != nil {
			return err
		}
		if path, err = filepath.Abs(path); err != nil {
			return fmt.Errorf("keys: finding %s: %w", path, err)
		}
		h.keysFile = &keysFile{path: path}
		if keys, persons, err = h.keysFile.load(); err != nil {
			return fmt.Errorf("keys: %w", err)
		}
	}
	return h.enroll(keys, persons)
}

// enroll makes a roster of the configuration's people and these.
func (h *Handler) enroll(keys []*RemoteKey, persons []*Person) error {
	r, err := newRoster(append(h.RemoteKeys[:len(h.RemoteKeys):len(h.RemoteKeys)], keys...), append(h.People[:len(h.People):len(h.People)], persons...), h.zone)
	if err != nil {
		return err
	}
	h.roster.Store(r)
	return nil
}

// watchKeys takes over the file of keys if it has changed. While it cannot be read,
// or is wrong, the people stay who they were.
func (h *Handler) watchKeys() {
	f := h.keysFile
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	changed, err := f.changed()
	if err == nil && !changed {
		return
	}
	before := h.roster.Load()
	if err == nil {
		var keys []*RemoteKey
		var persons []*Person
		if keys, persons, err = f.load(); err == nil {
			err = h.enroll(keys, persons)
		}
	}
	if err != nil {
		if f.failing != err.Error() {
			f.failing = err.Error()
			h.logger.Error("the file of keys is not as it should be; people stay who they were", zap.String("file", f.path), logError(err))
		}
		return
	}
	f.failing = ""
	h.logger.Info("the file of keys was read again and is in use", zap.String("file", f.path), zap.Int("keys", len(h.roster.Load().keys)), zap.Int("keys_before", len(before.keys)))
}
