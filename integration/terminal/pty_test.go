package terminal

import (
	"bytes"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
	"golang.org/x/term"
)

// ran counts the commands that ran in a terminal.
var ran atomic.Int64

// emulator is a terminal with a command in it.
type emulator struct {
	t      *testing.T
	master *os.File
	slave  *os.File // kept open, to look at its modes after the command
	before *term.State
	vt     vt10x.Terminal
	cmd    *exec.Cmd
	ended  chan error

	mu  sync.Mutex // guards vt and raw
	raw bytes.Buffer
}

// beforeIt is what stands in the terminal before a command.
const beforeIt = "$ what stood here before"

// in runs a command in a terminal of that size. env comes behind the world's.
func (w *world) in(columns, rows int, env []string, args ...string) *emulator {
	w.t.Helper()
	cmd := exec.Command(caddyPath, w.args(args)...)
	cmd.Dir, cmd.Env = w.home, append(w.environment(), env...)
	return inTerminal(w.t, cmd, columns, rows)
}

func inTerminal(t *testing.T, cmd *exec.Cmd, columns, rows int) *emulator {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	e := &emulator{t: t, master: master, slave: slave, cmd: cmd, ended: make(chan error, 1), vt: vt10x.New(vt10x.WithSize(columns, rows))}
	e.size(columns, rows)
	if e.before, err = term.GetState(int(slave.Fd())); err != nil {
		t.Fatal(err)
	}
	go e.read()
	if _, err := slave.WriteString(beforeIt + "\n"); err != nil {
		t.Fatal(err)
	}
	e.shows(beforeIt)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ran.Add(1)
	go func() { e.ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = slave.Close()
		_ = master.Close()
	})
	return e
}

// read is the terminal: what the command writes is drawn.
func (e *emulator) read() {
	buffer := make([]byte, 4096)
	for {
		n, err := e.master.Read(buffer)
		e.mu.Lock()
		e.raw.Write(buffer[:n])
		_, _ = e.vt.Write(buffer[:n])
		e.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// size changes the terminal's size, which the kernel tells the command.
func (e *emulator) size(columns, rows int) {
	e.t.Helper()
	e.mu.Lock()
	e.vt.Resize(columns, rows)
	e.mu.Unlock()
	if err := pty.Setsize(e.master, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		e.t.Fatal(err)
	}
}

func (e *emulator) press(keys string) {
	e.t.Helper()
	if _, err := e.master.WriteString(keys); err != nil {
		e.t.Fatal(err)
	}
}

// screen is what one sees.
func (e *emulator) screen() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.TrimRight(e.vt.String(), " \n")
}

// cursor tells whether the cursor shows.
func (e *emulator) cursor() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.vt.CursorVisible()
}

// alternate tells whether it is the alternate screen.
func (e *emulator) alternate() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.vt.Mode()&vt10x.ModeAltScreen != 0
}

// written is everything that the command wrote.
func (e *emulator) written() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.raw.String()
}

// patience is how long something may take on a slow machine.
const patience = 20 * time.Second

// shows waits until the screen has all the texts.
func (e *emulator) shows(texts ...string) {
	e.t.Helper()
	e.until("all of "+strings.Join(texts, " | "), func(screen string) bool {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
}

// until waits for a screen.
func (e *emulator) until(what string, ok func(screen string) bool) {
	e.t.Helper()
	for deadline := time.Now().Add(patience); !ok(e.screen()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.t.Fatalf("the screen does not show %s:\n%s", what, e.screen())
		}
	}
}

// end waits for the command's end and returns its exit code.
func (e *emulator) end() int {
	e.t.Helper()
	select {
	case <-e.ended:
	case <-time.After(patience):
		e.t.Fatalf("the command did not end; its screen:\n%s", e.screen())
	}
	// What it wrote last may still be on its way.
	time.Sleep(100 * time.Millisecond)
	return e.cmd.ProcessState.ExitCode()
}

// mustBeClean fails the test unless the terminal is as it was before the command.
func (e *emulator) mustBeClean() {
	e.t.Helper()
	e.mustBeGivenBack()
	if !strings.HasPrefix(e.screen(), beforeIt) {
		e.t.Errorf("the screen is not as it was:\n%s", e.screen())
	}
}

// mustBeGivenBack is mustBeClean without what stood there: the emulator loses it when a
// screen that is not shown gets smaller.
func (e *emulator) mustBeGivenBack() {
	e.t.Helper()
	after, err := term.GetState(int(e.slave.Fd()))
	if err != nil {
		e.t.Fatal(err)
	}
	if !reflect.DeepEqual(e.before, after) {
		e.t.Errorf("the terminal's modes were %+v and are %+v", *e.before, *after)
	}
	raw := e.written()
	for on, off := range map[string]string{"\x1b[?1049h": "\x1b[?1049l", "\x1b[?25l": "\x1b[?25h", "\x1b[?7l": "\x1b[?7h"} {
		if strings.Count(raw, on) != 1 || strings.Count(raw, off) != 1 || strings.LastIndex(raw, off) < strings.LastIndex(raw, on) {
			e.t.Errorf("%q was written %d times and %q %d times", on, strings.Count(raw, on), off, strings.Count(raw, off))
		}
	}
	if e.alternate() {
		e.t.Error("it is still the alternate screen")
	}
	if !e.cursor() {
		e.t.Error("the cursor is hidden")
	}
}

// colours counts the cells that have one.
func (e *emulator) colours() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	columns, rows := e.vt.Size()
	for y := range rows {
		for x := range columns {
			if e.vt.Cell(x, y).FG != vt10x.DefaultFG {
				n++
			}
		}
	}
	return n
}
