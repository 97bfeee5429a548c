package shunt

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// scrape gathers what handlers register of one pool, as name{label="value",...} in
// the order of the labels' names, without pool. Of a histogram it is the count, and
// the sum under the name with _sum.
func scrape(t *testing.T, poolName string) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if _, err := registerMetrics(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "caddy_shunt_")
		for _, m := range f.GetMetric() {
			var labels []string
			mine := false
			for _, l := range m.GetLabel() {
				if l.GetName() == "pool" {
					mine = l.GetValue() == poolName
					continue
				}
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			if !mine {
				continue
			}
			suffix := "{" + strings.Join(labels, ",") + "}"
			if f.GetType() == dto.MetricType_HISTOGRAM {
				found[name+suffix] = float64(m.GetHistogram().GetSampleCount())
				found[name+"_sum"+suffix] = m.GetHistogram().GetSampleSum()
				continue
			}
			found[name+suffix] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return found
}

// mustHave fails the test for each sample that differs; a negative value stands for
// one that must not be there.
func mustHave(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name, value := range want {
		switch has, ok := got[name]; {
		case value < 0 && ok:
			t.Errorf("%s is %v and should not be there", name, has)
		case value >= 0 && (!ok || has != value):
			t.Errorf("%s is %v (there: %v), want %v", name, has, ok, value)
		}
	}
	if t.Failed() {
		names := make([]string, 0, len(got))
		for name, value := range got {
			names = append(names, fmt.Sprintf("%s %v", name, value))
		}
		slices.Sort(names)
		t.Logf("the scrape:\n%s", strings.Join(names, "\n"))
	}
}

func (b *bench) pin(account string) {
	b.t.Helper()
	b.do(http.MethodPost, "/use", `{"account":"`+account+`"}`).mustServe(b.t, "pinning "+account)
}

// TestRequestsAreCounted: tokens, tools, cost and people's figures are those that
// the fake upstream has in its books.
func TestRequestsAreCounted(t *testing.T) {
	b := newFour(t, "")
	b.pin("a")
	const cached = `{"model":"claude-sonnet-5","max_tokens":100,"system":[{"type":"text","text":"Be kind to everybody.","cache_control":{"type":"ephemeral","ttl":"1h"}}],` +
		`"messages":[{"role":"user","content":[{"type":"text","text":"Hello","cache_control":{"type":"ephemeral"}}]}]}`
	b.ask(cached).mustServe(t, "that writes the cache")
	b.ask(cached).mustServe(t, "that reads the cache")
	b.ask(hello, "X-Api-Key", "", "X-Api-Key", bobKey).mustServe(t, "bob's")
	b.fake.SetFault("a", fakeclaude.Always(fakeclaude.InvalidRequest))
	b.ask(hello)
	b.fake.ClearFaults()
	b.mustBeIdle()

	got := scrape(t, b.h.Pool)
	books := b.fake.Books()["a"]
	var sum float64
	for name, value := range got {
		if strings.HasPrefix(name, `tokens_total{account="a"`) {
			sum += value
		}
	}
	if want := books.Prompt() + books.Output; sum != float64(want) || want == 0 {
		t.Errorf("all kinds are %v tokens, upstream's books say %d", sum, want)
	}
	mustHave(t, got, map[string]float64{
		`person_requests_total{outcome="served",person="ann"}`:              2,
		`person_requests_total{outcome="failed",person="ann"}`:              1,
		`person_requests_total{outcome="served",person="bob"}`:              1,
		`person_tokens_total{kind="cache_write_1h",person="ann"}`:           float64(books.CacheWrite1h),
		`person_tokens_total{kind="cache_read",person="bob"}`:               0,
		`tokens_total{account="a",family="sonnet",kind="cache_write_1h"}`:   float64(books.CacheWrite1h),
		`tokens_total{account="a",family="sonnet",kind="cache_write_5m"}`:   float64(books.CacheWrite5m),
		`tokens_total{account="a",family="sonnet",kind="cache_read"}`:       float64(books.CacheRead),
		`cache_hit_ratio{account="a"}`:                                      float64(books.CacheRead) / float64(books.Prompt()),
		`cache_hit_ratio{account="b"}`:                                      -1,
		`requests_total{endpoint="messages",status="200",verdict="served"}`: 3,
		`added_latency_seconds{endpoint="messages"}`:                        4,
		`hold_seconds{}`: -1,
		`cost_usd_total{account="a",family="other"}`:            -1,
		`person_requests_total{outcome="refused",person="ann"}`: -1,
		`server_tool_uses_total{account="a",tool="web_search"}`: -1,
	})
	if books.CacheWrite1h == 0 || books.CacheWrite5m == 0 || books.CacheRead == 0 {
		t.Errorf("upstream counted no cache: %+v", books)
	}
	cost := got[`cost_usd_total{account="a",family="sonnet"}`]
	people := got[`person_cost_usd_total{person="ann"}`] + got[`person_cost_usd_total{person="bob"}`]
	if cost <= 0 || people < cost*0.999999 || people > cost*1.000001 {
		t.Errorf("the account cost %v, its people %v", cost, people)
	}
}

// TestUnpricedAndTools: what the fake upstream has no model or tool for.
func TestUnpricedAndTools(t *testing.T) {
	b := newFour(t, "")
	usage := anthropic.Usage{OutputTokens: 5, WebSearches: 2, WebFetches: 3}
	x := &exchange{h: b.h, uses: []use{{account: b.h.accounts[0], usage: usage}}}
	b.h.metrics.request(x, &pool.Record{User: "ann", Account: "a", Model: "claude-nobody-1", Verdict: "served", Usage: usage}, time.Second)
	b.h.metrics.request(&exchange{h: b.h}, &pool.Record{User: "ann", Model: "claude-nobody-1", Verdict: verdictExhausted}, time.Second)
	mustHave(t, scrape(t, b.h.Pool), map[string]float64{
		`unpriced_requests_total{family="other"}`:               1,
		`cost_usd_total{account="a",family="other"}`:            -1,
		`person_cost_usd_total{person="ann"}`:                   -1,
		`server_tool_uses_total{account="a",tool="web_search"}`: 2,
		`server_tool_uses_total{account="a",tool="web_fetch"}`:  3,
		`person_requests_total{outcome="refused",person="ann"}`: 1,
	})
}

// TestPersonMetricsOff: nobody is named.
func TestPersonMetricsOff(t *testing.T) {
	b := newFour(t, "person_metrics off\n")
	b.ask(hello).mustServe(t, "ann's")
	b.mustBeIdle()
	for name := range scrape(t, b.h.Pool) {
		if strings.HasPrefix(name, "person_") || strings.Contains(name, "ann") {
			t.Errorf("there is %s", name)
		}
	}
}

// TestPoolGauges: what the gauges say at each moment is what is so.
func TestPoolGauges(t *testing.T) {
	b := newFour(t, "hold 20s\n")
	b.pin("c")
	b.ask(hello).mustServe(t, "c's")
	b.mustBeIdle()
	now := scrape(t, b.h.Pool)
	mustHave(t, now, map[string]float64{
		`account_available{account="a"}`: 1, `account_available{account="c"}`: 1, `in_flight{account="c"}`: 0, `waiting{}`: 0, `peers{}`: 0,
		`window_utilization_ratio{account="a",window="5h"}`: -1, `limit_remaining_ratio{account="c",limit="requests"}`: -1,
	})
	for window, most := range map[string]time.Duration{"5h": 5 * time.Hour, "7d": 7 * 24 * time.Hour} {
		used, known := now[`window_utilization_ratio{account="c",window="`+window+`"}`]
		if reset := now[`window_reset_seconds{account="c",window="`+window+`"}`]; !known || used < 0 || used > 1 || reset <= 0 || reset > most.Seconds()+1 {
			t.Errorf("%s: %v used (%v), %v s left", window, used, known, reset)
		}
	}
	b.pin("a")
	b.ask(hello).mustServe(t, "a's")
	b.mustBeIdle()
	if left, ok := scrape(t, b.h.Pool)[`limit_remaining_ratio{account="a",limit="requests"}`]; !ok || left <= 0.9 || left > 1 {
		t.Errorf("%v of the requests are left (%v)", left, ok)
	}

	// A rest of one family, and of all.
	b.pin("c")
	b.fake.SetFault("c", fakeclaude.Once(fakeclaude.WindowModel))
	b.ask(strings.Replace(hello, "sonnet-5", "opus-5", 1)).mustServe(t, "another's")
	b.pin("d")
	b.fake.SetFault("d", fakeclaude.Once(fakeclaude.WindowFiveHour))
	b.ask(hello).mustServe(t, "another's")
	b.pin("b")
	b.fake.SetFault("b", fakeclaude.Once(fakeclaude.InvalidKey))
	b.ask(hello).mustServe(t, "another's")
	b.mustBeIdle()
	now = scrape(t, b.h.Pool)
	mustHave(t, now, map[string]float64{
		`account_benched{account="c",family="opus",reason="model_window"}`:  1,
		`account_available{account="c"}`:                                    1,
		`account_benched{account="d",family="all",reason="account_window"}`: 1,
		`account_available{account="d"}`:                                    0,
		`account_benched{account="b",family="all",reason="key_refused"}`:    1,
		`account_available{account="b"}`:                                    0,
		`bench_seconds{account="b",family="all",reason="key_refused"}`:      -1,
	})
	if left := now[`bench_seconds{account="d",family="all",reason="account_window"}`]; left <= 0 || left > (5*time.Hour).Seconds()+1 {
		t.Errorf("d rests for another %v s", left)
	}
}

// TestGaugesOfRequestsUnderWay: those that are served and those that wait.
func TestGaugesOfRequestsUnderWay(t *testing.T) {
	one := newBench(t, fakeclaude.Options{Accounts: fourAccounts()}, "remote_key ann "+annKey+"\nupstream %UPSTREAM%\nhold 20s\naccount a {\napi_key sk-ant-api03-aaaa\nmax_concurrent 1\n}")
	one.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.SlowHead, Delay: 400 * time.Millisecond})
	done := make(chan reply, 2)
	for range 2 {
		go func() { done <- one.ask(hello) }()
	}
	soon(t, "one is served and one waits", func() bool {
		now := scrape(t, one.h.Pool)
		return now[`in_flight{account="a"}`] == 1 && now[`waiting{}`] == 1
	})
	for range 2 {
		(<-done).mustServe(t, "both")
	}
	one.mustBeIdle()
	now := scrape(t, one.h.Pool)
	mustHave(t, now, map[string]float64{`in_flight{account="a"}`: 0, `waiting{}`: 0, `hold_seconds{}`: 1})
	if waited := now[`hold_seconds_sum{}`]; waited < 0.05 || waited > 10 {
		t.Errorf("waited %v s", waited)
	}
}

// slowReader gives its text after a pause.
type slowReader struct {
	io.Reader
	pause time.Duration
}

func (r *slowReader) Read(p []byte) (int, error) {
	time.Sleep(r.pause)
	r.pause = 0
	return r.Reader.Read(p)
}

// slowSource takes its time for each credential.
type slowSource struct {
	credential.Source
	get, refresh time.Duration
}

func (s slowSource) Get(ctx context.Context) (credential.Credential, error) {
	time.Sleep(s.get)
	return s.Source.Get(ctx)
}

func (s slowSource) Refresh(ctx context.Context, _ credential.Credential) (credential.Credential, error) {
	time.Sleep(s.refresh)
	return s.Source.Get(ctx)
}

func (slowSource) Refreshable() bool { return true }

// TestAddedLatency: the time of others is not shunt's. Each request takes at least
// 300 ms that somebody else spends, in every place where shunt waits.
func TestAddedLatency(t *testing.T) {
	const pause = 300 * time.Millisecond
	cases := map[string]func(b *bench){
		"body": func(b *bench) {
			r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+"/v1/messages", &slowReader{strings.NewReader(hello), pause})
			if err != nil {
				b.t.Fatal(err)
			}
			r.Header.Set("X-Api-Key", annKey)
			r.Header.Set("Anthropic-Version", "2023-06-01")
			r.Header.Set("Content-Type", "application/json")
			b.send(r).mustServe(b.t, "slow body")
		},
		"head": func(b *bench) {
			b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.SlowHead, Delay: pause})
			b.ask(helloStream).mustServe(b.t, "slow head")
		},
		"first event": func(b *bench) {
			b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.SlowFirst, Delay: pause})
			b.ask(helloStream).mustServe(b.t, "slow first event")
		},
		"first event, committed before": func(b *bench) {
			b.h.FirstEventTimeout = 300 * 1e6
			b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.SlowFirst, Delay: 2 * pause})
			b.ask(helloStream).mustServe(b.t, "slow first event")
		},
		"pause before the same account again": func(b *bench) {
			b.fake.SetFault("a", fakeclaude.Once(fakeclaude.Overloaded))
			b.ask(hello).mustServe(b.t, "asked again")
		},
		"credential": func(b *bench) {
			b.stopApp() // it looks at the source
			b.h.accounts[0].source = slowSource{Source: b.h.accounts[0].source, get: pause}
			b.ask(hello).mustServe(b.t, "slow credential")
		},
		"refresh": func(b *bench) {
			b.stopApp()
			b.h.accounts[0].source = slowSource{Source: b.h.accounts[0].source, refresh: pause}
			b.fake.SetFault("a", fakeclaude.Once(fakeclaude.TokenExpired))
			b.ask(hello).mustServe(b.t, "slow refresh")
		},
		"line": func(b *bench) {
			b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.Burst, RetryAfter: time.Second})
			b.ask(hello).mustServe(b.t, "in line")
		},
	}
	for name, ask := range cases {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()}, "remote_key ann "+annKey+"\nupstream %UPSTREAM%\naccount a {\napi_key sk-ant-api03-aaaa\n}")
			ask(b)
			b.mustBeIdle()
			now := scrape(t, b.h.Pool)
			took, added := now[`first_byte_seconds_sum{endpoint="messages"}`], now[`added_latency_seconds_sum{endpoint="messages"}`]
			if now[`added_latency_seconds{endpoint="messages"}`] != 1 || took < 0.19 || added <= 0 || added > 0.1 {
				t.Errorf("%v s to the first byte, of which %v s were added", took, added)
			}
		})
	}
}

func TestPeopleAreBounded(t *testing.T) {
	var p peopleLabels
	if got := p.label("bad\xffname"); got != "bad\uFFFDname" {
		t.Errorf("%q", got)
	}
	if got := p.label(strings.Repeat("ü", 300)); len(got) > 210 {
		t.Errorf("%d bytes", len(got))
	}
	if got := p.label(""); got != noPerson {
		t.Errorf("%q for nobody", got)
	}
	distinct := map[string]bool{}
	for i := range 3 * maxPeopleSeries {
		distinct[p.label(fmt.Sprint("person", i))] = true
	}
	if !distinct["person0"] || !distinct[otherPeople] || len(distinct) != maxPeopleSeries-2+1 {
		t.Errorf("%d labels", len(distinct))
	}
	if got := p.label("person0"); got != "person0" {
		t.Errorf("who was known is %q", got)
	}
	// What a label is for: it must not make the counter panic.
	newMetrics().person("p", &pool.Record{User: "bad\xffname", Verdict: "served"})
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		verdict string
		status  int
		want    string
	}{
		{"served", 200, outcomeServed}, {"caller", 413, outcomeFailed}, {verdictExhausted, 429, outcomeRefused}, {verdictBudget, 429, outcomeRefused},
		{"client_gone", 499, outcomeCancelled}, {"cut", 200, outcomeFailed}, {"windowless", 429, outcomeFailed}, {"upstream", 502, outcomeFailed}, {"", 0, outcomeFailed},
	} {
		if got := outcomeOf(&pool.Record{Verdict: c.verdict, Status: c.status}); got != c.want {
			t.Errorf("%s with %d is %s, want %s", c.verdict, c.status, got, c.want)
		}
	}
}

var (
	descForm = regexp.MustCompile(`fqName: "([a-z0-9_]+)".*variableLabels: \{([a-z_,]*)\}`)
	docRow   = regexp.MustCompile("(?m)^\\| `(caddy_shunt_[a-z0-9_]+)` \\| ([a-z]+) \\| ([^|]*) \\|")
)

// TestMetricsAreDocumented: docs/metrics.md has each metric with its labels, and no
// other.
func TestMetricsAreDocumented(t *testing.T) {
	registered := map[string]string{}
	for _, c := range processMetrics.collectors() {
		descs := make(chan *prometheus.Desc, 100)
		c.Describe(descs)
		close(descs)
		for d := range descs {
			m := descForm.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("cannot read %s", d)
			}
			labels := strings.Split(m[2], ",")
			slices.Sort(labels)
			registered[m[1]] = strings.Join(labels, ",")
		}
	}
	if len(registered) < 30 {
		t.Fatalf("only %d metrics are registered: %v", len(registered), registered)
	}
	text, err := os.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range docRow.FindAllStringSubmatch(string(text), -1) {
		name, labels := row[1], strings.Split(strings.NewReplacer("`", "", " ", "").Replace(row[3]), ",")
		slices.Sort(labels)
		if documented[name] {
			t.Errorf("%s is documented twice", name)
		}
		documented[name] = true
		if want, ok := registered[name]; !ok {
			t.Errorf("%s is documented and does not exist", name)
		} else if got := strings.Join(labels, ","); got != want {
			t.Errorf("%s has the labels %s, documented are %s", name, want, got)
		}
	}
	for name := range registered {
		if !documented[name] {
			t.Errorf("%s is not in docs/metrics.md", name)
		}
	}
}
