package terminal

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

func TestStatusInATerminal(t *testing.T) {
	w := newWorld(t)
	w.ask()
	for name, c := range map[string]struct {
		env            []string
		colour, blocks bool
	}{
		"usual":          {nil, true, true},
		"NO_COLOR":       {[]string{"NO_COLOR=1"}, false, true},
		"dumb":           {[]string{"TERM=dumb"}, false, false},
		"another locale": {[]string{"LANG=C"}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := w.in(100, 40, c.env, "shunt", "status")
			if code := e.end(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			e.shows("first", "open", "ann", "5 HOURS", "BUDGETS")
			if got := e.colours() > 0; got != c.colour || strings.Contains(e.written(), "\x1b") != c.colour {
				t.Errorf("colours: %v\n%q", got, e.written())
			}
			if got := strings.Contains(e.screen(), "░"); got != c.blocks {
				t.Errorf("blocks: %v\n%s", got, e.screen())
			}
			if !c.blocks && !strings.Contains(e.screen(), "-----") {
				t.Errorf("no bar:\n%s", e.screen())
			}
		})
	}
}

func TestStatusInAPipe(t *testing.T) {
	w := newWorld(t)
	w.ask()
	out, err := w.command("shunt", "status")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range out {
		if r != '\n' && (r > unicode.MaxASCII || !unicode.IsPrint(r)) {
			t.Fatalf("%q in the output:\n%s", r, out)
		}
	}
	for _, line := range []string{"pool default: all 3 accounts can serve, policy least_used", "account spare: open, 0 in flight", "person ann: 1 request, "} {
		if !strings.Contains("\n"+out, "\n"+line) {
			t.Errorf("no line %q in\n%s", line, out)
		}
	}
	if strings.Contains(out, "#####") || strings.Contains(out, "-----") {
		t.Errorf("bars in a pipe:\n%s", out)
	}
	if out, err = w.command("shunt", "status", "--color", "always"); err != nil || !strings.Contains(out, "\x1b[32m") {
		t.Errorf("--color always: %v\n%q", err, out)
	}
	if out, err = w.command("shunt", "status", "--json"); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Pools []struct {
			Accounts []struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Pools) != 1 || len(answer.Pools[0].Accounts) != 3 {
		t.Errorf("--json: %v\n%s", err, out)
	}
}
