package check

import (
	"context"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

const alertsFile = "../prometheus/alerts.yml"

// alertRules are the rules of a file, as Prometheus reads them.
func alertRules(t *testing.T, file string) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, promql, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatalf("%s has no rules", file)
	}
	return all
}

// TestAlertsNameWhatThereIs: each metric, label and value is one of a real Caddy's.
func TestAlertsNameWhatThereIs(t *testing.T) {
	samples, _ := told(t)
	known := vocabularyOf(samples)
	for _, r := range alertRules(t, alertsFile) {
		if err := known.check(r.Expr); err != nil {
			t.Errorf("%s: %v", r.Alert, err)
		}
		if severity := r.Labels["severity"]; severity != "critical" && severity != "warning" && severity != "info" {
			t.Errorf("%s: the severity is %q", r.Alert, severity)
		}
		if r.For == 0 || r.Annotations["summary"] == "" || len(r.Annotations["description"]) < 80 {
			t.Errorf("%s lacks for, a summary or a description that helps", r.Alert)
		}
	}
}

// TestMisspeltAlertsAreFound: the checks find what they are for.
func TestMisspeltAlertsAreFound(t *testing.T) {
	samples, _ := told(t)
	known := vocabularyOf(samples)
	for expr, want := range map[string]string{
		`caddy_shunt_acount_available == 0`:                                     "no metric caddy_shunt_acount_available",
		`sum by (poool) (caddy_shunt_account_available) == 0`:                   "the label poool",
		`caddy_shunt_window_utilization_ratio{windows="5h"} > 0.9`:              "no label windows",
		`rate(caddy_shunt_requests_total{verdict="exhaused"}[5m]) > 0`:          `no verdict="exhaused"`,
		`caddy_shunt_account_benched{reason=~"spend_limit|no_credits"} == 1`:    `no reason="no_credits"`,
		`histogram_quantile(0.9, rate(caddy_shunt_hold_seconds_buckets[5m]))`:   "no metric caddy_shunt_hold_seconds_buckets",
		`caddy_shunt_in_flight unless on (accounts) caddy_shunt_login_required`: "the label accounts",
		`sum without (acount) (caddy_shunt_in_flight)`:                          "the label acount",
		`caddy_shunt_waiting >`:                                                 "parse error",
		`vector(1) > 0`:                                                         "names no metric",
	} {
		if err := known.check(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want one with %q", expr, err, want)
		}
	}
}

// play is the story of some series and what an alert makes of it.
type play struct {
	series string // one each minute, in Prometheus' notation for tests
	// fires is after how many minutes the alert first fires; -1 for never within the
	// minutes that are played.
	fires, minutes int
	// summary is what it then says, in part.
	summary string
}

const target = `job="caddy",instance="i",pool="p"`

var plays = map[string][]play{
	"ShuntNoAccountAvailable": {
		{"caddy_shunt_account_available{" + target + `,account="a"} 1 1 0x20` + "\ncaddy_shunt_account_available{" + target + `,account="b"} 1 0x21`, 4, 10, "pool p"},
		{"caddy_shunt_account_available{" + target + `,account="a"} 1x20` + "\ncaddy_shunt_account_available{" + target + `,account="b"} 0x20`, -1, 15, ""},
	},
	"ShuntPoolExhausted": {
		{"caddy_shunt_requests_total{" + target + `,endpoint="messages",status="200",verdict="served"} 0+10x40` + "\n" +
			"caddy_shunt_requests_total{" + target + `,endpoint="messages",status="429",verdict="exhausted"} 0x10 0+5x30`, 17, 25, "Pool p refuses"},
		{"caddy_shunt_requests_total{" + target + `,endpoint="messages",status="200",verdict="served"} 0+1000x40` + "\n" +
			"caddy_shunt_requests_total{" + target + `,endpoint="messages",status="429",verdict="exhausted"} 0+5x40`, -1, 30, ""},
	},
	"ShuntRequestsWait": {
		{"caddy_shunt_waiting{" + target + "} 0 0 3x20", 7, 12, "pool p"},
		{"caddy_shunt_waiting{" + target + "} 0 3 3 0 3 3 0 3 3 0 3 3 0", -1, 12, ""},
	},
	"ShuntAccountNeedsCredential": {
		{"caddy_shunt_account_benched{" + target + `,account="a",family="all",reason="key_refused"} _ 1x20`, 3, 6, "Account a"},
		{"caddy_shunt_account_benched{" + target + `,account="a",family="all",reason="account_window"} 1x20` + "\n" +
			"caddy_shunt_bench_seconds{" + target + `,account="a",family="all",reason="account_window"} 3600-60x20`, -1, 15, ""},
	},
	"ShuntAccountWithoutMoney": {
		{"caddy_shunt_account_benched{" + target + `,account="a",family="all",reason="no_credit"} 1x20`, 1, 5, "(no_credit)"},
		{"caddy_shunt_account_benched{" + target + `,account="a",family="all",reason="burst"} 1x20`, -1, 5, ""},
	},
	"ShuntLoginRequired": {
		{"caddy_shunt_login_required{" + target + `,account="a"} 0 1x20`, 3, 6, "Account a"},
		{"caddy_shunt_login_required{" + target + `,account="a"} 0x20`, -1, 6, ""},
	},
	"ShuntLoginEndsSoon": {
		{"caddy_shunt_login_expires_timestamp_seconds{" + target + `,account="a",kind="oauth"} 259200x400`, 11, 20, "The oauth of account a ends in 2d 23h"},
		{"caddy_shunt_login_expires_timestamp_seconds{" + target + `,account="a",kind="oauth"} 300000x400`, -1, 60, ""},
	},
	"ShuntLoginNotStored": {
		{"caddy_shunt_login_unsaved{" + target + `,account="a"} 1x20`, 1, 3, "account a"},
		{"caddy_shunt_login_unsaved{" + target + `,account="a"} 0x20`, -1, 3, ""},
	},
	"ShuntRefreshFails": {
		{"caddy_shunt_refreshes_total{" + target + `,account="a",result="failed"} 0 0+1x40`, 9, 40, "account a"},
		{"caddy_shunt_refreshes_total{" + target + `,account="a",result="failed"} 0 1x40` + "\n" +
			"caddy_shunt_refreshes_total{" + target + `,account="a",result="ok"} 0+1x40`, -1, 40, ""},
	},
	"ShuntUpstreamFails": {
		{"caddy_shunt_attempts_total{" + target + `,account="a",verdict="served"} 0+10x40` + "\n" +
			"caddy_shunt_attempts_total{" + target + `,account="a",verdict="upstream"} 0+1x40` + "\n" +
			"caddy_shunt_attempts_total{" + target + `,account="b",verdict="unreachable"} 0+1x40`, 6, 20, "16.67% of pool p"},
		{"caddy_shunt_attempts_total{" + target + `,account="a",verdict="served"} 0+10x40` + "\n" +
			"caddy_shunt_attempts_total{" + target + `,account="a",verdict="account_window"} 0+10x40` + "\n" +
			"caddy_shunt_attempts_total{" + target + `,account="a",verdict="overloaded"} 0+1x40`, -1, 30, ""},
	},
	"ShuntAddedLatencyHigh": {
		{latency("0+1x40", "0+10x40"), 11, 20, "pool p"}, {latency("0+99x40", "0+100x40"), -1, 30, ""},
	},
	"ShuntWindowNearlySpent": {
		{"caddy_shunt_window_utilization_ratio{" + target + `,account="a",window="5h"} 0.5 0.95x30`, 11, 20, "95% of its 5h window"},
		{"caddy_shunt_window_utilization_ratio{" + target + `,account="a",window="5h"} 0.9x30`, -1, 20, ""},
	},
	"ShuntAccountBudgetNearlyUsed": {
		{"caddy_shunt_account_budget_used_ratio{" + target + `,account="a",period="month",unit="usd"} 0.5 0.95x30`, 6, 15, "95% of its budget per month"},
		{"caddy_shunt_account_budget_used_ratio{" + target + `,account="a",period="month",unit="usd"} 0.9x30`, -1, 20, ""},
	},
	"ShuntPersonBudgetUsed": {
		{"caddy_shunt_person_budget_used_ratio{" + target + `,person="ann",period="day",unit="tokens"} 0.5 1.02x30`, 2, 15, "budget of ann per day"},
		{"caddy_shunt_person_budget_used_ratio{" + target + `,person="ann",period="day",unit="tokens"} 0.99x30`, -1, 20, ""},
	},
	"ShuntModelWithoutPrice": {
		{"caddy_shunt_unpriced_requests_total{" + target + `,family="other"} _x9 1x120`, 10, 40, "family other"},
		{"caddy_shunt_requests_total{" + target + `,endpoint="messages",status="200",verdict="served"} 0+10x40`, -1, 40, ""},
	},
	"ShuntPeerSilent": {
		{"caddy_shunt_peers{" + target + "} 2x10 1x30", 16, 25, "i hears fewer"}, {"caddy_shunt_peers{" + target + "} 1x10 2x30", -1, 30, ""},
	},
	"ShuntSharingFails": {
		{"caddy_shunt_peer_errors_total{" + target + "} 0+1x40", 11, 20, "i cannot share pool p"}, {"caddy_shunt_peer_errors_total{" + target + "} 0x5 1x40", -1, 30, ""},
	},
	"ShuntNotSeen": {
		{"up 1x40", 5, 10, "no pool"}, {"caddy_shunt_account_available{" + target + `,account="a"} 0x40`, -1, 10, ""},
	},
}

// latency is a histogram of which that many were below 50 ms.
func latency(below, all string) string {
	series := func(le, values string) string {
		return "caddy_shunt_added_latency_seconds_bucket{" + target + `,endpoint="messages",le="` + le + `"} ` + values + "\n"
	}
	return series("0.05", below) + series("0.1", all) + series("+Inf", all)
}

// TestAlertsFire plays each alert: when it fires, that it is quiet otherwise, and that
// what it says is whole.
func TestAlertsFire(t *testing.T) {
	engine := promqltest.NewTestEngine(t, false, 0, 10000)
	seen := map[string]bool{}
	for _, r := range alertRules(t, alertsFile) {
		seen[r.Alert] = true
		fires, quiet := false, false
		for _, p := range plays[r.Alert] {
			fires, quiet = fires || p.fires >= 0, quiet || p.fires < 0
			storage := promqltest.LoadedStorage(t, "load 1m\n  "+strings.ReplaceAll(strings.TrimSpace(p.series), "\n", "\n  "))
			expr, err := promql.ParseExpr(r.Expr)
			if err != nil {
				t.Fatal(err)
			}
			rule := rules.NewAlertingRule(r.Alert, expr, time.Duration(r.For), time.Duration(r.KeepFiringFor), labels.FromMap(r.Labels), labels.FromMap(r.Annotations),
				labels.EmptyLabels(), "", true, slog.New(slog.DiscardHandler))
			first := -1
			for minute := 0; minute <= p.minutes && first < 0; minute++ {
				at := time.Unix(0, 0).Add(time.Duration(minute) * time.Minute)
				if _, err := rule.Eval(context.Background(), 0, at, rules.EngineQueryFunc(engine, storage), &url.URL{}, 0); err != nil {
					t.Fatalf("%s: %v", r.Alert, err)
				}
				for _, a := range rule.ActiveAlerts() {
					if a.State == rules.StateFiring {
						first = minute
						mustRead(t, r.Alert, a.Labels, a.Annotations, r.Annotations, p.summary)
					}
				}
			}
			if first != p.fires {
				t.Errorf("%s fires first after %d minutes, want %d, with\n%s", r.Alert, first, p.fires, p.series)
			}
			storage.Close()
		}
		if !fires || !quiet {
			t.Errorf("%s has no play in which it fires (%v), or none in which it does not (%v)", r.Alert, fires, quiet)
		}
	}
	for name := range plays {
		if !seen[name] {
			t.Errorf("there is no alert %s", name)
		}
	}
}

var labelUse = regexp.MustCompile(`\$labels\.([a-zA-Z_]+)`)

// mustRead fails the test unless the annotations name only labels that the alert has.
func mustRead(t *testing.T, alert string, has, said labels.Labels, written map[string]string, summary string) {
	t.Helper()
	for name, text := range written {
		for _, use := range labelUse.FindAllStringSubmatch(text, -1) {
			if has.Get(use[1]) == "" {
				t.Errorf("%s: its %s names the label %s, which it does not have: %s", alert, name, use[1], has)
			}
		}
		if got := said.Get(name); got == "" || strings.Contains(got, "<error") || strings.Contains(got, "no value") || strings.Contains(got, "{{") {
			t.Errorf("%s: its %s reads %q", alert, name, got)
		}
	}
	if got := said.Get("summary"); !strings.Contains(got, summary) {
		t.Errorf("%s: the summary is %q and should have %q", alert, got, summary)
	}
}
