package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// recordsOf lays the records of a release into the site's storage. Their day becomes
// today, since books are kept for some days only.
func (s *site) recordsOf(folder string, change func(path, text string) string) {
	s.t.Helper()
	today := time.Now().Format(time.DateOnly)
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		to := filepath.Join(s.home, "data", "caddy", strings.ReplaceAll(inside, "2026-11-24", today))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		return os.WriteFile(to, []byte(change(inside, strings.ReplaceAll(string(data), "2026-11-24", today))), 0o600)
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func releases(t *testing.T) []string {
	t.Helper()
	folders, err := filepath.Glob("testdata/records/v*")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no records: %v", err)
	}
	return folders
}

// TestRecordsOfReleases: an upgrade loses nothing of what any release has written.
func TestRecordsOfReleases(t *testing.T) {
	for _, folder := range releases(t) {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
			s := newSite(t, up, global+loginsBlock, secrets...)
			s.recordsOf(folder, func(_, text string) string { return text })
			s.start()
			if tokens, requests := s.tokensOf(""); tokens != 631 || requests != 6 {
				t.Errorf("%d tokens in %d requests are in the books", tokens, requests)
			}
			if pinned := s.status(annKey)["pinned"]; pinned != "main" {
				t.Errorf("pinned is %v", pinned)
			}
			if got := s.answeredBy(); got != "main" {
				t.Errorf("%s answered, not the login", got)
			}
			for line := range strings.Lines(s.logs()) {
				if strings.Contains(line, "cannot be read") || strings.Contains(line, "set_aside") {
					t.Error(line)
				}
			}
		})
	}
}

// TestRecordsOfLaterVersions: a downgrade destroys nothing that it cannot read, and says
// so.
func TestRecordsOfLaterVersions(t *testing.T) {
	for _, folder := range releases(t) {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
			s := newSite(t, up, global+loginsBlock, secrets...)
			written := make(map[string]string)
			s.recordsOf(folder, func(path, text string) string {
				if strings.Contains(path, "/state/") || strings.Contains(path, "/credentials/") {
					text = strings.Replace(strings.Replace(text, `"version":1`, `"version":99`, 1), `"version":2`, `"version":99`, 1)
					written[path] = text
				}
				return text
			})
			s.start()
			if got := s.answeredBy(); got != "spare" {
				t.Errorf("%s answered, with a login that cannot be read", got)
			}
			time.Sleep(2500 * time.Millisecond) // the state is written every two seconds
			s.stop()
			for path, text := range written {
				if !s.stored(path, text) {
					t.Errorf("%s is not there any more", path)
				}
			}
			if log := s.logs(); !strings.Contains(log, "it was set aside") || !strings.Contains(log, "99 is not known") {
				t.Errorf("the log does not say so:\n%s", log)
			}
			if a := up.Requests(); len(a) == 0 || a[0].Header.Get("Authorization") != "" {
				t.Errorf("upstream saw %d requests", len(a))
			}
		})
	}
}

// stored reports whether a record has this text, at its place or set aside beside it.
func (s *site) stored(path, text string) bool {
	found, _ := filepath.Glob(filepath.Join(s.home, "data", "caddy", path) + "*")
	for _, file := range found {
		if data, err := os.ReadFile(file); err == nil && string(data) == text {
			return true
		}
	}
	return false
}
