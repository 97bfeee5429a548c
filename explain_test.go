package shunt

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// explainAs asks GET /explain with a key and reads the answer.
func (b *bench) explainAs(key, query string) (map[string]any, reply) {
	b.t.Helper()
	r := b.do(http.MethodGet, "/explain?"+query, "", "X-Api-Key", "", "X-Api-Key", key)
	var answer map[string]any
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil {
		b.t.Fatalf("%s: %d %s: %v", query, r.status, r.body, err)
	}
	if strings.Contains(r.body, "sk-ant") || strings.Contains(r.body, annKey) || strings.Contains(r.body, bobKey) {
		b.t.Errorf("a secret is in the answer to %s: %s", query, r.body)
	}
	return answer, r
}

func decisionsOf(t *testing.T, answer map[string]any) (decisions []map[string]any) {
	t.Helper()
	list, ok := answer["decisions"].([]any)
	if !ok {
		t.Fatalf("no decisions in %v", answer)
	}
	for _, d := range list {
		decisions = append(decisions, d.(map[string]any))
	}
	return decisions
}

// accountOf finds an account in a decision.
func accountOf(t *testing.T, decision map[string]any, name string) map[string]any {
	t.Helper()
	for _, a := range decision["accounts"].([]any) {
		if a := a.(map[string]any); a["name"] == name {
			return a
		}
	}
	t.Fatalf("no account %s in %v", name, decision)
	return nil
}

func TestExplainRequest(t *testing.T) {
	b := newFour(t, "")
	b.h.live.state.Pin("c")
	b.fake.SetFault("c", fakeclaude.Fault{Name: fakeclaude.WindowWeek, Times: 1})
	asked := b.ask(hello, "X-Session-Id", "ann-secret-session")
	asked.mustServe(t, "")
	served := asked.header.Get("X-Shunt-Account")
	b.mustBeIdle()
	id := asked.header.Get("X-Shunt-Request-Id")
	answer, r := b.explainAs(annKey, "request="+id)
	if strings.Contains(r.body, "ann-secret-session") {
		t.Errorf("a session id is in the answer: %s", r.body)
	}
	decisions := decisionsOf(t, answer)
	if len(decisions) != 2 || answer["request"] != id || answer["user"] != "ann" || answer["model"] != "claude-sonnet-5" || answer["pool"] != b.h.Pool {
		t.Fatalf("%s", r.body)
	}
	first, second := decisions[0], decisions[1]
	if first["account"] != "c" || first["reason"] != "pinned" || first["words"] != "c is pinned" || first["until"] != nil || first["policy"] != "balanced" {
		t.Errorf("first decision %v", first)
	}
	if second["account"] != served || second["reason"] != "policy" || !strings.Contains(second["words"].(string), served) {
		t.Errorf("second decision %v, served by %s", second, served)
	}
	if at, err := time.Parse(time.RFC3339, first["time"].(string)); err != nil || time.Since(at) > time.Minute {
		t.Errorf("time is %v", first["time"])
	}
	c := accountOf(t, second, "c")
	closed, _ := c["closed"].(map[string]any)
	if c["open"] != false || closed["kind"] != "tried" || closed["reason"] == "" || closed["until"] == nil || !strings.HasPrefix(c["words"].(string), "closed: ") {
		t.Errorf("account c is %v", c)
	}
	open := accountOf(t, second, served)
	if open["open"] != true || open["closed"] != nil || open["score"] == nil || open["weight"] != 1.0 || open["priority"] != 0.0 {
		t.Errorf("account %s is %v", served, open)
	}
	parts := open["parts"].(map[string]any)
	for _, part := range []string{"five_hour", "seven_day", "family", "burn", "bucket", "room", "bonus", "warm_prefix", "home", "parent"} {
		if _, ok := parts[part]; !ok {
			t.Errorf("no %s in %v", part, parts)
		}
	}
	if _, ok := parts["five_hour"].(map[string]any)["reset_in_s"]; !ok || parts["family"] != nil {
		t.Errorf("parts are %v", parts)
	}
}

func TestExplainRequestIsForItsOwner(t *testing.T) {
	b := newFour(t, "")
	anns := b.ask(hello).header.Get("X-Shunt-Request-Id")
	bobs := b.ask(hello, "X-Api-Key", "", "X-Api-Key", bobKey).header.Get("X-Shunt-Request-Id")
	b.mustBeIdle()
	for _, test := range []struct {
		name, key, query string
		status           int
		says             string
	}{
		{"an admin's own", annKey, "request=" + anns, 200, anns},
		{"somebody else's, for an admin", annKey, "request=" + bobs, 200, bobs},
		{"one's own", bobKey, "request=" + bobs, 200, bobs},
		{"somebody else's", bobKey, "request=" + anns, 404, `is not among the 1 requests of yours that are remembered`},
		{"unknown", annKey, "request=shunt_x", 404, `\"shunt_x\" is not among the 2 requests of this pool that are remembered`},
		{"nobody", "", "request=" + anns, 401, "authentication_error"},
		{"nothing", annKey, "", 400, "model: missing"},
		{"no model", annKey, "session=s", 400, "model: missing"},
		{"both", annKey, "model=m&request=" + anns, 400, "request: cannot be asked for together"},
		{"another user", bobKey, "model=m&user=ann", 403, "user: "},
		{"one's own name", bobKey, "model=m&user=bob", 200, `"user":"bob"`},
		{"another user, for an admin", annKey, "model=m&user=bob", 200, `"user":"bob"`},
	} {
		if _, r := b.explainAs(test.key, test.query); r.status != test.status || !strings.Contains(r.body, test.says) {
			t.Errorf("%s: %d %s", test.name, r.status, r.body)
		}
	}
	if r := b.do(http.MethodPost, "/explain", ""); r.status != 405 {
		t.Errorf("POST: %d", r.status)
	}
}

// TestExplainNow: what would be decided now takes the person's own sessions into
// account and changes nothing.
func TestExplainNow(t *testing.T) {
	b := newFour(t, "")
	asked := b.ask(hello, "X-Session-Id", "s1")
	asked.mustServe(t, "")
	home := asked.header.Get("X-Shunt-Account")
	b.mustBeIdle()
	changes := b.h.live.state.Changes()
	decide := func(key, query string) map[string]any {
		t.Helper()
		answer, r := b.explainAs(key, query)
		decisions := decisionsOf(t, answer)
		if len(decisions) != 1 || answer["request"] != nil {
			t.Fatalf("%s", r.body)
		}
		return decisions[0]
	}
	if d := decide(annKey, "model=claude-sonnet-5&session=s1"); d["reason"] != "session" || d["account"] != home {
		t.Errorf("the warm session: %v", d)
	}
	if d := decide(annKey, "model=claude-opus-5&session=s1"); d["reason"] != "policy" {
		t.Errorf("another family: %v", d)
	}
	if d := decide(bobKey, "model=claude-sonnet-5&session=s1"); d["reason"] != "policy" {
		t.Errorf("somebody else's session: %v", d)
	}
	if d := decide(annKey, "model=claude-sonnet-5&session=s1&user=bob"); d["reason"] != "policy" {
		t.Errorf("an admin as bob: %v", d)
	}
	if now := b.h.live.state.Changes(); now != changes {
		t.Errorf("asking changed the pool: %d changes, then %d", changes, now)
	}
	b.mustBeIdle()

	b.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.WindowWeek, Times: -1})
	b.ask(hello)
	d := decide(annKey, "model=claude-sonnet-5")
	if d["reason"] != "none" || d["account"] != nil || d["until"] == nil || !strings.Contains(d["words"].(string), "all 4 accounts are out") {
		t.Errorf("with all closed: %v", d)
	}
	if a := accountOf(t, d, "a"); a["closed"].(map[string]any)["kind"] != "bench" {
		t.Errorf("a closed account is %v", a)
	}
}

// TestExplainWithoutDecisions: a request that never asked for an account.
func TestExplainWithoutDecisions(t *testing.T) {
	b := newFour(t, "max_body 1KiB\n")
	id := b.ask(`{"model":"` + strings.Repeat("m", 2000) + `"}`).header.Get("X-Shunt-Request-Id")
	answer, r := b.explainAs(annKey, "request="+id)
	if r.status != 200 || len(decisionsOf(t, answer)) != 0 || answer["note"] == nil {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// TestFactsReachTheChoice: the prefix of one session draws another, and a sub-agent
// is shown with its parent.
func TestFactsReachTheChoice(t *testing.T) {
	b := newFour(t, "")
	withSystem := strings.Replace(hello, `"messages"`, `"system":"You are an agent.`+strings.Repeat(" Be kind.", 600)+`","messages"`, 1)
	first := b.ask(withSystem, "X-Claude-Code-Session-Id", "s1")
	first.mustServe(t, "")
	b.mustBeIdle()
	second := b.ask(withSystem, "X-Claude-Code-Session-Id", "s1", "X-Claude-Code-Agent-Id", "a1")
	second.mustServe(t, "")
	b.mustBeIdle()
	answer, _ := b.explainAs(annKey, "request="+second.header.Get("X-Shunt-Request-Id"))
	home := first.header.Get("X-Shunt-Account")
	parts := accountOf(t, decisionsOf(t, answer)[0], home)["parts"].(map[string]any)
	if parts["warm_prefix"] != true || parts["parent"] != true || parts["home"] != false {
		t.Errorf("where the parent lives: %v", parts)
	}
}

// TestPromptSizeReachesTheChoice: a session whose prompt has grown long waits for
// its own account, which its short first one would not.
func TestPromptSizeReachesTheChoice(t *testing.T) {
	t.Parallel()
	b := newFour(t, "")
	first := b.ask(hello, "X-Session-Id", "s1")
	first.mustServe(t, "")
	b.mustBeIdle()
	home := first.header.Get("X-Shunt-Account")
	b.fake.SetFault(home, fakeclaude.Fault{Name: fakeclaude.BurstMillis, Times: 1})
	grown := b.ask(strings.Replace(hello, "Hello", strings.Repeat("Hello, ", 4000), 1), "X-Session-Id", "s1")
	grown.mustServe(t, "")
	if at := grown.header.Get("X-Shunt-Account"); at != home {
		t.Errorf("served by %s, the session lives at %s", at, home)
	}
}

// oddPolicy gives scores that JSON has no word for.
type oddPolicy struct{}

func (oddPolicy) Name() string { return "odd" }

func (oddPolicy) Score(_ time.Time, _ *pool.Request, c *pool.Candidate) float64 {
	return map[string]float64{"a": math.NaN(), "b": math.Inf(1), "c": math.Inf(-1)}[c.Name]
}

func TestExplainOddScores(t *testing.T) {
	b := newFour(t, "")
	if err := b.h.app.Stop(); err != nil { // it looks at the group now and then
		t.Fatal(err)
	}
	b.h.policy = oddPolicy{}
	b.h.group = b.h.live.state.Group(b.h.group.Members(), b.h.policy)
	answer, r := b.explainAs(annKey, "model=claude-sonnet-5")
	d := decisionsOf(t, answer)[0]
	if r.status != 200 || d["policy"] != "odd" || accountOf(t, d, "a")["score"] != nil || accountOf(t, d, "b")["score"] != nil || accountOf(t, d, "d")["score"] != 0.0 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := b.do(http.MethodPost, "/use", `{"policy":"odd"}`); r.status != 200 || !strings.Contains(r.body, `"policy":"odd","policy_configured":"odd"`) {
		t.Errorf("a policy of one's own by its name: %d %s", r.status, r.body)
	}
	if r := b.do(http.MethodPost, "/use", `{"policy":"even"}`); r.status != 404 || !strings.Contains(r.body, "fill_first, least_used, odd, round_robin") {
		t.Errorf("an unknown one: %d %s", r.status, r.body)
	}
}

// TestEveryClosureHasAWord fails when package pool learns a new kind.
func TestEveryClosureHasAWord(t *testing.T) {
	for kind := pool.ClosedOwner; kind <= pool.ClosedBrake; kind++ {
		if closureKinds[kind] == "" {
			t.Errorf("kind %d has no word", kind)
		}
	}
}

// adminAsk calls a function of the admin API.
func adminAsk(handler caddy.AdminHandlerFunc, method, target, body string) (status int, answer string) {
	w := httptest.NewRecorder()
	if err := handler(w, httptest.NewRequest(method, target, strings.NewReader(body))); err != nil {
		var apiErr caddy.APIError
		if !errors.As(err, &apiErr) {
			return 0, err.Error()
		}
		return apiErr.HTTPStatus, apiErr.Err.Error()
	}
	return w.Code, w.Body.String()
}

func TestAdminExplain(t *testing.T) {
	b := newFour(t, "")
	id := b.ask(hello, "X-Api-Key", "", "X-Api-Key", bobKey).header.Get("X-Shunt-Request-Id")
	b.mustBeIdle()
	at := "/shunt/explain?pool=" + url.QueryEscape(b.h.Pool)
	for _, test := range []struct {
		name, method, target string
		status               int
		says                 string
	}{
		{"a request", http.MethodGet, at + "&request=" + id, 200, `"user":"bob"`},
		{"now", http.MethodGet, at + "&model=claude-sonnet-5&user=bob&session=s", 200, `"reason":"policy"`},
		{"an unknown request", http.MethodGet, at + "&request=x", 404, "the 1 requests of this pool"},
		{"an unknown pool", http.MethodGet, "/shunt/explain?pool=none&model=m", 404, `pool: "none"`},
		{"nothing", http.MethodGet, at, 400, "model: missing"},
		{"POST", http.MethodPost, at, 405, "takes GET, HEAD only"},
	} {
		if status, answer := adminAsk(adminExplain, test.method, test.target, ""); status != test.status || !strings.Contains(answer, test.says) {
			t.Errorf("%s: %d %s", test.name, status, answer)
		}
	}
	routed := false
	for _, route := range (adminAPI{}).Routes() {
		routed = routed || route.Pattern == "/shunt/explain"
	}
	if !routed {
		t.Error("the admin API has no route to it")
	}
}

func TestAdminUsePolicy(t *testing.T) {
	b := newFour(t, "")
	status, answer := adminAsk(adminUse, http.MethodPost, "/shunt/use?pool="+url.QueryEscape(b.h.Pool), `{"policy":"round_robin"}`)
	if status != 200 || !strings.Contains(answer, `{"pinned":null,"policy":"round_robin","policy_configured":"balanced"}`) {
		t.Errorf("%d %s", status, answer)
	}
}

// provisionAt makes a handler in a pool and a storage that a later one can take up.
func provisionAt(t *testing.T, root, block string) (h *Handler, stop func()) {
	t.Helper()
	h = new(Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser("shunt {\npool restarted\nstorage file_system {\nroot " + root + "\n}\n" + block + "\n}")); err != nil {
		t.Fatal(err)
	}
	if err := h.Provision(newContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := h.app.Start(); err != nil {
		t.Fatal(err)
	}
	return h, func() {
		if err := h.app.Stop(); err != nil {
			t.Error(err)
		}
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
	}
}

// TestPolicySurvivesRestart: the switched policy is in the stored state.
func TestPolicySurvivesRestart(t *testing.T) {
	const block = "account a {\napi_key sk-ant-api03-aaaa\n}"
	root := t.TempDir()
	h, stop := provisionAt(t, root, block)
	if status, answer := adminAsk(adminUse, http.MethodPost, "/shunt/use?pool=restarted", `{"policy":"fill_first"}`); status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	before := h.live
	stop()
	h, stop = provisionAt(t, root, block)
	defer stop()
	if h.live == before {
		t.Fatal("the pool lived on, so nothing was restored")
	}
	if s := h.status(person{admin: true}); s.Policy != "fill_first" || s.Configured != "balanced" {
		t.Errorf("after a restart the policy is %s, configured %s", s.Policy, s.Configured)
	}
}
