package credential

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// running makes a source in a bubble whose Run ends with the test.
func running(t *testing.T, cfg Config) *OAuth {
	t.Helper()
	o := start(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { o.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return o
}

func TestRunRefreshesAheadWhenIdle(t *testing.T) {
	for _, r := range []float64{0, 0.5, 0.999} {
		synctest.Test(t, func(t *testing.T) {
			st := newMemStorage()
			st.put(t, "access-0", "refresh-0", time.Now().Add(time.Hour))
			srv := newTokenServer(t, "refresh-0")
			var at []time.Time
			srv.before = func(int) { at = append(at, time.Now()) }
			began := time.Now()
			running(t, Config{Storage: st, Transport: direct{srv}, Rand: func() float64 { return r }})
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			ahead := func(lead time.Duration) time.Duration { return lead + time.Duration(float64(lead)/4*r) }
			want := began.Add(time.Hour - ahead(10*time.Minute)) // an hour: ten minutes ahead
			for i := range 4 {
				if !at[i].Equal(want) {
					t.Errorf("refresh %d after %v, want %v", i, at[i].Sub(began), want.Sub(began))
				}
				want = at[i].Add(8*time.Hour - ahead(80*time.Minute)) // eight hours: a sixth
			}
			if st.record(t).access.reveal() != "access-4" || len(at) != 4 {
				t.Errorf("%d refreshes in a day", len(at))
			}
		})
	}
}

func TestDueAt(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	rec := func(refreshed, expires time.Duration) Record {
		r, err := NewRecord("a", "r", now.Add(expires))
		if err != nil {
			t.Fatal(err)
		}
		r.RefreshedAt = now.Add(refreshed)
		return r
	}
	for _, tc := range []struct {
		rec  Record
		r    float64
		want time.Duration
	}{
		{rec(0, 8*time.Hour), 0, 8*time.Hour - 80*time.Minute},
		{rec(-7*time.Hour, time.Hour), 0, -20 * time.Minute},
		{rec(0, time.Hour), 0, 50 * time.Minute},
		{rec(0, 10*time.Minute), 0, 5 * time.Minute},
		{rec(0, time.Minute), 0, 30 * time.Second},
		{rec(0, time.Minute), 0.9999, 22*time.Second + 500*time.Millisecond},
		{rec(time.Hour, 2*time.Hour), 0, 100 * time.Minute}, // refreshed by a peer whose clock is ahead
		{rec(0, -time.Hour), 0, -time.Hour},
	} {
		got := dueAt(tc.rec, now, tc.r).Sub(now)
		if d := got - tc.want; d < -10*time.Millisecond || d > 10*time.Millisecond {
			t.Errorf("due in %v, want %v", got, tc.want)
		}
	}
	imported := rec(0, time.Minute)
	imported.RefreshedAt = time.Time{}
	if l := (&live{due: dueAt(imported, now, 0)}); !l.dueBy(now) {
		t.Error("an import with a minute left is not due")
	}
	without, err := NewRecord("a", "", now)
	if err != nil {
		t.Fatal(err)
	}
	if !dueAt(without, now, 0).IsZero() {
		t.Error("without a refresh token a refresh is due")
	}
}

func TestRunTriesAgainAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(time.Hour))
		srv := newTokenServer(t, "refresh-0")
		srv.script = []http.HandlerFunc{answerWith(500, ""), answerWith(500, ""), answerWith(500, "")}
		o := running(t, Config{Storage: st, Transport: direct{srv}, Rand: func() float64 { return 0 }})
		time.Sleep(50*time.Minute + 34*time.Second)
		if n := srv.called(); n != 3 {
			t.Errorf("%d calls, want 3", n)
		}
		time.Sleep(2 * time.Second)
		wantToken(t, o, "access-1")
	})
}

func TestRunFindsWhatOthersWrote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		o := running(t, Config{Storage: st, Transport: direct{newTokenServer(t, "")}})
		if !o.Status().LoginRequired {
			t.Error("no login is required although there is none")
		}
		st.put(t, "first", "r1", time.Now().Add(8*time.Hour))
		time.Sleep(pollLogin)
		synctest.Wait()
		if s := o.Status(); s.LoginRequired {
			t.Errorf("the import was not found: %+v", s)
		}
		wantToken(t, o, "first")
		st.put(t, "second", "r2", time.Now().Add(8*time.Hour))
		time.Sleep(pollEvery)
		synctest.Wait()
		wantToken(t, o, "second")
	})
}

func TestRunPeersShareTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(8*time.Hour))
		srv := newTokenServer(t, "refresh-0")
		srv.before = func(int) { time.Sleep(3 * time.Second) }
		var peers []*OAuth
		for range 5 {
			peers = append(peers, running(t, Config{Storage: st, Transport: direct{srv}, Rand: func() float64 { return 0 }}))
		}
		time.Sleep(7*24*time.Hour + time.Minute)
		synctest.Wait()
		// An eight-hour token is replaced every 6 h 40 min.
		if n := srv.granted(); n != 25 {
			t.Errorf("%d refreshes in a week, want 25", n)
		}
		for _, o := range peers {
			wantToken(t, o, "access-25")
		}
	})
}

func TestRunDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now())
		loads := 0
		st.loadFault = func(string) error { loads++; return errors.New("down") }
		running(t, Config{Storage: st, Transport: direct{newTokenServer(t, "refresh-0")}})
		time.Sleep(time.Hour)
		synctest.Wait()
		if loads > 400 || loads < 60 {
			t.Errorf("%d loads in an hour of broken storage", loads)
		}
	})
}

func TestRunEndsWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(time.Hour))
		o := start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "refresh-0")}})
		done := make(chan struct{})
		go func() { o.Run(context.Background()); close(done) }()
		synctest.Wait()
		closeSource(t, o)
		<-done
	})
}

func TestInjectedClock(t *testing.T) {
	st := newMemStorage()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	st.put(t, "access-0", "refresh-0", now.Add(time.Hour))
	srv := newTokenServer(t, "refresh-0")
	o := networked(t, srv, Config{Storage: st, Clock: func() time.Time { return now }})
	wantToken(t, o, "access-0")
	now = now.Add(time.Hour - 10*time.Second)
	if c := wantToken(t, o, "access-1"); !c.Expires().Equal(now.Add(8 * time.Hour)) {
		t.Errorf("expires %v", c.Expires())
	}
}

func TestEventsMayUseTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "dead", time.Now())
		var o *OAuth
		seen := make(chan Event, 10)
		o = start(t, Config{Storage: st, Transport: direct{newTokenServer(t, "refresh-0")}, OnEvent: func(e Event) {
			_ = o.Status()
			_, _ = o.Get(context.Background())
			_, _ = o.Refresh(context.Background(), Credential{})
			_ = o.Reload(context.Background())
			seen <- e
		}})
		if _, err := o.Get(context.Background()); !errors.Is(err, ErrLoginRequired) {
			t.Fatalf("Get: %v", err)
		}
		e := <-seen
		if e.Type != EventLoginRequired || e.Key != testKey || e.Reason == "" || !e.Time.Equal(time.Now()) {
			t.Errorf("event %+v", e)
		}
	})
}
