package credential

import (
	"errors"
	"path/filepath"
)

// Following makes the record of a login that somebody else refreshes: it holds no
// token, only the absolute path of the credentials file where they are.
func Following(path string) (Record, error) {
	if !filepath.IsAbs(path) {
		return Record{}, errors.New("following a credentials file: its path is not absolute")
	}
	return Record{Follow: filepath.Clean(path)}, nil
}
