package shunt

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestPoolWith(t *testing.T) {
	running := []accountLine{{Pool: "team", Account: "ann"}, {Pool: "team", Account: "bob"}, {Pool: "own", Account: "ann"}, {Pool: "own", Account: "eve"}}
	for _, test := range []struct {
		running       []accountLine
		pool, account string
		want, trouble string
	}{
		{running, "", "bob", "team", ""}, {running, "", "eve", "own", ""}, {running, "own", "ann", "own", ""}, {running, "own", "", "own", ""}, {running[:2], "", "", "team", ""},
		{running, "", "ann", "", `several pools have an account "ann"; say which with --pool: team, own`},
		{running, "", "", "", "several pools are running; say which with --pool: team, own"},
		{running, "", "zoe", "", `no account "zoe"; there is ann, bob, eve`},
		{running, "team", "eve", "", `no account "eve"; there is ann, bob`},
		{running, "other", "ann", "", `no pool "other"; there is team, own`},
		{nil, "", "ann", "", "no pool with accounts"}, {nil, "team", "", "", `no pool "team"`},
	} {
		s := &site{running: test.running, pool: test.pool}
		got, err := s.poolWith(test.account)
		if got != test.want || (err == nil) != (test.trouble == "") || err != nil && !strings.Contains(err.Error(), test.trouble) {
			t.Errorf("pool %q, account %q: %q, %v", test.pool, test.account, got, err)
		}
	}
}

// adminAt is a site whose running Caddy is the handler.
func adminAt(t *testing.T, handler http.HandlerFunc, running ...accountLine) *site {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	admin, err := newAdminClient(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return &site{admin: admin, running: running}
}

// A request's id is looked for in every pool, since it names none.
func TestExplainLooksInEachPool(t *testing.T) {
	var asked []string
	s := adminAt(t, func(w http.ResponseWriter, r *http.Request) {
		pool := r.URL.Query().Get("pool")
		asked = append(asked, pool)
		if pool != "own" || r.URL.Query().Get("request") != "shunt_1" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error":"not here"}`))
			return
		}
		_, _ = w.Write([]byte(`{"pool":"own"}`))
	}, accountLine{Pool: "team", Account: "ann"}, accountLine{Pool: "own", Account: "eve"})
	raw, err := s.explain(context.Background(), url.Values{"request": {"shunt_1"}})
	if err != nil || string(raw) != `{"pool":"own"}` || strings.Join(asked, " ") != "team own" {
		t.Errorf("%s, %v, asked %v", raw, err, asked)
	}
	if _, err := s.explain(context.Background(), url.Values{"request": {"shunt_2"}}); err == nil || err.Error() != "not here" {
		t.Errorf("%v", err)
	}
	asked, s.pool = nil, "own"
	if _, err := s.explain(context.Background(), url.Values{"request": {"shunt_1"}}); err != nil || strings.Join(asked, " ") != "own" {
		t.Errorf("%v, asked %v", err, asked)
	}
	s.pool = ""
	if _, err := s.explain(context.Background(), url.Values{"model": {"m"}}); err == nil || !strings.Contains(err.Error(), "--pool") {
		t.Errorf("%v", err)
	}
}

func TestStatusOfWhatIsNoShunt(t *testing.T) {
	for body, want := range map[string]string{`{"pools":[]}`: "no pool", `<html>`: "not Caddy's admin API", `{"pools":"x"}`: "not Caddy's admin API"} {
		s := adminAt(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
		if _, _, err := s.status(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}
