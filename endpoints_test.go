package shunt

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

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
		{"neither", annKey, `{}`, 400, "account, policy: missing"},
		{"a number", annKey, `{"account":7}`, 400, "account: not a string"},
		{"empty", annKey, `{"account":""}`, 400, "account: empty"},
		{"an unknown policy", annKey, `{"policy":"z"}`, 404, `policy: \"z\" is not known in this pool; expected one of balanced, fill_first, least_used, round_robin, soonest_reset, or auto`},
		{"a policy that is a number", annKey, `{"policy":7}`, 400, "policy: not a string"},
		{"a policy that is empty", annKey, `{"policy":""}`, 400, "policy: empty"},
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

// TestUsePolicy: the policy is switched, alone or with the pin, and given back.
func TestUsePolicy(t *testing.T) {
	b := newFour(t, "policy least_used\n")
	for _, test := range []struct {
		body           string
		status         int
		pinned, policy string // that hold afterwards
	}{
		{`{"policy":"round_robin"}`, 200, "", "round_robin"},
		{`{"account":"b"}`, 200, "b", "round_robin"},
		{`{"account":"c","policy":"nonsense"}`, 404, "b", "round_robin"},
		{`{"account":"z","policy":"fill_first"}`, 404, "b", "round_robin"},
		{`{"account":7,"policy":"fill_first"}`, 400, "b", "round_robin"},
		{`{"account":"c","policy":7}`, 400, "b", "round_robin"},
		{`{"account":"c","policy":"fill_first"}`, 200, "c", "fill_first"},
		{`{"policy":"auto"}`, 200, "c", "least_used"},
		{`{"account":null,"policy":"balanced"}`, 200, "", "balanced"},
		{`{"policy":null}`, 200, "", "least_used"},
		{`{"policy":"soonest_reset"}`, 200, "", "soonest_reset"},
		{`{"policy":"least_used"}`, 200, "", "least_used"},
	} {
		r := b.do(http.MethodPost, "/use", test.body)
		v := b.h.group.View()
		if r.status != test.status || v.Pinned != test.pinned || v.Policy != test.policy || v.Configured != "least_used" {
			t.Errorf("%s: %d %s; then pinned %q, policy %q", test.body, r.status, r.body, v.Pinned, v.Policy)
		}
		if test.status != 200 {
			continue
		}
		var answer map[string]any
		if err := json.Unmarshal([]byte(r.body), &answer); err != nil {
			t.Fatal(err)
		}
		if pinned, _ := answer["pinned"].(string); pinned != test.pinned || answer["policy"] != test.policy || answer["policy_configured"] != "least_used" {
			t.Errorf("%s: answered %s", test.body, r.body)
		}
	}
	// The configured policy by its own name is as "auto": it is not remembered.
	if data, _, err := b.h.live.state.Snapshot(); err != nil || strings.Contains(string(data), `"policy":`) {
		t.Errorf("the stored state has a policy: %s, %v", data, err)
	}
	b.do(http.MethodPost, "/use", `{"policy":"round_robin"}`)
	if r := b.do(http.MethodGet, "/status", ""); !strings.Contains(r.body, `"policy":"round_robin","policy_configured":"least_used"`) {
		t.Errorf("the status is %s", r.body)
	}
	served := map[string]int{}
	for range 8 {
		served[b.ask(hello, "X-Session-Id", strconv.Itoa(len(served))+time.Now().String()).header.Get("X-Shunt-Account")]++
	}
	if len(served) != 4 || served["a"] != 2 {
		t.Errorf("going round served %v", served)
	}
}

// TestUseIsLogged: with who did it.
func TestUseIsLogged(t *testing.T) {
	b := newFour(t, "")
	core, logs := observer.New(zap.InfoLevel)
	b.h.logger = zap.New(core)
	b.do(http.MethodPost, "/use", `{"account":"b","policy":"round_robin"}`)
	for message, want := range map[string]string{"pin changed": "b", "policy changed": "round_robin"} {
		entries := logs.FilterMessage(message).All()
		if len(entries) != 1 {
			t.Fatalf("%q was logged %d times", message, len(entries))
		}
		fields := entries[0].ContextMap()
		if fields["by"] != "ann" || fields["pool"] != b.h.Pool || fields["account"] != want && fields["policy"] != want {
			t.Errorf("%q with %v", message, fields)
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
