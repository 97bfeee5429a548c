package terminal

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// exitCode is 0 for no error.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// step is a command with its end.
type step struct {
	args string
	code int
	says []string // in what it writes to either output
}

func (w *world) steps(t *testing.T, steps []step) {
	t.Helper()
	for _, s := range steps {
		out, said, err := w.both(strings.Fields(s.args)...)
		if code := exitCode(err); code != s.code {
			t.Errorf("caddy %s: exit code %d, not %d: %s%s", s.args, code, s.code, out, said)
		}
		for _, text := range s.says {
			if !strings.Contains(out+said, text) {
				t.Errorf("caddy %s: does not say %q: %s%s", s.args, text, out, said)
			}
		}
		ran.Add(1)
	}
}

func TestSteering(t *testing.T) {
	w := newWorld(t)
	w.steps(t, []step{
		{"shunt use second", 0, []string{"second is pinned", "policy least_used chooses"}},
		{"shunt status", 0, []string{"account second: open, pinned"}},
		{"shunt use auto --policy fill_first", 0, []string{"no account is pinned", "fill_first chooses, instead of the configured least_used"}},
		{"shunt status", 0, []string{"policy fill_first instead of least_used"}},
		{"shunt use --policy auto", 0, []string{"configured policy least_used chooses"}},
		{"shunt use nobody", 1, []string{`no account \"nobody\"`, "first, second, spare"}},
		{"shunt use --policy nonsense", 1, []string{"nonsense", "balanced"}},
		{"shunt use", 1, []string{"expected an account"}},
		{"shunt use first second", 1, nil},
		{"shunt drain first --reason lent", 0, []string{"Account first of pool default: it gets no new requests until it is undrained"}},
		{"shunt status", 0, []string{"account first: drained", "lent", "2 of 3 accounts can serve"}},
		{"shunt drain first --undo", 0, []string{"drained no more"}},
		{"shunt drain first --undo --reason x", 1, []string{"reason undo"}},
		{"shunt drain", 1, nil},
		{"shunt bench first --for 2h", 0, []string{"until"}},
		{"shunt status", 0, []string{"account first: out until", "(in 2h)"}},
		{"shunt bench first --for soon", 1, []string{"--for"}},
		{"shunt unbench first", 0, []string{"in the choice again"}},
		{"shunt unbench first", 0, []string{"nothing kept it"}},
		{"shunt refresh first", 1, []string{"not refreshed"}},
		{"shunt bench first --pool other", 1, []string{`no pool \"other\"; there is default`}},
		{"shunt nonsense", 1, nil},
		{"shunt status --nonsense", 1, nil},
		{"shunt status too many", 1, nil},
		{"shunt status --json --watch", 1, nil},
		{"shunt status --color sometimes", 1, []string{"--color"}},
	})
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	w.steps(t, []step{
		{"shunt status --check", 0, []string{"pool default: all 3 accounts can serve"}},
		{"shunt drain first", 0, nil}, {"shunt drain second", 0, nil},
		{"shunt status --check", 0, []string{"1 of 3 accounts can serve"}},
		{"shunt drain spare", 0, nil},
		{"shunt status --check", 2, []string{"no account can serve"}},
		{"shunt status", 0, nil},
		{"shunt status --check --pool other", 1, []string{"other", "there is default"}},
	})
	if _, said, _ := w.both("shunt", "status", "--check"); said != "" {
		t.Errorf("it says more than its line: %s", said)
	}
	w.stop()
	w.steps(t, []step{
		{"shunt status --check", 1, []string{"no Caddy answers at"}},
		{"shunt status", 1, []string{"no Caddy answers at"}},
		{"shunt status --watch", 1, nil},
		{"shunt use first", 1, []string{"no Caddy answers at"}},
		{"shunt drain first", 1, []string{"no Caddy answers at"}},
		{"shunt explain --model claude-opus-5-5", 1, []string{"no Caddy answers at"}},
		{"shunt usage", 1, []string{"no Caddy answers at"}},
	})
}

func TestExplain(t *testing.T) {
	w := newWorld(t)
	w.ask()
	out, err := w.command("shunt", "status", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Pools []struct {
			Recent []struct{ ID, Account string } `json:"recent_requests"`
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Pools[0].Recent) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	id, account := status.Pools[0].Recent[0].ID, status.Pools[0].Recent[0].Account
	w.steps(t, []step{
		{"shunt explain " + id, 0, []string{"request " + id, "pool default", "of ann", ", " + account + ", by policy least_used", "PLACE", "SCORE", "score "}},
		{"shunt explain " + id + " --json", 0, []string{`"decisions":`, id}},
		{"shunt explain --model claude-opus-5-5 --user ann", 0, []string{"now, ", "PLACE", "spare"}},
		{"shunt explain --model claude-opus-5-5 --json", 0, []string{`"request":null`}},
		{"shunt explain no-such-request", 1, []string{"not among"}},
		{"shunt explain", 1, []string{"--model"}},
		{"shunt explain " + id + " --model x", 1, []string{"not both"}},
	})
	e := w.in(70, 30, nil, "shunt", "explain", "--model", "claude-opus-5-5")
	if code := e.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	e.shows("now, ", "PLACE")
	if e.colours() == 0 {
		t.Errorf("no colours:\n%s", e.screen())
	}
}

func TestUsage(t *testing.T) {
	w := newWorld(t)
	w.ask()
	w.ask()
	w.steps(t, []step{
		{"shunt usage", 0, []string{"Pool default", "PERSON  MODEL", "ann     claude-sonnet-5-5         2", "total"}},
		{"shunt usage --by account,day --person ann", 0, []string{"ACCOUNT  DAY"}},
		{"shunt usage --by nonsense", 1, []string{"--by"}},
		{"shunt usage --from yesterday", 1, []string{"--from"}},
		{"shunt usage --from 2026-02-01 --to 2026-01-01", 1, []string{"expected a span"}},
		{"shunt usage --csv --json", 1, nil},
		{"shunt usage --json", 0, []string{`"total":`}},
	})
	out, err := w.command("shunt", "usage", "--by", "person", "--csv")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 2 || rows[0][0] != "person" || rows[1][0] != "ann" || rows[1][1] != "2" {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestCompletion(t *testing.T) {
	w := newWorld(t)
	offered := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(caddyPath, append([]string{"__complete", "shunt"}, args...)...)
		cmd.Dir, cmd.Env = w.home, w.environment()
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		ran.Add(1)
		return strings.ReplaceAll(string(out), "\n", " ")
	}
	at := []string{"--address", w.admin}
	for want, args := range map[string][]string{
		"first second spare auto :4 ": append([]string{"use"}, append(at, "")...),
		"spare :4 ":                   append([]string{"drain"}, append(at, "sp")...),
		":4 ":                         append([]string{"drain"}, append(at, "first", "")...),
		"balanced fill_first least_used round_robin soonest_reset auto :4 ": {"use", "--policy", ""},
		"default :4 ":           append([]string{"bench"}, append(at, "--pool", "")...),
		"auto always never :4 ": {"status", "--color", ""},
		"person,account,model person,account,month :6 ": {"usage", "--by", "person,account,m"},
	} {
		if got := offered(args...); got != want {
			t.Errorf("%v: %q, not %q", args, got, want)
		}
	}
	nobody := []string{"--address", "unix/" + filepath.Join(w.home, "nobody.sock")}
	if got := offered(append([]string{"use"}, append(nobody, "")...)...); got != ":4 " {
		t.Errorf("without a Caddy: %q", got)
	}
	w.ask()
	if got := offered(append([]string{"explain"}, append(at, "")...)...); !strings.Contains(got, "\t") || !strings.Contains(got, "ann claude-sonnet-5-5") {
		t.Errorf("requests: %q", got)
	}
}
