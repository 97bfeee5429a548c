package gosdk

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// sickness is what one account does before the first byte of an answer.
type sickness struct {
	fault string
	// messagesOnly faults shape streams and do not concern other endpoints.
	messagesOnly bool
}

var sicknesses = []sickness{
	{fault: fakeclaude.WindowFiveHour}, // 429, hours
	{fault: fakeclaude.ClassicSpent},   // 429, seconds
	{fault: fakeclaude.Burst},          // 429 with room in every window
	{fault: fakeclaude.Overloaded},     // 529
	{fault: fakeclaude.InvalidKey},     // 401
	{fault: fakeclaude.TokenRevoked},   // 401
	{fault: fakeclaude.Permission},     // 403
	{fault: fakeclaude.TokenRevoked403},
	{fault: fakeclaude.Internal}, // 500
	{fault: fakeclaude.ResetBeforeHead},
	{fault: fakeclaude.FirstOverloaded, messagesOnly: true},
	{fault: fakeclaude.FirstRateLimit, messagesOnly: true},
	{fault: fakeclaude.FirstAPIError, messagesOnly: true},
	{fault: fakeclaude.FirstAuth, messagesOnly: true},
}

// TestOneSickAccount: whatever one of the four accounts does before the first
// byte, no call fails and the SDK has nothing to retry.
func TestOneSickAccount(t *testing.T) {
	t.Parallel()
	s := newStage(t, len(sicknesses)*len(members), "")
	for _, illness := range sicknesses {
		for _, sick := range members {
			t.Run(illness.fault+"/"+sick, func(t *testing.T) {
				t.Parallel()
				withOneSick(t, s.fresh(t), illness, sick)
			})
		}
	}
}

func withOneSick(t *testing.T, p *pool, illness sickness, sick string) {
	t.Helper()
	fault := fakeclaude.Fault{Name: illness.fault, Times: -1, Path: "*"}
	p.fake.SetFault(sick, fault)
	// Whatever the choice would be, the sick account is asked first.
	p.pin(t, sick)
	c := p.ann()
	// A failing free endpoint does not keep the paid one from finding out itself,
	// so the sick account is met on each of them.
	if _, err := c.Messages.CountTokens(bounded(t), anthropic.MessageCountTokensParams{Model: anthropic.ModelClaudeSonnet5, Messages: hello("Count").Messages}); err != nil {
		t.Errorf("count_tokens: %v", err)
	}
	c.tape.only(t)
	if _, err := c.Models.Get(bounded(t), "claude-opus-5", anthropic.ModelGetParams{}); err != nil {
		t.Errorf("models: %v", err)
	}
	c.tape.only(t)
	for i := range 2 {
		params := hello(fmt.Sprintf("Stream %d", i))
		got := c.stream(t, params)
		if got.err != nil || got.text == "" || got.message.StopReason == "" {
			t.Errorf("stream %d: %v, %s", i, got.err, got.message.RawJSON())
		}
		this := c.tape.only(t)
		want := p.reference().stream(t, params)
		if got.text != want.text {
			t.Errorf("stream %d says %q, directly %q", i, got.text, want.text)
		}
		if told := this.header.Get("X-Shunt-Account"); told == sick || told == "" {
			t.Errorf("stream %d was answered by %q", i, told)
		}
	}
	message, err := c.Messages.New(bounded(t), hello("Answer"))
	if err != nil {
		t.Fatalf("message: %v", err)
	}
	c.tape.only(t)
	if textOf(message) == "" {
		t.Errorf("message: %s", message.RawJSON())
	}
	mustHaveMet(t, p, illness, sick)
	p.mustBehave(t)
}

// mustHaveMet fails the test when the sickness never showed, and when upstream
// saw a retry of the SDK's.
func mustHaveMet(t *testing.T, p *pool, illness sickness, sick string) {
	t.Helper()
	onStream, elsewhere := false, false
	for _, r := range p.fake.Requests() {
		if count := r.Header.Get("X-Stainless-Retry-Count"); count != "0" {
			t.Errorf("upstream saw the SDK's retry %q", count)
		}
		if r.Fault == "" {
			continue
		}
		if r.Account != sick || r.Fault != illness.fault {
			t.Errorf("%s had %s", r.Account, r.Fault)
		}
		if strings.HasPrefix(r.URI, "/v1/messages?") || r.URI == "/v1/messages" {
			onStream = onStream || r.Stream || !illness.messagesOnly
		} else {
			elsewhere = true
		}
	}
	// A refused credential benches the account for every endpoint at once.
	if !onStream && !elsewhere || illness.messagesOnly && !onStream {
		t.Errorf("%s was never asked while it had %s", sick, illness.fault)
	}
}

// TestManyCallsAtOnce: calls in parallel over a pool with a sick account all
// come back, each with its own answer.
func TestManyCallsAtOnce(t *testing.T) {
	t.Parallel()
	p := newStage(t, 1, "").fresh(t)
	p.fake.SetFault("a", fakeclaude.Always(fakeclaude.WindowFiveHour))
	p.fake.SetFault("c", fakeclaude.Always(fakeclaude.ResetBeforeHead))
	through, direct := p.ann(), p.reference()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			params := hello(fmt.Sprintf("Call number %d", i))
			want, err := direct.Messages.New(bounded(t), params)
			if err != nil {
				t.Errorf("call %d, directly: %v", i, err)
				return
			}
			if i%2 == 0 {
				got, err := through.Messages.New(bounded(t), params)
				if err != nil || got.RawJSON() != want.RawJSON() {
					t.Errorf("call %d: %v", i, err)
				}
				return
			}
			if got := through.stream(t, params); got.err != nil || got.text == "" || got.message.StopReason == "" {
				t.Errorf("call %d: %v, %q", i, got.err, got.text)
			}
		})
	}
	wg.Wait()
	if tries := through.tape.rewind(); len(tries) != 40 {
		t.Errorf("40 calls took %d tries", len(tries))
	}
	met := map[string]bool{}
	for _, r := range p.fake.Requests() {
		met[r.Fault] = true
	}
	if !met[fakeclaude.WindowFiveHour] || !met[fakeclaude.ResetBeforeHead] {
		t.Errorf("the sick accounts were not met: %v", met)
	}
	p.mustBehave(t)
}
