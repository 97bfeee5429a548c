package integration

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

var update = flag.Bool("update", false, "write the table of attacks into docs/security.md")

// attack is a row of the table in docs/security.md. It is tried in several ways, and none
// may get through.
type attack struct {
	from, name string
	tries      func(*fort) []try
}

// try is one way. through says what it reached, empty if nothing.
type try struct{ way, through string }

// fort is the site under attack, with what its attackers may look at afterwards.
type fort struct {
	*site
	up     *upstream
	hostil *hostile
	canary *canary
}

// mark is in what must not arrive.
const mark = "smuggled"

const fortBlock = `%SITE% {
	log {
		format filter {
			request>headers>X-Api-Key hash
		}
	}
	shunt {
		remote_key ann {env.ANN_KEY} {
			admin
		}
		remote_key bob {env.BOB_KEY}
		upstream %UPSTREAM%
		max_body 2MiB
		hold off
		account a {
			api_key {env.KEY_A}
			upstream %HOSTILE%
		}
	}
}
`

// fortGlobal has limits of time as docs/configuration.md advises, but shorter.
const fortGlobal = `{
	admin %ADMIN%
	grace_period 2s
	metrics
	log default {
		format filter {
			request>headers>X-Api-Key hash
		}
	}
	servers {
		protocols h1 h2c
		max_header_size 64KiB
		timeouts {
			read_header 2s
			read_body 3s
		}
	}
}
`

func newFort(t *testing.T) *fort {
	t.Helper()
	f := &fort{up: startUpstream(t, fakeclaude.Options{Accounts: accounts()}), canary: startCanary(t)}
	f.hostil = startHostile(t, f.up.Server, f.canary.url)
	f.site = newSite(t, f.up, strings.ReplaceAll(fortGlobal+fortBlock, "%HOSTILE%", f.hostil.url), secrets...)
	f.start()
	return f
}

var attacks = []attack{
	{"outsider", "asking without a key, or with a wrong one", withoutKey},
	{"outsider", "a second request hidden in the first (smuggling)", smuggling},
	{"outsider", "paths, hosts and methods that reach something else", pathTricks},
	{"outsider", "headers and bodies that are too large", tooLarge},
	{"outsider", "connections that send slowly or nothing", slowly},
	{"outsider", "a page elsewhere that makes a browser ask (CSRF, DNS rebinding)", foreignPages},
	{"person", "what is an admin's", adminsOnly},
	{"person", "headers that become upstream's, or lines of the request", intoUpstream},
	{"person", "text that commands terminals, or forges lines of the log", intoLogs},
	{"person", "a file that runs in another's browser, or the page in a frame", intoBrowsers},
	{"upstream", "headers that become others, or that are the account's", fromUpstream},
	{"upstream", "redirects to another server (SSRF)", redirects},
	{"upstream", "statuses and answers that are none", noAnswers},
	{"upstream", "a small answer that unpacks to a large one", bombs},
	{"another local user", "files that others may read, and the admin endpoint from a page", localUser},
	{"anybody", "keys in logs, answers, metrics, the configuration", leaks},
}

// TestSecurity tries the attacks on a real Caddy.
func TestSecurity(t *testing.T) {
	f := newFort(t)
	var table bytes.Buffer
	fmt.Fprintf(&table, "| Who | Attack | Ways tried | Got through |\n|---|---|---:|---:|\n")
	tried := 0
	for _, a := range attacks {
		f.revive()
		tries, through := a.tries(f), 0
		if len(tries) == 0 {
			t.Errorf("%s: nothing was tried", a.name)
		}
		for _, try := range tries {
			if try.through != "" {
				through++
				t.Errorf("%s: %q got through: %s", a.name, try.way, try.through)
			}
		}
		if !f.running() {
			t.Fatalf("after %s: Caddy does not serve\n%s", a.name, f.logs())
		}
		tried += len(tries)
		fmt.Fprintf(&table, "| %s | %s | %d | %d |\n", a.from, a.name, len(tries), through)
	}
	fmt.Fprintf(&table, "| **all** | | **%d** | **0** |\n", tried)
	f.revive()
	if !t.Failed() {
		keepTable(t, table.String())
	}
}

// keepTable holds the table against the page, or writes it there.
func keepTable(t *testing.T, table string) {
	t.Helper()
	const begin, end = "<!-- table of the attacks: begin -->\n", "<!-- table of the attacks: end -->"
	file := filepath.Join("..", "docs", "security.md")
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	held, after, closed := strings.Cut(rest, end)
	switch {
	case !found || !closed:
		t.Fatalf("%s has no place for the table", file)
	case held == table:
	case !*update:
		t.Errorf("%s has another table; go test ./integration -run TestSecurity -update writes it:\n%s", file, table)
	default:
		if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// revive ends what the account has been put to by what upstream answered. It must serve:
// an attack on a pool that is out reaches nothing, and proves nothing.
func (f *fort) revive() {
	f.t.Helper()
	f.do(http.MethodPost, f.url+"/steer", `{"action":"unbench","account":"a"}`, "X-Api-Key", annKey)
	f.ask(bobKey, hello).mustServe(f.t)
}

// smuggled says what of the marked came upstream, empty for nothing.
func (f *fort) smuggled() string {
	for _, r := range f.up.Requests() {
		if strings.Contains(fmt.Sprint(r.Header, r.URI, string(r.Body)), mark) {
			return fmt.Sprintf("%s %s %v at upstream", r.Method, r.URI, r.Header)
		}
	}
	return ""
}

// withoutKey asks every endpoint but /health and the empty page.
func withoutKey(f *fort) (tries []try) {
	requests := []string{
		"POST /v1/messages", "POST /v1/messages/count_tokens", "GET /v1/models", "GET /v1/models/claude-sonnet-5", "GET /v1/files", "POST /v1/files", "GET /v1/messages/batches",
		"GET /status", "GET /usage", "GET /explain", "GET /history", "GET /dashboard/events", "POST /use", "POST /steer",
	}
	credentials := [][]string{
		nil, {"X-Api-Key", ""}, {"X-Api-Key", "wrong"}, {"X-Api-Key", annKey[:len(annKey)-1]}, {"X-Api-Key", annKey + "x"}, {"X-Api-Key", "{env.ANN_KEY}"},
		{"Authorization", "Bearer "}, {"Authorization", "Bearer " + annKey[1:]}, {"Authorization", "Basic " + annKey}, {"Cookie", "X-Api-Key=" + annKey},
		{"X-Forwarded-For", "127.0.0.1"}, {"Remote-User", "ann"}, {"X-Auth-Request-User", "ann"},
	}
	before := len(f.up.Requests())
	for _, request := range requests {
		method, path, _ := strings.Cut(request, " ")
		for _, headers := range credentials {
			a := f.do(method, f.url+path, hello, headers...)
			t := try{way: fmt.Sprint(request, " ", headers)}
			if a.status != http.StatusUnauthorized {
				t.through = fmt.Sprint(a.status, " ", a.body)
			}
			tries = append(tries, t)
		}
	}
	if n := len(f.up.Requests()) - before; n > 0 {
		f.t.Errorf("without a key: %d requests at upstream", n)
	}
	return tries
}

// adminsOnly are requests of a person who is none.
func adminsOnly(f *fort) (tries []try) {
	for _, request := range [][2]string{
		{"POST /use", `{"account":"a"}`}, {"POST /use", `{"policy":"round_robin"}`}, {"POST /steer", `{"action":"drain","account":"a"}`},
		{"POST /steer", `{"action":"refresh","account":"a"}`}, {"GET /usage?person=ann", ""}, {"GET /usage?by=person,account", ""}, {"GET /history?person=ann", ""},
	} {
		method, path, _ := strings.Cut(request[0], " ")
		a := f.do(method, f.url+path, request[1], "X-Api-Key", bobKey)
		t := try{way: request[0] + " " + request[1]}
		if method == http.MethodPost && a.status == http.StatusOK || strings.Contains(a.body, `"ann"`) {
			t.through = fmt.Sprint(a.status, " ", a.body)
		}
		tries = append(tries, t)
	}
	return tries
}

// foreignPages are what a browser sends for a page of another site, and for one whose
// name was made to point here.
func foreignPages(f *fort) (tries []try) {
	for _, origin := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://elsewhere.example"}, {"Origin", "null"}} {
		for _, request := range [][2]string{{"/use", `{"policy":"round_robin"}`}, {"/steer", `{"action":"drain","account":"a"}`}} {
			a := f.do(http.MethodPost, f.url+request[0], request[1], append([]string{"X-Api-Key", annKey}, origin...)...)
			t := try{way: fmt.Sprint(request, origin)}
			if a.status < 400 || a.header.Get("Access-Control-Allow-Origin") != "" {
				t.through = fmt.Sprint(a.status, " ", a.header, a.body)
			}
			tries = append(tries, t)
		}
	}
	// Without keys, only this machine's own clients are served.
	open := newSite(f.t, f.up, strings.ReplaceAll(strings.ReplaceAll(fortGlobal+strings.Replace(fortBlock, "remote_key bob {env.BOB_KEY}", "", 1), "%HOSTILE%", f.up.url),
		"remote_key ann {env.ANN_KEY} {\n\t\t\tadmin\n\t\t}", ""), secrets...)
	open.start()
	open.do(http.MethodPost, open.url+"/v1/messages", hello).mustServe(f.t)
	for _, way := range [][]string{
		{"Host", "elsewhere.example"}, {"Origin", "https://elsewhere.example"}, {"Origin", "null"}, {"X-Forwarded-For", "203.0.113.7"}, {"Forwarded", "for=203.0.113.7"}, {"Via", "1.1 proxy"},
	} {
		for _, path := range []string{"/v1/messages", "/use"} {
			answer := open.raw(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Type: application/json\r\nAnthropic-Version: 2023-06-01\r\n%s: %s\r\nContent-Length: %d\r\n\r\n%s",
				path, ownHost(way, open), way[0], way[1], len(hello), hello), 5*time.Second)
			t := try{way: fmt.Sprint("no keys, ", path, way)}
			if strings.Contains(answer, " 200 ") {
				t.through = answer
			}
			tries = append(tries, t)
		}
	}
	open.stop()
	return tries
}

// ownHost is the site's own name unless the attack is another.
func ownHost(way []string, s *site) string {
	if way[0] == "Host" {
		return way[1]
	}
	return strings.TrimPrefix(s.url, "http://")
}

// localUser is somebody with another account on this machine.
func localUser(f *fort) (tries []try) {
	f.ask(annKey, hello).mustServe(f.t)
	time.Sleep(2500 * time.Millisecond) // the state is written every two seconds
	err := filepath.WalkDir(filepath.Join(f.home, "data"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(path, "/shunt/") {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		t := try{way: "reading " + filepath.Base(path)}
		if info.Mode().Perm()&0o077 != 0 {
			t.through = info.Mode().String()
		}
		tries = append(tries, t)
		return nil
	})
	if err != nil || len(tries) == 0 {
		f.t.Errorf("no file of ours was found: %v", err)
	}
	tries = []try{{way: "reading each file in storage", through: throughs(tries)}}
	for _, header := range [][2]string{{"Host", "elsewhere.example"}, {"Origin", "https://elsewhere.example"}} {
		for _, path := range []string{"/shunt/status", "/shunt/accounts", "/config/"} {
			host := f.admin
			if header[0] == "Host" {
				host = header[1]
			}
			request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", path, host)
			if header[0] != "Host" {
				request += header[0] + ": " + header[1] + "\r\n"
			}
			answer := f.rawAt(f.admin, request+"\r\n", 5*time.Second)
			t := try{way: fmt.Sprint("admin endpoint ", path, header)}
			if strings.Contains(answer, " 200 ") {
				t.through = answer
			}
			tries = append(tries, t)
		}
	}
	return tries
}

func throughs(tries []try) string {
	var all []string
	for _, t := range tries {
		if t.through != "" {
			all = append(all, t.way+": "+t.through)
		}
	}
	return strings.Join(all, ", ")
}

// leaks looks for every secret wherever something may be read, after all that was tried.
func leaks(f *fort) (tries []try) {
	places := map[string]string{"the log": f.logs()}
	for _, path := range []string{"/config/", "/metrics", "/shunt/status", "/shunt/accounts", "/shunt/usage", "/debug/vars", "/debug/pprof/cmdline"} {
		places["admin "+path] = f.do(http.MethodGet, "http://"+f.admin+path, "").body
	}
	for _, path := range []string{"/status", "/usage", "/history", "/explain", "/dashboard", "/v1/models", "/health"} {
		for _, key := range []string{annKey, bobKey} {
			a := f.do(http.MethodGet, f.url+path, "", "X-Api-Key", key)
			places["GET "+path+" of "+key[:3]+key[len(key)-1:]] = fmt.Sprint(a.header, a.body)
		}
	}
	_ = filepath.WalkDir(f.home, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !strings.HasSuffix(path, "Caddyfile") && !strings.HasSuffix(path, ".log") {
			data, _ := os.ReadFile(path)
			places["file "+filepath.Base(path)] += string(data)
		}
		return nil
	})
	for _, secret := range secrets {
		name, value, _ := strings.Cut(secret, "=")
		t := try{way: name}
		for place, text := range places {
			if text == "" {
				f.t.Errorf("%s is empty", place)
			}
			if strings.Contains(text, value) {
				at := strings.Index(text, value)
				t.through += fmt.Sprintf("%s: %q ", place, text[max(0, at-300):at])
			}
		}
		tries = append(tries, t)
	}
	return tries
}
