package anthropic

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table into docs/failures.md")

const (
	failuresDoc = "../docs/failures.md"
	tableBegins = "<!-- The table is made from anthropic/rules.go: go test ./anthropic -update -->\n"
	tableEnds   = "<!-- end of the table -->\n"
)

// TestFailuresDoc: the page that operators read says what the rules do.
func TestFailuresDoc(t *testing.T) {
	data, err := os.ReadFile(failuresDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), tableBegins)
	table, after, end := strings.Cut(rest, tableEnds)
	if !ok || !end {
		t.Fatalf("%s has no place for the table", failuresDoc)
	}
	want := rulesTable()
	if *update {
		if err := os.WriteFile(failuresDoc, []byte(before+tableBegins+want+tableEnds+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want {
		t.Errorf("%s differs from the rules; run go test ./anthropic -update", failuresDoc)
	}
}

func rulesTable() string {
	var b strings.Builder
	b.WriteString("\n| Answer | Verdict | Whose | What shunt does | Rest |\n|---|---|---|---|---|\n")
	for i := range Rules {
		r := &Rules[i]
		fmt.Fprintf(&b, "| %s | `%s`: %s | %s | %s | %s |\n", r.describe(), r.Name, r.Reason, r.Scope, r.Action, orNone(r.Rest))
	}
	b.WriteString("| any other 4xx | `caller`: the request is refused for what it is | caller | relay | none |\n")
	b.WriteString("| any other status | `upstream`: upstream failed | upstream | one other account, then relay | 5 s to 60 s, if another account serves |\n")
	b.WriteString("| no answer: refused, reset, TLS, no head in time | `unreachable` | network | one other account, then 502 | 5 s to 60 s, if another account serves |\n\n")
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// describe says which answers a rule is for.
func (r *Rule) describe() string {
	var parts []string
	if len(r.Status) > 0 {
		status := strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Status), " ", ", "), "[]")
		if r.OrType {
			status += " or `" + r.Type + "`"
		}
		parts = append(parts, status)
	}
	if r.Code != "" {
		parts = append(parts, "code `"+r.Code+"`")
	}
	if r.If != "" {
		parts = append(parts, r.If)
	}
	for i, text := range r.Text {
		if i == 0 {
			text = "text \"" + text + "\""
		} else {
			text = "or \"" + text + "\""
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}
