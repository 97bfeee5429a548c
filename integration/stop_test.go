package integration

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// TestStopBooksWhatItCuts: answers that are under way at the end of grace_period are cut,
// visibly, and what upstream charges for them is in the books.
func TestStopBooksWhatItCuts(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts(), Pace: 100 * time.Millisecond, OutputTokens: 400})
	s := newSite(t, up, strings.Replace(global, "grace_period 20s", "grace_period 1s", 1)+block, secrets...)
	s.start()
	const streams = 3
	var asked sync.WaitGroup
	answers := make([]answer, streams)
	for i := range streams {
		asked.Go(func() {
			answers[i] = s.ask(annKey, strings.Replace(helloStream, `"max_tokens":100`, `"max_tokens":400`, 1))
		})
	}
	time.Sleep(1500 * time.Millisecond)
	begun := time.Now()
	s.stop()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	asked.Wait()
	delivered := 0
	for i, a := range answers {
		if !errors.Is(a.err, io.ErrUnexpectedEOF) || strings.Contains(a.body, "event: message_stop") {
			t.Errorf("stream %d ended with %v, as if it were whole: %s", i, a.err, a.body)
		}
		delivered += strings.Count(a.body, "event: content_block_delta")
	}
	if !strings.Contains(s.logs(), `"requests":3,"not_booked":0`) {
		t.Errorf("the log does not say what was stopped:\n%s", s.logs())
	}

	s.start()
	a := s.do(http.MethodGet, s.url+"/usage", "", "X-Api-Key", annKey)
	var report struct{ Total usageRow }
	if err := json.Unmarshal([]byte(a.body), &report); err != nil {
		t.Fatal(err)
	}
	var charged int64
	for _, book := range up.Books() {
		charged += book.Prompt()
	}
	if r := report.Total; r.Requests != streams || r.Failed != streams || r.Input+r.Read+r.Write5m+r.Write1h != charged || r.Output < int64(delivered) {
		t.Errorf("%+v; upstream charged %d tokens of input, %d events came", r, charged, delivered)
	}
	if log := s.logs(); !strings.Contains(log, `"shunt_verdict":"stopped"`) {
		t.Error("the access log does not say that the requests were stopped")
	}
}
