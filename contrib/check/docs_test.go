package check

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

var (
	docRow  = regexp.MustCompile("(?m)^\\| `(caddy_shunt_[a-z0-9_]+)` \\| ([a-z]+) \\| ([^|]*) \\|")
	docCode = regexp.MustCompile("(?s)```promql\n(.*?)```")
)

func docs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocumentedMetricsAreThere: a real Caddy tells each metric of docs/metrics.md,
// with that type and those labels, and no other.
func TestDocumentedMetricsAreThere(t *testing.T) {
	samples, types := told(t)
	found := map[string]map[string]bool{}
	for _, s := range samples {
		name := s.name()
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, part); types[base] == "histogram" {
				name = base
			}
		}
		if found[name] == nil {
			found[name] = map[string]bool{}
		}
		s.labels.Range(func(l labels.Label) {
			if !slices.Contains([]string{model.MetricNameLabel, "job", "instance", "le"}, l.Name) {
				found[name][l.Name] = true
			}
		})
	}
	documented := map[string]bool{}
	for _, row := range docRow.FindAllStringSubmatch(docs(t), -1) {
		name, kind := row[1], row[2]
		documented[name] = true
		if types[name] != kind {
			t.Errorf("%s is a %q, documented as a %s", name, types[name], kind)
		}
		wanted := strings.Split(strings.NewReplacer("`", "", " ", "").Replace(row[3]), ",")
		for _, label := range wanted {
			if !found[name][label] {
				t.Errorf("%s has no label %s", name, label)
			}
		}
		if len(found[name]) != len(wanted) {
			t.Errorf("%s has the labels %v, documented are %v", name, found[name], wanted)
		}
	}
	for name := range types {
		if !documented[name] {
			t.Errorf("%s is not documented", name)
		}
	}
}

// TestDocumentedQueries: they name what there is.
func TestDocumentedQueries(t *testing.T) {
	samples, _ := told(t)
	known := vocabularyOf(samples)
	queries := 0
	for _, code := range docCode.FindAllStringSubmatch(docs(t), -1) {
		// A line that is indented goes on with the query before it.
		for _, query := range strings.Split(strings.ReplaceAll(strings.TrimSpace(code[1]), "\n  ", " "), "\n") {
			queries++
			if err := known.check(query); err != nil {
				t.Error(err)
			}
		}
	}
	if queries < 5 {
		t.Errorf("only %d queries were found", queries)
	}
}
