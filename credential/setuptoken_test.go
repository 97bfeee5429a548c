package credential

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const sightingsKey = "shunt/default/credentials/alice.first-seen.json"

// runSetupToken makes a source whose Run ends with the test.
func runSetupToken(t *testing.T, cfg SetupTokenConfig) *SetupToken {
	t.Helper()
	if cfg.Token == nil {
		static, err := Static(KindSetupToken, "sk-ant-oat01-one")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Token = static
	}
	cfg.Key = sightingsKey
	s, err := NewSetupToken(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return s
}

func wantEnd(t *testing.T, s *SetupToken, end time.Time, guessed bool) {
	t.Helper()
	st := s.Status()
	if !st.LoginExpires.Equal(end) || st.LoginExpiresGuessed != guessed || st.Kind != KindSetupToken {
		t.Errorf("ends at %v, guessed %v; want %v, %v", st.LoginExpires, st.LoginExpiresGuessed, end, guessed)
	}
}

func TestSetupTokenOfAKnownDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		made := time.Now().Add(-364 * 24 * time.Hour)
		s := runSetupToken(t, SetupTokenConfig{Storage: st, Made: made})
		wantEnd(t, s, made.Add(365*24*time.Hour), false)
		if s.Status().LastError != "" || len(st.data) != 0 {
			t.Errorf("status %+v, %d records", s.Status(), len(st.data))
		}
		time.Sleep(24 * time.Hour)
		if got := s.Status(); got.LastError != "the setup token has probably ended" || got.LoginRequired {
			t.Errorf("after its end: %+v", got)
		}
		if c, err := s.Get(context.Background()); err != nil || bearer(t, c) != "sk-ant-oat01-one" {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestSetupTokenOfAnUnknownDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		first := time.Now()
		s := runSetupToken(t, SetupTokenConfig{Storage: st})
		wantEnd(t, s, first.Add(365*24*time.Hour), true)
		raw := string(st.data[sightingsKey])
		if !strings.Contains(raw, `"version":1`) || strings.Contains(raw, "sk-ant") || strings.Contains(raw, "one") {
			t.Errorf("stored: %s", raw)
		}
		time.Sleep(12 * time.Hour)
		again := runSetupToken(t, SetupTokenConfig{Storage: st}) // another process
		wantEnd(t, again, first.Add(365*24*time.Hour), true)
	})
}

// TestSetupTokenIsReplaced: a token that takes the place of another is dated anew, and
// Made does not speak of it.
func TestSetupTokenIsReplaced(t *testing.T) {
	for _, made := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			st := newMemStorage()
			k := newFileKey(t, KindSetupToken, "sk-ant-oat01-one")
			cfg := SetupTokenConfig{Storage: st, Token: k.FileSource}
			first := time.Now()
			if made {
				first = first.Add(-24 * time.Hour)
				cfg.Made = first
			}
			s := runSetupToken(t, cfg)
			wantEnd(t, s, first.Add(365*24*time.Hour), !made)
			time.Sleep(12 * time.Hour)
			k.write(t, "sk-ant-oat01-number-two")
			changed := time.Now()
			time.Sleep(time.Minute)
			end := s.Status().LoginExpires.Add(-365 * 24 * time.Hour)
			if end.Before(changed) || end.After(changed.Add(time.Minute)) || !s.Status().LoginExpiresGuessed {
				t.Errorf("the new token is dated %v, want %v", end, changed)
			}
			if !s.Refreshable() {
				t.Error("a 401 is not worth a look into the file")
			}
			k.write(t, "sk-ant-oat01-one") // the old one again
			time.Sleep(time.Minute)
			wantEnd(t, s, first.Add(365*24*time.Hour), !made)
		})
	}
}

func TestSetupTokenStorageFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		broken := errors.New("disk full")
		st.storeFault = func(string, []byte) error { return broken }
		var events eventLog
		s := runSetupToken(t, SetupTokenConfig{Storage: st, OnEvent: events.add})
		time.Sleep(10 * time.Minute)
		wantEnd(t, s, time.Time{}, false)
		if _, err := s.Get(context.Background()); err != nil {
			t.Error(err)
		}
		st.set(func() { st.storeFault = nil })
		time.Sleep(2 * time.Minute)
		if s.Status().LoginExpires.IsZero() || events.String() != "store_failed stored" {
			t.Errorf("events %s, status %+v", &events, s.Status())
		}
	})
}

func TestSetupTokenRecordsThatCannotBeRead(t *testing.T) {
	for text, kept := range map[string]bool{
		"{torn":                        false,
		`{"tokens":{}}`:                false,
		`{"version":2,"more":"later"}`: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			st := newMemStorage()
			st.data[sightingsKey] = []byte(text)
			s := runSetupToken(t, SetupTokenConfig{Storage: st})
			if got := string(st.data[sightingsKey]); (got == text) != kept {
				t.Errorf("%s: the record is now %s", text, got)
			}
			if kept != s.Status().LoginExpires.IsZero() {
				t.Errorf("%s: status %+v", text, s.Status())
			}
			aside := 0
			for key, raw := range st.data {
				if strings.HasPrefix(key, sightingsKey+".corrupt-") && string(raw) == text {
					aside++
				}
			}
			if (aside == 0) != kept {
				t.Errorf("%s: %d copies aside", text, aside)
			}
		})
	}
}

func TestSetupTokenRecordStaysSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newMemStorage()
		k := newFileKey(t, KindSetupToken, "sk-ant-oat01-0")
		s := runSetupToken(t, SetupTokenConfig{Storage: st, Token: k.FileSource})
		for i := range 2 * maxSightings {
			k.write(t, "sk-ant-oat01-"+strings.Repeat("x", i+2))
			time.Sleep(time.Minute)
		}
		all, err := s.load(context.Background())
		if err != nil || len(all) != maxSightings || all[s.Status().Version].IsZero() {
			t.Errorf("%d tokens are dated: %v", len(all), err)
		}
	})
}
