package shunt

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

func TestHealth(t *testing.T) {
	b := newFour(t, "hold off\n")
	if r := b.do(http.MethodGet, "/health", "", "X-Api-Key", ""); r.status != 200 || strings.TrimSpace(r.body) != `{"status":"ok"}` {
		t.Errorf("%d %s", r.status, r.body)
	}
	b.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.WindowWeek, Times: -1})
	b.ask(hello)
	r := b.do(http.MethodGet, "/health", "", "X-Api-Key", "")
	if r.status != 503 || !strings.Contains(r.body, "4 at the weekly limit until") || !strings.Contains(r.body, `"until"`) {
		t.Errorf("%d %s", r.status, r.body)
	}
	empty := newBench(t, fakeclaude.Options{}, "upstream %UPSTREAM%\naccount a {\noauth\nowner *\n}")
	deadline := time.Now().Add(5 * time.Second)
	for r = empty.do(http.MethodGet, "/health", ""); r.status != 503 && time.Now().Before(deadline); r = empty.do(http.MethodGet, "/health", "") {
		time.Sleep(5 * time.Millisecond)
	}
	if !strings.Contains(r.body, "in need of a login") {
		t.Errorf("without a login: %d %s", r.status, r.body)
	}
	if r := b.do(http.MethodPost, "/health", ""); r.status != 405 {
		t.Errorf("POST: %d", r.status)
	}
}

func TestUse(t *testing.T) {
	b := newFour(t, "")
	for _, test := range []struct {
		name, key, body string
		status          int
		says            string
	}{
		{"nobody", "", `{"account":"b"}`, 401, "authentication_error"},
		{"not an admin", bobKey, `{"account":"b"}`, 403, "admin"},
		{"unknown", annKey, `{"account":"z"}`, 404, "expected one of a, b, c, d"},
		{"no JSON", annKey, `account=b`, 400, "not a JSON object"},
		{"no account", annKey, `{}`, 400, "account: missing"},
		{"a number", annKey, `{"account":7}`, 400, "account: not a string"},
		{"empty", annKey, `{"account":""}`, 400, "account: empty"},
		{"pin", annKey, `{"account":"b"}`, 200, `"pinned":"b"`},
	} {
		if r := b.do(http.MethodPost, "/use", test.body, "X-Api-Key", "", "X-Api-Key", test.key); r.status != test.status || !strings.Contains(r.body, test.says) {
			t.Errorf("%s: %d %s", test.name, r.status, r.body)
		}
	}
	for range 5 {
		if r := b.ask(hello); r.header.Get("X-Shunt-Account") != "b" {
			t.Errorf("pinned to b, served by %s", r.header.Get("X-Shunt-Account"))
		}
	}
	for _, unpin := range []string{`{"account":"auto"}`, `{"account":null}`} {
		b.h.live.state.Pin("b")
		if r := b.do(http.MethodPost, "/use", unpin); r.status != 200 || b.h.live.state.Pinned() != "" {
			t.Errorf("%s: %d %s", unpin, r.status, r.body)
		}
	}
}

// originalFields are what monitors of the original read from /status.
var originalFields = map[string][]string{
	"": {"version", "started_ms", "accounts", "pinned", "last_used", "pinned_account", "last_used_account", "recent_requests"},
	"account": {
		"name", "email", "plan", "plan_type", "status", "available", "disabled", "auth_failed", "cooldown_until_ms", "utilization_5h", "reset_5h",
		"total_tokens", "window_expires_ms", "tokens_used", "rate_limit",
	},
	"request": {"ts", "account", "model", "status", "input", "output", "duration_ms"},
}

func TestStatus(t *testing.T) {
	b := newFour(t, "")
	b.h.live.state.Pin("c")
	b.ask(hello).mustServe(t, "")
	b.ask(hello, "X-Api-Key", "", "X-Api-Key", bobKey).mustServe(t, "")
	b.mustBeIdle()
	read := func(key string) (status map[string]any) {
		t.Helper()
		r := b.do(http.MethodGet, "/status", "", "X-Api-Key", "", "X-Api-Key", key)
		if err := json.Unmarshal([]byte(r.body), &status); err != nil || r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		if strings.Contains(r.body, "sk-ant") || strings.Contains(r.body, annKey) {
			t.Error("a secret is in the status")
		}
		return status
	}
	admin := read(annKey)
	account := admin["accounts"].([]any)[2].(map[string]any)
	request := admin["recent_requests"].([]any)[0].(map[string]any)
	for part, got := range map[string]map[string]any{"": admin, "account": account, "request": request} {
		for _, field := range originalFields[part] {
			if _, ok := got[field]; !ok {
				t.Errorf("%s has no %s: %v", part, field, got)
			}
		}
	}
	limit := account["rate_limit"].(map[string]any)
	if account["status"] != "available" || limit["utilization_5h"] == nil || limit["reset_7d"] == nil || account["requests"] != 2.0 {
		t.Errorf("account c is %v", account)
	}
	if n := len(admin["recent_requests"].([]any)); n != 2 {
		t.Errorf("the admin sees %d requests", n)
	}
	bobs := read(bobKey)
	if n := len(bobs["recent_requests"].([]any)); n != 1 {
		t.Errorf("bob sees %d requests", n)
	}
	if people := bobs["people"].([]any); len(people) != 1 || people[0].(map[string]any)["name"] != "bob" {
		t.Errorf("bob sees the usage of %v", people)
	}
	if r := b.do(http.MethodGet, "/status", "", "X-Api-Key", ""); r.status != 401 {
		t.Errorf("nobody: %d", r.status)
	}
}
