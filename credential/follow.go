package credential

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// followLook is how often a followed file is read.
const followLook = 10 * time.Second

// Following makes the record of a login that somebody else refreshes: the access
// token is read from the credentials file at path, which must be absolute, and is
// never refreshed here. The record itself holds no token.
func Following(path string) (Record, error) {
	if !filepath.IsAbs(path) {
		return Record{}, errors.New("following a credentials file: the path is not absolute")
	}
	return Record{Follow: filepath.Clean(path)}, nil
}

// follow takes note of what the file holds that the record names. While a token is
// in use that still lives, a file that cannot be read, since it is just being
// written or is gone, is only noted. The caller holds slot.
func (o *OAuth) follow(rec Record, print string) error {
	raw, err := readFollowed(rec.Follow)
	var theirs Record
	if err == nil {
		theirs, err = ParseClaudeCode(raw)
	}
	if err == nil && theirs.access.empty() {
		err = errors.New("it has no access token")
	}
	if err != nil {
		err = fmt.Errorf("reading the login that is followed, %s: %w", rec.Follow, err)
		if o.cur.Load().usable(o.cfg.Clock()) {
			o.note(err)
			return nil
		}
		o.requireLogin(print, err.Error())
		return nil
	}
	theirs.refresh = secret{}
	theirs.Follow, theirs.LoginID, theirs.ImportedAt = rec.Follow, rec.LoginID, rec.ImportedAt
	o.accept(theirs, fingerprint(print, string(raw)))
	return nil
}

func followedEnded(file string) error {
	return fmt.Errorf("the access token in %s has ended, and whoever uses that login has not refreshed it", file)
}

func readFollowed(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the file that the operator named at the import
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	return io.ReadAll(io.LimitReader(f, maxRecord+1))
}
