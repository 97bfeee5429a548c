package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/getkin/kin-openapi/openapi3"
)

// notSeen is what these tests do not bring about, and why. It may not be seen, or it has
// no place here.
var notSeen = map[string]string{
	"Standing.score null":         "no built-in policy gives anything but a number",
	"Decision.reason = stay":      "takes an overloaded account at the right moment",
	"Closure.kind = probe":        "takes two requests after an outage",
	"Closure.kind = bound":        "takes an id that only one account holds",
	"Closure.kind = brake":        "takes an overload of the whole service",
	"Instance.last_heard_ms null": "an instance is listed when something was heard of it",
	"Request.reason missing":      "a request that ends in a panic has none",
	"Credential.state = unsaved":  "takes a storage that cannot be written",
}

// TestAPI brings pools into all kinds of states and holds every answer against the file.
// Then everything in the file must have been seen.
func TestAPI(t *testing.T) {
	s := loadSpec(t)
	for _, problem := range s.undescribed() {
		t.Error(problem)
	}
	w := newWorld(t)
	t.Cleanup(w.odd.Close)
	c := start(t, s, w.url, w.config("one", team+small+open), nil)

	c.atFirst(t)
	c.refusals(t)
	c.logins(t, w)
	c.work(t, w)
	c.choices(t)
	c.steering(t)
	c.small(t, w)
	c.examples(t)
	c.trouble(t, w)
	c.reload(t, w)
	c.alone(t, w)
	c.broken(t)

	access, refresh := w.fake.Tokens("e")
	if access == firstAccess {
		t.Error("the login was not refreshed, so its new tokens were not looked for")
	}
	secrets := []string{firstAccess, firstRefresh, otherAccess, otherRefresh, access, refresh}
	for _, secret := range planted {
		secrets = append(secrets, secret)
	}
	for _, told := range s.told {
		for _, secret := range secrets {
			if secret != "" && strings.Contains(told, secret) {
				t.Errorf("the secret %s was told: %s", secret, told)
			}
		}
	}
	for _, what := range s.missing() {
		if notSeen[what] == "" {
			t.Errorf("in the file, and not seen: %s", what)
		}
	}
	for what := range notSeen {
		if s.seen[what] > 0 {
			t.Errorf("it was seen after all, so it needs no excuse: %s", what)
		}
	}
}

// atFirst asks before anything has happened.
func (c *caddy) atFirst(t *testing.T) {
	for _, key := range []string{annKey, bobKey, eveKey} {
		c.get(t, "team.test/status", key)
		c.get(t, "team.test/history", key)
		c.get(t, "team.test/usage", key)
	}
	c.get(t, "/shunt/status", "")
	c.get(t, "/shunt/status?pool=lost", "")
	c.get(t, "/shunt/accounts", "")
	c.get(t, "/shunt/explain?pool=team&model=claude-sonnet-5", "")
	keep(t, "healthy", c.get(t, "team.test/health", ""))
	c.call(t, http.StatusServiceUnavailable, http.MethodGet, "lost.test/health", "", "")
	c.get(t, "team.test/dashboard", "")
	for _, url := range []string{"team.test/health", "team.test/status", "team.test/usage", "team.test/history", "/shunt/status", "/shunt/accounts", "/shunt/history?pool=team"} {
		if _, a := c.send(t, http.MethodHead, url, annKey, ""); a.status != http.StatusOK || len(a.body) > 0 {
			t.Errorf("HEAD %s: %d %s", url, a.status, a.body)
		}
	}
	c.events(t, "localhost", "", c.live(t, "status"))
}

// live holds an event against the file; it is enough when one of that name has come.
func (c *caddy) live(t *testing.T, until string) func(name string, data []byte) bool {
	_, operation := c.spec.operation(http.MethodGet, "/dashboard/events")
	described, _ := json.Marshal(operation.Responses.Status(http.StatusOK).Value.Extensions["x-events"])
	var schemas map[string]*openapi3.SchemaRef
	if err := json.Unmarshal(described, &schemas); err != nil {
		t.Fatal(err)
	}
	return func(name string, data []byte) bool {
		c.spec.told = append(c.spec.told, string(data))
		checked++
		var v any
		if err := json.Unmarshal(data, &v); err != nil || schemas[name] == nil {
			t.Errorf("the event %q is not in the file, or no JSON: %v %s", name, err, data)
			return true
		}
		ref := c.spec.resolved(schemas[name])
		if list, ok := v.([]any); ok && ref.Value.Items != nil {
			for _, item := range list {
				c.spec.valid(t, "event "+name, c.spec.resolved(ref.Value.Items), item)
			}
		} else {
			c.spec.valid(t, "event "+name, ref, v)
		}
		return name == until
	}
}

// refusals asks for everything that is refused.
func (c *caddy) refusals(t *testing.T) {
	for path := range c.spec.doc.Paths.Map() {
		where := "team.test" + path
		if strings.HasPrefix(path, "/shunt/") {
			where = path
			c.refusedFrom(t, path)
		} else if path != "/health" && path != "/dashboard" {
			for method := range c.spec.doc.Paths.Value(path).Operations() {
				c.call(t, http.StatusUnauthorized, method, where, "nobodys-key", "")
			}
		}
		c.call(t, http.StatusMethodNotAllowed, http.MethodPatch, where, annKey, "")
	}
	for _, r := range []struct {
		status                 int
		method, url, key, body string
	}{
		{400, "GET", "team.test/usage?by=shoe", annKey, ""},
		{400, "GET", "team.test/usage?colour=red", annKey, ""},
		{400, "GET", "team.test/usage?person=ann", bobKey, ""},
		{400, "GET", "/shunt/usage?pool=team&from=2026-13-01", "", ""},
		{400, "GET", "/shunt/usage", "", ""},
		{404, "GET", "/shunt/usage?pool=none", "", ""},
		{400, "GET", "team.test/explain", annKey, ""},
		{403, "GET", "team.test/explain?model=claude-sonnet-5&user=ann", bobKey, ""},
		{404, "GET", "team.test/explain?request=shunt_0", annKey, ""},
		{400, "GET", "/shunt/explain?pool=team&request=1&model=2", "", ""},
		{404, "GET", "/shunt/explain?pool=team&request=shunt_0", "", ""},
		{400, "POST", "team.test/use", annKey, "{}"},
		{403, "POST", "team.test/use", bobKey, `{"account":"a"}`},
		{404, "POST", "team.test/use", annKey, `{"account":"nobody"}`},
		{400, "POST", "/shunt/use?pool=team", "", `{"policy":7}`},
		{400, "POST", "/shunt/use", "", `{"account":"a"}`},
		{404, "POST", "/shunt/use?pool=team", "", `{"policy":"dice"}`},
		{400, "POST", "team.test/steer", annKey, `{"account":"a","action":"sing"}`},
		{403, "POST", "team.test/steer", bobKey, `{"account":"a","action":"drain"}`},
		{404, "POST", "team.test/steer", annKey, `{"account":"nobody","action":"drain"}`},
		{409, "POST", "team.test/steer", annKey, `{"account":"a","action":"refresh"}`},
		{400, "POST", "/shunt/steer?pool=team", "", `{"account":"a","action":"bench","for":"soon"}`},
		{400, "POST", "/shunt/steer?pool=team", "", `{"account":"a","action":"drain","because":"x"}`},
		{404, "POST", "/shunt/steer?pool=team", "", `{"account":"nobody","action":"drain"}`},
		{409, "POST", "/shunt/steer?pool=team", "", `{"account":"f","action":"refresh"}`},
		{400, "GET", "team.test/history?range=year", annKey, ""},
		{400, "GET", "/shunt/history?pool=team&range=year", "", ""},
		{404, "GET", "/shunt/history?pool=none", "", ""},
		{404, "GET", "/shunt/status?pool=none", "", ""},
		{404, "GET", "/shunt/accounts?pool=none", "", ""},
		{400, "POST", "/shunt/check", "", `{}`},
		{400, "POST", "/shunt/check", "", `{"account":"a"}`},
		{404, "POST", "/shunt/check", "", `{"account":"nobody"}`},
		{400, "POST", "/shunt/login", "", `{"follow":"/x"}`},
		{400, "POST", "/shunt/login?account=e", "", `{"follow":"x"}`},
		{404, "POST", "/shunt/login?account=a", "", `{"follow":"/x"}`},
		{413, "POST", "/shunt/login?account=e", "", asJSON("credentials", strings.Repeat("x", 6<<20+70<<10))},
		{400, "DELETE", "/shunt/login?account=e&revoke=perhaps", "", ""},
		{404, "DELETE", "/shunt/login?account=e", "", ""},
	} {
		name := "error"
		if strings.HasPrefix(r.url, "/") {
			name = "admin_error"
		}
		keep(t, fmt.Sprintf("%s_%d", name, r.status), c.call(t, r.status, r.method, r.url, r.key, r.body))
	}
}

// refusedFrom is Caddy's own check of who calls its admin endpoint.
func (c *caddy) refusedFrom(t *testing.T, path string) {
	for method := range c.spec.doc.Paths.Value(path).Operations() {
		c.call(t, http.StatusForbidden, method, path, "", "", "Origin", "https://elsewhere.example.com", "Host", "elsewhere.example.com")
	}
}

// logins puts logins in and takes them out.
func (c *caddy) logins(t *testing.T, w *world) {
	soon := time.Now().Add(36 * time.Hour)
	put := func(status int, account, body string) *answer {
		return c.call(t, status, http.MethodPost, "/shunt/login?pool=team&account="+account, "", body)
	}
	first := asJSON("credentials", credentials(firstAccess, firstRefresh, soon))
	a := put(200, "e", first)
	keep(t, "imported", a)
	c.get(t, "/shunt/accounts?pool=team", "")
	c.get(t, "team.test/status", annKey)
	c.call(t, 200, http.MethodPost, "/shunt/steer?pool=team", "", `{"account":"e","action":"refresh"}`)
	keep(t, "accounts", c.get(t, "/shunt/accounts?pool=team", ""))
	put(409, "e", first)

	// A login of another client's, a file that is followed, one that is not there.
	file := filepath.Join(c.home, "followed.json")
	if err := os.WriteFile(file, []byte(credentials(otherAccess, otherRefresh, soon)), 0o600); err != nil {
		t.Fatal(err)
	}
	put(200, "f", asJSON("follow", file))
	c.get(t, "/shunt/accounts?pool=team", "")
	c.call(t, 200, http.MethodDelete, "/shunt/login?pool=team&account=f&revoke=false", "", "")
	put(200, "f", asJSON("follow", filepath.Join(c.home, "not-there.json")))
	c.get(t, "/shunt/accounts?pool=team", "")
	c.call(t, 200, http.MethodDelete, "/shunt/login?pool=team&account=f&revoke=false", "", "")

	withClient, _ := json.Marshal(map[string]string{"credentials": credentials(otherAccess, otherRefresh, time.Time{}), "client_id": "the-client"})
	put(200, "f", string(withClient))
	spoil := func() {
		for _, file := range c.stored(t, "shunt/team/credentials") {
			if strings.Contains(file, "f.json") {
				if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	spoil()
	put(200, "f", string(withClient))
	w.fake.SetFault("other", fakeclaude.Fault{Name: fakeclaude.RefreshUnavailable, Times: -1, Path: "*"})
	keep(t, "removed", c.call(t, 200, http.MethodDelete, "/shunt/login?pool=team&account=f", "", ""))
	w.fake.ClearFaults()
	put(200, "f", string(withClient))
	spoil()
	c.call(t, 200, http.MethodDelete, "/shunt/login?pool=team&account=f&revoke=true", "", "")

	// What is removed and what takes its place is known by its e-mail once it was refreshed.
	c.call(t, 200, http.MethodDelete, "/shunt/login?pool=team&account=e&revoke=false", "", "")
	access, refresh := w.fake.Tokens("e")
	body := asJSON("credentials", credentials(access, refresh, soon))
	put(200, "e", body)
	c.call(t, 200, http.MethodPost, "team.test/steer", annKey, `{"account":"e","action":"refresh"}`)
	access, refresh = w.fake.Tokens("e")
	put(200, "e", asJSON("credentials", credentials(access, refresh, soon)))
	c.call(t, 200, http.MethodPost, "team.test/steer", annKey, `{"account":"e","action":"refresh"}`)
}

// work makes requests of all kinds, and looks at what is told of them.
func (c *caddy) work(t *testing.T, w *world) {
	w.fake.Spend("c", "7d_opus", 0.5)
	for i, account := range []string{"a", "b", "c", "d", "e", "odd"} {
		c.call(t, 200, http.MethodPost, "team.test/use", annKey, asJSON("account", account))
		for _, model := range []string{"claude-sonnet-5", "claude-opus-5", "claude-next-1"} {
			c.ask(t, "team.test", annKey, message(model, "hello"), "X-Claude-Code-Session-Id", fmt.Sprintf("0b54e6a6-6a3c-4a4e-9d5c-%012d", i))
			c.ask(t, "team.test", bobKey, message(model, "hello"))
		}
	}
	c.call(t, 200, http.MethodPost, "/shunt/use?pool=team", "", `{"account":null,"policy":"round_robin"}`)
	c.call(t, 200, http.MethodPost, "/shunt/use?pool=team", "", `{"policy":"auto"}`)
	search := strings.Replace(message("claude-sonnet-5", "look it up"), `"max_tokens"`, `"stream":true,"tools":[{"type":"web_search_20250305","name":"web_search"}],"max_tokens"`, 1)
	c.ask(t, "team.test", bobKey, search)
	for path, body := range map[string]string{"/v1/messages/count_tokens": strings.Replace(message("claude-sonnet-5", "hello"), `"max_tokens":100,`, "", 1), "/v1/messages": `{"model":"claude-sonnet-5"}`} {
		c.send(t, http.MethodPost, "team.test"+path, bobKey, body)
	}
	for _, path := range []string{"/v1/models", "/v1/files", "/v1/messages/batches"} {
		c.send(t, http.MethodGet, "team.test"+path, annKey, "", "Anthropic-Beta", "files-api-2025-04-14")
	}
	c.ask(t, "localhost", "", message("claude-sonnet-5", "hello"))
	c.ask(t, "lost.test", annKey, message("claude-sonnet-5", "hello"))

	var status struct {
		Recent []struct{ ID, Reason string } `json:"recent_requests"`
	}
	eventually(t, "all requests are remembered", func() bool {
		c.get(t, "team.test/status", annKey).read(t, &status)
		return len(status.Recent) >= 40
	})
	for _, host := range []string{"team.test", "localhost", "lost.test"} {
		for _, key := range []string{annKey, bobKey, eveKey} {
			c.get(t, host+"/status", key)
			for _, by := range []string{"day", "month", "person", "model", "person,model"} {
				c.get(t, host+"/usage?by="+by, key)
			}
			for _, span := range []string{"hour", "day", "week"} {
				c.get(t, host+"/history?range="+span, key)
			}
		}
	}
	today := time.Now().UTC().Format("2006-01-02")
	for _, base := range []string{"team.test/usage?", "/shunt/usage?pool=team&", "team.test/usage?pool=team&"} {
		keep(t, "usage", c.get(t, base+"by=month,account&from="+today+"&to="+today+"&format=json&person=bob", annKey))
		c.get(t, base+"by=person&format=csv", annKey)
	}
	for _, span := range []string{"hour", "day", "week"} {
		keep(t, "history", c.get(t, "/shunt/history?pool=team&range="+span, ""))
	}
	for _, r := range status.Recent {
		c.get(t, "team.test/explain?request="+r.ID, annKey)
	}
	c.get(t, "/shunt/explain?pool=team&request="+status.Recent[len(status.Recent)-1].ID, "")
	c.events(t, "team.test", annKey, c.live(t, "requests"))
	c.get(t, "/shunt/status", "")
}

// choices asks what would be decided.
func (c *caddy) choices(t *testing.T) {
	ask := func(query url.Values) {
		c.get(t, "team.test/explain?"+query.Encode(), annKey)
		query.Set("pool", "team")
		c.get(t, "/shunt/explain?"+query.Encode(), "")
	}
	session := "0b54e6a6-6a3c-4a4e-9d5c-000000000000"
	ask(url.Values{"model": {"claude-sonnet-5"}})
	ask(url.Values{"model": {"claude-opus-5"}, "session": {session}, "user": {"ann"}})
	ask(url.Values{"model": {"claude-next-1"}, "user": {"bob"}})
	keep(t, "used", c.call(t, 200, http.MethodPost, "team.test/use", annKey, `{"account":"c","policy":null}`))
	ask(url.Values{"model": {"claude-sonnet-5"}})
	c.get(t, "team.test/status", bobKey)
	c.call(t, 200, http.MethodPost, "team.test/use", annKey, `{"account":"auto"}`)
	c.call(t, 200, http.MethodGet, "lost.test/explain?model=claude-sonnet-5", annKey, "")
}

// steering drains, benches, frees.
func (c *caddy) steering(t *testing.T) {
	for _, body := range []string{
		`{"account":"a","action":"drain","reason":"the card has ended"}`, `{"account":"b","action":"bench","for":"30m","reason":"lunch"}`,
	} {
		keep(t, "steered", c.call(t, 200, http.MethodPost, "team.test/steer", annKey, body))
	}
	c.get(t, "team.test/status", annKey)
	c.get(t, "/shunt/accounts", "")
	c.get(t, "/shunt/explain?pool=team&model=claude-sonnet-5", "")
	for _, body := range []string{`{"account":"a","action":"undrain"}`, `{"account":"b","action":"unbench"}`} {
		c.call(t, 200, http.MethodPost, "/shunt/steer?pool=team", "", body)
	}
}

// small is about one account that takes one request at once, and has a budget.
func (c *caddy) small(t *testing.T, w *world) {
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { c.ask(t, "small.test", bobKey, message("claude-sonnet-5", patience)) })
	}
	eventually(t, "one is served and one waits", func() bool {
		var status struct {
			Waiting  int
			Accounts []struct {
				InFlight int `json:"in_flight"`
			}
		}
		c.get(t, "small.test/status", bobKey).read(t, &status)
		return status.Waiting == 1 && status.Accounts[0].InFlight == 1
	})
	c.get(t, "small.test/explain?model=claude-sonnet-5", bobKey)
	close(w.patient)
	both.Wait()
	c.get(t, "small.test/status", annKey)
	c.ask(t, "small.test", annKey, message("claude-next-1", "hello"))
	c.get(t, "small.test/usage?by=model", annKey)
	c.ask(t, "small.test", annKey, message("claude-sonnet-5", "hello"))
	eventually(t, "the account's budget is used up", func() bool {
		var status struct{ Accounts []struct{ Available bool } }
		c.get(t, "small.test/status", annKey).read(t, &status)
		return !status.Accounts[0].Available
	})
	keep(t, "unhealthy", c.call(t, http.StatusServiceUnavailable, http.MethodGet, "small.test/health", "", ""))
	c.get(t, "small.test/explain?model=claude-sonnet-5", annKey)
}

// trouble is about accounts that upstream refuses.
func (c *caddy) trouble(t *testing.T, w *world) {
	for account, fault := range map[string]string{"a": fakeclaude.InvalidKey, "b": fakeclaude.SpendCap, "c": fakeclaude.WindowModel, "d": fakeclaude.WindowFiveHour, "e": fakeclaude.WindowWeek} {
		w.fake.SetFault(account, fakeclaude.Always(fault))
	}
	for _, account := range []string{"a", "b", "c", "d", "e"} {
		c.call(t, 200, http.MethodPost, "team.test/use", annKey, asJSON("account", account))
		a := c.ask(t, "team.test", annKey, message("claude-opus-5", "hello"))
		id := a.header.Get("X-Shunt-Request-Id")
		eventually(t, "the request is remembered", func() bool {
			_, a := c.send(t, http.MethodGet, "team.test/explain?request="+id, annKey, "")
			return a.status == 200
		})
		keep(t, "explain_"+account, c.get(t, "team.test/explain?request="+id, annKey))
		keep(t, "status", c.get(t, "team.test/status", annKey))
	}
	c.get(t, "/shunt/accounts", "")
	c.get(t, "team.test/explain?model=claude-opus-5", annKey)
	w.fake.ClearFaults()
	c.checks(t, w)
	w.fake.SetFault("e", fakeclaude.Fault{Name: fakeclaude.RefreshUnavailable, Times: -1})
	c.call(t, 409, http.MethodPost, "team.test/steer", annKey, `{"account":"e","action":"refresh"}`)
	c.get(t, "team.test/status", annKey)
	w.fake.ClearFaults()
	c.call(t, 200, http.MethodPost, "team.test/use", annKey, `{"account":"auto"}`)
}

// checks tries credentials: good ones, refused ones, and none at all.
func (c *caddy) checks(t *testing.T, w *world) {
	c.get(t, "/shunt/check", "")
	w.fake.SetFault("b", fakeclaude.Fault{Name: fakeclaude.InvalidKey, Times: -1, Path: "*"})
	w.fake.SetFault("e", fakeclaude.Fault{Name: fakeclaude.TokenExpired, Times: -1, Path: "*"})
	for _, account := range []string{"a", "b", "c", "e", "f", "fed", "odd"} {
		keep(t, "checked_"+account, c.call(t, 200, http.MethodPost, "/shunt/check", "", `{"account":"`+account+`","pool":"team"}`))
	}
	c.call(t, 200, http.MethodPost, "/shunt/check", "", `{"account":"only"}`)
	w.fake.ClearFaults()
}

// reload: a configuration that fails leaves the admin API as it was.
func (c *caddy) reload(t *testing.T, w *world) {
	var before, after struct {
		Pools []struct {
			Pool    string
			Started int64 `json:"started_ms"`
		}
	}
	c.get(t, "/shunt/status", "").read(t, &before)
	for what, config := range map[string]string{
		"that cannot be provisioned": team + strings.Replace(small, "account only {", "account only {\n\t\t\tupstream ftp://nowhere", 1),
		"that cannot be started":     strings.Replace(team, "pool team", "pool elsewhere", 1) + "http://203.0.113.7:81 {\n\tbind 203.0.113.7\n\trespond hello\n}\n",
	} {
		_, a := c.send(t, http.MethodPost, "/load", "", c.fill(w.url, w.config("one", config)), "Content-Type", "text/caddyfile")
		if a.status == http.StatusOK {
			t.Fatalf("a configuration %s was loaded", what)
		}
		c.get(t, "/shunt/status", "").read(t, &after)
		if !slices.Equal(before.Pools, after.Pools) || len(after.Pools) != 4 {
			t.Errorf("before a configuration %s there was %+v, then %+v", what, before.Pools, after.Pools)
		}
		c.get(t, "/shunt/accounts", "")
		c.call(t, 200, http.MethodPost, "/shunt/use?pool=team", "", `{"account":"auto"}`)
		c.call(t, 404, http.MethodGet, "/shunt/explain?pool=elsewhere&model=claude-sonnet-5", "", "")
	}
}

// alone runs a second instance of one pool: no pool has to be named there, and both tell
// of each other.
func (c *caddy) alone(t *testing.T, w *world) {
	config := strings.Replace(w.config("two", team), "file_system %HOME%/store", "file_system "+filepath.Join(c.home, "store"), 1)
	two := start(t, c.spec, w.url, config, nil)
	eventually(t, "they hear of each other", func() bool {
		var status struct {
			Pools []struct{ Instances []struct{ Live bool } }
		}
		two.get(t, "/shunt/status", "").read(t, &status)
		return len(status.Pools[0].Instances) == 2
	})
	two.get(t, "/shunt/history", "")
	two.get(t, "/shunt/usage?by=account", "")
	two.get(t, "/shunt/explain?model=claude-sonnet-5", "")
	two.call(t, 200, http.MethodPost, "/shunt/use", "", `{"account":"auto"}`)
	c.get(t, "team.test/status", annKey)
}

// broken is about a storage with records that nobody can read.
func (c *caddy) broken(t *testing.T) {
	for _, folder := range []string{"history", "usage/" + time.Now().UTC().Format("2006-01-02")} {
		path := filepath.Join(c.home, "store/shunt/team", folder)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "broken.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	three := start(t, c.spec, "http://127.0.0.1:1", strings.NewReplacer("%NAME%", "three", "%ODD%", "http://127.0.0.1:1", "%MADE%", "2026-01-01", "file_system %HOME%/store", "file_system "+filepath.Join(c.home, "store")).Replace(globals+team), nil)
	three.get(t, "/shunt/history", "")
	three.call(t, http.StatusServiceUnavailable, http.MethodGet, "team.test/usage", annKey, "")
	three.call(t, http.StatusServiceUnavailable, http.MethodGet, "/shunt/usage", "", "")

	// Without any pool.
	if _, a := three.send(t, http.MethodPost, "/load", "", three.fill("", globals), "Content-Type", "text/caddyfile"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	three.get(t, "/shunt/status", "")
	three.get(t, "/shunt/accounts", "")
	three.call(t, http.StatusNotFound, http.MethodGet, "/shunt/history", "", "")
}
