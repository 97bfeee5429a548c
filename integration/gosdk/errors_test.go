package gosdk

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// apiError is err as the SDK's own type.
func apiError(t *testing.T, err error) *anthropic.Error {
	t.Helper()
	var typed *anthropic.Error
	if !errors.As(err, &typed) {
		t.Fatalf("expected an *anthropic.Error, got %T: %v", err, err)
	}
	return typed
}

// envelope is the body of an error.
type envelope struct {
	Type  string `json:"type"`
	Error struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
	RequestID string `json:"request_id"`
}

func envelopeOf(t *testing.T, e *anthropic.Error) envelope {
	t.Helper()
	var body envelope
	if err := json.Unmarshal([]byte(e.RawJSON()), &body); err != nil {
		t.Fatalf("the error's body %q: %v", e.RawJSON(), err)
	}
	if body.Type != "error" || body.Error.Message == "" || body.Error.Type != string(e.Type()) {
		t.Errorf("the error's body is %s, its type %s", e.RawJSON(), e.Type())
	}
	return body
}

// mustBeOurs checks an error that the pool made itself: a person can name it to
// whoever runs the pool.
func mustBeOurs(t *testing.T, e *anthropic.Error) {
	t.Helper()
	id := e.Response.Header.Get("X-Shunt-Request-Id")
	if body := envelopeOf(t, e); !strings.HasPrefix(id, "shunt_") || body.RequestID != id || e.RequestID != id {
		t.Errorf("the request is %q in the headers, %q for the SDK and %q in the body", id, e.RequestID, body.RequestID)
	}
}

// both makes one call of each kind and checks what each returned. Retries of the
// two are told apart by their tapes.
func both(t *testing.T, c *client, check func(t *testing.T, err error, tries []*try, took time.Duration)) {
	t.Helper()
	begun := time.Now()
	_, err := c.Messages.New(bounded(t), hello("Answer"))
	check(t, err, c.tape.rewind(), time.Since(begun))
	begun = time.Now()
	got := c.stream(t, hello("Stream"))
	if got.events != 0 {
		t.Errorf("a failed stream had %d events", got.events)
	}
	check(t, got.err, c.tape.rewind(), time.Since(begun))
}

// mustCount checks the number of tries and the SDK's own counter of them.
func mustCount(t *testing.T, tries []*try, want int) {
	t.Helper()
	if len(tries) != want {
		t.Errorf("the SDK made %d tries, expected %d", len(tries), want)
	}
	for i, try := range tries {
		if try.retryCount != strconv.Itoa(i) {
			t.Errorf("try %d says retry %s", i+1, try.retryCount)
		}
	}
}

func TestWrongKey(t *testing.T) {
	t.Parallel()
	p := newStage(t, 1, "").fresh(t)
	for name, test := range map[string]struct {
		opt  option.RequestOption
		says string
	}{
		"api key":           {option.WithAPIKey("key-of-nobody"), "not known here"},
		"bearer":            {option.WithAuthToken("key-of-nobody"), "not known here"},
		"Anthropic's own":   {option.WithAPIKey(secrets["a"]), "not a credential of Anthropic's"},
		"Anthropic's OAuth": {option.WithAuthToken(secrets["c"]), "not a credential of Anthropic's"},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, p.client(test.opt), func(t *testing.T, err error, tries []*try, took time.Duration) {
				t.Helper()
				e := apiError(t, err)
				mustCount(t, tries, 1)
				mustBeOurs(t, e)
				if e.StatusCode != http.StatusUnauthorized || e.Type() != anthropic.ErrorTypeAuthenticationError || !strings.Contains(e.Error(), test.says) {
					t.Errorf("got %v", e)
				}
				if e.Response.Header.Get("X-Should-Retry") != "false" || took > 2*time.Second {
					t.Errorf("after %v, x-should-retry %q", took, e.Response.Header.Get("X-Should-Retry"))
				}
			})
			c := p.client(test.opt)
			if _, err := c.Models.List(bounded(t), anthropic.ModelListParams{}); apiError(t, err).StatusCode != http.StatusUnauthorized {
				t.Errorf("models: %v", err)
			}
			c.tape.only(t)
		})
	}
	if n := len(p.fake.Requests()); n != 0 {
		t.Errorf("upstream saw %d requests of a stranger's", n)
	}
}

// stages of a case: with the default hold, and without any.
const holdOff = "hold off"

// TestAllAccountsSpent: the reset is hours away, so the call fails at once, once,
// and says until when.
func TestAllAccountsSpent(t *testing.T) {
	t.Parallel()
	p := newStage(t, 1, "").fresh(t)
	p.fake.SetFault("*", fakeclaude.Always(fakeclaude.WindowFiveHour))
	asked := 0
	both(t, p.ann(), func(t *testing.T, err error, tries []*try, took time.Duration) {
		t.Helper()
		e := apiError(t, err)
		mustCount(t, tries, 1)
		mustBeOurs(t, e)
		if e.StatusCode != http.StatusTooManyRequests || e.Type() != anthropic.ErrorTypeRateLimitError {
			t.Errorf("got %v", e)
		}
		if took > 2*time.Second {
			t.Errorf("the call took %v to fail", took)
		}
		message := envelopeOf(t, e).Error.Message
		if !strings.Contains(message, "all 4 accounts") || !strings.Contains(message, "5-hour limit") || !regexp.MustCompile(`until .*\d\d:\d\d UTC`).MatchString(message) {
			t.Errorf("the message names no time: %s", message)
		}
		wait, err := strconv.Atoi(e.Response.Header.Get("Retry-After"))
		if err != nil || wait < 3600 || wait > 5*3600+2 || e.Response.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("retry-after %q, x-should-retry %q", e.Response.Header.Get("Retry-After"), e.Response.Header.Get("X-Should-Retry"))
		}
		asked += len(tries)
	})
	if n := len(p.fake.Requests()); n != len(members) {
		t.Errorf("upstream was asked %d times for %d calls, expected once for each account", n, asked)
	}
	p.mustBehave(t)
}

// TestAllAccountsBusyForASecond: without holding, the SDK waits as long as it is
// told and tries again; with holding it never notices.
func TestAllAccountsBusyForASecond(t *testing.T) {
	t.Parallel()
	burst := func(times int) fakeclaude.Fault {
		return fakeclaude.Fault{Name: fakeclaude.Burst, Times: times, RetryAfter: time.Second}
	}
	off, held := newStage(t, 2, holdOff), newStage(t, 1, "")
	t.Run("for ever", func(t *testing.T) {
		t.Parallel()
		p := off.fresh(t)
		p.fake.SetFault("*", burst(-1))
		both(t, p.ann(), func(t *testing.T, err error, tries []*try, took time.Duration) {
			t.Helper()
			e := apiError(t, err)
			mustCount(t, tries, 3)
			mustBeOurs(t, e)
			if e.StatusCode != http.StatusTooManyRequests || e.Type() != anthropic.ErrorTypeRateLimitError || e.Response.Header.Get("Retry-After") != "1" {
				t.Errorf("got %v, retry-after %q", e, e.Response.Header.Get("Retry-After"))
			}
			if took < 2*time.Second || took > 6*time.Second {
				t.Errorf("two retries after a second each took %v", took)
			}
		})
	})
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		p := off.fresh(t)
		for _, m := range members {
			p.fake.SetFault(m, burst(1))
		}
		c := p.ann()
		if got := c.stream(t, hello("Stream")); got.err != nil || got.text == "" {
			t.Errorf("streamed %q, %v", got.text, got.err)
		}
		tries := c.tape.rewind()
		mustCount(t, tries, 2)
		if waited := tries[1].begun.Sub(tries[0].begun); waited < time.Second {
			t.Errorf("the SDK waited %v although it was told a second", waited)
		}
		if last := p.last(t); last.Header.Get("X-Stainless-Retry-Count") != "1" || last.Status != http.StatusOK {
			t.Errorf("upstream's last answer was %d to retry %s", last.Status, last.Header.Get("X-Stainless-Retry-Count"))
		}
	})
	t.Run("once, held", func(t *testing.T) {
		t.Parallel()
		p := held.fresh(t)
		for _, m := range members {
			p.fake.SetFault(m, burst(1))
		}
		c := p.ann()
		begun := time.Now()
		if got := c.stream(t, hello("Stream")); got.err != nil || got.text == "" {
			t.Errorf("streamed %q, %v", got.text, got.err)
		}
		c.tape.only(t)
		if took := time.Since(begun); took < time.Second {
			t.Errorf("nobody was busy: the call took %v", took)
		}
	})
}

// TestAllAccountsFail: what the SDK makes of it when upstream itself is in trouble.
func TestAllAccountsFail(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault  string
		status int
		kind   anthropic.ErrorType
		tries  int
		// relayed errors are upstream's own, with its request id.
		relayed bool
		says    string
	}{
		// The first try brings upstream's own answer; a later one may find all
		// accounts resting, and the pool's.
		{fakeclaude.Overloaded, 529, anthropic.ErrorTypeOverloadedError, 3, false, "verloaded"},
		{fakeclaude.Internal, 500, anthropic.ErrorTypeAPIError, 3, true, "Internal server error"},
		{fakeclaude.ResetBeforeHead, 502, anthropic.ErrorTypeAPIError, 3, false, "could not be reached"},
		{fakeclaude.Unavailable, 503, anthropic.ErrorTypeAPIError, 3, true, "Service unavailable"},
		{fakeclaude.Windowless, 429, anthropic.ErrorTypeRateLimitError, 3, true, "Error"},
		// An account's 403 is not the client's either.
		{fakeclaude.Permission, 503, anthropic.ErrorTypeAPIError, 1, false, "permission"},
		// A login of the pool's that is over is not the client's 401.
		{fakeclaude.TokenRevoked, 503, anthropic.ErrorTypeAPIError, 1, false, "in need of a login"},
		{fakeclaude.InvalidKey, 503, anthropic.ErrorTypeAPIError, 1, false, "in need of a login"},
		// What is wrong with the request is the caller's, and nobody else is asked.
		{fakeclaude.InvalidRequest, 400, anthropic.ErrorTypeInvalidRequestError, 1, true, "messages.0.content: Input should be a valid list"},
		{fakeclaude.PromptTooLong, 400, anthropic.ErrorTypeInvalidRequestError, 1, true, "prompt is too long: 213462 tokens > 200000 maximum"},
		{fakeclaude.UnknownModel, 404, anthropic.ErrorTypeNotFoundError, 1, true, "model: claude-sonnet-5"},
	}
	s := newStage(t, len(tests), holdOff)
	for _, test := range tests {
		t.Run(test.fault, func(t *testing.T) {
			t.Parallel()
			p := s.fresh(t)
			p.fake.SetFault("*", fakeclaude.Always(test.fault))
			both(t, p.ann(), func(t *testing.T, err error, tries []*try, _ time.Duration) {
				t.Helper()
				e := apiError(t, err)
				mustCount(t, tries, test.tries)
				if e.StatusCode != test.status || e.Type() != test.kind || !strings.Contains(envelopeOf(t, e).Error.Message, test.says) {
					t.Errorf("got %v", e)
				}
				if !test.relayed && strings.HasPrefix(e.RequestID, "shunt_") {
					mustBeOurs(t, e)
				} else if id := p.last(t).ID; e.RequestID != id || e.Response.Header.Get("X-Shunt-Request-Id") == "" {
					t.Errorf("the request id is %q, upstream's %q", e.RequestID, id)
				}
			})
			p.mustBehave(t)
		})
	}
}

// TestErrorInAStream: an error after text ends the stream with that error, and
// what came before it is delivered. Nobody tries again.
func TestErrorInAStream(t *testing.T) {
	t.Parallel()
	s := newStage(t, 4, "")
	for fault, kind := range map[string]anthropic.ErrorType{
		fakeclaude.ErrorAfterStart:   anthropic.ErrorTypeOverloadedError,
		fakeclaude.ErrorAfterText:    anthropic.ErrorTypeOverloadedError,
		fakeclaude.APIErrorAfterText: anthropic.ErrorTypeAPIError,
		fakeclaude.LimitAfterText:    anthropic.ErrorTypeRateLimitError,
	} {
		t.Run(fault, func(t *testing.T) {
			p := s.fresh(t)
			p.fake.SetFault("*", fakeclaude.Always(fault))
			c := p.ann()
			got := c.stream(t, hello("Stream"))
			e := apiError(t, got.err)
			this := c.tape.only(t)
			if e.Type() != kind || e.StatusCode != http.StatusOK || e.RequestID != p.last(t).ID {
				t.Errorf("got %v of type %s", e, e.Type())
			}
			if (got.text == "") != (fault == fakeclaude.ErrorAfterStart) || got.message.ID == "" || got.message.StopReason != "" {
				t.Errorf("before the error there was %s", got.message.RawJSON())
			}
			direct := p.reference()
			direct.stream(t, hello("Stream"))
			if want := direct.tape.only(t).body.String(); this.body.String() != want {
				t.Errorf("through the pool:\n%s\ndirectly:\n%s", this.body, want)
			}
			if n := len(p.fake.Requests()); n != 2 {
				t.Errorf("upstream saw %d requests, expected this one and the direct one", n)
			}
		})
	}
}

// TestCutStreams: a stream that breaks off is an error to the SDK, also one that
// upstream ended cleanly before its time, which the SDK by itself takes as whole.
func TestCutStreams(t *testing.T) {
	t.Parallel()
	faults := []string{fakeclaude.CutBeforeText, fakeclaude.CutAfterText, fakeclaude.CloseAfterText, fakeclaude.EndAfterText, fakeclaude.EndWithoutStop, fakeclaude.StallAfterText}
	s := newStage(t, len(faults), "stall_timeout 1s")
	for _, fault := range faults {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			p := s.fresh(t)
			p.fake.SetFault("*", fakeclaude.Always(fault))
			c := p.ann()
			got := c.stream(t, hello("Stream"))
			if got.err == nil {
				t.Errorf("the cut stream is taken as whole: %s", got.message.RawJSON())
			}
			if (got.text == "") != (fault == fakeclaude.CutBeforeText) || got.message.ID == "" {
				t.Errorf("what came before the cut was not delivered: %s", got.message.RawJSON())
			}
			c.tape.only(t)
			if n := len(p.fake.Requests()); n != 1 {
				t.Errorf("upstream was asked %d times", n)
			}
		})
	}
	t.Run("cut JSON", func(t *testing.T) {
		p := newStage(t, 1, "").fresh(t)
		p.fake.SetFault("*", fakeclaude.Once(fakeclaude.JSONCut))
		c := p.ann()
		message, err := c.Messages.New(bounded(t), hello("Answer"))
		if err != nil || textOf(message) == "" {
			t.Errorf("the SDK's second try did not recover: %v", err)
		}
		mustCount(t, c.tape.rewind(), 2)
	})
}

// TestClientThatLeaves: upstream is told when the SDK's caller gives up.
func TestClientThatLeaves(t *testing.T) {
	t.Parallel()
	p := newStage(t, 1, "").fresh(t)
	p.fake.SetFault("*", fakeclaude.Always(fakeclaude.StallAfterText))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := p.ann().Messages.NewStreaming(ctx, hello("Stream"))
	defer s.Close()
	// Start, block, ping and text: after the first text nothing comes any more.
	for range 3 {
		if !s.Next() {
			t.Fatalf("the stream ended early: %v", s.Err())
		}
	}
	cancel()
	if s.Next() || !errors.Is(s.Err(), context.Canceled) {
		t.Errorf("the stream ended with %v", s.Err())
	}
	wait, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	if _, err := p.fake.Await(wait, func(r fakeclaude.Request) bool { return r.Cancelled }); err != nil {
		t.Errorf("upstream went on working: %v", err)
	}
	if n := len(p.fake.Requests()); n != 1 {
		t.Errorf("upstream was asked %d times", n)
	}
}
