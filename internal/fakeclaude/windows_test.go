package fakeclaude_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

func TestFreshWindowsAreTold(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	a := w.do(call{bearer: tokenA, body: ask(modelID, false, "x")})
	began := w.clock.Now()
	for suffix, want := range map[string]string{
		"status": "allowed", "representative-claim": "five_hour", "reset": seconds(began.Add(5 * time.Hour)),
		"5h-status": "allowed", "5h-utilization": "0.0", "5h-reset": seconds(began.Add(5 * time.Hour)), "5h-surpassed-threshold": "",
		"7d-status": "allowed", "7d-utilization": "0.0", "7d-reset": seconds(began.Add(168 * time.Hour)),
		"fallback-percentage": "0.5", "overage-status": "rejected", "overage-disabled-reason": "org_level_disabled",
	} {
		w.equal(suffix, unified(a, suffix), want)
	}
	for name := range w.do(call{key: keyK, body: ask(modelID, false, "x")}).Header {
		if strings.Contains(name, "Unified") {
			t.Errorf("an API key gets %s", name)
		}
	}
}

func seconds(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func TestFiveHourWindowFillsAndResets(t *testing.T) {
	w := start(t, fakeclaude.Options{OutputTokens: 100, Accounts: []fakeclaude.Account{{Name: "a", AccessToken: tokenA, FiveHour: 10_000}}})
	opened := w.clock.Now()
	body := ask(modelID, false, "x")
	served, warned := 0, 0
	var a answer
	for {
		w.clock.advance(time.Minute)
		if a = w.do(call{bearer: tokenA, body: body}); a.StatusCode != 200 {
			break
		}
		served++
		if unified(a, "status") == "allowed_warning" {
			warned++
			w.equal("threshold", unified(a, "5h-surpassed-threshold"), "0.75")
			w.equal("7d stays", unified(a, "7d-status"), "allowed")
		}
	}
	cost := w.fake.Books()["a"].Units / float64(served)
	if want := int(10_000/cost) + 1; served != want {
		t.Errorf("served %d at %.0f units each, want %d", served, cost, want)
	}
	if warned < served/10 || warned > served/4 {
		t.Errorf("%d of %d answers warned, want about a fifth", warned, served)
	}
	w.refused(a, 429, "rate_limit_error", "This request would exceed your account's rate limit. Please try again later.")
	reset := opened.Add(time.Minute + 5*time.Hour)
	w.equal("status", unified(a, "status"), "rejected")
	w.equal("claim", unified(a, "representative-claim"), "five_hour")
	w.equal("reset", unified(a, "reset"), seconds(reset))
	w.equal("5h-status", unified(a, "5h-status"), "rejected")
	w.equal("7d-status", unified(a, "7d-status"), "allowed")
	w.equal("retry-after", a.Header.Get("Retry-After"), strconv.Itoa(int(reset.Sub(w.clock.Now()).Seconds())))
	w.equal("x-should-retry", a.Header.Get("X-Should-Retry"), "true")
	w.equal("refused in the books", w.fake.Books()["a"].Refused, int64(1))

	w.clock.advance(reset.Sub(w.clock.Now()) - time.Second)
	w.equal("a second before", w.do(call{bearer: tokenA, body: body}).StatusCode, 429)
	w.clock.advance(time.Second)
	a = w.do(call{bearer: tokenA, body: body})
	w.equal("at the reset", a.StatusCode, 200)
	w.equal("the new window", unified(a, "5h-reset"), seconds(reset.Add(5*time.Hour)))
	w.equal("the week goes on", unified(a, "7d-reset"), seconds(opened.Add(time.Minute+168*time.Hour)))
}

func TestSpeedTellsTheTruth(t *testing.T) {
	w := start(t, fakeclaude.Options{Speed: 300})
	a := w.do(call{bearer: tokenA, body: ask(modelID, false, "x")})
	w.equal("5h", unified(a, "5h-reset"), seconds(w.clock.Now().Add(time.Minute)))
	w.equal("7d", unified(a, "7d-reset"), seconds(w.clock.Now().Add(2016*time.Second)))
	w.fake.Spend("a", "5h", 1.3)
	a = w.do(call{bearer: tokenA, body: ask(modelID, false, "x")})
	w.equal("retry-after", a.Header.Get("Retry-After"), "60")
	w.equal("over full", unified(a, "5h-utilization"), "1.3")
	w.equal("threshold", unified(a, "5h-surpassed-threshold"), "1.0")
}

func TestLatestRejectedResetSpeaks(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	w.fake.Spend("a", "5h", 1)
	weekEnds := w.fake.Spend("a", "7d", 1)
	a := w.do(call{bearer: tokenA, body: ask(modelID, false, "x")})
	w.equal("claim", unified(a, "representative-claim"), "seven_day")
	w.equal("reset", unified(a, "reset"), seconds(weekEnds))
	w.equal("retry-after", a.Header.Get("Retry-After"), strconv.Itoa(7*86400))
	w.clock.advance(5 * time.Hour)
	a = w.do(call{bearer: tokenA, body: ask(modelID, false, "x")})
	w.equal("five hours later", a.StatusCode, 429)
	w.equal("5h is open again", unified(a, "5h-status"), "allowed")
	w.equal("and does not run", unified(a, "5h-reset"), "")
}

func TestModelWindowBindsItsFamilyOnly(t *testing.T) {
	w := start(t, fakeclaude.Options{Accounts: []fakeclaude.Account{{Name: "a", AccessToken: tokenA, ModelWeek: map[string]float64{"opus": 1000}}}})
	w.fake.Spend("a", "7d_opus", 1)
	a := w.do(call{bearer: tokenA, body: ask("claude-opus-5", false, "x")})
	w.equal("opus", a.StatusCode, 429)
	w.equal("status", unified(a, "status"), "rejected")
	w.equal("claim", unified(a, "representative-claim"), "seven_day_opus")
	w.equal("7d_opus-status", unified(a, "7d_opus-status"), "rejected")
	w.equal("5h-status", unified(a, "5h-status"), "allowed")
	w.equal("7d-status", unified(a, "7d-status"), "allowed")
	a = w.do(call{bearer: tokenA, body: ask(modelID, false, "x")})
	w.equal("sonnet", a.StatusCode, 200)
	w.equal("sonnet's status", unified(a, "status"), "allowed")
}

func TestExtraUsageTakesOver(t *testing.T) {
	w := start(t, fakeclaude.Options{OutputTokens: 100, Accounts: []fakeclaude.Account{{Name: "a", AccessToken: tokenA, FiveHour: 2000, ExtraUsage: 1200}}})
	a := w.do(call{bearer: tokenA, body: ask(modelID, false, "x")})
	w.equal("before", unified(a, "overage-status"), "allowed")
	w.equal("not in use", unified(a, "overage-in-use"), "")
	w.fake.Spend("a", "5h", 1)
	a = w.do(call{bearer: tokenA, body: ask(modelID, false, "x")})
	w.equal("in extra usage", a.StatusCode, 200)
	w.equal("status", unified(a, "status"), "allowed")
	w.equal("5h-status", unified(a, "5h-status"), "rejected")
	w.equal("in use", unified(a, "overage-in-use"), "true")
	w.equal("claim", unified(a, "representative-claim"), "overage")
	for a.StatusCode == 200 {
		a = w.do(call{bearer: tokenA, body: ask(modelID, false, "x")})
	}
	w.equal("used up", unified(a, "overage-disabled-reason"), "out_of_credits")
	w.equal("the window is not charged", unified(a, "5h-utilization"), "1.0")
}

func TestClassicBuckets(t *testing.T) {
	w := start(t, fakeclaude.Options{OutputTokens: 100, Accounts: []fakeclaude.Account{
		{Name: "k", APIKey: keyK, Org: "o", RPM: 3, ITPM: 9000, OTPM: 60_000},
		{Name: "l", APIKey: keyK + "2", Org: "o", RPM: 3, ITPM: 9000, OTPM: 60_000},
	}})
	small := ask(modelID, false, "x")
	a := w.do(call{key: keyK, body: small})
	for name, want := range map[string]string{
		"Requests-Limit": "3", "Requests-Remaining": "2", "Requests-Reset": w.clock.Now().Add(20 * time.Second).Format(time.RFC3339),
		"Input-Tokens-Limit": "9000", "Input-Tokens-Remaining": "9000",
		"Output-Tokens-Limit": "60000", "Tokens-Limit": "9000",
	} {
		w.equal(name, a.Header.Get("Anthropic-Ratelimit-"+name), want)
	}
	w.do(call{key: keyK + "2", body: small})
	w.do(call{key: keyK, body: small})
	a = w.do(call{key: keyK + "2", body: small})
	w.refused(a, 429, "rate_limit_error", "rate limit of 3 requests per minute")
	w.equal("remaining", a.Header.Get("Anthropic-Ratelimit-Requests-Remaining"), "0")
	w.equal("retry-after", a.Header.Get("Retry-After"), "20")
	w.equal("another class", w.do(call{key: keyK, body: ask("claude-opus-5", false, "x")}).StatusCode, 200)
	w.clock.advance(20 * time.Second)
	w.equal("after the wait", w.do(call{key: keyK, body: small}).StatusCode, 200)

	w.clock.advance(time.Minute)
	large := ask(modelID, false, strings.Repeat("a", 28_000))
	a = w.do(call{key: keyK, body: large})
	w.equal("7000 tokens of 9000", a.StatusCode, 200)
	w.equal("rounded", a.Header.Get("Anthropic-Ratelimit-Input-Tokens-Remaining"), "2000")
	a = w.do(call{key: keyK, body: large})
	w.refused(a, 429, "rate_limit_error", "9000 input tokens per minute")
	w.equal("until 7000 are there again", a.Header.Get("Retry-After"), "34")
}

func TestClassicOutputAndCachedInput(t *testing.T) {
	w := start(t, fakeclaude.Options{OutputTokens: 600, Accounts: []fakeclaude.Account{
		{Name: "k", APIKey: keyK, ITPM: 2000, OTPM: 1000},
		{Name: "l", APIKey: keyK + "2", ITPM: 2000},
	}})
	a := w.do(call{key: keyK, body: ask(modelID, false, "x")})
	w.equal("told before the answer is written", a.Header.Get("Anthropic-Ratelimit-Output-Tokens-Remaining"), "1000")
	a = w.do(call{key: keyK, body: ask(modelID, false, "x")})
	w.equal("output may overdraw", a.StatusCode, 200)
	w.equal("the tighter one speaks", a.Header.Get("Anthropic-Ratelimit-Tokens-Limit"), "1000")
	a = w.do(call{key: keyK, body: ask(modelID, false, "x")})
	w.refused(a, 429, "rate_limit_error", "1000 output tokens per minute")

	cached := chat(mark, strings.Repeat("u", 2000))
	w.equal("1500 tokens of 2000", w.do(call{key: keyK + "2", body: cached}).StatusCode, 200)
	w.equal("reads from the cache are free", w.do(call{key: keyK + "2", body: cached}).StatusCode, 200)
	fresh := chat(mark, strings.Repeat("v", 4000))
	w.equal("1000 more do not fit", w.do(call{key: keyK + "2", body: fresh}).StatusCode, 429)
}

func TestInFlightLimitIsABurst(t *testing.T) {
	w := start(t, fakeclaude.Options{Accounts: []fakeclaude.Account{{Name: "a", AccessToken: tokenA, MaxInFlight: 1}}})
	w.fake.SetFault("a", fakeclaude.Once(fakeclaude.StallAfterText))
	r, err := w.client.Do(w.request(call{bearer: tokenA, body: ask(modelID, true, "x")}))
	if err != nil {
		t.Fatal(err)
	}
	a := w.do(call{bearer: tokenA, body: ask(modelID, true, "x")})
	w.equal("second", a.StatusCode, 429)
	w.equal("status", unified(a, "status"), "allowed")
	if wait, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || wait < 2 || wait > 8 {
		t.Errorf("retry-after %q", a.Header.Get("Retry-After"))
	}
	r.Body.Close()
	w.await(func(r fakeclaude.Request) bool { return r.Done && r.Cancelled })
	w.equal("after the first left", w.do(call{bearer: tokenA, body: ask(modelID, true, "x")}).StatusCode, 200)
}
