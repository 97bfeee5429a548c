package credential

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStoreFailureKeepsServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(time.Hour))
		srv := newTokenServer(t, "refresh-0")
		var log eventLog
		o := start(t, Config{Storage: st, Transport: direct{srv}, OnEvent: log.add})
		c := wantToken(t, o, "access-0")
		st.set(func() {
			st.storeFault = func(_ string, v []byte) error { return fmt.Errorf("disk full while writing %s", v) }
		})
		if _, err := o.Refresh(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		wantToken(t, o, "access-1")
		s := o.Status()
		if !s.Unsaved || !strings.Contains(s.LastError, "disk full") || strings.Contains(s.LastError, "access-1") || strings.Contains(s.LastError, "refresh-1") {
			t.Errorf("status %+v", s)
		}
		// What storage has is older: it must not be taken for a peer's work, nor must
		// its spent refresh token be used again when the next refresh is due.
		if err := o.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		wantToken(t, o, "access-1")
		time.Sleep(8*time.Hour - time.Second)
		wantToken(t, o, "access-2")
		if st.record(t).access.reveal() != "access-0" {
			t.Fatal("the fault did not hold")
		}
		st.set(func() { st.storeFault = nil })
		time.Sleep(2 * saveMax)
		if r := st.record(t); r.access.reveal() != "access-2" || r.refresh.reveal() != "refresh-2" {
			t.Error("the token was not stored later")
		}
		if s := o.Status(); s.Unsaved || s.LastError != "" {
			t.Errorf("status %+v", s)
		}
		if got, want := log.String(), "refreshed store_failed refreshed store_failed stored"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}

		// A second time, with the lock out of order as well.
		down := errors.New("down")
		st.set(func() { st.storeFault = func(string, []byte) error { return down } })
		time.Sleep(8*time.Hour - 3*time.Minute)
		wantToken(t, o, "access-2")
		synctest.Wait()
		// Nothing is spent while storage cannot be written and the token lives.
		wantToken(t, o, "access-2")
		time.Sleep(6 * time.Minute)
		wantToken(t, o, "access-3")
		st.set(func() { st.lockFault = func(context.Context) error { return down } })
		time.Sleep(10 * time.Minute)
		st.set(func() { st.lockFault, st.loadFault = nil, func(string) error { return down } })
		time.Sleep(10 * time.Minute)
		st.set(func() { st.storeFault, st.loadFault = nil, nil })
		time.Sleep(2 * saveMax)
		if r := st.record(t); r.access.reveal() != "access-3" || o.Status().Unsaved {
			t.Error("the second token was not stored later")
		}
	})
}

func TestDeadUnsavedTokenIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now())
		srv := newTokenServer(t, "refresh-0")
		var log eventLog
		o := start(t, Config{Storage: st, Transport: direct{srv}, OnEvent: log.add})
		st.set(func() { st.storeFault = func(string, []byte) error { return errors.New("down") } })
		wantToken(t, o, "access-1")
		srv.set(func() { srv.valid = "another" }) // the login was revoked
		time.Sleep(8 * time.Hour)
		if _, err := o.Get(context.Background()); !errors.Is(err, ErrLoginRequired) {
			t.Errorf("Get: %v", err)
		}
		st.set(func() { st.storeFault = nil })
		time.Sleep(10 * time.Minute)
		if _, err := o.Get(context.Background()); !errors.Is(err, ErrLoginRequired) || srv.called() != 2 {
			t.Errorf("Get: %v after %d calls", err, srv.called())
		}
		if s := o.Status(); s.Unsaved || st.record(t).access.reveal() != "access-0" {
			t.Errorf("status %+v", s)
		}
		if got, want := log.String(), "refreshed store_failed login_required"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

func TestUnsavedTokenDoesNotOverwriteAnUnreadableRecord(t *testing.T) {
	t.Run("deleted", func(t *testing.T) {
		unsavedAndUnreadable(t, func(st *memStorage) { st.set(func() { delete(st.data, testKey) }) })
	})
	t.Run("restored", func(t *testing.T) {
		unsavedAndUnreadable(t, func(st *memStorage) { st.put(t, "access-0", "refresh-0", time.Now()) })
	})
}

func unsavedAndUnreadable(t *testing.T, repair func(*memStorage)) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now())
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "refresh-0")}})
		st.set(func() { st.storeFault = func(string, []byte) error { return errors.New("down") } })
		wantToken(t, o, "access-1")
		st.set(func() { st.storeFault, st.data[testKey] = nil, []byte("broken") })
		time.Sleep(10 * time.Minute)
		raw, err := st.Load(context.Background(), testKey)
		if err != nil || string(raw) != "broken" {
			t.Error("an unreadable record was overwritten")
		}
		wantToken(t, o, "access-1")
		repair(st) // by hand
		time.Sleep(2 * saveMax)
		if o.Status().LoginRequired || st.record(t).access.reveal() != "access-1" {
			t.Errorf("the token was not stored: %+v", o.Status())
		}
	})
}

func TestStoreThatArrivedAfterAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now())
		var log eventLog
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "refresh-0")}, OnEvent: log.add})
		st.set(func() {
			st.storeFault = func(key string, v []byte) error {
				st.set(func() { st.data[key] = v })
				return errors.New("the connection broke")
			}
		})
		wantToken(t, o, "access-1")
		time.Sleep(2 * saveFirst)
		if s := o.Status(); s.Unsaved || s.LastError != "" {
			t.Errorf("status %+v", s)
		}
		if got, want := log.String(), "refreshed store_failed stored"; got != want {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

func TestUnsavedTokenYieldsToAnImport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now())
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "refresh-0")}})
		st.set(func() { st.storeFault = func(string, []byte) error { return errors.New("down") } })
		wantToken(t, o, "access-1")
		st.set(func() { st.storeFault = nil })
		st.put(t, "imported", "refresh-x", time.Now().Add(time.Hour))
		time.Sleep(saveMax)
		wantToken(t, o, "imported")
		if st.record(t).access.reveal() != "imported" || o.Status().Unsaved {
			t.Error("the import was overwritten")
		}
	})
}

func TestCloseSavesWhatIsUnsaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now())
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "refresh-0")}})
		st.set(func() { st.storeFault = func(string, []byte) error { return errors.New("down") } })
		wantToken(t, o, "access-1")
		time.Sleep(10 * time.Minute) // deep in the back-off
		st.set(func() { st.storeFault = nil })
		began := time.Now()
		closeSource(t, o)
		if st.record(t).refresh.reveal() != "refresh-1" || time.Since(began) != 0 {
			t.Errorf("not saved at once on Close (%v)", time.Since(began))
		}
	})
}
