package check

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/util/teststorage"
)

// dashboard is what is looked at of Grafana's dashboard JSON.
type dashboard struct {
	Inputs []struct {
		Name, Type, PluginID string
	} `json:"__inputs"`
	Requires []struct {
		Type, ID string
	} `json:"__requires"`
	ID, UID       *string
	Title         string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct {
			Name, Type, Definition string
			Datasource             *reference
			Current                struct{ Value any }
		}
	}
}

type panel struct {
	ID          int
	Type, Title string
	Datasource  *reference
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		Expr, RefID  string
		LegendFormat string
		Datasource   *reference
	}
	Panels []panel
}

type reference struct{ Type, UID string }

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	data, err := os.ReadFile("../grafana/shunt.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboardImports: it is what Grafana 10 to 12 take by hand and from a folder.
func TestDashboardImports(t *testing.T) {
	d := readDashboard(t)
	// Schema 36 came with Grafana 9, 41 and later with 12.
	if d.ID != nil || d.UID != nil || d.Title == "" || d.SchemaVersion < 36 || d.SchemaVersion > 39 {
		t.Errorf("id %v, uid %v, title %q, schema %d", d.ID, d.UID, d.Title, d.SchemaVersion)
	}
	if len(d.Inputs) != 1 || d.Inputs[0].Type != "datasource" || d.Inputs[0].PluginID != "prometheus" {
		t.Fatalf("the inputs are %+v", d.Inputs)
	}
	input := "${" + d.Inputs[0].Name + "}"
	if len(d.Templating.List) < 2 || d.Templating.List[0].Type != "datasource" || d.Templating.List[0].Current.Value != input {
		t.Fatalf("the first variable does not take the input %s: %+v", input, d.Templating.List)
	}
	source := "${" + d.Templating.List[0].Name + "}"
	mustUse := func(where string, r *reference) {
		if r == nil || r.Type != "prometheus" || r.UID != source {
			t.Errorf("%s: the data source is %+v and should be %s", where, r, source)
		}
	}
	for _, v := range d.Templating.List[1:] {
		mustUse("variable "+v.Name, v.Datasource)
	}
	required := map[string]bool{"row": true}
	for _, r := range d.Requires {
		if r.Type == "panel" {
			required[r.ID] = true
		}
	}
	ids, titles := map[int]bool{}, map[string]bool{}
	for i, p := range d.Panels {
		if p.ID <= 0 || ids[p.ID] {
			t.Errorf("%s: the id %d is there twice or is none", p.Title, p.ID)
		}
		ids[p.ID], titles[p.Title] = true, true
		if !required[p.Type] {
			t.Errorf("%s: %s is not among what the dashboard requires", p.Title, p.Type)
		}
		if g := p.GridPos; g.W <= 0 || g.H <= 0 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s: it lies at %+v", p.Title, g)
		}
		for _, other := range d.Panels[:i] {
			a, b := p.GridPos, other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s and %s lie over each other", p.Title, other.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		mustUse(p.Title, p.Datasource)
		if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			mustUse(p.Title, target.Datasource)
		}
	}
	for _, row := range []string{"Now", "Windows", "Requests", "Tokens and cost", "Prompt cache", "People", "Latency", "Logins and instances"} {
		if !titles[row] {
			t.Errorf("there is no row %s", row)
		}
	}
}

// variables are what Grafana puts in the place of its variables.
var variables = strings.NewReplacer("$pool", ".*", "$__rate_interval", "5m", "$__range", "1h")

var (
	labelValues = regexp.MustCompile(`^label_values\(([a-z_]+), ([a-z_]+)\)$`)
	legendUse   = regexp.MustCompile(`\{\{\s*([a-z_]+)\s*\}\}`)
)

// TestDashboardNamesWhatThereIs: each expression names metrics, labels and values of a
// real Caddy, and has a result with what that one told, with the labels of its legend.
func TestDashboardNamesWhatThereIs(t *testing.T) {
	samples, _ := told(t)
	known := vocabularyOf(samples)
	store := teststorage.New(t)
	begun := time.Unix(1_800_000_000, 0)
	appender := store.Appender(context.Background())
	for i, scrape := range world.scrapes {
		at := begun.Add(time.Duration(i) * time.Minute)
		for _, s := range scrape {
			if _, err := appender.Append(0, s.labels, at.UnixMilli(), s.value); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := appender.Commit(); err != nil {
		t.Fatal(err)
	}
	engine := promqltest.NewTestEngine(t, false, 0, 100_000)
	d := readDashboard(t)
	for _, v := range d.Templating.List[1:] {
		m := labelValues.FindStringSubmatch(v.Definition)
		if m == nil || known[m[1]][m[2]] == nil {
			t.Errorf("variable %s: %s", v.Name, v.Definition)
		}
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			expr := variables.Replace(target.Expr)
			if err := known.check(expr); err != nil {
				t.Errorf("%s: %v", p.Title, err)
				continue
			}
			query, err := engine.NewInstantQuery(context.Background(), store, nil, expr, begun.Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			vector, err := query.Exec(context.Background()).Vector()
			if err != nil || len(vector) == 0 {
				t.Errorf("%s: %s has no result: %v", p.Title, expr, err)
				continue
			}
			for _, use := range legendUse.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !vector[0].Metric.Has(use[1]) {
					t.Errorf("%s: the legend names %s, which %s does not have", p.Title, use[1], vector[0].Metric)
				}
			}
			query.Close()
		}
	}
}
