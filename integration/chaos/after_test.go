package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// kills are the moments at which Caddy was killed.
func (tr *truth) kills() (at []time.Time) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, s := range tr.ours {
		if s.what == faultKill {
			at = append(at, s.from)
		}
	}
	return at
}

// unwritten is how much of the books a kill may cost: they are written every two
// seconds, and a write takes its time.
const unwritten = 4 * time.Second

// tokens are all tokens of a kind of account books.
type tokens struct{ input, output, read, write int64 }

func (a tokens) plus(u fakeclaude.Usage) tokens {
	return tokens{a.input + u.Input, a.output + u.Output, a.read + u.CacheRead, a.write + u.CacheWrite5m + u.CacheWrite1h}
}

// compareBooks holds GET /usage against what the fake charged. What its client got in
// full must be there to the token, once, and of an answer that broke off the prompt, if
// its beginning came. The rest of such answers is estimated, and those of the last
// seconds before a kill may be missing. It returns by how many tokens and requests the
// books are off.
func (w *world) compareBooks(kills []time.Time) (off int64) {
	w.t.Helper()
	time.Sleep(3 * time.Second)
	least, most := map[string]tokens{}, map[string]tokens{}
	leastServed := map[string]int64{}
	exact, forgotten := 0, 0
	w.truth.mu.Lock()
	served, begun := w.truth.served, w.truth.begun
	w.truth.mu.Unlock()
	for _, r := range w.fake.Requests() {
		if r.Status != http.StatusOK || r.Account == "" || !strings.HasPrefix(r.URI, "/v1/messages") {
			continue
		}
		person, whole := served[r.ID]
		most[r.Account] = most[r.Account].plus(r.Usage)
		switch {
		case !whole:
			if begun[r.ID] && !nearKill(kills, r.At) {
				prompt := r.Usage
				prompt.Output = 0
				least[r.Account] = least[r.Account].plus(prompt)
			}
			most[r.Account] = most[r.Account].plus(fakeclaude.Usage{Input: r.BodyBytes, Output: r.Usage.Output})
		case nearKill(kills, r.At):
			forgotten++
		default:
			least[r.Account] = least[r.Account].plus(r.Usage)
			leastServed[person]++
			exact++
		}
	}
	accounts, persons := w.usage("account"), w.usage("person")
	for name := range most {
		off += w.within("tokens of input of "+name, least[name].input, accounts[name].Input, most[name].input)
		off += w.within("tokens of output of "+name, least[name].output, accounts[name].Output, most[name].output)
		off += w.within("tokens of cache reads of "+name, least[name].read, accounts[name].Read, most[name].read)
		off += w.within("tokens of cache writes of "+name, least[name].write, accounts[name].Write5m+accounts[name].Write1h, most[name].write)
	}
	for _, person := range people {
		off += w.within("requests served to "+person, leastServed[person], persons[person].Served, w.truth.sent[person])
		off += w.within("requests of "+person, leastServed[person], persons[person].Requests, w.truth.sent[person])
	}
	w.t.Logf("books: %d answers must be there, %d were begun shortly before a kill", exact, forgotten)
	return off
}

func nearKill(kills []time.Time, begun time.Time) bool {
	for _, at := range kills {
		if begun.Before(at) && begun.After(at.Add(-unwritten)) {
			return true
		}
	}
	return false
}

func (w *world) within(what string, least, is, most int64) int64 {
	w.t.Helper()
	off := max(least-is, is-most, 0)
	if off > 0 {
		w.t.Errorf("the books have %d %s, expected %d to %d", is, what, least, most)
	}
	return off
}

// usageLine is a row of GET /usage.
type usageLine struct {
	Account, Person string
	Requests        int64
	Served          int64
	Input           int64 `json:"input_tokens"`
	Output          int64 `json:"output_tokens"`
	Read            int64 `json:"cache_read_tokens"`
	Write5m         int64 `json:"cache_write_5m_tokens"`
	Write1h         int64 `json:"cache_write_1h_tokens"`
}

func (w *world) usage(by string) map[string]usageLine {
	w.t.Helper()
	a, err := w.caddy.get(w.caddy.url+"/usage?by="+by, personKeys["root"])
	var usage struct{ Rows []usageLine }
	if err != nil || json.Unmarshal([]byte(a.body), &usage) != nil || len(usage.Rows) == 0 {
		w.t.Fatalf("usage: %v %s", err, a.body)
	}
	lines := map[string]usageLine{}
	for _, row := range usage.Rows {
		lines[row.Account+row.Person] = row
	}
	return lines
}

// checkLogins has every login refresh once more, and every account serve.
func (w *world) checkLogins() (lost int) {
	w.t.Helper()
	for _, v := range w.fake.Violations() {
		lost++
		w.t.Errorf("upstream saw what no correct client does: %s", v)
	}
	for _, name := range append(append([]string{}, apiNames...), logins...) {
		if name == "k3" && w.variant%2 == 1 {
			continue
		}
		if strings.HasPrefix(name, "l") {
			w.mustRefresh(name)
		}
		if a, err := w.caddy.post("/shunt/use", "application/json", fmt.Sprintf(`{"account":%q}`, name)); err != nil || a.status != http.StatusOK {
			w.t.Errorf("choosing %s: %v %d %s", name, err, a.status, a.body)
		}
		k := newWorker(w, 0)
		served, said := "", ""
		for range 2 * rested {
			r, err := http.NewRequest(http.MethodPost, w.caddy.url+"/v1/messages", strings.NewReader(
				fmt.Sprintf(`{"model":%q,"max_tokens":400,"stream":false,"messages":[{"role":"user","content":%q}]}`, models[1], k.prompt(0))))
			if err != nil {
				w.t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Anthropic-Version", "2023-06-01")
			r.Header.Set("X-Api-Key", personKeys["ann"])
			resp, err := k.client.Do(r)
			if err == nil {
				data, _ := io.ReadAll(resp.Body)
				said = fmt.Sprint(resp.StatusCode, string(data[:min(len(data), 200)]))
				resp.Body.Close()
				if served = resp.Header.Get("X-Shunt-Account"); served == name {
					break
				}
			}
			time.Sleep(500 * time.Millisecond)
		}
		if served != name {
			lost++
			w.t.Errorf("account %s does not serve any more; %q did: %s", name, served, said)
		}
		k.transport.CloseIdleConnections()
	}
	if _, err := w.caddy.post("/shunt/use", "application/json", `{"account":"auto"}`); err != nil {
		w.t.Error(err)
	}
	return lost
}

// rested is for how many seconds a login rests at most that was refused at its last use.
const rested = 45

// mustRefresh waits until the login has used its refresh token once more: access tokens
// live for six seconds, and are refreshed ahead of their end though nobody asks.
func (w *world) mustRefresh(name string) {
	w.t.Helper()
	_, before := w.fake.Tokens(name)
	for range 10 * rested {
		if _, now := w.fake.Tokens(name); now != before {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Errorf("login %s is not refreshed any more", name)
}

// rest is what the process holds while nobody asks.
type rest struct{ goroutines, files, heapMB int }

var (
	goroutinesIn = regexp.MustCompile(`goroutine profile: total (\d+)`)
	heapIn       = regexp.MustCompile(`# HeapAlloc = (\d+)`)
)

// rest waits until the process is quiet, with no connection left open to upstream.
func (w *world) rest() rest {
	w.t.Helper()
	var last rest
	for range 10 {
		http.DefaultClient.CloseIdleConnections()
		for _, d := range w.doors {
			d.shut()
			if err := d.open(); err != nil {
				w.t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		now := w.holds()
		if last != (rest{}) && now.goroutines >= last.goroutines-2 && now.files >= last.files-2 {
			return now
		}
		last = now
	}
	return last
}

func (w *world) holds() (r rest) {
	w.t.Helper()
	number := func(path string, in *regexp.Regexp) int {
		a, err := w.caddy.get(w.caddy.admin+path, "")
		m := in.FindStringSubmatch(a.body)
		if err != nil || m == nil {
			w.t.Fatalf("%s: %v %s", path, err, tail(a.body, 300))
		}
		n, _ := strconv.Atoi(m[1])
		return n
	}
	r.heapMB = number("/debug/pprof/heap?gc=1&debug=1", heapIn) >> 20
	r.goroutines = number("/debug/pprof/goroutine?debug=1", goroutinesIn)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.caddy.cmd.Process.Pid))
	if err != nil {
		w.t.Fatal(err)
	}
	r.files = len(files)
	return r
}

// What may be left over: a refresh that is under way, a connection that is closing.
const (
	moreGoroutines = 15
	moreFiles      = 10
	moreHeapMB     = 48
)

func (w *world) compareRest(before, after rest) {
	w.t.Helper()
	w.t.Logf("at rest before: %+v, after: %+v", before, after)
	if after.goroutines > before.goroutines+moreGoroutines || after.files > before.files+moreFiles || after.heapMB > before.heapMB+moreHeapMB {
		w.t.Errorf("something is left over: before %+v, after %+v", before, after)
	}
	a, err := w.caddy.get(w.caddy.url+"/status", personKeys["root"])
	var status struct {
		Accounts []struct {
			Name      string
			In_flight int
		}
	}
	if err != nil || json.Unmarshal([]byte(a.body), &status) != nil || len(status.Accounts) == 0 {
		w.t.Fatalf("status: %v %s", err, a.body)
	}
	for _, account := range status.Accounts {
		if account.In_flight != 0 {
			w.t.Errorf("account %s has %d requests in flight, and nobody asks", account.Name, account.In_flight)
		}
	}
}

// checkSecrets looks for keys where none may be.
func (w *world) checkSecrets() {
	w.t.Helper()
	logs := w.caddy.logs()
	if name := w.secretIn([]byte(logs)); name != "" {
		w.t.Errorf("the log holds the secret of %s", name)
	}
	for _, bad := range []string{"panic: ", "DATA RACE", "fatal error: "} {
		if i := strings.Index(logs, bad); i >= 0 {
			w.t.Errorf("the log has %q: %s", bad, logs[max(0, i-300):min(len(logs), i+3000)])
		}
	}
	for _, leak := range w.recorder.leaks {
		w.t.Error(leak)
	}
	// The storage holds logins, and nothing of people.
	err := filepath.WalkDir(filepath.Join(w.caddy.home, "data"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for person, key := range personKeys {
			if strings.Contains(string(data), key) {
				w.t.Errorf("%s holds the key of %s", path, person)
			}
		}
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
}
