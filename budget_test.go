package shunt

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/ledger"
)

func TestBudgetInTokens(t *testing.T) {
	b := newTeam(t, "budget 100tokens per day\nbudget 1M tokens per month", "time_zone Asia/Tokyo", fakeclaude.Options{OutputTokens: 60})
	served := 0
	for range 10 {
		r := b.ask(hello)
		if r.status != 200 {
			break
		}
		served++
		b.mustBeIdle()
	}
	spent := b.h.live.ledger.Spent(ledger.OfPerson, "ann", ledger.PerDay)
	if served == 0 || served == 10 || spent.Tokens < 100 {
		t.Fatalf("%d were served, and used %+v", served, spent)
	}
	r := b.ask(hello)
	r.mustRefuse(t, "after the budget", 429, "billing_error", "100 tokens per day", strconv.FormatInt(spent.Tokens, 10)+" tokens were used", "00:00 JST")
	if r.header.Get("X-Should-Retry") != "false" {
		t.Error("the client may try again by itself")
	}
	after, err := strconv.Atoi(r.header.Get("Retry-After"))
	ends := b.h.live.ledger.Ends(ledger.PerDay)
	if err != nil || time.Until(ends).Seconds()-float64(after) > 5 || float64(after)-time.Until(ends).Seconds() > 5 {
		t.Errorf("retry after %s; the day ends in %v", r.header.Get("Retry-After"), time.Until(ends))
	}
	if r := b.do("POST", "/v1/messages/count_tokens", hello); r.status != 200 {
		t.Errorf("counting tokens costs nothing: %d", r.status)
	}
	b.do("POST", "/v1/messages/batches", `{"requests":[]}`).mustRefuse(t, "a batch", 400, "invalid_request_error", "budget")
	b.ask(hello, "X-Api-Key", "", "X-Api-Key", bobKey).mustServe(t, "bob")
}

func TestBudgetInDollars(t *testing.T) {
	b := newTeam(t, "budget 0.0005usd per week", "", fakeclaude.Options{OutputTokens: 200})
	b.ask(hello).mustServe(t, "the first")
	b.mustBeIdle()
	r := b.ask(hello)
	r.mustRefuse(t, "the second", 429, "billing_error", "$0.0005 per week")
	b.ask(strings.Replace(hello, "claude-sonnet-5", "claude-unheard-of", 1)).mustRefuse(t, "a model without a price", 400, "invalid_request_error", "claude-unheard-of", "price")
	b.ask("\x1f\x8bnonsense", "Content-Encoding", "gzip").mustRefuse(t, "a body that cannot be read", 400, "invalid_request_error", "compressed")
}

// TestBudgetIsOverrunByWhatIsInFlightOnly: those that wait for a place are looked at
// again when they get it.
func TestBudgetIsOverrunByWhatIsInFlightOnly(t *testing.T) {
	b := newTeam(t, "max_concurrent 2\nbudget 1000tokens per day", "", fakeclaude.Options{OutputTokens: 150, Pace: time.Millisecond})
	var all sync.WaitGroup
	var mu sync.Mutex
	largest, statuses := int64(0), map[int]int{}
	for range 30 {
		all.Go(func() {
			r := b.ask(strings.Replace(helloStream, `"max_tokens":100`, `"max_tokens":400`, 1))
			mu.Lock()
			defer mu.Unlock()
			statuses[r.status]++
		})
	}
	all.Wait()
	b.mustBeIdle()
	for _, r := range b.h.group.View().Recent {
		largest = max(largest, r.Usage.Total())
	}
	spent := b.h.live.ledger.Spent(ledger.OfPerson, "ann", ledger.PerDay).Tokens
	if spent < 1000 || spent >= 1000+2*largest || statuses[429] == 0 || statuses[200]+statuses[429] != 30 {
		t.Errorf("%d tokens of 1000 with requests of up to %d; %v", spent, largest, statuses)
	}
}

func TestPriceFileOfAPool(t *testing.T) {
	file := t.TempDir() + "/prices.json"
	putFile(t, file, `{"as_of":"2026-12-01","models":[{"model":"claude-sonnet-5","input":1000,"output":1000}]}`)
	b := newTeam(t, "admin\nbudget 0.05usd per day", "prices "+file, fakeclaude.Options{})
	b.ask(hello).mustServe(t, "the first")
	b.mustBeIdle()
	b.ask(hello).mustRefuse(t, "the second", 429, "billing_error")
	if u := b.usage(""); u.PricesAsOf != "2026-12-01" || *u.Total.CostUSD != anthropic.Money(u.Total.TotalTokens)*anthropic.Dollar/1000 {
		t.Errorf("%+v", u.Total)
	}
	putFile(t, file, `{"as_of":"2026-12-01","models":[{"model":"claude-sonnet-5","input":-1}]}`)
	h := &Handler{Prices: file, Accounts: []*Account{{Name: "main", APIKey: "sk-1"}}}
	if err := h.Provision(newContext(t)); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "models[0]") {
		t.Errorf("%v", err)
	}
	_ = h.Cleanup()
}

func TestBudgetsInMetrics(t *testing.T) {
	b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:1]}, "remote_key ann "+annKey+" {\nbudget 10usd per day\nbudget 1000tokens per week\n}\nremote_key bob "+bobKey+
		"\nperson * {\nbudget 500tokens per month\n}\nupstream %UPSTREAM%\naccount a {\napi_key sk-ant-api03-aaaa\nbudget 2000tokens per month\n}")
	b.ask(hello).mustServe(t, "ann")
	b.mustBeIdle()
	used := float64(b.h.live.ledger.Spent(ledger.OfPerson, "ann", ledger.PerDay).Tokens)
	got := scrape(t, b.h.Pool)
	mustHave(t, got, map[string]float64{
		`person_budget_used_ratio{period="week",person="ann",unit="tokens"}`:  used / 1000,
		`person_budget_used_ratio{period="month",person="bob",unit="tokens"}`: 0,
		`account_budget_used_ratio{account="a",period="month",unit="tokens"}`: used / 2000,
	})
	if usd := got[`person_budget_used_ratio{period="day",person="ann",unit="usd"}`]; usd <= 0 || usd > 0.01 {
		t.Errorf("of the dollars: %g", usd)
	}
}
