package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// decision is what these tests read of GET /explain.
type decision struct {
	Policy  string `json:"policy"`
	Account string `json:"account"`
	Reason  string `json:"reason"`
	Words   string `json:"words"`
}

// explain asks how an account was or would be chosen.
func (s *site) explain(key string, query url.Values) (decisions []decision) {
	s.t.Helper()
	a := s.do(http.MethodGet, s.url+"/explain?"+query.Encode(), "", "X-Api-Key", key)
	a.mustServe(s.t)
	var answer struct {
		Decisions []decision `json:"decisions"`
	}
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil {
		s.t.Fatalf("explain: %v %s", err, a.body)
	}
	return answer.Decisions
}

// explained is the one decision that was taken for an answered request.
func (s *site) explained(key string, a answer) decision {
	s.t.Helper()
	a.mustServe(s.t)
	id := a.header.Get("X-Shunt-Request-Id")
	// A request is remembered once it has ended, which the client sees first.
	eventually(s.t, "the request is remembered", 5*time.Second, func() bool {
		return s.do(http.MethodGet, s.url+"/explain?request="+id, "", "X-Api-Key", key).status == http.StatusOK
	})
	decisions := s.explain(key, url.Values{"request": {id}})
	if len(decisions) != 1 {
		s.t.Fatalf("one account answered, and %d decisions were taken: %+v", len(decisions), decisions)
	}
	d := decisions[0]
	if d.Account == "" || d.Account != a.header.Get("X-Shunt-Account") || d.Words == "" {
		s.t.Errorf("%s answered, and the decision was %+v", a.header.Get("X-Shunt-Account"), d)
	}
	return d
}

// TestChoiceSurvivesRestart: conversations keep their accounts and a policy that
// was switched to stays, also when nobody says goodbye, and /explain says of each
// request what was done.
func TestChoiceSurvivesRestart(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	s := newSite(t, up, global+block, secrets...)
	s.start()
	session := func(i int) string { return fmt.Sprintf("session-%d", i) }
	turn := func(i int) answer { return s.ask(annKey, hello, "X-Claude-Code-Session-Id", session(i)) }

	if d := s.explained(annKey, turn(0)); d.Policy != "balanced" || d.Reason != "policy" {
		t.Errorf("a new conversation was placed by %+v", d)
	}
	s.do(http.MethodPost, s.url+"/use", `{"policy":"round_robin"}`, "X-Api-Key", annKey).mustServe(t)
	if refused := s.do(http.MethodPost, s.url+"/use", `{"policy":"fill_first"}`, "X-Api-Key", bobKey); refused.status != http.StatusForbidden {
		t.Errorf("somebody who is no admin switched the policy: %d %s", refused.status, refused.body)
	}
	// In turn, so that the conversations live on all of the accounts and keeping
	// all of them cannot be luck.
	homes, places := map[int]string{}, map[string]bool{}
	for i := 1; i <= 8; i++ {
		would := s.explain(annKey, url.Values{"model": {"claude-sonnet-5"}, "session": {session(i)}})
		d := s.explained(annKey, turn(i))
		if d.Policy != "round_robin" || d.Reason != "policy" || len(would) != 1 || would[0].Reason != "policy" {
			t.Errorf("conversation %d was placed by %+v, after %+v", i, d, would)
		}
		homes[i], places[d.Account] = d.Account, true
	}
	if len(places) != len(accounts()) {
		t.Fatalf("the conversations live at %v", homes)
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		// What has changed is written within two seconds.
		time.Sleep(3 * time.Second)
		s.end(signal)
		s.start()
		status := s.status(annKey)
		if status["policy"] != "round_robin" || status["policy_configured"] != "balanced" {
			t.Errorf("after %v the policy is %v, configured %v", signal, status["policy"], status["policy_configured"])
		}
		got := map[int]string{}
		for i := range homes {
			d := s.explained(annKey, turn(i))
			if d.Reason != "session" {
				t.Errorf("after %v conversation %d went by %+v", signal, i, d)
			}
			got[i] = d.Account
		}
		if !maps.Equal(got, homes) {
			t.Errorf("after %v the conversations went to %v, and lived at %v", signal, got, homes)
		}
	}
	s.do(http.MethodPost, s.url+"/use", `{"policy":"auto"}`, "X-Api-Key", annKey).mustServe(t)
	if d := s.explained(annKey, turn(9)); d.Policy != "balanced" {
		t.Errorf("the choice was given back, and then %+v", d)
	}

	// Another person is not told, as if the request had never been.
	mine := turn(1)
	s.explained(annKey, mine)
	if told := s.do(http.MethodGet, s.url+"/explain?request="+mine.header.Get("X-Shunt-Request-Id"), "", "X-Api-Key", bobKey); told.status != http.StatusNotFound {
		t.Errorf("bob asked for a request of ann's: %d %s", told.status, told.body)
	}
}
