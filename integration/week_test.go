package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// shiftedClock is the time of a world whose clock is moved by steps.
type shiftedClock struct {
	file string
	by   atomic.Int64
}

func (c *shiftedClock) now() time.Time { return time.Now().Round(0).Add(time.Duration(c.by.Load())) }

// at moves the clock to a time.
func (c *shiftedClock) at(t *testing.T, when time.Time) {
	t.Helper()
	by := time.Until(when).Round(time.Second)
	next := c.file + ".next"
	if err := os.WriteFile(next, []byte(by.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, c.file); err != nil {
		t.Fatal(err)
	}
	c.by.Store(int64(by))
}

// colleague is a person of the team, with what they may use and what they saw.
type colleague struct {
	name, key string
	limits    string // as in the configuration
	model     string
	// Budgets, 0 for none.
	tokensADay, tokensAWeek int64
	dollarsADay             float64

	mu       sync.Mutex
	statuses map[int]int
	left     int
	broken   int
	ids      []string // upstream's, of the answers that came
}

// weekTeam is twenty people of all kinds.
func weekTeam() []*colleague {
	var team []*colleague
	for i := range 20 {
		c := &colleague{name: fmt.Sprintf("p%02d", i), key: fmt.Sprintf("planted-key-of-p%02d", i), model: "claude-sonnet-5", statuses: make(map[int]int)}
		switch i % 10 {
		case 0:
			c.tokensADay, c.limits = 1500, "budget 1500tokens per day"
		case 1:
			c.dollarsADay, c.limits, c.model = 0.02, "budget 0.02usd per day\n\t\t\tmax_concurrent 1", "claude-opus-5"
		case 2:
			c.tokensAWeek, c.limits = 5000, "budget 5000tokens per week\n\t\t\tweight 3"
		case 3:
			c.limits = "rate 3"
		case 4:
			c.limits, c.model = "models claude-haiku-*", "claude-haiku-4-5-20251001"
		case 5:
			c.limits = "max_concurrent 2"
		case 6:
			c.dollarsADay, c.tokensADay, c.limits = 0.05, 4000, "budget 0.05usd per day\n\t\t\tbudget 4000tokens per day"
		case 7:
			c.model = "claude-opus-5"
		}
		team = append(team, c)
	}
	return team
}

const weekSite = `{
	admin %ADMIN%
	metrics
	log default {
		exclude http.handlers.shunt.audit
	}
	log audit {
		include http.handlers.shunt.audit
		output file %HOME%/audit.log
		format json
	}
}
%SITE% {
	shunt {
		remote_key boss {env.ANN_KEY} {
			admin
		}
		PEOPLE
		keys %HOME%/people
		upstream %UPSTREAM%
		stall_timeout 30s
		hold 20s
		audit
		account a {
			api_key {env.KEY_A}
			budget 0.10usd per day
		}
		account b {
			api_key {env.KEY_B}
		}
		account c {
			setup_token {env.TOKEN_C}
			owner *
			plan_only
		}
	}
}
`

// TestAWeekOfATeam: twenty people with limits of all kinds work for a week. What
// upstream charged, GET /usage as JSON and CSV, /status, the metrics and the audit log
// say the same to the token, and no budget is overrun by more than what was in flight.
func TestAWeekOfATeam(t *testing.T) {
	monday := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	clock := &shiftedClock{file: filepath.Join(t.TempDir(), "clock")}
	clock.at(t, monday.Add(8*time.Hour))
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()[:3], Clock: clock.now, Seed: 6, KeepRequests: 100_000})
	team := weekTeam()
	var people, file strings.Builder
	for i, c := range team {
		to := &people
		if i%2 == 1 {
			to = &file
		}
		fmt.Fprintf(to, "remote_key %s %s {\n\t\t\t%s\n\t\t}\n\t\t", c.name, c.key, c.limits)
	}
	s := newSite(t, up, strings.Replace(weekSite, "PEOPLE", people.String(), 1), append([]string{"SHUNT_CLOCK=" + clock.file}, secrets...)...)
	s.binary = failingBinary(t)
	if err := os.WriteFile(filepath.Join(s.home, "people"), []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	dice := rand.New(rand.NewPCG(6, 6))
	// Of a document that breaks off upstream has told nothing, and nobody can know what
	// it cost to the token: where answers may break off all are streams.
	whole := []string{fakeclaude.TwoDeltas, fakeclaude.FirstOverloaded, fakeclaude.Internal, fakeclaude.InvalidRequest}
	broken := append(whole, fakeclaude.CloseAfterText, fakeclaude.CutAfterText, fakeclaude.ErrorAfterText, fakeclaude.StallAfterText, fakeclaude.EndWithoutStop)
	for day := range 7 {
		for round := range 4 {
			clock.at(t, monday.AddDate(0, 0, day).Add(time.Duration(8+3*round)*time.Hour))
			time.Sleep(1100 * time.Millisecond) // accounts whose budget is new open within a second
			faults := [][]string{whole, broken}[round%2]
			for _, account := range []string{"a", "b", "c"} {
				fault := faults[dice.IntN(len(faults))]
				if round == 3 {
					fault = fakeclaude.StallAfterText // not left to the dice: without it nobody leaves
				}
				up.SetFault(account, fakeclaude.Fault{Name: fault, Times: 3})
			}
			var all sync.WaitGroup
			for _, c := range team {
				for range 1 + dice.IntN(4) {
					body := weekBody(c, dice, round%2 == 1 || dice.IntN(4) > 0)
					all.Go(func() { c.work(s, body) })
				}
			}
			all.Wait()
		}
	}
	for _, account := range []string{"a", "b", "c"} {
		up.SetFault(account)
	}
	w := &weekBooks{t: t, s: s, up: up, team: team, monday: monday}
	w.settle()
	w.compare()
	w.budgets()
}

func weekBody(c *colleague, dice *rand.Rand, stream bool) string {
	model := c.model
	if dice.IntN(12) == 0 {
		model = "claude-fable-5-2"
	}
	return fmt.Sprintf(`{"model":%q,"max_tokens":%d,"stream":%v,"system":[{"type":"text","text":"You help %s with all that there is to do in this week.","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":"Question %d"}]}`,
		model, 50+dice.IntN(150), stream, c.name, dice.IntN(1e6))
}

// work sends a request and reads its answer; from a stream that is silent for long it
// leaves.
func (c *colleague) work(s *site, body string) {
	ctx, leave := context.WithCancel(s.t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return
	}
	r.Header = http.Header{"X-Api-Key": {c.key}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Errorf("%s: %v", c.name, err)
		return
	}
	defer resp.Body.Close()
	var left atomic.Bool
	silent := time.AfterFunc(time.Second, func() { left.Store(true); leave() })
	_, err = io.Copy(&resetting{silent}, resp.Body)
	silent.Stop()
	served.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case left.Load() && err != nil:
		c.left++
	case err != nil:
		c.broken++
	default:
		c.statuses[resp.StatusCode]++
	}
	if id := resp.Header.Get("Request-Id"); strings.HasPrefix(id, "req_") {
		c.ids = append(c.ids, id)
	}
}

// resetting pushes a timer back with each byte that comes.
type resetting struct{ timer *time.Timer }

func (r *resetting) Write(p []byte) (int, error) {
	r.timer.Reset(time.Second)
	return len(p), nil
}

// weekBooks compares all that was told of the week.
type weekBooks struct {
	t      *testing.T
	s      *site
	up     *upstream
	team   []*colleague
	monday time.Time
}

type tokens struct{ input, output, read, write5m, write1h, searches int64 }

func (a *tokens) add(b tokens) {
	a.input += b.input
	a.output += b.output
	a.read += b.read
	a.write5m += b.write5m
	a.write1h += b.write1h
	a.searches += b.searches
}

func (a tokens) total() int64 { return a.input + a.output + a.read + a.write5m + a.write1h }

func charged(u fakeclaude.Usage) tokens {
	return tokens{u.Input, u.Output, u.CacheRead, u.CacheWrite5m, u.CacheWrite1h, u.WebSearches}
}

// settle waits until everything is over and written down.
func (w *weekBooks) settle() {
	w.t.Helper()
	eventually(w.t, "no request is under way", 15*time.Second, func() bool {
		for _, a := range w.s.status(annKey)["accounts"].([]any) {
			if a.(map[string]any)["in_flight"].(float64) != 0 {
				return false
			}
		}
		return true
	})
	time.Sleep(300 * time.Millisecond)
}

// usageRow is a line of GET /usage.
type usageRow struct {
	Day, Person, Account, Model                  string
	Requests, Served, Failed, Cancelled, Refused int64
	Input                                        int64    `json:"input_tokens"`
	Output                                       int64    `json:"output_tokens"`
	Read                                         int64    `json:"cache_read_tokens"`
	Write5m                                      int64    `json:"cache_write_5m_tokens"`
	Write1h                                      int64    `json:"cache_write_1h_tokens"`
	Searches                                     int64    `json:"web_searches"`
	Total                                        int64    `json:"total_tokens"`
	Cost                                         *float64 `json:"cost_usd"`
	Unpriced                                     int64    `json:"unpriced_answers"`
}

func (r *usageRow) tokens() tokens {
	return tokens{r.Input, r.Output, r.Read, r.Write5m, r.Write1h, r.Searches}
}

func (w *weekBooks) usage(by string) (rows []usageRow, total usageRow) {
	w.t.Helper()
	a := w.s.do(http.MethodGet, w.s.url+"/usage?by="+by+"&from="+w.monday.Format(time.DateOnly)+"&to="+w.monday.AddDate(0, 0, 6).Format(time.DateOnly), "", "X-Api-Key", annKey)
	var answer struct {
		Rows  []usageRow
		Total usageRow
	}
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil || a.status != http.StatusOK {
		w.t.Fatalf("usage by %s: %d %v %s", by, a.status, err, a.body)
	}
	return answer.Rows, answer.Total
}

func (w *weekBooks) same(what string, got, want any) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s: %+v; want %+v", what, got, want)
	}
}

func (w *weekBooks) compare() {
	w.t.Helper()
	// The truth: what upstream charged, by request, and by whom each answer was seen.
	byID := make(map[string]fakeclaude.Request)
	for _, r := range w.up.Requests() {
		byID[r.ID] = r
	}
	var all tokens
	for account, book := range w.up.Books() {
		all.add(charged(book.Usage))
		rows, _ := w.usage("account")
		for _, row := range rows {
			if row.Account == account {
				w.same("account "+account, row.tokens(), charged(book.Usage))
			}
		}
	}
	people, total := w.usage("person")
	w.same("all together", total.tokens(), all)
	if all.total() == 0 || total.Refused == 0 || total.Failed == 0 || total.Cancelled == 0 || total.Served == 0 {
		w.t.Errorf("the week was too quiet: %+v", total)
	}
	status := make(map[string]map[string]any)
	for _, p := range w.s.status(annKey)["people"].([]any) {
		status[p.(map[string]any)["name"].(string)] = p.(map[string]any)
	}
	byName := make(map[string]usageRow)
	for _, row := range people {
		byName[row.Person] = row
	}
	for _, c := range w.team {
		row := byName[c.name]
		var seen tokens
		for _, id := range c.ids {
			seen.add(charged(byID[id].Usage))
		}
		w.same(c.name+" by what they saw", row.tokens(), seen)
		answered := 0
		for _, n := range c.statuses {
			answered += n
		}
		w.same(c.name+"'s requests", row.Requests, int64(answered+c.left+c.broken))
		w.same(c.name+"'s requests that they left", row.Cancelled, int64(c.left))
		said := status[c.name]["usage"].(map[string]any)
		w.same(c.name+" in /status", int64(said["input_tokens"].(float64)+said["output_tokens"].(float64)+said["cache_read_tokens"].(float64)+said["cache_write_tokens"].(float64)), seen.total())
	}
	w.csv()
	w.metrics(all, *total.Cost, byName)
	w.audit(byName, *total.Cost)
}

// csv is the table of /usage again.
func (w *weekBooks) csv() {
	w.t.Helper()
	rows, _ := w.usage("day,person,account,model")
	a := w.s.do(http.MethodGet, w.s.url+"/usage?by=day,person,account,model&format=csv&from="+w.monday.Format(time.DateOnly)+"&to="+w.monday.AddDate(0, 0, 6).Format(time.DateOnly), "", "X-Api-Key", annKey)
	table, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
	if err != nil || len(table) != len(rows)+1 {
		w.t.Fatalf("%d rows of CSV, %d of JSON: %v", len(table)-1, len(rows), err)
	}
	for i, cells := range table[1:] {
		cell := make(map[string]string)
		for j, name := range table[0] {
			cell[name] = cells[j]
		}
		r := rows[i]
		cost := ""
		if r.Cost != nil {
			cost = strconv.FormatFloat(*r.Cost, 'f', -1, 64)
		}
		w.same("CSV", strings.Join([]string{cell["day"], cell["person"], cell["account"], cell["model"], cell["requests"], cell["total_tokens"], cell["cost_usd"]}, " "),
			fmt.Sprint(r.Day, " ", r.Person, " ", r.Account, " ", r.Model, " ", r.Requests, " ", r.Total, " ", cost))
	}
}

// metrics sums up Prometheus's series.
func (w *weekBooks) metrics(all tokens, cost float64, byName map[string]usageRow) {
	w.t.Helper()
	a := w.s.do(http.MethodGet, "http://"+w.s.admin+"/metrics", "")
	sums, people := make(map[string]float64), make(map[string]float64)
	lines := bufio.NewScanner(strings.NewReader(a.body))
	for lines.Scan() {
		name, value, found := strings.Cut(lines.Text(), "} ")
		series, labels, isSeries := strings.Cut(name, "{")
		if !found || !isSeries {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			w.t.Fatal(err)
		}
		if _, person, ok := strings.Cut(labels, `person="`); ok && series != "caddy_shunt_person_budget_used_ratio" {
			people[series+" "+person[:strings.IndexByte(person, '"')]] += v
		}
		if _, kind, ok := strings.Cut(labels, `kind="`); ok {
			series += " " + kind[:strings.IndexByte(kind, '"')]
		}
		sums[series] += v
	}
	for kind, want := range map[string]int64{"input": all.input, "output": all.output, "cache_read": all.read, "cache_write_5m": all.write5m, "cache_write_1h": all.write1h} {
		w.same("metric of tokens, "+kind, int64(sums["caddy_shunt_tokens_total "+kind]), want)
	}
	for _, c := range w.team {
		row := byName[c.name]
		w.same("metric of "+c.name+"'s tokens", int64(people["caddy_shunt_person_tokens_total "+c.name]), row.Total)
		w.same("metric of "+c.name+"'s requests", int64(people["caddy_shunt_person_requests_total "+c.name]), row.Requests)
		if got := people["caddy_shunt_person_cost_usd_total "+c.name]; row.Cost != nil && math.Abs(got-*row.Cost) > 1e-6 {
			w.t.Errorf("metric of %s's cost: %g; want %g", c.name, got, *row.Cost)
		}
	}
	if got := sums["caddy_shunt_cost_usd_total"]; math.Abs(got-cost) > 1e-6 {
		w.t.Errorf("metric of cost: %g; want %g", got, cost)
	}
}

// audit sums up the audit log, which holds nothing that was asked or answered.
func (w *weekBooks) audit(people map[string]usageRow, cost float64) {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.s.home, "audit.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	sums, requests, sum := make(map[string]tokens), make(map[string]int64), 0.0
	for line := range bytes.Lines(data) {
		var e struct {
			Logger, Person, Verdict string
			Input                   int64   `json:"tokens_in"`
			Output                  int64   `json:"tokens_out"`
			Read                    int64   `json:"tokens_cache_read"`
			Write                   int64   `json:"tokens_cache_write"`
			Write1h                 int64   `json:"tokens_cache_write_1h"`
			Searches                int64   `json:"web_searches"`
			Cost                    float64 `json:"cost_usd"`
		}
		if err := json.Unmarshal(line, &e); err != nil || e.Logger != "http.handlers.shunt.audit" {
			w.t.Fatalf("%v in %s", err, line)
		}
		s := sums[e.Person]
		s.add(tokens{e.Input, e.Output, e.Read, e.Write - e.Write1h, e.Write1h, e.Searches})
		sums[e.Person] = s
		requests[e.Person]++
		sum += e.Cost
	}
	for _, c := range w.team {
		row := people[c.name]
		w.same(c.name+" in the audit", sums[c.name], row.tokens())
		w.same(c.name+"'s requests in the audit", requests[c.name], row.Requests)
	}
	if math.Abs(sum-cost) > 1e-6 {
		w.t.Errorf("cost in the audit: %g; want %g", sum, cost)
	}
	for _, text := range []string{"Question", "You help", "planted-key", "sk-ant-", "message_stop"} {
		if bytes.Contains(data, []byte(text)) {
			w.t.Errorf("the audit log holds %q", text)
		}
	}
	if strings.Contains(w.s.logs(), "http.handlers.shunt.audit") {
		w.t.Error("audits are in the default log, too")
	}
}

// budgets: what was used beyond one is at most what was in flight, four requests of a
// person at once.
func (w *weekBooks) budgets() {
	w.t.Helper()
	largest := int64(0)
	for _, r := range w.up.Requests() {
		largest = max(largest, charged(r.Usage).total())
	}
	days, _ := w.usage("day,person")
	weeks, _ := w.usage("person")
	byName := make(map[string]*colleague)
	for _, c := range w.team {
		byName[c.name] = c
	}
	const atOnce = 4
	dearest := float64(largest) * 50 / 1e6 // of the dearest model
	reached := 0
	for _, row := range days {
		c := byName[row.Person]
		if c == nil {
			continue
		}
		if c.tokensADay > 0 && row.Total >= c.tokensADay {
			reached++
			if row.Total >= c.tokensADay+atOnce*largest {
				w.t.Errorf("%s used %d of %d tokens on %s; requests have at most %d", c.name, row.Total, c.tokensADay, row.Day, largest)
			}
		}
		if c.dollarsADay > 0 && *row.Cost >= c.dollarsADay {
			reached++
			if *row.Cost >= c.dollarsADay+atOnce*dearest {
				w.t.Errorf("%s used $%g of $%g on %s", c.name, *row.Cost, c.dollarsADay, row.Day)
			}
		}
	}
	for _, row := range weeks {
		if c := byName[row.Person]; c != nil && c.tokensAWeek > 0 && row.Total >= c.tokensAWeek {
			reached++
			if row.Total >= c.tokensAWeek+atOnce*largest {
				w.t.Errorf("%s used %d of %d tokens in the week", c.name, row.Total, c.tokensAWeek)
			}
		}
	}
	accounts, _ := w.usage("day,account")
	for _, row := range accounts {
		if row.Account == "a" && *row.Cost >= 0.10 {
			reached++
			if *row.Cost >= 0.10+80*dearest {
				w.t.Errorf("account a used $%g on %s", *row.Cost, row.Day)
			}
		}
	}
	if reached < 5 {
		w.t.Errorf("only %d budgets were reached", reached)
	}
	w.t.Logf("%d budgets were reached in %d requests", reached, len(w.up.Requests()))
}
