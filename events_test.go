package shunt

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude/fctest"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// TestLoginEvents: what happens to a login is told to a true subscriber, with its
// account and without a secret.
func TestLoginEvents(t *testing.T) {
	access, refresh := "sk-ant-oat01-main", "sk-ant-ort01-main"
	fake, upstream := fctest.Start(t, fakeclaude.Options{Accounts: []fakeclaude.Account{{Name: "main", AccessToken: access, RefreshToken: refresh}}})
	root := t.TempDir()
	putLogin(t, root, "told", "main", access, refresh, nil)
	s := begin(t, "told", root, "account main {\noauth {\ntoken_url "+upstream+"/v1/oauth/token\n}\nowner *\n}")
	source := s.account("main").source
	used, err := source.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := processCounter(t, "told", "ok")
	fresh, err := source.Refresh(t.Context(), used)
	if err != nil {
		t.Fatal(err)
	}
	data := s.sink.await(t, eventTokenRefreshed, "told", 1)
	if data["account"] != "main" || data["record"] != credentialKey("told", "main") || data["expires"] != rfc3339(fresh.Expires()) {
		t.Errorf("refreshed: %v", data)
	}
	if got := processCounter(t, "told", "ok"); got != before+1 {
		t.Errorf("the metric counts %v refreshes, before %v", got, before)
	}

	putLogin(t, root, "told", "main", "sk-ant-oat01-new", "sk-ant-ort01-new", nil)
	if err := s.account("main").login.source.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.sink.await(t, eventLoginAdopted, "told", 1)

	fake.Revoke("main")
	if used, err = source.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Refresh(t.Context(), used); err == nil {
		t.Fatal("a login that is not known was refreshed")
	}
	data = s.sink.await(t, eventLoginRequired, "told", 1)
	if reason, _ := data["reason"].(string); !strings.Contains(reason, "no longer accepts") {
		t.Errorf("required: %v", data)
	}
	if got := processCounter(t, "told", "login_required"); got != 1 {
		t.Errorf("the metric counts %v required logins", got)
	}
	newAccess, newRefresh := fake.Tokens("main")
	s.sink.set(func(sink *eventSink) {
		for _, e := range sink.seen {
			for _, secret := range []string{access, refresh, newAccess, newRefresh, "sk-ant-"} {
				if secret != "" && strings.Contains(fmt.Sprintf("%+v", e.Data), secret) {
					t.Errorf("a secret is in %s: %v", e.Name(), e.Data)
				}
			}
		}
	})
}

// TestFederationEvents: those of a federation are told as those of a login.
func TestFederationEvents(t *testing.T) {
	_, upstream := fctest.Start(t, fakeclaude.Options{Accounts: workloads()})
	s := begin(t, "federated", t.TempDir(), federationBlock(upstream, assertion(t, `{}`)))
	if data := s.sink.await(t, eventTokenRefreshed, "federated", 1); data["account"] != "cluster" || data["expires"] == "" {
		t.Errorf("refreshed: %v", data)
	}
}

// TestEachKindOfLoginEvent: each has its name and its fields.
func TestEachKindOfLoginEvent(t *testing.T) {
	s := begin(t, "kinds", t.TempDir(), "account a {\napi_key sk-ant-api03-aaaa\n}")
	m := s.h.means(nil)
	m.accounts = []string{"a", "b"}
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for typ, name := range loginEvents {
		m.tell(credential.Event{Type: typ, Key: "k", Time: at, Next: at.Add(time.Minute), Reason: "why", Err: credential.ErrClosed})
		s.sink.await(t, name, "kinds", 2)
		all := s.sink.of(name, "kinds")
		if all[0]["account"] != "a" || all[1]["account"] != "b" || all[0]["time"] != "2030-01-02T03:04:05Z" || all[0]["next"] != "2030-01-02T03:05:05Z" ||
			all[0]["reason"] != "why" || all[0]["error"] != credential.ErrClosed.Error() || all[0]["expires"] != "" {
			t.Errorf("%s: %v", name, all)
		}
	}
	s.h.sameOrganization("a", "b")
	if data := s.sink.await(t, eventSameOrganization, "kinds", 1); len(data["accounts"].([]string)) != 2 {
		t.Errorf("same organization: %v", data)
	}
}

// TestAccountEvents: an account is benched, the pool is exhausted, and the account
// comes back.
func TestAccountEvents(t *testing.T) {
	s := begin(t, "accounts", t.TempDir(), "account a {\napi_key sk-ant-api03-aaaa\n}\naccount b {\napi_key sk-ant-api03-bbbb\n}")
	soon(t, "the first look", func() bool {
		watchedBenches.mu.Lock()
		defer watchedBenches.mu.Unlock()
		return watchedBenches.told != nil
	})
	bench := func(account string, until time.Time) {
		t.Helper()
		for {
			lease, refused := s.h.group.Pick(&pool.Request{Model: "claude-sonnet-5", Endpoint: anthropic.EndpointMessages})
			if refused != nil {
				t.Fatalf("nobody is open: %+v", refused)
			}
			found := lease.Member.Name == account
			if found {
				lease.Report(&anthropic.Verdict{Name: "account_window", Scope: anthropic.ScopeAccount, Action: anthropic.Next, Until: until, Source: "reset", Reason: "spent", Window: "5h"}, nil)
			}
			lease.End(anthropic.Usage{})
			if found {
				return
			}
		}
	}
	until := time.Now().Add(2500 * time.Millisecond)
	bench("a", until)
	data := s.sink.await(t, eventAccountBenched, "accounts", 1)
	if data["account"] != "a" || data["verdict"] != "account_window" || data["reason"] != "spent" || data["until"] != rfc3339(until) || data["window"] != "5h" || data["family"] != "" {
		t.Errorf("benched: %v", data)
	}
	if n := len(s.sink.of(eventAccountRecovered, "accounts")); n != 0 && time.Now().Before(until) {
		t.Error("it recovered before its time")
	}
	if data = s.sink.await(t, eventAccountRecovered, "accounts", 1); data["account"] != "a" || time.Now().Before(until) {
		t.Errorf("recovered at %v: %v", time.Now(), data)
	}
	if n := len(s.sink.of(eventAccountBenched, "accounts")); n != 1 {
		t.Errorf("the bench was told %d times", n)
	}
}

func TestExhaustedEvent(t *testing.T) {
	fake, upstream := fctest.Start(t, fakeclaude.Options{Accounts: []fakeclaude.Account{{Name: "a", AccessToken: "sk-ant-oat01-aaaa", Plan: fakeclaude.Max5}}})
	s := begin(t, "exhausted", t.TempDir(), "hold off\nupstream "+upstream+"\naccount a {\nsetup_token sk-ant-oat01-aaaa\nowner *\n}")
	b := serveStarted(t, s, fake)
	if r := b.ask(strings.Replace(hello, "claude-sonnet-5", "gpt", 1)); r.status == http.StatusOK {
		t.Fatal("an unknown model was served")
	}
	b.ask(hello).mustServe(t, "while open")
	fake.Spend("a", "5h", 1)
	for range 3 {
		if r := b.ask(hello); r.status != http.StatusTooManyRequests {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
	}
	data := s.sink.await(t, eventPoolExhausted, "exhausted", 1)
	if data["status"] != 429 || data["until"] == "" || !strings.Contains(data["reason"].(string), "account") {
		t.Errorf("exhausted: %v", data)
	}
	s.sink.await(t, eventAccountBenched, "exhausted", 1)
	if n := len(s.sink.of(eventPoolExhausted, "exhausted")); n != 1 {
		t.Errorf("%d events within a minute", n)
	}
	exhaustedTold.Lock()
	exhaustedTold.at["exhausted"] = time.Now().Add(-2 * exhaustedEvery)
	exhaustedTold.Unlock()
	b.ask(hello)
	s.sink.await(t, eventPoolExhausted, "exhausted", 2)
	s.h.emitExhausted(&anthropic.Error{Status: http.StatusBadRequest}, &pool.Refusal{}, time.Now().Add(time.Hour))
	s.h.emit("shunt_test", map[string]any{})
	s.sink.await(t, "shunt_test", "exhausted", 1) // events come in order
	if n := len(s.sink.of(eventPoolExhausted, "exhausted")); n != 2 {
		t.Error("a request at fault was told as an exhausted pool")
	}
}

// TestBudgetEvents: a budget that is used up is told once, of a person and of an
// account.
func TestBudgetEvents(t *testing.T) {
	fake, upstream := fctest.Start(t, fakeclaude.Options{Accounts: fourAccounts()[:1]})
	s := begin(t, "budgets", t.TempDir(), "remote_key ann "+annKey+" {\nbudget 50tokens per day\n}\nremote_key bob "+bobKey+
		"\nhold off\nupstream "+upstream+"\naccount a {\napi_key sk-ant-api03-aaaa\nbudget 150tokens per month\n}")
	b := serveStarted(t, s, fake)
	for range 4 {
		b.ask(hello)
	}
	data := s.sink.await(t, eventBudgetReached, "budgets", 1)
	if data["person"] != "ann" || data["account"] != "" || data["limit"] != "50 tokens per day" || data["period"] != "day" || data["until"] == "" || !strings.HasSuffix(data["used"].(string), " tokens") {
		t.Errorf("of ann: %v", data)
	}
	for range 4 {
		b.ask(hello, "X-Api-Key", "", "X-Api-Key", bobKey)
	}
	if data := s.sink.await(t, eventBudgetReached, "budgets", 2); data["account"] != "a" || data["person"] != "" || data["limit"] != "150 tokens per month" {
		t.Errorf("of the account: %v", data)
	}
	s.h.emit("shunt_test", map[string]any{})
	s.sink.await(t, "shunt_test", "budgets", 1)
	if n := len(s.sink.of(eventBudgetReached, "budgets")); n != 2 {
		t.Errorf("%d events of two budgets", n)
	}
}

// TestEventsNeverBlock: a handler of events that hangs holds up nobody; what does
// not fit is dropped with one line, and the rest goes on when it ends.
func TestEventsNeverBlock(t *testing.T) {
	s := begin(t, "blocked", t.TempDir(), "account a {\napi_key sk-ant-api03-aaaa\n}")
	entered, hang := make(chan struct{}, 10*mostEvents), make(chan struct{})
	s.sink.set(func(sink *eventSink) { sink.each = func(caddy.Event) { entered <- struct{}{}; <-hang } })
	s.h.emit("shunt_test", map[string]any{"n": 0})
	<-entered
	begun := time.Now()
	for n := range 3 * mostEvents {
		s.h.emit("shunt_test", map[string]any{"n": n + 1})
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("emitting took %v", took)
	}
	events.mu.Lock()
	waiting, dropping := len(events.queue), events.dropping
	events.mu.Unlock()
	if waiting != mostEvents || !dropping {
		t.Errorf("%d wait, dropping %v", waiting, dropping)
	}
	close(hang)
	// What other events there are wait in the same queue.
	soon(t, "the queue is told", func() bool { events.mu.Lock(); defer events.mu.Unlock(); return !events.telling })
	got := s.sink.of("shunt_test", "blocked")
	if len(got) < mostEvents-10 || len(got) > mostEvents+1 {
		t.Fatalf("%d were told", len(got))
	}
	for i, data := range got {
		if data["n"] != i {
			t.Fatalf("event %d is number %v: out of order", i, data["n"])
		}
	}
	s.h.emit("shunt_test", map[string]any{"n": -1})
	s.sink.await(t, "shunt_test", "blocked", len(got)+1)
}

func TestEventHandlerThatPanics(t *testing.T) {
	s := begin(t, "panics", t.TempDir(), "account a {\napi_key sk-ant-api03-aaaa\n}")
	s.sink.set(func(sink *eventSink) {
		sink.each = func(e caddy.Event) {
			if e.Data["bad"] == true {
				panic("a bad handler")
			}
		}
	})
	s.h.emit("shunt_test", map[string]any{"bad": true})
	s.h.emit("shunt_test", map[string]any{})
	s.sink.await(t, "shunt_test", "panics", 1)
	if s.logged("a handler of an event panicked") != 1 {
		t.Error("the panic is not in the log")
	}
}

// TestEventsWaitForTheStart: the events app takes subscriptions until all apps have
// started, so nothing is emitted before; what happened meanwhile is told then.
func TestEventsWaitForTheStart(t *testing.T) {
	s, err := tryBegin(t, "early", t.TempDir(), "account a {\napi_key sk-ant-api03-aaaa\n}")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.h.app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	s.h.emit("shunt_test", map[string]any{})
	time.Sleep(50 * time.Millisecond)
	if err := s.events().Start(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.sink.of("shunt_test", "early")); n != 0 {
		t.Error("an event was emitted before the start")
	}
	s.events().Emit(s.ctx, "started", nil)
	s.sink.await(t, "shunt_test", "early", 1)
}

// TestEventsAfterAFailedReload: they go to the configuration that runs on.
func TestEventsAfterAFailedReload(t *testing.T) {
	root := t.TempDir()
	s := begin(t, "reloaded", root, "account a {\napi_key sk-ant-api03-aaaa\n}")
	failed, err := tryBegin(t, "reloaded", root, "account a {\napi_key sk-ant-api03-aaaa\n}")
	if err != nil {
		t.Fatal(err)
	}
	if err := failed.h.app.Start(); err != nil {
		t.Fatal(err)
	}
	s.h.emit("shunt_test", map[string]any{"n": 1}) // another app may still fail to start
	s.sink.await(t, "shunt_test", "reloaded", 1)
	failed.stop()
	s.h.emit("shunt_test", map[string]any{"n": 2})
	s.sink.await(t, "shunt_test", "reloaded", 2)
}

// TestDroppedEventsAreLoggedOnce counts the lines of a row of drops.
func TestDroppedEventsAreLoggedOnce(t *testing.T) {
	q := &emitter{queue: make([]event, mostEvents), telling: true}
	var lines []string
	for range 5 {
		if q.push(event{name: "x"}) {
			lines = append(lines, "dropped")
		}
	}
	q.queue = q.queue[1:]
	if q.push(event{name: "y"}) || len(q.queue) != mostEvents {
		t.Error("an event that fits was dropped")
	}
	if q.push(event{name: "z"}) {
		lines = append(lines, "dropped again")
	}
	if len(lines) != 2 {
		t.Errorf("logged %v", lines)
	}
}
