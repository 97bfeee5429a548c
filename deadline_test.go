package shunt

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

func TestEndNear(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for left, want := range map[time.Duration][2]int{
		8 * day: {0, 8}, 7*day + 1: {0, 8}, 7 * day: {1, 7}, 2*day + 1: {1, 3}, 2 * day: {2, 2}, time.Second: {2, 1}, 0: {3, 0}, -9 * day: {3, 0},
	} {
		if stage, days := endNear(now.Add(left), now), daysLeft(now.Add(left), now); stage != want[0] || days != want[1] {
			t.Errorf("%v left: stage %d, %d days; want %v", left, stage, days, want)
		}
	}
	if endNear(time.Time{}, now) != 0 {
		t.Error("an end that is not known is near")
	}
}

func TestDeadlinesAreToldOnce(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	end := now.Add(10 * day)
	var d deadlines
	ref := accountRef{"p", "a"}
	steps := []struct {
		name  string
		after time.Duration
		login string
		end   time.Time
		want  bool
	}{
		{"far", 0, "1", end, false}, {"seven", 3 * day, "1", end, true}, {"again", 3*day + time.Hour, "1", end, false},
		{"moved by a refresh", 3 * day, "1", end.Add(time.Hour), false}, {"and back", 3*day + 2*time.Hour, "1", end, false},
		{"two", 8 * day, "1", end, true}, {"two again", 9 * day, "1", end, false}, {"ended", 10 * day, "1", end, true}, {"ended again", 12 * day, "1", end, false},
		{"new login, far", 12 * day, "2", end.Add(28 * day), false}, {"new login, near", 32 * day, "2", end.Add(28 * day), true},
		{"new login, ended at once", 32 * day, "3", end, true},
		{"another that has ended", 32 * day, "4", end, true},
		{"told to be later", 32 * day, "4", end.Add(60 * day), false}, {"and near again", 64 * day, "4", end.Add(60 * day), true},
	}
	for _, s := range steps {
		status := credential.Status{Login: s.login, LoginExpires: s.end}
		if got := d.news(ref, &status, now.Add(s.after)); got != s.want {
			t.Errorf("%s: news %v, want %v", s.name, got, s.want)
		}
	}
	if !d.news(accountRef{"p", "b"}, &credential.Status{Login: "1", LoginExpires: end}, end) {
		t.Error("another account is taken for the same")
	}
}

func TestLoginWarning(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		s    credential.Status
		want string
	}{
		{credential.Status{Kind: credential.KindOAuth, LoginExpires: now.Add(8 * day)}, ""},
		{credential.Status{Kind: credential.KindOAuth}, ""},
		{credential.Status{Kind: credential.KindOAuth, LoginExpires: now.Add(5 * day)}, "the login ends in 5 days, on 2030-01-06: sign in again and import the login"},
		{credential.Status{Kind: credential.KindOAuth, LoginExpires: now.Add(time.Hour), LoginExpiresGuessed: true}, "the login probably ends within a day, on 2030-01-01: sign in again and import the login"},
		{credential.Status{Kind: credential.KindSetupToken, LoginExpires: now.Add(-day)}, "the setup token ended on 2029-12-31: make a new one with claude setup-token"},
	} {
		if got := loginWarning(&c.s, now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestLoginDeadline: a login that nears its end is told in an event, the log,
// /status and metrics; over a reload it is told no second time.
func TestLoginDeadline(t *testing.T) {
	root := t.TempDir()
	imported := time.Now().Add(-credential.LoginLife + 6*day - time.Hour)
	ends := imported.Add(credential.LoginLife)
	putLogin(t, root, "deadline", "main", "access-main", "refresh-main", func(r *credential.Record) { r.ImportedAt = imported })
	s := begin(t, "deadline", root, oneLogin+"\naccount key {\napi_key sk-ant-api03-aaaa\n}", func(s *started) {
		// The first look at logins comes before the record was read, the next long after.
		if err := s.account("main").login.source.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	data := s.sink.await(t, eventLoginExpiring, "deadline", 1)
	if data["account"] != "main" || data["kind"] != "oauth" || data["days"] != 6 || data["guessed"] != true || data["expires"] != rfc3339(ends) {
		t.Errorf("expiring: %v", data)
	}
	if n := s.logged("the login probably ends in 6 days"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	raw, err := json.Marshal(s.h.status(person{admin: true}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"login_expires_guessed":true`, `"login_warning":"the login probably ends in 6 days`} {
		if strings.Count(string(raw), want) != 1 {
			t.Errorf("/status has not one %s: %s", want, raw)
		}
	}

	gathered := gather(t)
	for name, want := range map[string]float64{
		`caddy_shunt_login_expires_timestamp_seconds{deadline,main,oauth}`: float64(ends.Unix()),
		`caddy_shunt_login_required{deadline,main}`:                        0, `caddy_shunt_login_unsaved{deadline,main}`: 0,
	} {
		if got, ok := gathered[name]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
		}
	}
	if age, since := gathered[`caddy_shunt_login_age_seconds{deadline,main,oauth}`], time.Since(imported).Seconds(); age < since-60 || age > since {
		t.Errorf("the login is %v s old, want %v", age, since)
	}
	if _, ok := gathered[`caddy_shunt_token_expires_timestamp_seconds{deadline,main,oauth}`]; !ok {
		t.Error("no end of the token")
	}
	for name := range gathered {
		if strings.Contains(name, "deadline,key") && (strings.Contains(name, "shunt_login_") || strings.Contains(name, "shunt_token_")) {
			t.Errorf("an API key has %s", name)
		}
	}

	again := begin(t, "deadline", root, oneLogin)
	again.h.app.watchOnce(t)
	if n := len(again.sink.of(eventLoginExpiring, "deadline")); n != 1 {
		t.Errorf("told %d times after a reload", n)
	}
}

// watchOnce lets everything that the app has to tell be told.
func (a *App) watchOnce(t *testing.T) {
	t.Helper()
	eachAccount(a.registered(), func(h *Handler, acct *account) { h.watchLogin(acct, time.Now()) })
	soon(t, "all is told", func() bool {
		events.mu.Lock()
		defer events.mu.Unlock()
		return !events.telling && len(events.queue) == 0
	})
}

// gather scrapes what handlers register, as name{pool,account,kind or result}.
func gather(t *testing.T) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if _, err := registerMetrics(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			values := []string{labels["pool"], labels["account"]}
			if last := labels["kind"] + labels["result"]; last != "" {
				values = append(values, last)
			}
			found[f.GetName()+"{"+strings.Join(values, ",")+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return found
}

// TestLoginRequiredMetric: it is read at the scrape.
func TestLoginRequiredMetric(t *testing.T) {
	s := begin(t, "required", t.TempDir(), oneLogin)
	if _, err := s.account("main").source.Get(context.Background()); err == nil {
		t.Fatal("there is no login, but a credential")
	}
	if got := gather(t)["caddy_shunt_login_required{required,main}"]; got != 1 {
		t.Errorf("the metric is %v", got)
	}
	s.stop()
	for name := range gather(t) {
		if strings.Contains(name, "required,main") && !strings.Contains(name, "_total") {
			t.Errorf("what does not run has %s", name)
		}
	}
}
