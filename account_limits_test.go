package shunt

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/ledger"
)

func TestBudgetOfAnAccount(t *testing.T) {
	b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:2], OutputTokens: 60}, "remote_key ann "+annKey+" {\nadmin\n}\nhold off\nupstream %UPSTREAM%\naccount a {\napi_key sk-ant-api03-aaaa\nbudget 300tokens per month\n}\naccount b {\napi_key sk-ant-api03-bbbb\npriority 1\nbudget 100tokens per day\n}")
	var accounts []string
	for range 20 {
		r := b.ask(hello)
		if r.status != 200 {
			break
		}
		accounts = append(accounts, r.header.Get("X-Shunt-Account"))
	}
	text := strings.Join(accounts, "")
	if !strings.Contains(text, "ab") || strings.Contains(text, "ba") || len(accounts) > 10 {
		t.Errorf("served by %v", accounts)
	}
	books := b.h.live.ledger
	for name, most := range map[string]int64{"a": 300, "b": 100} {
		if spent := books.Spent(ledger.OfAccount, name, ledger.PerMonth).Tokens; spent < most || spent > most+200 {
			t.Errorf("%s has spent %d of %d", name, spent, most)
		}
	}
	r := b.ask(hello)
	r.mustRefuse(t, "when both are used up", 429, "rate_limit_error", "budget")
	if r.header.Get("X-Should-Retry") != "false" {
		t.Error("the client may try again by itself")
	}
	status := b.do("GET", "/status", "").body
	if !strings.Contains(status, `"verdict":"account_budget"`) || !strings.Contains(status, "its budget of 300 tokens per month is used up") {
		t.Errorf("%s", status)
	}
	if r := b.do("GET", "/explain?model=claude-sonnet-5", ""); !strings.Contains(r.body, `"limit"`) {
		t.Errorf("%s", r.body)
	}
	if r := b.do("GET", "/health", ""); r.status != 503 {
		t.Errorf("health: %d", r.status)
	}
	if r := b.do("POST", "/v1/messages/count_tokens", hello); r.status != 200 {
		t.Errorf("counting tokens costs nothing: %d", r.status)
	}
	// The month after, or another configuration: it is open again.
	b.stopApp()
	b.h.accounts[0].config.Budgets[0].Tokens = 1e9
	b.h.closeAccounts()
	b.ask(hello).mustServe(t, "after the budget was raised")
}

// planWorld is an account of a small plan with paid extra usage, whose five-hour window
// is filled by many requests at once.
func planWorld(t *testing.T, word string) (paid, window, used float64) {
	t.Helper()
	const capacity = 100_000
	b := newBench(t, fakeclaude.Options{Accounts: []fakeclaude.Account{
		{Name: "c", AccessToken: "sk-ant-oat01-cccc", FiveHour: capacity, Week: 50 * capacity, ExtraUsage: 1e9},
		{Name: "a", APIKey: "sk-ant-api03-aaaa"},
	}}, "remote_key ann "+annKey+" {\nadmin\n}\nupstream %UPSTREAM%\naccount c {\nsetup_token sk-ant-oat01-cccc\nowner *\n"+word+"\n}\naccount a {\napi_key sk-ant-api03-aaaa\npriority 1\n}")
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 60 {
				b.ask(strings.Replace(helloStream, "Hello", fmt.Sprint("Hello ", worker, i, strings.Repeat(" and so on", 100)), 1)).mustServe(t, "one of many")
			}
		})
	}
	all.Wait()
	b.mustBeIdle()
	books := b.fake.Books()["c"]
	if word != "" && b.fake.Books()["a"].Requests == 0 {
		t.Error("the other account was never needed: nothing was shown")
	}
	return books.Extra, capacity, books.Units
}

// TestPlanOnlyIsNeverPaidFor: with plan_only an account's extra usage stays untouched,
// and little of its window.
func TestPlanOnlyIsNeverPaidFor(t *testing.T) {
	if paid, _, _ := planWorld(t, ""); paid == 0 {
		t.Fatal("without plan_only nothing is paid for either: the test shows nothing")
	}
	paid, window, used := planWorld(t, "plan_only")
	if paid > 0 {
		t.Errorf("%g was paid for as extra usage", paid)
	}
	if used < 0.85*window {
		t.Errorf("only %.0f%% of the window was used", 100*used/window)
	}
	t.Logf("%.1f%% of the window was used", 100*used/window)
}

// TestPlanOnlyWhenUpstreamSaysThatItIsPaid: the account rests until the window is new.
func TestPlanOnlyWhenUpstreamSaysThatItIsPaid(t *testing.T) {
	b := newBench(t, fakeclaude.Options{Accounts: []fakeclaude.Account{
		{Name: "c", AccessToken: "sk-ant-oat01-cccc", Plan: fakeclaude.Max5, ExtraUsage: 1e9}, {Name: "a", APIKey: "sk-ant-api03-aaaa"},
	}}, "remote_key ann "+annKey+" {\nadmin\n}\nhold off\nupstream %UPSTREAM%\naccount c {\nsetup_token sk-ant-oat01-cccc\nowner *\nplan_only\n}")
	reset := b.fake.Spend("c", "5h", 1.2)
	b.ask(hello).mustServe(t, "the first, which tells")
	r := b.ask(hello)
	r.mustRefuse(t, "the second", 429, "rate_limit_error", "the plan covers")
	if got := r.header.Get("Anthropic-Ratelimit-Unified-Reset"); got != fmt.Sprint(reset.Unix()) {
		t.Errorf("until %s; the window ends at %d", got, reset.Unix())
	}
	var status struct {
		Accounts []struct {
			Available bool   `json:"available"`
			Reason    string `json:"reason"`
			Until     int64  `json:"cooldown_until_ms"`
		} `json:"accounts"`
	}
	if err := json.Unmarshal([]byte(b.do("GET", "/status", "").body), &status); err != nil {
		t.Fatal(err)
	}
	if a := status.Accounts[0]; a.Available || a.Until != reset.UnixMilli() || !strings.Contains(a.Reason, "extra usage") {
		t.Errorf("%+v", a)
	}
}
