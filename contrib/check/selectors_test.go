package check

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

var promql = parser.NewParser(parser.Options{})

// vocabulary is what a scrape has: the labels of each metric, and their values.
type vocabulary map[string]map[string]map[string]bool

func vocabularyOf(samples []sample) vocabulary {
	v := make(vocabulary)
	for _, s := range samples {
		if v[s.name()] == nil {
			v[s.name()] = make(map[string]map[string]bool)
		}
		s.labels.Range(func(l labels.Label) {
			if v[s.name()][l.Name] == nil {
				v[s.name()][l.Name] = make(map[string]bool)
			}
			v[s.name()][l.Name][l.Value] = true
		})
	}
	return v
}

// check says what an expression names that no scrape has: a metric, a label, or the
// value of a label.
func (v vocabulary) check(expr string) error {
	parsed, err := promql.ParseExpr(expr)
	if err != nil {
		return fmt.Errorf("parsing %s: %w", expr, err)
	}
	expressions++
	selectors := 0
	var wrong []string
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			selectors++
			wrong = append(wrong, v.selector(n)...)
		case *parser.AggregateExpr:
			wrong = append(wrong, v.names(n.Expr, n.Grouping)...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				wrong = append(wrong, v.names(n, append(slices.Clone(n.VectorMatching.MatchingLabels), n.VectorMatching.Include...))...)
			}
		}
		return nil
	})
	if selectors == 0 {
		wrong = append(wrong, "it names no metric")
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s: %s", expr, strings.Join(wrong, "; "))
	}
	return nil
}

func (v vocabulary) selector(n *parser.VectorSelector) (wrong []string) {
	known, ok := v[n.Name]
	if !ok {
		return []string{"there is no metric " + n.Name}
	}
	for _, m := range n.LabelMatchers {
		values, ok := known[m.Name]
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s has no label %s", n.Name, m.Name))
			continue
		}
		for _, value := range alternatives(m) {
			if !values[value] {
				wrong = append(wrong, fmt.Sprintf("%s has no %s=%q", n.Name, m.Name, value))
			}
		}
	}
	return wrong
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_-]+(\|[A-Za-z0-9_-]+)*$`)

// alternatives are the values that a matcher names.
func alternatives(m *labels.Matcher) []string {
	if m.Type == labels.MatchEqual || m.Type == labels.MatchNotEqual {
		return []string{m.Value}
	}
	if plain.MatchString(m.Value) {
		return strings.Split(m.Value, "|")
	}
	return nil
}

// names says which of the names are labels of no metric within the expression.
func (v vocabulary) names(within parser.Expr, names []string) (wrong []string) {
	for _, name := range names {
		found := false
		parser.Inspect(within, func(node parser.Node, _ []parser.Node) error {
			if s, ok := node.(*parser.VectorSelector); ok && v[s.Name][name] != nil {
				found = true
			}
			return nil
		})
		if !found {
			wrong = append(wrong, "no metric in it has the label "+name)
		}
	}
	return wrong
}
