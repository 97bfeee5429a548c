package credential

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLockNames(t *testing.T) {
	// File storage keeps letters, digits and _@.- of a lock name and drops case.
	seen := map[string]string{}
	for _, key := range []string{"shunt/a/b.json", "shunt/ab.json", "shunt/A/b.json", "shunt/a_b.json", "shunt/ü/b.json", "shunt/../b.json"} {
		name := strings.ToLower(lockName(key))
		if !strings.HasPrefix(name, "shunt-lock-") || strings.Trim(strings.Map(func(r rune) rune {
			if strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789_@.-", r) {
				return -1
			}
			return r
		}, name), "") != "" {
			t.Errorf("%q has the lock name %q", key, name)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q share the lock %q", key, other, name)
		}
		seen[name] = key
	}
}

func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		ctx, cancel := context.WithCancel(context.Background())
		unlock, err := lock(ctx, st, "k", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := lock(context.Background(), st, "k", 3*time.Second); !errors.Is(err, errLockWait) || time.Since(began) != 3*time.Second {
			t.Errorf("a held lock: %v after %v", err, time.Since(began))
		}
		short, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		if _, err := lock(short, st, "k", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a held lock and no time: %v", err)
		}
		cancel()
		time.Sleep(2 * time.Minute)
		if held := st.held[lockName("k")]; held.Err() != nil {
			t.Error("the lease is not renewed while the lock is held")
		}
		held := st.held[lockName("k")]
		if err := unlock(); err != nil {
			t.Errorf("unlocking after ctx ended: %v", err)
		}
		if held.Err() == nil {
			t.Error("the renewal goes on after unlocking")
		}
		again, err := lock(context.Background(), st, "k", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := again(); err != nil {
			t.Error(err)
		}
	})
}

// stubborn is a storage whose Lock takes its time and ignores its context.
type stubborn struct{ *memStorage }

func (s stubborn) Lock(ctx context.Context, name string) error {
	time.Sleep(10 * time.Second)
	return s.memStorage.Lock(context.WithoutCancel(ctx), name)
}

func TestLockThatComesTooLateIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := stubborn{newMemStorage()}
		if _, err := lock(context.Background(), st, "k", time.Second); !errors.Is(err, errLockWait) {
			t.Errorf("a late lock: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := lock(ctx, st, "k", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a late lock: %v", err)
		}
		if len(st.held) != 0 {
			t.Error("a late lock was kept")
		}
	})
}

func TestImport(t *testing.T) {
	ctx := context.Background()
	st := newMemStorage()
	rec, err := NewRecord("a1", "r1", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Import(ctx, st, testKey, rec); err != nil {
		t.Fatal(err)
	}
	first := st.record(t)
	if first.access.reveal() != "a1" || first.LoginID == "" || time.Since(first.ImportedAt) > time.Minute {
		t.Errorf("imported: login %q at %v", first.LoginID, first.ImportedAt)
	}
	other, err := NewRecord("a2", "r2", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Import(ctx, st, testKey, other); err != nil {
		t.Fatal(err)
	}
	if second := st.record(t); second.LoginID == first.LoginID || second.access.reveal() != "a2" {
		t.Error("another login has the same name")
	}
	if len(st.lockLog) != 2 || st.lockLog[0] != lockName(testKey) || len(st.held) != 0 {
		t.Errorf("locks %q, %d held", st.lockLog, len(st.held))
	}

	st.data[testKey] = []byte("broken")
	if err := Import(ctx, st, testKey, rec); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for k, v := range st.data {
		if strings.HasPrefix(k, testKey+".corrupt-") && string(v) == "broken" {
			kept++
		}
	}
	if kept != 1 || st.record(t).access.reveal() != "a1" {
		t.Errorf("%d copies of the broken record", kept)
	}

	if err := Import(ctx, st, testKey, Record{}); err == nil {
		t.Error("a record without tokens was imported")
	}
	st.storeFault = func(_ string, v []byte) error { return errors.New("cannot write " + string(v)) }
	if err := Import(ctx, st, testKey, other); err == nil || strings.Contains(err.Error(), `"a2"`) || !strings.Contains(err.Error(), testKey) {
		t.Errorf("a failed store: %v", err)
	}
	if len(st.held) != 0 {
		t.Error("a failed import keeps the lock")
	}
}

func TestSetAsideTakesNoUsedName(t *testing.T) {
	st := newMemStorage()
	now := time.Unix(1785182400, 0)
	for i, want := range []string{"k.corrupt-1785182400", "k.corrupt-1785182400-2", "k.corrupt-1785182400-3"} {
		got, err := setAside(context.Background(), st, "k", []byte{byte(i)}, now)
		if err != nil || got != want || st.data[got][0] != byte(i) {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
}
