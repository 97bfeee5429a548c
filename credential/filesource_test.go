package credential

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fileKey is a file source whose secret is in file.
type fileKey struct {
	*FileSource
	file   string
	reads  atomic.Int32
	events eventLog
}

func newFileKey(t *testing.T, kind Kind, text string) *fileKey {
	t.Helper()
	k := &fileKey{file: filepath.Join(t.TempDir(), "key")}
	k.write(t, text)
	source, err := NewFileSource(FileConfig{Name: "main", Kind: kind, Files: []string{k.file}, Read: k.read, OnEvent: k.events.add})
	if err != nil {
		t.Fatal(err)
	}
	k.FileSource = source
	return k
}

func (k *fileKey) read() (string, error) {
	k.reads.Add(1)
	raw, err := os.ReadFile(k.file)
	if err == nil && strings.TrimSpace(string(raw)) == "" {
		err = errors.New("the value is empty")
	}
	return string(raw), err
}

func (k *fileKey) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(k.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (k *fileKey) runs(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { k.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
}

func (k *fileKey) want(t *testing.T, key string) Credential {
	t.Helper()
	c, err := k.Get(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	c.Apply(h)
	if got := h.Get("X-Api-Key"); got != key {
		t.Fatalf("the key is %s, want %s", got, key)
	}
	return c
}

func TestFileSourceFollowsItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFileKey(t, KindAPIKey, "key-one\n")
		k.runs(t)
		first := k.want(t, "key-one")
		k.write(t, "key-number-two")
		time.Sleep(2*FilePoll + time.Second)
		synctest.Wait()
		second := k.want(t, "key-number-two")
		if s := k.Status(); s.Version != second.Version() || s.Version == first.Version() || s.Kind != KindAPIKey {
			t.Errorf("status %+v", s)
		}
		// By rename, as Kubernetes and careful people do it; of the same size.
		next := k.file + ".next"
		if err := os.WriteFile(next, []byte("key-number-333"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, k.file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*FilePoll + time.Second)
		synctest.Wait()
		k.want(t, "key-number-333")
		if got := k.events.String(); got != "adopted adopted" {
			t.Errorf("events: %s", got)
		}
	})
}

func TestFileSourceReadsOnlyWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFileKey(t, KindAPIKey, "key-one")
		k.runs(t)
		time.Sleep(time.Hour)
		if n := k.reads.Load(); n > 3 {
			t.Errorf("read %d times in an hour without a change", n)
		}
	})
}

func TestFileSourceWaitsUntilTheWriterIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFileKey(t, KindAPIKey, "key-one")
		k.runs(t)
		time.Sleep(10*FilePoll + time.Second) // between two looks
		for _, torn := range []string{"", "key-n", "key-number-t"} {
			k.write(t, torn)
			time.Sleep(FilePoll)
			synctest.Wait()
			k.want(t, "key-one")
		}
		k.write(t, "key-number-two")
		time.Sleep(2 * FilePoll)
		synctest.Wait()
		k.want(t, "key-number-two")
		if got := k.events.String(); got != "adopted" {
			t.Errorf("events: %s", got)
		}
	})
}

func TestFileSourceKeepsTheSecretWithoutItsFile(t *testing.T) {
	for name, spoil := range map[string]func(k *fileKey) error{
		"missing":  func(k *fileKey) error { return os.Remove(k.file) },
		"empty":    func(k *fileKey) error { return os.WriteFile(k.file, []byte("\n"), 0o600) },
		"a binary": func(k *fileKey) error { return os.WriteFile(k.file, []byte("a\x00b c"), 0o600) },
	} {
		synctest.Test(t, func(t *testing.T) {
			k := newFileKey(t, KindAPIKey, "key-one")
			k.runs(t)
			used := k.want(t, "key-one")
			if err := spoil(k); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			k.want(t, "key-one")
			if _, err := k.Refresh(context.Background(), used); !errors.Is(err, ErrNotRefreshable) {
				t.Errorf("%s: Refresh: %v", name, err)
			}
			if s := k.Status(); s.LastError == "" || s.LoginRequired {
				t.Errorf("%s: status %+v", name, s)
			}
			if got := k.events.String(); got != "refresh_failed" {
				t.Errorf("%s: events: %s", name, got)
			}
			k.write(t, "key-number-two")
			time.Sleep(2*FilePoll + time.Second)
			synctest.Wait()
			k.want(t, "key-number-two")
			if s := k.Status(); s.LastError != "" {
				t.Errorf("%s: after recovery: %+v", name, s)
			}
		})
	}
}

// TestFileSourceFileIsBack: a file that was away and is back as it was is no failure.
func TestFileSourceFileIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFileKey(t, KindAPIKey, "key-one")
		k.runs(t)
		time.Sleep(time.Minute)
		away := k.file + ".away"
		for _, move := range [][2]string{{k.file, away}, {away, k.file}} {
			if err := os.Rename(move[0], move[1]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		if s := k.Status(); s.LastError != "" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestFileSourceReadsAtOnceWhenRefused(t *testing.T) {
	k := newFileKey(t, KindAPIKey, "key-one") // nobody runs it
	used := k.want(t, "key-one")
	if !k.Refreshable() {
		t.Error("a 401 is not worth a look")
	}
	if _, err := k.Refresh(context.Background(), used); !errors.Is(err, ErrNotRefreshable) {
		t.Errorf("Refresh without a change: %v", err)
	}
	k.write(t, "key-number-two")
	var all sync.WaitGroup
	before := k.reads.Load()
	for range 100 {
		all.Go(func() {
			if c, err := k.Refresh(context.Background(), used); err != nil || c.Version() == used.Version() {
				t.Errorf("Refresh: %v", err)
			}
		})
	}
	all.Wait()
	k.want(t, "key-number-two")
	if n := k.reads.Load() - before; n > 3 {
		t.Errorf("%d reads for 100 refusals", n)
	}
}

func TestFileSourceErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	for name, cfg := range map[string]FileConfig{
		"no file":    {Kind: KindAPIKey, Read: func() (string, error) { return "k", nil }},
		"no read":    {Kind: KindAPIKey, Files: []string{file}},
		"wrong kind": {Kind: KindOAuth, Files: []string{file}, Read: func() (string, error) { return "k", nil }},
		"empty":      {Kind: KindAPIKey, Files: []string{file}, Read: func() (string, error) { return "", nil }},
	} {
		if _, err := NewFileSource(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
