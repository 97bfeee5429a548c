package terminal

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// watchEvery is short, so that tests need not wait.
const watchEvery = "250ms"

func (w *world) watch(columns, rows int) *emulator {
	w.t.Helper()
	e := w.in(columns, rows, nil, "shunt", "status", "--watch", "--interval", watchEvery)
	e.shows("caddy shunt at "+w.admin[:8], "all 3 accounts can serve", "first", "second", "spare", "q quits")
	return e
}

func TestWatchIsLive(t *testing.T) {
	w := newWorld(t)
	e := w.watch(110, 30)
	if strings.Contains(e.screen(), beforeIt) {
		t.Errorf("it is not a screen of its own:\n%s", e.screen())
	}
	if e.cursor() || !e.alternate() {
		t.Error("the cursor shows, or it is not the alternate screen")
	}
	if e.colours() == 0 {
		t.Errorf("no colours:\n%s", e.screen())
	}
	if strings.Contains(e.screen(), "VERDICT") {
		t.Errorf("requests, and there was none:\n%s", e.screen())
	}
	w.ask()
	e.shows("VERDICT", "sonnet-5-5", "served", "ann")
	if _, err := w.command("shunt", "drain", "second", "--reason", "for the test"); err != nil {
		t.Fatal(err)
	}
	e.shows("2 of 3 accounts can serve", "drained", "for the test")
	if _, err := w.command("shunt", "drain", "second", "--undo"); err != nil {
		t.Fatal(err)
	}
	e.shows("all 3 accounts can serve")
	if _, err := w.command("shunt", "use", "first"); err != nil {
		t.Fatal(err)
	}
	e.shows("pinned to first", "open, pinned")
	e.press("q")
	if code := e.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	e.mustBeClean()
}

func TestWatchFollowsItsSize(t *testing.T) {
	w := newWorld(t)
	w.ask()
	e := w.watch(160, 30)
	e.shows("5 HOURS", "KIND", "api key")
	e.until("the foot in row 30", footAt(30))
	e.size(60, 40)
	e.until("the foot in row 40", footAt(40))
	// The accounts stand below each other now.
	e.until("the windows below each other", func(screen string) bool {
		return regexp.MustCompile(`(?m)^  5h .*\n  7d `).MatchString(screen) && !strings.Contains(screen, "KIND")
	})
	e.size(120, 12)
	e.until("the foot in row 12", footAt(12))
	e.shows("REQUESTS", "lines 1 to ")
	top := e.screen()
	e.press("\x1b[B") // down
	e.shows("lines 2 to ")
	e.press("\x1b[6~") // page down
	e.until("the end", func(screen string) bool { return !strings.Contains(screen, "lines 2 to ") })
	e.press("G")
	e.shows("PERSON")
	e.press("g")
	e.shows("lines 1 to ")
	if strings.Split(e.screen(), "\n")[2] != strings.Split(top, "\n")[2] {
		t.Errorf("back at the top it was\n%s\nand is\n%s", top, e.screen())
	}
	e.press("kkk\x1b[5~")
	e.shows("lines 1 to ")
	e.press("\x03")
	if code := e.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	e.mustBeGivenBack()
}

func TestWatchOutlivesCaddy(t *testing.T) {
	w := newWorld(t)
	w.ask()
	e := w.watch(110, 30)
	w.stop()
	e.shows("No answer since", "no Caddy runs at", "The figures are of", "first")
	w.start()
	e.until("no trouble", func(screen string) bool { return !strings.Contains(screen, "No answer") })
	if out, err := w.command("shunt", "bench", "first", "--for", "30m"); err != nil {
		t.Fatal(out, err)
	}
	e.shows("2 of 3 accounts can serve", "benched by")
	if err := exec.Command(caddyPath, "reload", "--config", w.caddyfile(), "--adapter", "caddyfile", "--address", w.admin, "--force").Run(); err != nil {
		t.Fatal(err)
	}
	if out, err := w.command("shunt", "unbench", "first"); err != nil {
		t.Fatal(out, err)
	}
	e.shows("all 3 accounts can serve")
	// It goes also while Caddy is gone.
	w.stop()
	e.shows("No answer since")
	e.press("q")
	if code := e.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	e.mustBeClean()
}

func TestWatchLeavesTheTerminalClean(t *testing.T) {
	w := newWorld(t)
	for name, leave := range map[string]func(*emulator){
		"q":       func(e *emulator) { e.press("q") },
		"Ctrl-C":  func(e *emulator) { e.press("\x03") },
		"SIGTERM": func(e *emulator) { _ = e.cmd.Process.Signal(syscall.SIGTERM) },
		"SIGINT":  func(e *emulator) { _ = e.cmd.Process.Signal(syscall.SIGINT) },
		"SIGHUP":  func(e *emulator) { _ = e.cmd.Process.Signal(syscall.SIGHUP) },
	} {
		t.Run(name, func(t *testing.T) {
			e := w.watch(100, 30)
			leave(e)
			if code := e.end(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			e.mustBeClean()
		})
	}
}

func TestPanicLeavesTheTerminalClean(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SHUNT_TEST_PANIC=1")
	e := inTerminal(t, cmd, 100, 30)
	if code := e.end(); code != 2 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(e.written(), "before the panic") || !strings.Contains(e.screen(), "panic: as ordered") {
		t.Errorf("it did not panic:\n%s", e.screen())
	}
	e.mustBeClean()
}

// Rows that stay as they are must not be written again: that is what flickers.
func TestWatchWritesWhatChanges(t *testing.T) {
	w := newWorld(t)
	w.ask()
	e := w.watch(100, 30)
	e.shows("served")
	from := len(e.written())
	e.until("three seconds more", func(string) bool { return strings.Count(e.written()[from:], "\x1b[?2026h") >= 3 })
	more := e.written()[from:]
	if strings.Contains(more, "\x1b[2J") || strings.Contains(more, "served") || !strings.Contains(more, "\x1b[1;1H") {
		t.Errorf("written to the screen again: %q", more)
	}
	e.press("q")
	e.end()
	e.mustBeClean()
}

func TestWatchNeedsATerminal(t *testing.T) {
	w := newWorld(t)
	_, said, err := w.both("shunt", "status", "--watch")
	if code := exitCode(err); code != 1 || !strings.Contains(said, "--watch draws on a terminal") {
		t.Errorf("exit code %d: %s", code, said)
	}
	e := w.in(100, 30, []string{"TERM=dumb"}, "shunt", "status", "--watch")
	if code := e.end(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	e.shows("TERM=dumb")
}

// The kernel tells of a new size; nobody waits for the next second.
func TestWatchResizesAtOnce(t *testing.T) {
	w := newWorld(t)
	e := w.in(100, 30, nil, "shunt", "status", "--watch", "--interval", "1h")
	e.shows("q quits")
	start := time.Now()
	for _, rows := range []int{31, 32, 34, 36, 39, 43} {
		e.size(100, rows)
		e.until("the foot in the last row", footAt(rows))
	}
	// With the clock that ticks each second it would be five and more.
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("six sizes took %v", took)
	}
	e.press("q")
	e.end()
}

// footAt tells whether the screen's last line is in that row.
func footAt(row int) func(screen string) bool {
	return func(screen string) bool {
		lines := strings.Split(screen, "\n")
		return len(lines) == row && strings.Contains(lines[row-1], "q quits")
	}
}
