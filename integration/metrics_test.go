package integration

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// twoHandlers are two handlers of one pool with an account in common, and one of
// another pool.
const twoHandlers = `%SITE% {
	handle_path /second/* {
		shunt {
			remote_key ann {env.ANN_KEY} {
				admin
			}
			upstream %UPSTREAM%
			account a {
				api_key {env.KEY_A}
			}
			account c {
				setup_token {env.TOKEN_C}
				owner *
			}
		}
	}
	handle_path /other/* {
		shunt {
			pool other
			remote_key ann {env.ANN_KEY}
			upstream %UPSTREAM%
			account a {
				api_key {env.KEY_A}
			}
		}
	}
	shunt {
		remote_key ann {env.ANN_KEY} {
			admin
		}
		upstream %UPSTREAM%
		account a {
			api_key {env.KEY_A}
		}
		# from here
		account b {
			api_key {env.KEY_B}
		}
		# to here
	}
}
`

// scrape is what Caddy's admin endpoint tells. A series that is told twice would make
// it an error.
func (s *site) scrape() string {
	s.t.Helper()
	a := s.do(http.MethodGet, "http://"+s.admin+"/metrics", "")
	a.mustServe(s.t)
	return a.body
}

// TestMetricsOfHandlersThatShareAPool: each series is there once, a reload keeps
// counters, and takes the gauges of an account with it.
func TestMetricsOfHandlersThatShareAPool(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	s := newSite(t, up, global+twoHandlers, secrets...)
	s.start()
	ask := func(path string) {
		s.do(http.MethodPost, s.url+path+"/v1/messages", hello, "X-Api-Key", annKey, "Anthropic-Version", "2023-06-01", "Content-Type", "application/json").mustServe(t)
	}
	use := func(path, account string) {
		s.do(http.MethodPost, s.url+path+"/use", `{"account":"`+account+`"}`, "X-Api-Key", annKey).mustServe(t)
	}
	use("", "b")
	ask("")
	use("/second", "c")
	ask("/second")
	ask("/other")
	mustTell := func(wanted, unwanted []string) {
		t.Helper()
		var told string
		eventually(t, "all is counted", 5*time.Second, func() bool {
			told = s.scrape()
			for _, w := range wanted {
				if !strings.Contains(told, "\ncaddy_shunt_"+w) {
					return false
				}
			}
			return true
		})
		for _, w := range wanted {
			if n := strings.Count(told, "\ncaddy_shunt_"+w); n != 1 {
				t.Errorf("%s is there %d times", w, n)
			}
		}
		for _, u := range unwanted {
			if strings.Contains(told, "\ncaddy_shunt_"+u) {
				t.Errorf("%s is there", u)
			}
		}
		if strings.Count(told, "# TYPE caddy_shunt_in_flight ") != 1 {
			t.Error("not one metric in_flight")
		}
	}
	gaugesOfB := []string{`account_available{account="b",pool="default"} 1`, `in_flight{account="b",pool="default"} 0`}
	others := []string{
		`account_available{account="a",pool="default"} 1`, `account_available{account="c",pool="default"} 1`, `account_available{account="a",pool="other"} 1`,
		`waiting{pool="default"} 0`, `waiting{pool="other"} 0`, `window_utilization_ratio{account="c",pool="default",window="5h"} `,
		`person_requests_total{outcome="served",person="ann",pool="default"} 2`, `person_requests_total{outcome="served",person="ann",pool="other"} 1`,
		`attempts_total{account="b",pool="default",verdict="served"} 1`,
	}
	mustTell(append(gaugesOfB, others...), nil)
	use("", "auto")

	before, rest, _ := strings.Cut(s.config, "# from here")
	_, after, _ := strings.Cut(rest, "# to here")
	if err := s.reload(before + after); err != nil {
		t.Fatal(err)
	}
	mustTell(others, gaugesOfB)
	if err := s.reload(s.config); err != nil {
		t.Fatal(err)
	}
	mustTell(append(gaugesOfB, others...), nil)

	// A pool that goes takes its gauges along, and not its counters.
	if err := s.reload(strings.Replace(s.config, "pool other", "pool third", 1)); err != nil {
		t.Fatal(err)
	}
	mustTell([]string{`waiting{pool="third"} 0`, `person_requests_total{outcome="served",person="ann",pool="other"} 1`},
		[]string{`waiting{pool="other"}`, `account_available{account="a",pool="other"}`, `peers{pool="other"}`})
}
