package credential

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (s *memStorage) putIntent(t *testing.T, i intent) {
	t.Helper()
	if err := storeIntent(context.Background(), s, intentKey(testKey), i); err != nil {
		t.Fatal(err)
	}
}

func (s *memStorage) intent(t *testing.T) intent {
	t.Helper()
	i, err := loadIntent(context.Background(), s, intentKey(testKey))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func refreshName(token string) string { return fingerprint("refresh", token) }

// TestIntentOfAPausedPeer: a peer that lost the lock in the middle of its exchange
// has the answer in hand. Its token is not spent again while the access token lives,
// and what it stores at last is taken.
func TestIntentOfAPausedPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(5*time.Minute)) // due
		st.putIntent(t, intent{Token: refreshName("refresh-0"), Since: time.Now(), By: "peer"})
		srv := newTokenServer(t, "refresh-0")
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		go o.Run(ctx)
		time.Sleep(intentLife - time.Second)
		wantToken(t, o, "access-0")
		if n := srv.called(); n != 0 {
			t.Fatalf("the token server was asked %d times", n)
		}
		if s := o.Status(); s.LoginRequired || !strings.Contains(s.LastError, "another process") {
			t.Errorf("status %+v", s)
		}
		st.put(t, "access-peer", "refresh-peer", time.Now().Add(8*time.Hour))
		time.Sleep(intentLook + time.Second)
		wantToken(t, o, "access-peer")
		if n := srv.called(); n != 0 {
			t.Errorf("the token server was asked %d times", n)
		}
	})
}

// TestIntentOfADeadPeer: whoever died before the exchange holds nobody up for good.
func TestIntentOfADeadPeer(t *testing.T) {
	for name, since := range map[string]time.Duration{"by our clock": 0, "by a clock ahead of ours": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newMemStorage()
				st.put(t, "access-0", "refresh-0", time.Now().Add(5*time.Minute))
				st.putIntent(t, intent{Token: refreshName("refresh-0"), Since: time.Now().Add(since), By: "peer"})
				srv := newTokenServer(t, "refresh-0")
				o := start(t, Config{Storage: st, Transport: direct{srv}})
				ctx, stop := context.WithCancel(context.Background())
				defer stop()
				go o.Run(ctx)
				time.Sleep(intentLife + 2*intentLook)
				wantToken(t, o, "access-1")
				if i := st.intent(t); i.Token != "" {
					t.Errorf("the intent %+v is left", i)
				}
			})
		})
	}
}

// TestIntentsThatHoldNobodyUp: of a token that is spent, of an exchange that is
// known to be over, and what makes no sense.
func TestIntentsThatHoldNobodyUp(t *testing.T) {
	for name, put := range map[string]func(*testing.T, *memStorage){
		"an older token": func(t *testing.T, st *memStorage) {
			st.putIntent(t, intent{Token: refreshName("refresh-old"), Since: time.Now(), By: "peer"})
		},
		"ended": func(t *testing.T, st *memStorage) {
			st.putIntent(t, intent{Token: refreshName("refresh-0"), Since: time.Now(), By: "peer", Ended: true})
		},
		"nonsense": func(_ *testing.T, st *memStorage) {
			st.set(func() { st.data[intentKey(testKey)] = []byte(`{"version":1,"token":`) })
		},
		"no version": func(_ *testing.T, st *memStorage) {
			raw, _ := json.Marshal(intent{Token: refreshName("refresh-0"), Since: time.Now(), By: "peer"})
			st.set(func() { st.data[intentKey(testKey)] = raw })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newMemStorage()
				st.put(t, "access-0", "refresh-0", time.Now())
				put(t, st)
				srv := newTokenServer(t, "refresh-0")
				wantToken(t, start(t, Config{Storage: st, Transport: direct{srv}}), "access-1")
			})
		})
	}
}

// TestIntentOfANewerVersion: a newer program beside this one may be spending the token,
// also when its note says so in ways that are not known here. It holds nobody up for good.
func TestIntentOfANewerVersion(t *testing.T) {
	for name, note := range map[string]string{
		"with what is known":  `{"version":2,"token":"` + refreshName("refresh-0") + `","since":"2000-01-01T00:00:30Z","by":"peer","more":1}`,
		"with nothing known":  `{"version":2,"who":"peer"}`,
		"with other meanings": `{"version":2,"token":["x"],"since":7,"by":{},"ended":"no"}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(30 * time.Second) // bubbles begin at midnight
				st := newMemStorage()
				st.put(t, "access-0", "refresh-0", time.Now().Add(5*time.Minute)) // due
				st.set(func() { st.data[intentKey(testKey)] = []byte(note) })
				srv := newTokenServer(t, "refresh-0")
				o := start(t, Config{Storage: st, Transport: direct{srv}})
				ctx, stop := context.WithCancel(context.Background())
				defer stop()
				go o.Run(ctx)
				time.Sleep(intentLife - time.Second)
				wantToken(t, o, "access-0")
				if n := srv.called(); n != 0 {
					t.Fatalf("the token server was asked %d times", n)
				}
				time.Sleep(2*intentLook + time.Second)
				wantToken(t, o, "access-1")
			})
		})
	}
}

// TestIntentIsWrittenBeforeTheExchange and says afterwards how it ended.
func TestIntentIsWrittenBeforeTheExchange(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		left   bool
	}{
		"served":         {nil, false},
		"refused":        {answerWith(http.StatusTooManyRequests, "{}"), false},
		"without answer": {answerWith(http.StatusBadGateway, "<html>"), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newMemStorage()
				st.put(t, "access-0", "refresh-0", time.Now())
				srv := newTokenServer(t, "refresh-0")
				srv.script = []http.HandlerFunc{c.answer}
				srv.before = func(int) {
					if i := st.intent(t); i.Token != refreshName("refresh-0") || i.Ended {
						t.Errorf("the intent is %+v", i)
					}
				}
				o := start(t, Config{Storage: st, Transport: direct{srv}})
				_, _ = o.Get(context.Background())
				if i := st.intent(t); c.left != (i.Token != "") || i.Ended != c.left {
					t.Errorf("left is %+v", i)
				}
			})
		})
	}
}

// TestNothingIsSpentWhenStorageCannotBeWritten while the access token lives.
func TestNothingIsSpentWhenStorageCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(5*time.Minute))
		st.set(func() { st.storeFault = func(string, []byte) error { return errors.New("no space left") } })
		srv := newTokenServer(t, "refresh-0")
		var log eventLog
		o := start(t, Config{Storage: st, Transport: direct{srv}, OnEvent: log.add})
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		go o.Run(ctx)
		time.Sleep(4 * time.Minute)
		wantToken(t, o, "access-0")
		if n := srv.called(); n != 0 || !strings.Contains(log.String(), "refresh_failed") {
			t.Fatalf("%d calls, events %q", n, log.String())
		}
		st.set(func() { st.storeFault = nil })
		time.Sleep(backoffStorage + time.Second)
		wantToken(t, o, "access-1")
	})
}

// TestWhoWasPausedDoesNotWriteOverALaterLogin: the lock was lost while the answer was
// on its way, and somebody imported a login meanwhile.
func TestWhoWasPausedDoesNotWriteOverALaterLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now())
		srv := newTokenServer(t, "refresh-0")
		srv.before = func(int) { st.put(t, "access-import", "refresh-import", time.Now().Add(8*time.Hour)) }
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		wantToken(t, o, "access-import")
		if r := st.record(t); r.refresh.reveal() != "refresh-import" {
			t.Error("the imported login was written over")
		}
	})
}

// TestPreviousTokenUntilTheNewOneWorked: a new access token that is refused at first
// costs nothing while the one before it lives.
func TestPreviousTokenUntilTheNewOneWorked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		st.put(t, "access-0", "refresh-0", time.Now().Add(8*time.Minute)) // due
		srv := newTokenServer(t, "refresh-0")
		o := start(t, Config{Storage: st, Transport: direct{srv}})
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		go o.Run(ctx)
		time.Sleep(time.Second)
		fresh := wantToken(t, o, "access-1")
		c, err := o.Refresh(context.Background(), fresh)
		if err != nil || bearer(t, c) != "access-0" {
			t.Fatalf("Refresh: %v", err)
		}
		wantToken(t, o, "access-0")
		// The refused one is replaced when that may help.
		time.Sleep(forcedGap + time.Second)
		wantToken(t, o, "access-2")
		if !o.cur.Load().prev.Load().usable(time.Now()) {
			t.Error("the only token that ever worked was forgotten")
		}
		o.Proved(wantToken(t, o, "access-2"))
		if o.cur.Load().prev.Load() != nil {
			t.Error("the previous token is kept")
		}
		// Once it has worked, the one before is no help.
		if c, err := o.Refresh(context.Background(), o.cur.Load().cred); err == nil && bearer(t, c) == "access-1" {
			t.Error("a token was handed out that is two refreshes old")
		}
	})
}
