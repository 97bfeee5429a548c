package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// audited has the audit in a file of its own and out of the default log, and the
// access log in another with fields made of placeholders.
const audited = `{
	admin %ADMIN%
	log default {
		level DEBUG
		exclude http.handlers.shunt.audit http.log.access
	}
	log audit {
		include http.handlers.shunt.audit
		output file %HOME%/audit.log {
			roll_keep_for 400d
		}
	}
}
%SITE% {
	log {
		output file %HOME%/access.log
	}
	log_append tokens {http.shunt.tokens_in}
	log_append output {http.shunt.tokens_out}
	log_append price {http.shunt.cost_usd}
	log_append ended {http.shunt.verdict}
	log_append about {http.shunt.endpoint}
	shunt {
		audit
		hold 1s
		retries 1
		remote_key ann {env.ANN_KEY}
		upstream %UPSTREAM%
		account a {
			api_key {env.KEY_A}
		}
		account b {
			api_key {env.KEY_B}
		}
	}
}
`

// jsonLines reads a log.
func jsonLines(t *testing.T, file string) (entries []map[string]any) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry map[string]any
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			t.Fatalf("%s: a line that is none of JSON's: %v", file, err)
		}
		entries = append(entries, entry)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return entries
}

func sum(entries []map[string]any, field string) (n int64) {
	for _, e := range entries {
		v, _ := e[field].(float64)
		n += int64(v)
	}
	return n
}

// TestAuditAgreesWithUpstream: the audit has every request once, with the tokens that
// upstream charged, and nothing of what was said.
func TestAuditAgreesWithUpstream(t *testing.T) {
	const prompt, injected = "planted-prompt", "claude-sonnet-5\"}\n{\"msg\":\"forged"
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts(), OutputTokens: 50, Pace: time.Millisecond})
	s := newSite(t, up, audited, secrets...)
	s.start()
	asked, want := 0, map[string]int{}
	ask := func(verdict, key, body string, headers ...string) answer {
		asked, want[verdict] = asked+1, want[verdict]+1
		return s.ask(key, strings.ReplaceAll(body, "Hello", prompt), headers...)
	}
	var wg sync.WaitGroup
	for range 150 { // more in a second than a sampled log would keep
		asked, want["served"] = asked+1, want["served"]+1
		wg.Add(1)
		go func() {
			defer wg.Done()
			s.ask(annKey, strings.ReplaceAll(helloStream, "Hello", prompt))
		}()
	}
	wg.Wait()
	ask("served", annKey, hello, "X-Claude-Code-Session-Id", "11111111-2222-3333-4444-555555555555").mustServe(t)
	ask("unauthorized", "planted-wrong-key", hello)
	model, _ := json.Marshal(injected)
	ask("caller", annKey, strings.Replace(hello, `"claude-sonnet-5"`, string(model), 1))
	asked, want["caller"] = asked+1, want["caller"]+1
	s.do(http.MethodDelete, s.url+"/v1/messages", "", "X-Api-Key", annKey)

	up.SetFault("a", fakeclaude.Always(fakeclaude.CutAfterText))
	up.SetFault("b", fakeclaude.Always(fakeclaude.CutAfterText))
	if r := ask("cut", annKey, helloStream); r.err == nil {
		t.Error("the stream did not break off")
	}
	up.ClearFaults()
	asked, want["client_gone"] = asked+1, want["client_gone"]+1
	leave(t, s, strings.ReplaceAll(strings.Replace(helloStream, `"max_tokens":100`, `"max_tokens":4000`, 1), "Hello", prompt))
	up.SetFault("a", fakeclaude.Always(fakeclaude.SpendCap))
	up.SetFault("b", fakeclaude.Always(fakeclaude.SpendCap))
	ask("exhausted", annKey, hello)

	file := filepath.Join(s.home, "audit.log")
	eventually(t, "all requests in the audit", 10*time.Second, func() bool {
		data, _ := os.ReadFile(file)
		return strings.Count(string(data), "\n") >= asked
	})
	s.stop()
	entries := jsonLines(t, file)
	if len(entries) != asked {
		t.Errorf("%d entries for %d requests", len(entries), asked)
	}
	got, seen := map[string]int{}, map[any]bool{}
	for _, e := range entries {
		got[e["verdict"].(string)]++
		if e["logger"] != "http.handlers.shunt.audit" || e["msg"] != "request" || e["level"] != "info" || seen[e["request_id"]] {
			t.Errorf("an odd entry: %v", e)
		}
		seen[e["request_id"]] = true
		if e["client_ip"] != "127.0.0.1" || e["remote_ip"] != "127.0.0.1" || e["pool"] != "default" {
			t.Errorf("where from? %v", e)
		}
		if known := e["verdict"] != "unauthorized" && e["status"] != 405.0; known != (e["person"] == "ann") {
			t.Errorf("whose? %v", e)
		}
		if ids, _ := e["upstream_request_ids"].([]any); float64(len(ids)) != e["attempts"] {
			t.Errorf("%v attempts, but upstream's ids are %v", e["attempts"], ids)
		}
		if (e["verdict"] == "served") != (e["error"] == "") {
			t.Errorf("verdict %v with error %q", e["verdict"], e["error"])
		}
	}
	for verdict, n := range want {
		if got[verdict] != n {
			t.Errorf("%d entries are %s, want %d (%v)", got[verdict], verdict, n, got)
		}
	}
	mustAgree(t, up, entries)
	for _, log := range []string{file, filepath.Join(s.home, "access.log"), s.logFile()} {
		for _, secret := range []string{prompt, annKey, "sk-ant-", "planted-wrong-key"} {
			if log == filepath.Join(s.home, "access.log") && secret != prompt && secret != "sk-ant-" {
				continue // Caddy's own field with the request's headers; the example has a filter for it
			}
			if lines := lineWith(t, log, secret); lines != "" {
				t.Errorf("%s holds %s: %s", log, secret, lines)
			}
		}
	}
	if strings.Contains(s.logs(), "shunt.audit") {
		t.Error("the audit is in the default log too")
	}
	mustTellAtTheEnd(t, jsonLines(t, filepath.Join(s.home, "access.log")), asked)
}

// leave asks for a stream and goes away once it has begun.
func leave(t *testing.T, s *site, body string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", annKey)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
}

// mustAgree compares the audit with upstream's books. Output of answers that broke
// off is an estimate on one side only, so it is compared for the others.
func mustAgree(t *testing.T, up *upstream, entries []map[string]any) {
	t.Helper()
	var books fakeclaude.Usage
	for _, ledger := range up.Books() {
		books.Input += ledger.Input
		books.CacheRead += ledger.CacheRead
		books.CacheWrite5m += ledger.CacheWrite5m
		books.CacheWrite1h += ledger.CacheWrite1h
	}
	for field, want := range map[string]int64{
		"tokens_in": books.Input, "tokens_cache_read": books.CacheRead,
		"tokens_cache_write": books.CacheWrite5m + books.CacheWrite1h, "tokens_cache_write_1h": books.CacheWrite1h,
	} {
		if got := sum(entries, field); got != want {
			t.Errorf("%s: %d in the audit, %d in upstream's books", field, got, want)
		}
	}
	output := make(map[string]int64) // by upstream's request id
	for _, r := range up.Requests() {
		output[r.ID] = r.Usage.Output
	}
	compared := 0
	for _, e := range entries {
		ids, _ := e["upstream_request_ids"].([]any)
		if e["verdict"] != "served" || len(ids) == 0 {
			continue
		}
		compared++
		if id := ids[len(ids)-1].(string); e["tokens_out"] != float64(output[id]) || output[id] == 0 {
			t.Errorf("%s: %v tokens of output in the audit, %d in upstream's books", id, e["tokens_out"], output[id])
		}
	}
	if compared < 100 {
		t.Errorf("only %d answers were compared", compared)
	}
}

// mustTellAtTheEnd checks the access log: shunt's own fields, and those that
// log_append made of placeholders.
func mustTellAtTheEnd(t *testing.T, entries []map[string]any, asked int) {
	t.Helper()
	found := map[string]int{}
	for _, e := range entries {
		verdict, _ := e["shunt_verdict"].(string)
		if verdict == "" {
			continue // /health
		}
		found[verdict]++
		switch verdict {
		case "served":
			if e["tokens"] != e["shunt_tokens_in"] || e["output"] != e["shunt_tokens_out"] || e["output"] == 0.0 || e["ended"] != "served" ||
				e["price"] != e["shunt_cost_usd"] || e["price"] == nil || e["about"] != "messages" ||
				e["user_id"] != "ann" || e["shunt_reason"] == "" || e["shunt_first_byte"] == nil {
				t.Fatalf("served: %v", e)
			}
		case "cut", "client_gone":
			if e["shunt_tokens_in"] == 0.0 || e["shunt_error"] == nil {
				t.Errorf("%s: %v", verdict, e)
			}
		case "exhausted", "unauthorized", "caller":
			if e["ended"] != verdict || e["shunt_error"] == nil || e["shunt_request_id"] == "" {
				t.Errorf("%s: %v", verdict, e)
			}
		}
		header := e["resp_headers"].(map[string]any)
		for _, name := range []string{"Anthropic-Organization-Id", "Set-Cookie", "Anthropic-Ratelimit-Unified-5h-Utilization", "Anthropic-Ratelimit-Requests-Remaining"} {
			if header[name] != nil {
				t.Errorf("%s went to the client", name)
			}
		}
	}
	total := 0
	for _, n := range found {
		total += n
	}
	if total != asked {
		t.Errorf("%d of %d requests have shunt's fields in the access log: %v", total, asked, found)
	}
}
