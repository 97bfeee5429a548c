package demo

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude/fctest"
)

// atWork lets a developer send one question and returns the lines it logged.
func atWork(t *testing.T, url string) (lines []string, goesOn bool) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	traffic := &Traffic{URL: url, Pause: caddy.Duration(time.Millisecond)}
	d := newDeveloper(traffic, Person{Name: "ann", Key: "k"}, 0, zap.New(core))
	defer d.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	talk := newTalk("claude-haiku-5-5", d.dice)
	talk.ask(d.dice)
	goesOn = d.turn(ctx, talk)
	last := talk.messages[len(talk.messages)-1]
	if answered := strings.Contains(lastLine(logs), ": 200 in "); answered != (last.Role == "assistant" && last.Content[0].Text != "") {
		t.Errorf("answered: %v, but the talk ends with %+v", answered, last.Role)
	}
	for _, entry := range logs.All() {
		lines = append(lines, entry.Message)
	}
	return lines, goesOn
}

func lastLine(logs *observer.ObservedLogs) string {
	return logs.All()[logs.Len()-1].Message
}

func TestDevelopersTellWhatHappened(t *testing.T) {
	fake, url := fctest.Start(t, fakeclaude.Options{Accounts: []fakeclaude.Account{{Name: "k", APIKey: "k"}}})
	lines, goesOn := atWork(t, url)
	if len(lines) != 1 || !goesOn || !strings.HasPrefix(lines[0], "ann asked claude-haiku-5-5: 200 in ") || !strings.Contains(lines[0], " tokens in (0 from the cache), ") {
		t.Errorf("served: %q", lines)
	}
	for fault, text := range map[string]string{
		fakeclaude.Overloaded:      "529 in ",
		fakeclaude.CutAfterText:    "the stream broke off",
		fakeclaude.EndWithoutStop:  "the stream broke off",
		fakeclaude.ErrorAfterText:  "Overloaded",
		fakeclaude.CloseBeforeHead: "no answer after",
	} {
		fake.SetFault("k", fakeclaude.Times(fault, 2))
		lines, goesOn := atWork(t, url)
		if len(lines) != 3 || !goesOn || !strings.Contains(lines[0], text) || !strings.Contains(lines[2], ": 200 in ") {
			t.Errorf("%s: %q", fault, lines)
		}
	}
	for _, fault := range []string{fakeclaude.InvalidRequest, fakeclaude.InvalidKey, fakeclaude.WindowWeek} {
		fake.SetFault("k", fakeclaude.Once(fault))
		if lines, goesOn := atWork(t, url); len(lines) != 1 || !goesOn {
			t.Errorf("%s is not worth another try: %q", fault, lines)
		}
	}
	fake.SetFault("k", fakeclaude.Always(fakeclaude.Internal))
	if lines, _ := atWork(t, url); len(lines) != attempts {
		t.Errorf("%d tries, want %d", len(lines), attempts)
	}
}

func TestDevelopersDoAsTheyAreTold(t *testing.T) {
	for _, c := range []struct {
		retryAfter, shouldRetry string
		again                   bool
		after                   time.Duration
	}{
		{"7", "", true, 7 * time.Second},
		{"7", "false", false, 7 * time.Second},
		{"61", "true", false, 61 * time.Second},
		{"", "", true, 0},
	} {
		site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Shunt-Account", "small")
			w.Header().Set("Retry-After", c.retryAfter)
			w.Header().Set("X-Should-Retry", c.shouldRetry)
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"type":"error","error":{"message":"all accounts rest"}}`)
		}))
		d := newDeveloper(&Traffic{URL: site.URL + "/", Pause: 1}, Person{Name: "ann", Key: "k"}, 0, zap.NewNop())
		talk := newTalk("m", d.dice)
		talk.ask(d.dice)
		r := d.send(t.Context(), talk)
		if r.again != c.again || r.after != c.after || r.account != "small" || r.text != "all accounts rest" {
			t.Errorf("%+v: %+v", c, r)
		}
		d.client.CloseIdleConnections()
		site.Close()
	}
}

func TestTalksGrowAndMarkTheirEnd(t *testing.T) {
	d := newDeveloper(&Traffic{URL: "http://x", Pause: 1}, Person{Name: "ann", Key: "k"}, 0, zap.NewNop())
	talk := newTalk("m", d.dice)
	talk.ask(d.dice)
	first := string(talk.body())
	talk.hear("yes")
	talk.ask(d.dice)
	second := string(talk.body())
	if strings.Count(first, "cache_control") != 2 || strings.Count(second, "cache_control") != 2 || len(second) <= len(first) {
		t.Errorf("marks %d and %d, sizes %d and %d", strings.Count(first, "cache_control"), strings.Count(second, "cache_control"), len(first), len(second))
	}
	if other := newTalk("m", d.dice); other.session == talk.session || len(other.session) != 36 {
		t.Errorf("sessions %s and %s", other.session, talk.session)
	}
}
