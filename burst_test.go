package shunt

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// longPrompt is worth waiting 8 s for.
var longPrompt = strings.Replace(helloStream, "Hello", strings.Repeat("Hello, ", 32000/7), 1)

// tries counts the requests since the first n, by account.
func (b *bench) tries(n int) map[string]int {
	tries := map[string]int{}
	for _, r := range b.fake.Requests()[n:] {
		tries[r.Account]++
	}
	return tries
}

// warm makes a conversation that one account has served, and names that account.
func (b *bench) warm(prompt string) (session []string, account string) {
	b.t.Helper()
	session = []string{"X-Claude-Code-Session-Id", "11111111-2222-4333-8444-555555555555"}
	b.ask(prompt, session...).mustServe(b.t, "the first request")
	b.mustBeIdle()
	return session, b.fake.Requests()[0].Account
}

func TestWarmSessionWaitsForItsBurst(t *testing.T) {
	t.Parallel()
	b := newFour(t, "")
	session, own := b.warm(longPrompt)
	b.fake.SetFault(own, secondsBurst)
	begun := time.Now()
	b.ask(longPrompt, session...).mustServe(t, "after a burst")
	if tries := b.tries(1); len(tries) != 1 || tries[own] != 2 || time.Since(begun) < 900*time.Millisecond {
		t.Errorf("asked %v in %v; the session is at %s", tries, time.Since(begun), own)
	}
}

func TestColdSessionMovesAfterABurst(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings, prompt string
		warm             bool
	}{
		"a new conversation":    {"", longPrompt, false},
		"a prompt of no length": {"", helloStream, true},
		"hold off":              {"hold off\n", longPrompt, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFour(t, test.settings)
			sick, session, before := "b", []string(nil), 0
			if test.warm {
				session, sick = b.warm(test.prompt)
				before = 1
			}
			b.h.live.state.Pin(sick)
			b.fake.SetFault(sick, secondsBurst)
			begun := time.Now()
			b.ask(test.prompt, session...).mustServe(t, "after a burst")
			if tries := b.tries(before); len(tries) != 2 || tries[sick] != 1 || time.Since(begun) > 900*time.Millisecond {
				t.Errorf("asked %v in %v, %s first", tries, time.Since(begun), sick)
			}
		})
	}
}

// TestThreeBurstsAreEnough: the own account is waited for twice, then the session
// moves.
func TestThreeBurstsAreEnough(t *testing.T) {
	t.Parallel()
	b := newFour(t, "")
	session, own := b.warm(longPrompt)
	b.fake.SetFault(own, fakeclaude.Fault{Name: fakeclaude.Burst, Times: -1, RetryAfter: time.Second})
	b.ask(longPrompt, session...).mustServe(t, "after three bursts")
	if tries := b.tries(1); len(tries) != 2 || tries[own] != 3 {
		t.Errorf("asked %v; the session is at %s", tries, own)
	}
}

// TestBurstsEnd: however many accounts say so however often, the request ends,
// with at most three tries at each.
func TestBurstsEnd(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		accounts int
		most     int
	}{
		"one account": {"", 1, 3}, "two accounts": {"", 2, 3}, "many retries": {"retries 20\n", 1, 3}, "hold off": {"hold off\n", 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			block := "remote_key ann " + annKey + "\nupstream %UPSTREAM%\naccount a {\napi_key sk-ant-api03-aaaa\n}\n" + test.settings
			if test.accounts == 2 {
				block += "account b {\napi_key sk-ant-api03-bbbb\n}"
			}
			b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:test.accounts]}, block)
			b.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.Burst, Times: -1, RetryAfter: time.Second})
			r := b.ask(longPrompt)
			if r.status != http.StatusTooManyRequests || !strings.Contains(r.body, "briefly rate-limited") || r.header.Get("Retry-After") != "1" {
				t.Errorf("%d %v %s", r.status, r.header, r.body)
			}
			tries := b.tries(0)
			for account, n := range tries {
				if n != test.most {
					t.Errorf("%s was asked %d times, expected %d", account, n, test.most)
				}
			}
			if len(tries) != test.accounts {
				t.Errorf("asked %v", tries)
			}
		})
	}
}

// TestBurstsAreCountedForTheWholeRequest: also when it starts over because another
// account is open again.
func TestBurstsAreCountedForTheWholeRequest(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:2]}, "remote_key ann "+annKey+"\nupstream %UPSTREAM%\naccount a {\napi_key sk-ant-api03-aaaa\n}\naccount b {\napi_key sk-ant-api03-bbbb\n}")
	b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.Burst, Times: -1, RetryAfter: time.Second})
	b.fake.SetFault("b", fakeclaude.Fault{Name: fakeclaude.ClassicSpent, RetryAfter: 4 * time.Second})
	b.ask(hello).mustServe(t, "when b has room again")
	if tries := b.tries(0); tries["a"] != 3 || tries["b"] != 2 {
		t.Errorf("asked %v", tries)
	}
}

// TestHoldOffNeverReturns: not even when the account is open again while the
// request is elsewhere.
func TestHoldOffNeverReturns(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		tries    int
	}{"off": {"hold off\n", 1}, "on": {"hold 1s\n", 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:2]}, "remote_key ann "+annKey+"\nupstream %UPSTREAM%\naccount a {\napi_key sk-ant-api03-aaaa\n}\naccount b {\napi_key sk-ant-api03-bbbb\n}\n"+test.settings)
			slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(1200 * time.Millisecond)
				w.Header().Set("Retry-After", "3600")
				w.WriteHeader(http.StatusTooManyRequests)
			}))
			defer slow.Close()
			for _, a := range b.h.accounts {
				if a.member.Name == "b" {
					a.base.host = strings.TrimPrefix(slow.URL, "http://")
				}
			}
			b.h.live.state.Pin("a")
			b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.Burst, Times: -1, RetryAfter: time.Second})
			if r := b.ask(hello); r.status != http.StatusTooManyRequests || b.tries(0)["a"] < test.tries || test.tries == 1 && b.tries(0)["a"] > 1 {
				t.Errorf("asked %v: %d %s", b.tries(0), r.status, r.body)
			}
		})
	}
}

// TestBurstOfTokenCounting: nobody is benched for it, so the account is not asked
// again.
func TestBurstOfTokenCounting(t *testing.T) {
	b := newFour(t, "")
	b.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.Burst, Times: -1, RetryAfter: time.Second, Path: "/v1/messages/count_tokens"})
	r := b.do(http.MethodPost, "/v1/messages/count_tokens", hello)
	for account, n := range b.tries(0) {
		if n != 1 {
			t.Errorf("%s was asked %d times: %d %s", account, n, r.status, r.body)
		}
	}
}
