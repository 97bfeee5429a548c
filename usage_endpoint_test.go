package shunt

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/ledger"
)

func (b *bench) usage(query string, headers ...string) (a usageAnswer) {
	b.t.Helper()
	r := b.do("GET", "/usage"+query, "", headers...)
	if r.status != 200 {
		b.t.Fatalf("%s: %d %s", query, r.status, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), &a); err != nil {
		b.t.Fatalf("%v in %s", err, r.body)
	}
	return a
}

func TestUsage(t *testing.T) {
	b := newTeam(t, "admin", "", fakeclaude.Options{})
	for range 3 {
		b.ask(hello).mustServe(t, "ann")
	}
	b.ask(helloStream, "X-Api-Key", "", "X-Api-Key", bobKey).mustServe(t, "bob")
	b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.CloseAfterText, Times: 1})
	_ = b.ask(strings.Replace(helloStream, "claude-sonnet-5", "claude-opus-5", 1))
	b.fake.SetFault("a")
	b.mustBeIdle()
	unknown := &ledger.Counts{Unpriced: 1, Usage: anthropic.Usage{InputTokens: 1}}
	b.h.live.ledger.Add(ledger.Key{Person: "ann", Account: "a", Model: "claude-unheard-of"}, unknown)

	all := b.usage("")
	truth := b.fake.Books()["a"]
	if all.Total.Requests != 5 || all.Total.Served != 4 || all.Total.Failed != 1 || all.Total.TotalTokens != 1+truth.Prompt()+truth.Output {
		t.Errorf("%+v; upstream charged %+v", all.Total, truth)
	}
	if len(all.Rows) != 4 || *all.Rows[0].Person != "ann" || *all.Rows[0].Model != "claude-opus-5" || all.Rows[0].Account != nil {
		t.Fatalf("%+v", all.Rows)
	}
	if all.Rows[1].CostUSD == nil || *all.Rows[1].CostUSD == 0 || all.Rows[2].CostUSD != nil || all.Rows[2].UnpricedAnswers != 1 || all.Rows[0].EstimatedAnswers != 1 {
		t.Errorf("costs: %+v", all.Rows)
	}
	if *all.Total.CostUSD != *all.Rows[0].CostUSD+*all.Rows[1].CostUSD+*all.Rows[3].CostUSD {
		t.Errorf("the total is %v", all.Total.CostUSD)
	}
	bobs := b.usage("", "X-Api-Key", "", "X-Api-Key", bobKey)
	if len(bobs.Rows) != 1 || *bobs.Rows[0].Person != "bob" || bobs.Total.Requests != 1 {
		t.Errorf("bob sees %+v", bobs.Rows)
	}
	if one := b.usage("?person=bob&by=account"); len(one.Rows) != 1 || *one.Rows[0].Account != "a" || one.Total.Requests != 1 {
		t.Errorf("of bob: %+v", one.Rows)
	}
	if none := b.usage("?from=2020-01-01&to=2020-12-31"); len(none.Rows) != 0 || none.Total.Requests != 0 || *none.Total.CostUSD != 0 {
		t.Errorf("long ago: %+v", none)
	}
	for query, parameter := range map[string]string{
		"?by=key": "by: ", "?from=yesterday": "from: ", "?from=2026-11-02&to=2026-11-01": "from: ", "?from=2001-01-01": "from: ", "?format=xml": "format: ",
		"?nonsense=1": "nonsense: ", "?by=day&by=day": "by: ",
	} {
		b.do("GET", "/usage"+query, "").mustRefuse(t, query, 400, "invalid_request_error", parameter)
	}
	b.do("GET", "/usage?person=ann", "", "X-Api-Key", "", "X-Api-Key", bobKey).mustRefuse(t, "bob asks for ann", 400, "invalid_request_error", "person: ")
	b.do("GET", "/usage?by=account", "", "X-Api-Key", "", "X-Api-Key", bobKey).mustRefuse(t, "bob asks for accounts", 400, "invalid_request_error", "by: ")
	b.do("GET", "/usage", "", "X-Api-Key", "").mustRefuse(t, "nobody", 401, "authentication_error")
}

func TestUsageAsCSV(t *testing.T) {
	b := newTeam(t, "admin", "user {http.request.header.X-User}", fakeclaude.Options{})
	evil := `=HYPERLINK("x"),` + "\nb"
	b.h.live.ledger.Add(ledger.Key{Person: evil, Account: "a", Model: "m,\"1\""}, &ledger.Counts{Requests: 1, Served: 1, Usage: anthropic.Usage{InputTokens: 7}, Cost: 1234567891})
	r := b.do("GET", "/usage?by=person,model,day", "", "Accept", "text/csv")
	if r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/csv") {
		t.Fatalf("%d %v %s", r.status, r.header, r.body)
	}
	table, err := csv.NewReader(strings.NewReader(r.body)).ReadAll()
	if err != nil || len(table) != 2 {
		t.Fatalf("%v in %s", err, r.body)
	}
	row := make(map[string]string)
	for i, name := range table[0] {
		row[name] = table[1][i]
	}
	if row["person"] != "'"+evil || row["model"] != `m,"1"` || row["input_tokens"] != "7" || row["cost_usd"] != "1.234567891" || row["served"] != "1" || row["day"] != b.h.live.ledger.Today().String() {
		t.Errorf("%v", row)
	}
}

// TestUsageSurvives: what storage has of processes before, of other instances and of
// days before is in the sums, and a storage that fails is an error.
func TestUsageSurvives(t *testing.T) {
	b := newTeam(t, "admin\nbudget 1000tokens per month", "", fakeclaude.Options{})
	b.ask(hello).mustServe(t, "ann")
	b.mustBeIdle()
	b.stopApp()
	m := b.h.live.sharing.means.Load()
	b.h.live.usage.lastly(m)
	root := b.h.storage.(*certmagic.FileStorage).Path
	own := filepath.Join(root, filepath.FromSlash(b.h.live.usage.key(b.h.live.ledger.Today(), processBoot)))
	data, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(own); info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v", info.Mode())
	}
	before := b.usage("").Total
	other := strings.Replace(own, processBoot, "the-process-before", 1)
	putFile(t, other, string(data))
	old := b.h.live.ledger.Today() - 399
	long := filepath.Join(root, filepath.FromSlash(b.h.live.usage.key(old, "long-ago")))
	if err := os.MkdirAll(filepath.Dir(long), 0o700); err != nil {
		t.Fatal(err)
	}
	putFile(t, long, strings.Replace(string(data), b.h.live.ledger.Today().String(), old.String(), 1))
	if now := b.usage("").Total; now.TotalTokens != 2*before.TotalTokens || now.Requests != 2*before.Requests {
		t.Errorf("with another process's: %+v; alone %+v", now, before)
	}
	if now := b.usage("?from=" + old.String()).Total; now.TotalTokens != 3*before.TotalTokens {
		t.Errorf("since long ago: %+v; alone %+v", now, before)
	}
	b.h.live.usage.hearAt = time.Time{}
	b.h.live.tendUsage(t.Context())
	if spent := b.h.live.ledger.Spent(ledger.OfPerson, "ann", ledger.PerMonth).Tokens; spent != 2*before.TotalTokens {
		t.Errorf("the budget counts %d", spent)
	}

	// Too old, and really so.
	ancient := strings.Replace(long, old.String(), (old - 2).String(), 1)
	if err := os.MkdirAll(filepath.Dir(ancient), 0o700); err != nil {
		t.Fatal(err)
	}
	putFile(t, ancient, "{}")
	if err := os.Chtimes(ancient, time.Now(), time.Now().Add(-402*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(filepath.Dir(ancient), "fresh.json")
	putFile(t, fresh, "{}")
	if err := b.h.live.usage.sweep(t.Context(), m, b.h.live.ledger.Today()); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]bool{ancient: false, fresh: true, long: true, own: true} {
		if _, err := os.Stat(file); (err == nil) != want {
			t.Errorf("%s after the sweep: %v", file, err)
		}
	}

	putFile(t, other, "{broken")
	b.do("GET", "/usage", "").mustRefuse(t, "a broken record", 503, "api_error")
	b.h.live.usage.hearAt = time.Time{}
	b.h.live.tendUsage(t.Context())
	if spent := b.h.live.ledger.Spent(ledger.OfPerson, "ann", ledger.PerMonth).Tokens; spent != 2*before.TotalTokens {
		t.Errorf("a record that broke later took away what was heard of it: %d", spent)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error("a broken record is gone")
	}
}

// failingStorage fails to store, as long as it is told to.
type failingStorage struct {
	certmagic.Storage
	fails bool
}

func (s *failingStorage) Store(ctx context.Context, key string, value []byte) error {
	if s.fails {
		return fs.ErrPermission
	}
	return s.Storage.Store(ctx, key, value)
}

func TestUsageWhenStorageFails(t *testing.T) {
	b := newTeam(t, "admin", "", fakeclaude.Options{})
	b.stopApp()
	m := *b.h.live.sharing.means.Load()
	storage := &failingStorage{Storage: m.storage, fails: true}
	m.storage = storage
	b.ask(hello).mustServe(t, "ann")
	b.mustBeIdle()
	b.h.live.usage.lastly(&m)
	if len(b.h.live.ledger.Unsaved()) != 1 {
		t.Error("what could not be written counts as written")
	}
	if got := b.usage("").Total.Requests; got != 1 {
		t.Errorf("%d requests", got)
	}
	storage.fails = false
	b.h.live.usage.lastly(&m)
	if len(b.h.live.ledger.Unsaved()) != 0 {
		t.Error("it was not written after all")
	}
}
