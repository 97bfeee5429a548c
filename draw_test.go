package shunt

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
	"github.com/caddy-shunt/caddy-shunt/ledger"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// drawNow is when the drawings are made, in a zone that is not the machine's.
var drawNow = time.Date(2026, 11, 23, 16, 48, 0, 0, time.FixedZone("", 3600))

func inMS(d time.Duration) *int64 {
	ms := drawNow.Add(d).UnixMilli()
	return &ms
}

func aWindow(used, pace float64, reset time.Duration) windowView {
	return windowView{Utilization: &used, Pace: &pace, ResetMS: inMS(reset)}
}

// drawnPool has an account in each state, and names from outside that would like to
// command the terminal.
func drawnPool() *statusView {
	pinned, half, much := "ann", 0.52, 0.81
	usd, spent, limit, tokens := 50*anthropic.Dollar, 41*anthropic.Dollar, int64(2_000_000), int64(2_100_000)
	s := &statusView{
		Pool: "team", Policy: "least_used", Configured: "balanced", Waiting: 2, Sessions: 12, Pinned: &pinned,
		Capacity:  capacityStatus{Accounts: 7, Open: 4, FiveHourLeft: &half, SevenDayLeft: &much},
		Forecast:  forecastStatus{DryMS: inMS(2*time.Hour + 10*time.Minute), ReopensMS: inMS(3 * time.Hour), Words: "in UTC"},
		Instances: []instanceStatus{{Name: "a", Self: true, Live: true}, {Name: "b", Live: true}},
	}
	open := func(name, kind string, windows map[string]windowView) accountStatus {
		return accountStatus{Name: name, Kind: kind, Status: "available", Available: true, Windows: windows}
	}
	ann := open("ann", "oauth", map[string]windowView{"7d_opus": aWindow(0.55, 0.4, 100*time.Hour), window7d: aWindow(0.18, 0.4, 100*time.Hour), window5h: aWindow(0.62, 0.76, 72*time.Minute)})
	ann.InFlight, ann.Requests, ann.TotalTokens, ann.CacheHitRatio = 3, 1234, 45_600_000, &much
	ann.SharesLimits = []string{"eve"}
	bob := open("bob", "oauth", map[string]windowView{window5h: aWindow(0.9, 0.3, 3*time.Hour), window7d: aWindow(0.004, 0.01, 166*time.Hour)})
	bob.Benches = []benchStatus{{Family: "opus", UntilMS: inMS(26 * time.Hour), Window: "7d_opus", Reason: "usage window spent"}}
	eve := open("eve", "setup_token", map[string]windowView{window5h: aWindow(1, 0.86, 42*time.Minute), window7d: aWindow(0.7, 0.5, 84*time.Hour)})
	eve.Status, eve.Available, eve.Reason, eve.CooldownUntilMS = "cooling", false, "usage window spent", inMS(42*time.Minute)
	eve.Benches = []benchStatus{{UntilMS: inMS(42 * time.Minute), Window: window5h, Reason: "usage window spent"}}
	eve.LoginWarning = "the setup token ends in 12 days."
	dan := open("dan", "oauth", map[string]windowView{})
	dan.Status, dan.Available, dan.AuthFailed, dan.Reason = "reauth_required", false, true, "the token server said \x1b[2J\x1b]0;owned\x07invalid_grant"
	zoe := open("zoe", "federation", map[string]windowView{window5h: {ResetMS: nil}, window7d: aWindow(0.2, 0.5, 84*time.Hour)})
	zoe.Status, zoe.Available, zoe.Drained, zoe.Reason = "drained", false, true, "drained by ann: she needs it today for a talk that is a bit longer than one line"
	api := open("api-key", "api_key", nil)
	api.Limits = map[string]limitView{"requests": {Limit: 1000, Remaining: 990}, "input_tokens": {Limit: 2_000_000, Remaining: 150_000, ResetMS: inMS(20 * time.Second)}}
	api.Budgets = []budgetStatus{{Per: "day", USD: &usd, UsedUSD: &spent, EndsMS: *inMS(7 * time.Hour)}}
	long := open("the-one-with-the-long-name", "api_key", nil)
	s.Accounts = []accountStatus{ann, bob, eve, dan, zoe, api, long}
	s.People = []personStatus{
		{Name: "idle"},
		{Name: "ann", Requests: 1200, Usage: anthropic.Usage{OutputTokens: 123_456, CacheReadTokens: 9_000_000, InputTokens: 1_000_000}, InFlight: 2, MaxConcurrent: 4, Budgets: []budgetStatus{
			{Per: "day", USD: &usd, UsedUSD: &spent}, {Per: "month", Tokens: &limit, UsedTokens: &tokens, Reached: true},
		}},
		{Name: "小林さん", Requests: 7, Usage: anthropic.Usage{InputTokens: 950}},
		{Name: "mallory\x1b[31m\r\n\u202e\u009b2J", Requests: 1, Usage: anthropic.Usage{InputTokens: 1}},
	}
	cost := 23 * anthropic.Dollar / 1000
	for i, r := range []recentRequest{
		{Record: pool.Record{User: "ann", Account: "ann", Model: "claude-opus-5-5", Status: 200, Verdict: "served", Attempts: 1, CostUSD: &cost, Duration: 12_345}, Input: 45_678, Output: 1234},
		{Record: pool.Record{User: "小林さん", Account: "the-one-with-the-long-name", Model: "claude-\x1b[5mhaiku-4-5-20251001", Status: 200, Verdict: "served", Attempts: 3, Duration: 90}, Input: 12, Output: 3},
		{Record: pool.Record{User: "mallory", Model: "claude-opus-5-5", Status: 429, Verdict: "person_budget", Duration: 2}},
	} {
		r.TS = *inMS(-time.Duration(i) * time.Minute)
		s.Recent = append(s.Recent, r)
	}
	return s
}

// golden compares a drawing with the file of that name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "terminal", name+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; -update writes it", err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s\nand was\n%s", name, got, want)
	}
}

// inWidths draws at the three widths, plainly, and once in colour and in ASCII.
func inWidths(t *testing.T, name string, draw func(drawing) []terminal.Line) {
	t.Helper()
	for _, cells := range []int{60, 100, 160} {
		look := terminal.Look{Unicode: true}
		golden(t, fmt.Sprintf("%s-%d", name, cells), terminal.Render(draw(drawing{look, cells, drawNow}), look))
	}
	look := terminal.Look{Unicode: true, Colour: true}
	golden(t, name+"-100-colour", terminal.Render(draw(drawing{look, 100, drawNow}), look))
	look = terminal.Look{}
	text := terminal.Render(draw(drawing{look, 100, drawNow}), look)
	golden(t, name+"-100-ascii", text)
	if i := strings.IndexFunc(text, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' }); i >= 0 {
		t.Errorf("%s is not ASCII at %q", name, text[i:min(len(text), i+20)])
	}
	for cells := 20; cells < 220; cells++ {
		for _, l := range draw(drawing{terminal.Look{Unicode: true}, cells, drawNow}) {
			if l.Width() > cells {
				t.Fatalf("%s: a line is %d wide at %d: %q", name, l.Width(), cells, l.In(terminal.Look{Unicode: true}))
			}
		}
	}
}

func TestDrawStatus(t *testing.T) {
	inWidths(t, "status", func(d drawing) []terminal.Line { return d.status([]*statusView{drawnPool()}) })
	plain := plainStatus([]*statusView{drawnPool(), {Pool: "empty", Policy: "balanced", Configured: "balanced", Forecast: forecastStatus{Words: "there is no account"}}}, drawNow)
	golden(t, "status-plain", terminal.Render(plain, terminal.Look{}))
}

func TestDrawRequests(t *testing.T) {
	inWidths(t, "requests", func(d drawing) []terminal.Line { return d.requests(drawnPool().Recent, 20) })
	if rows := len((drawing{cells: 80, now: drawNow}).requests(drawnPool().Recent, 2)); rows != 3 {
		t.Errorf("%d rows, not the titles and two", rows)
	}
}

func TestDrawWatch(t *testing.T) {
	w := watched{}
	inWidths(t, "watch", func(d drawing) []terminal.Line {
		w = watched{}
		w.take(watchAnswer{pools: []*statusView{drawnPool()}, at: drawNow.Add(-12 * time.Second)})
		w.take(watchAnswer{err: errNotRunning, at: drawNow.Add(-10 * time.Second)})
		w.take(watchAnswer{err: errNotRunning, at: drawNow.Add(-2 * time.Second)})
		return w.frame(d, 44, "localhost:2019")
	})
	if w.take(watchAnswer{pools: w.pools, at: drawNow}); w.trouble != nil {
		t.Error("the trouble stays")
	}
	w.take(watchAnswer{err: errors.New("\x1b[2Jtrouble"), at: drawNow})
	for height := 1; height < 80; height++ {
		for _, top := range []int{-5, 0, 3, 1000} {
			w.top = top
			lines := w.frame(drawing{cells: 100, now: drawNow}, height, "localhost:2019")
			if height > 5 && len(lines) != height {
				t.Fatalf("%d lines at a height of %d", len(lines), height)
			}
			if strings.Contains(terminal.Render(lines, terminal.Look{}), "\x1b") {
				t.Fatal("an error commands the terminal")
			}
		}
	}
}

// Fifty accounts and a hundred people are as readable as a few.
func TestDrawCrowd(t *testing.T) {
	s := drawnPool()
	for i := range 50 {
		a := s.Accounts[i%7]
		a.Name = fmt.Sprintf("account-%02d", i)
		s.Accounts = append(s.Accounts, a)
	}
	for i := range 100 {
		p := s.People[i%4]
		p.Name = fmt.Sprintf("person-%03d", i)
		s.People = append(s.People, p)
	}
	for _, cells := range []int{60, 80, 100, 200} {
		text := terminal.Render((drawing{cells: cells, now: drawNow}).status([]*statusView{s}), terminal.Look{})
		for _, name := range []string{"account-00", "account-49", "person-000", "person-099"} {
			if !strings.Contains(text, name) {
				t.Errorf("no %s at %d", name, cells)
			}
		}
	}
}

func TestDrawExplanation(t *testing.T) {
	five, capacity := int64(7200), finite(1e6)
	first, id := "bob", "shunt_0123"
	until := drawNow.Add(42 * time.Minute)
	view := func() *explainView {
		return &explainView{Pool: "team", Request: &id, User: "bob", Model: "claude-opus-5-5", Decisions: []decisionView{
			{Time: drawNow, Policy: "balanced", Account: &first, Reason: "pinned", Words: "bob is pinned", Accounts: []standingView{
				{Name: "eve", Closed: &closureView{Kind: "bench", Reason: "usage window spent", Until: &until}, Score: finite(math.NaN()), Weight: 1, Words: "closed: usage window spent", Parts: partsView{Room: 1}},
				{Name: "bob", Open: true, Score: 0.1, Weight: 5, Words: "score 0.1, week 40% used with 30% of its time left", Parts: partsView{FiveHour: &headView{Used: 0.4, Left: 0.4, ResetInS: &five, Capacity: &capacity}, SevenDay: &headView{Used: 0.4, Left: 0.3, ResetInS: &five}, Family: &headView{Used: 0.1, Left: 1}, Burn: 0.07, Room: 1}},
				{Name: "key", Open: true, Score: 0.9, Priority: 1, Weight: 1, Words: "score 0.9", Parts: partsView{Bucket: 0.5, Room: 0.5}},
				{Name: "ann", Open: true, Own: true, Score: 0.4123456, Weight: 20, InFlight: 3, Words: "score 0.412, tools and system text warm", Parts: partsView{Room: 1, Bonus: 0.2}},
			}},
			{Time: drawNow, Reason: "none", Words: "no account can serve", Until: &until, Accounts: nil},
		}}
	}
	inWidths(t, "explain", func(d drawing) []terminal.Line { return d.explanation(view()) })
	got := terminal.Render((drawing{cells: 80, now: drawNow}).explanation(&explainView{Pool: "team", Request: &id, Note: "no account was looked for"}), terminal.Look{})
	if want := "request shunt_0123, pool team\nNo account was looked for.\n"; got != want {
		t.Errorf("%q", got)
	}
}

func TestDrawUsage(t *testing.T) {
	text := func(s string) *string { return &s }
	cost, little := 1234*anthropic.Dollar/100, anthropic.Dollar/2000
	inWidths(t, "usage", func(d drawing) []terminal.Line {
		return d.usage(&usageAnswer{Pool: "team", From: "2026-11-01", To: "2026-11-23", TimeZone: "Europe/Berlin", PricesAsOf: "2026-11-10", By: []ledger.By{ledger.ByPerson, ledger.ByModel},
			Rows: []usageRow{
				{Person: text("ann"), Model: text("claude-opus-5-5"), Requests: 1234, Failed: 2, InputTokens: 123_456, OutputTokens: 99_950, CacheReadTokens: 45_000_000, CacheWrite1hTokens: 1000, TotalTokens: 45_224_406, CostUSD: &cost},
				{Person: text(""), Model: text("a-model-\x1b[1mwith-a-name-that-is-longer-than-all-others"), Requests: 1, Refused: 1, UnpricedAnswers: 1},
				{Person: text("bob"), Model: text("claude-haiku-4-5"), Requests: 1, InputTokens: 20, TotalTokens: 20, CostUSD: &little},
			},
			Total: usageRow{Requests: 1236, TotalTokens: 45_224_426, CostUSD: &cost, UnpricedAnswers: 1, EstimatedAnswers: 2},
		})
	})
	none := (drawing{cells: 80}).usage(&usageAnswer{Pool: "team", By: []ledger.By{ledger.ByPerson}})
	if len(none) != 4 {
		t.Errorf("an empty report has %d lines", len(none))
	}
}
