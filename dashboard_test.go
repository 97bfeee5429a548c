package shunt

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// TestDashboardPage: anybody gets the page and what it loads, from here and with the
// headers that keep other sites out; nothing else is there.
func TestDashboardPage(t *testing.T) {
	b := newFour(t, "")
	page := b.do(http.MethodGet, "/dashboard", "", "X-Api-Key", "")
	if page.status != 200 || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
		t.Fatalf("%d %s", page.status, page.header)
	}
	loaded := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page.body, -1)
	for _, m := range loaded {
		r := b.do(http.MethodGet, "/"+m[1], "", "X-Api-Key", "")
		if r.status != 200 || r.header.Get("Content-Type") == "" || r.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", m[1], r.status, r.header)
		}
		for _, imported := range regexp.MustCompile(`from '\./([^']+)'`).FindAllStringSubmatch(r.body, -1) {
			if r := b.do(http.MethodGet, "/dashboard/"+imported[1], "", "X-Api-Key", ""); r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/javascript") {
				t.Errorf("%s: %d", imported[1], r.status)
			}
		}
	}
	if len(loaded) < 4 {
		t.Errorf("the page loads %v", loaded)
	}
	csp := page.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy lacks %s: %s", want, csp)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(page.body, "<script>") || strings.Contains(page.body, "style=") {
		t.Error("the page has code or styles that its policy does not let in")
	}
	if again := b.do(http.MethodGet, "/dashboard", "", "If-None-Match", page.header.Get("Etag")); again.status != http.StatusNotModified {
		t.Errorf("again: %d", again.status)
	}
	if head := b.do(http.MethodHead, "/dashboard", ""); head.status != 200 || head.body != "" {
		t.Errorf("HEAD: %d %q", head.status, head.body)
	}
	if r := b.do(http.MethodGet, "/dashboard/", ""); r.status != http.StatusPermanentRedirect || r.header.Get("Location") != "../dashboard" {
		t.Errorf("with a slash: %d %s", r.status, r.header.Get("Location"))
	}
	for _, path := range []string{"/dashboard/index.html", "/dashboard/nothing", "/dashboard/../dashboard.go", "/dashboard/vendor/", "/dashboard/vendor"} {
		if r := b.do(http.MethodGet, path, ""); r.status != 404 {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	if r := b.do(http.MethodPost, "/dashboard", ""); r.status != 405 {
		t.Errorf("POST: %d", r.status)
	}
}

// stream reads the dashboard's events.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	leave func()
}

func (b *bench) watch(key string) *stream {
	b.t.Helper()
	ctx, leave := context.WithCancel(b.t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+dashboardEvents, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", key)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		b.t.Fatalf("%v %v", resp, err)
	}
	b.t.Cleanup(func() { leave(); _ = resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 10<<20)
	return &stream{b.t, lines, leave}
}

// next is the next event of the name; false when the stream has ended.
func (s *stream) next(name string) (gjson.Result, bool) {
	event := ""
	for s.lines.Scan() {
		if e, ok := strings.CutPrefix(s.lines.Text(), "event: "); ok {
			event = e
		}
		if data, ok := strings.CutPrefix(s.lines.Text(), "data: "); ok && event == name {
			if !json.Valid([]byte(data)) {
				s.t.Errorf("%s is no JSON", data)
			}
			return gjson.Parse(data), true
		}
	}
	return gjson.Result{}, false
}

// TestLive: a stream tells how the pool stands, each request once, and to people what is
// theirs; it ends when the key does or another configuration takes over.
func TestLive(t *testing.T) {
	b := newFour(t, "")
	b.ask(hello).mustServe(t, "before")
	b.mustBeIdle()
	admin, bob := b.watch(annKey), b.watch(bobKey)
	first, _ := admin.next("status")
	if first.Get("who").String() != "ann" || !first.Get("admin").Bool() || first.Get("accounts.#").Int() != 4 || first.Get("recent_requests.#").Int() != 0 || first.Get("now_ms").Int() == 0 {
		t.Errorf("%s", first.Raw)
	}
	if told, _ := admin.next("requests"); told.Get("#").Int() != 1 || told.Get("0.user").String() != "ann" {
		t.Errorf("%s", told.Raw)
	}
	if seen, _ := bob.next("status"); seen.Get("who").String() != "bob" || seen.Get("admin").Bool() || seen.Get("people.#").Int() != 1 {
		t.Errorf("bob sees %s", seen.Raw)
	}
	b.ask(hello).mustServe(t, "of ann")
	b.ask(hello, "X-Api-Key", "", "X-Api-Key", bobKey).mustServe(t, "of bob")
	ids := make(map[string]bool)
	for len(ids) < 2 {
		told, ok := admin.next("requests")
		if !ok {
			t.Fatal("the stream has ended")
		}
		for _, r := range told.Array() {
			if id := r.Get("id").String(); ids[id] {
				t.Errorf("%s is told twice", id)
			} else {
				ids[id] = true
			}
		}
	}
	if told, _ := bob.next("requests"); told.Get("#").Int() != 1 || told.Get("0.user").String() != "bob" {
		t.Errorf("bob is told of %s", told.Raw)
	}
	b.h.live.state.Drain(b.h.accounts[0].member.Key, "")
	for {
		s, ok := bob.next("status")
		if !ok {
			t.Fatal("the stream has ended")
		}
		if s.Get("accounts.0.status").String() == "drained" {
			break
		}
	}
	if r := b.do(http.MethodGet, dashboardEvents, "", "X-Api-Key", "", "X-Api-Key", "nobody's"); r.status != 401 {
		t.Errorf("a wrong key: %d", r.status)
	}
	keys := b.h.roster.Load()
	fewer, err := newRoster(b.h.RemoteKeys[:1], nil, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	b.h.roster.Store(fewer)
	for ok := true; ok; {
		_, ok = bob.next("status")
	}
	b.h.roster.Store(keys)
	if _, ok := admin.next("status"); !ok {
		t.Error("with bob's key ann's stream has ended too")
	}
	b.stopApp()
	for ok := true; ok; {
		_, ok = admin.next("status")
	}
	b.mustBeIdle()
}

// TestLiveIsBounded: more viewers than a process bears are told so.
func TestLiveIsBounded(t *testing.T) {
	b := newFour(t, "")
	viewers.Add(maxViewers)
	r := b.do(http.MethodGet, dashboardEvents, "")
	viewers.Add(-maxViewers)
	if r.status != 503 || r.header.Get("Retry-After") == "" || viewers.Load() != 0 {
		t.Errorf("%d %s, %d left", r.status, r.body, viewers.Load())
	}
}

func TestHistory(t *testing.T) {
	b := newFour(t, "hold off\n")
	b.h.live.state.Pin("c")
	b.ask(hello).mustServe(t, "through c")
	b.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.WindowWeek, Times: -1})
	b.ask(hello)
	b.mustBeIdle()
	b.h.live.history.lookAt = time.Time{}
	b.h.live.history.lookIn(b.h)
	for span, steps := range map[string]int64{"": 60, "hour": 60, "day": 144, "week": 168} {
		r := b.do(http.MethodGet, "/history?range="+span, "")
		points := gjson.Get(r.body, "points")
		last := points.Array()[len(points.Array())-1]
		if r.status != 200 || points.Get("#").Int() != steps || time.Since(time.UnixMilli(last.Get("t_ms").Int())) > time.Duration(gjson.Get(r.body, "step_s").Int())*time.Second {
			t.Errorf("%s: %d %s", span, r.status, r.body)
		}
		var requests, failed, retries, out int64
		for _, p := range points.Array() { // a step may have begun in between
			requests += p.Get("requests").Int()
			failed += p.Get("failed").Int()
			retries += p.Get("retries").Int()
			out += p.Get("usage.output_tokens").Int()
		}
		if requests != 2 || failed != 1 || retries != 3 || out == 0 {
			t.Errorf("%s: %d requests, %d failed, %d retries, %d tokens", span, requests, failed, retries, out)
		}
		levels := gjson.Get(r.body, `accounts.#(name=="c").seven_day`).Array()
		if int64(len(levels)) != steps || levels[steps-1].Type != gjson.Number || levels[0].Type != gjson.Null {
			t.Errorf("%s: levels %v", span, levels)
		}
	}
	if r := b.do(http.MethodGet, "/history?range=year", ""); r.status != 400 || !strings.Contains(r.body, "expected one of hour, day, week") {
		t.Errorf("%d %s", r.status, r.body)
	}
	bobs := b.do(http.MethodGet, "/history", "", "X-Api-Key", "", "X-Api-Key", bobKey)
	if p := gjson.Get(bobs.body, "points.0"); p.Get("requests").Exists() || p.Get("cost_usd").Exists() || p.Get("usage").Exists() || !p.Get("waiting").Exists() || gjson.Get(bobs.body, "accounts.#").Int() == 0 {
		t.Errorf("bob sees %s", p.Raw)
	}
	if r := b.do(http.MethodGet, "/history", "", "X-Api-Key", ""); r.status != 401 {
		t.Errorf("nobody: %d", r.status)
	}
}

// TestHistoryIsStored: a process finds what the one before it has seen, and says when it
// cannot; what nobody asks for any more is removed.
func TestHistoryIsStored(t *testing.T) {
	b := newFour(t, "")
	b.ask(hello).mustServe(t, "before")
	b.mustBeIdle()
	b.stopApp()
	old := b.h.live.history
	means := b.h.live.sharing.means.Load()
	old.lastly(means)
	after := newHistoryStore(b.h.Pool)
	after.boot = "another"
	b.h.live.history = after
	sum := func() (n int64) {
		for _, p := range gjson.Get(b.do(http.MethodGet, "/history", "").body, "points.#.requests").Array() {
			n += p.Int()
		}
		return n
	}
	if n := sum(); n != 1 {
		t.Errorf("%d requests of the process before", n)
	}
	b.ask(hello).mustServe(t, "after")
	b.mustBeIdle()
	if n := sum(); n != 2 {
		t.Errorf("%d requests of both", n)
	}
	if err := means.storage.Store(t.Context(), after.key("third"), []byte("{")); err != nil {
		t.Fatal(err)
	}
	after.readAt = time.Time{}
	if r := b.do(http.MethodGet, "/history", ""); r.status != 200 || !strings.Contains(gjson.Get(r.body, "incomplete").String(), "third.json") {
		t.Errorf("%d %s", r.status, gjson.Get(r.body, "incomplete"))
	}
	if n := sum(); n != 2 {
		t.Errorf("%d requests beside a broken record", n)
	}
}
