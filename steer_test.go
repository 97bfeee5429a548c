package shunt

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

func TestSteer(t *testing.T) {
	b := newFour(t, "")
	core, logs := observer.New(zap.InfoLevel)
	b.h.logger = zap.New(core)
	for _, test := range []struct {
		name, key, body string
		status          int
		says            string
	}{
		{"nobody", "", `{"account":"b","action":"drain"}`, 401, "authentication_error"},
		{"not an admin", bobKey, `{"account":"b","action":"drain"}`, 403, "admin"},
		{"unknown account", annKey, `{"account":"z","action":"drain"}`, 404, "expected one of a, b, c, d"},
		{"no account", annKey, `{"action":"drain"}`, 400, "account: missing"},
		{"unknown action", annKey, `{"account":"b","action":"delete"}`, 400, "expected one of bench, drain, refresh, unbench, undrain"},
		{"no JSON", annKey, `account=b`, 400, "not a JSON object"},
		{"an unknown field", annKey, `{"account":"b","action":"bench","until_then":"1h"}`, 400, "unknown field"},
		{"a number", annKey, `{"account":7,"action":"bench"}`, 400, "account: not a string"},
		{"a time that is none", annKey, `{"account":"b","action":"bench","for":"soon"}`, 400, "for: "},
		{"a time that has gone", annKey, `{"account":"b","action":"bench","for":"-1h"}`, 400, "for: "},
		{"a time without end", annKey, `{"account":"b","action":"bench","for":"9999d"}`, 400, "drain it"},
		{"a drain with an end", annKey, `{"account":"b","action":"drain","for":"1h"}`, 400, "for: only a bench"},
		{"a reason for nothing", annKey, `{"account":"b","action":"undrain","reason":"x"}`, 400, "reason: only"},
		{"a long reason", annKey, `{"account":"b","action":"drain","reason":"` + strings.Repeat("x", 201) + `"}`, 400, "reason: longer"},
		{"what cannot be refreshed", annKey, `{"account":"b","action":"refresh"}`, 409, "api key, which is not refreshed"},
		{"nothing to end", annKey, `{"account":"b","action":"unbench"}`, 200, "nothing kept it"},
	} {
		r := b.do(http.MethodPost, "/steer", test.body, "X-Api-Key", "", "X-Api-Key", test.key)
		if r.status != test.status || !strings.Contains(r.body, test.says) {
			t.Errorf("%s: %d %s", test.name, r.status, r.body)
		}
	}
	if n := logs.FilterMessage("an account was steered by hand").Len(); n != 2 {
		t.Errorf("%d entries of what was tried and could not be, or was done", n)
	}
	for _, a := range b.h.group.View().Accounts {
		if len(a.Benches) != 0 {
			t.Errorf("%s is out after requests that were refused", a.Member.Name)
		}
	}
	logs.TakeAll()
	steer := func(body string) {
		t.Helper()
		if r := b.do(http.MethodPost, "/steer", body); r.status != 200 {
			t.Errorf("%s: %d %s", body, r.status, r.body)
		}
	}
	steer(`{"account":"a","action":"drain","reason":"it moves house"}`)
	steer(`{"account":"b","action":"bench","for":"30m"}`)
	steer(`{"account":"c","action":"bench"}`)
	entry := logs.All()[0].ContextMap()
	if entry["by"] != "ann" || entry["account"] != "a" || entry["action"] != "drain" || entry["reason"] != "it moves house" {
		t.Errorf("logged %v", entry)
	}
	for range 4 {
		if r := b.ask(hello); r.header.Get("X-Shunt-Account") != "d" {
			t.Errorf("served by %s", r.header.Get("X-Shunt-Account"))
		}
	}
	status := b.do(http.MethodGet, "/status", "").body
	for path, want := range map[string]string{
		"accounts.0.status": "drained", "accounts.0.drained": "true", "accounts.0.available": "false", "accounts.0.reason": "drained by ann: it moves house", "accounts.0.cooldown_until_ms": "",
		"accounts.0.benches.0.until_ms": "", "accounts.1.status": "cooling", "accounts.1.reason": "benched by ann", "accounts.1.drained": "false", "capacity.accounts": "4", "capacity.open": "1",
	} {
		if got := gjson.Get(status, path).String(); got != want {
			t.Errorf("%s: %q; want %q", path, got, want)
		}
	}
	for account, want := range map[string]time.Duration{"1": 30 * time.Minute, "2": time.Hour} {
		if left := time.Until(time.UnixMilli(gjson.Get(status, "accounts."+account+".cooldown_until_ms").Int())); left > want || left < want-time.Minute {
			t.Errorf("account %s is out for %v; want %v", account, left, want)
		}
	}
	steer(`{"account":"a","action":"undrain"}`)
	steer(`{"account":"b","action":"unbench"}`)
	if body := b.do(http.MethodGet, "/status", "").body; gjson.Get(body, "capacity.open").Int() != 3 || gjson.Get(body, "accounts.0.status").String() != "available" {
		t.Errorf("given back: %s", body)
	}
}

// TestSteerFromElsewhere: a page of another site cannot use what a browser sends by itself.
func TestSteerFromElsewhere(t *testing.T) {
	b := newFour(t, "")
	for path, body := range map[string]string{"/steer": `{"account":"a","action":"drain"}`, "/use": `{"account":"a"}`} {
		for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://elsewhere.example"}} {
			if r := b.do(http.MethodPost, path, body, headers...); r.status != 403 || !strings.Contains(r.body, "another site") {
				t.Errorf("%s with %v: %d %s", path, headers, r.status, r.body)
			}
		}
		if r := b.do(http.MethodPost, path, body, "Sec-Fetch-Site", "same-origin", "Origin", b.url); r.status != 200 {
			t.Errorf("%s from our own page: %d %s", path, r.status, r.body)
		}
	}
}

// TestRefreshByHand: a token is renewed at once, and what fails is told.
func TestRefreshByHand(t *testing.T) {
	file := assertion(t, `{"sub":"pod"}`)
	b := newBench(t, fakeclaude.Options{Accounts: workloads()}, "upstream %UPSTREAM%\n"+federationBlock("%UPSTREAM%", file))
	b.ask(hello).mustServe(t, "before")
	r := b.do(http.MethodPost, "/steer", `{"account":"cluster","action":"refresh"}`)
	if r.status != 409 || !strings.Contains(r.body, "less than 30 seconds ago") {
		t.Errorf("of a new token: %d %s", r.status, r.body)
	}
	asked := &renewable{Source: b.h.accounts[0].source}
	b.stopApp()
	b.h.accounts[0].source = asked
	if r := b.do(http.MethodPost, "/steer", `{"account":"cluster","action":"refresh"}`); r.status != 200 || !strings.Contains(r.body, "it has a new token until") || asked.times != 1 {
		t.Errorf("%d %s, asked %d times", r.status, r.body, asked.times)
	}
}

// renewable is a source whose token is always old enough to be replaced.
type renewable struct {
	credential.Source
	times int
}

func (r *renewable) RenewNow(ctx context.Context) (credential.Credential, error) {
	r.times++
	return r.Get(ctx)
}

// TestStatusTellsPace: windows come with where they should be by now.
func TestStatusTellsPace(t *testing.T) {
	b := newFour(t, "")
	b.h.live.state.Pin("c")
	b.ask(hello).mustServe(t, "through c")
	b.mustBeIdle()
	status := b.do(http.MethodGet, "/status", "").body
	five, week := gjson.Get(status, "accounts.2.windows.5h"), gjson.Get(status, "accounts.2.windows.7d")
	if five.Get("length_s").Int() != 18_000 || week.Get("length_s").Int() != 604_800 {
		t.Errorf("lengths: %s %s", five, week)
	}
	for _, w := range []gjson.Result{five, week} {
		length := time.Duration(w.Get("length_s").Int()) * time.Second
		want := 1 - float64(time.Until(time.UnixMilli(w.Get("reset_ms").Int())))/float64(length)
		if got := w.Get("pace"); got.Type != gjson.Number || got.Float() < want-0.01 || got.Float() > want+0.01 {
			t.Errorf("pace of %s; want %.3f", w, want)
		}
	}
	for path, null := range map[string]bool{"accounts.0.cache_hit_ratio": true, "accounts.2.cache_hit_ratio": false, "capacity.five_hour_left": false, "forecast.dry_ms": true} {
		if got := gjson.Get(status, path); !got.Exists() || (got.Type == gjson.Null) != null {
			t.Errorf("%s: %s", path, got.Raw)
		}
	}
	if words := gjson.Get(status, "forecast.words").String(); words == "" {
		t.Error("no words")
	}
}
