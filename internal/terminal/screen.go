package terminal

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// Escape sequences (xterm's ctlseqs): the alternate screen, the cursor, the wrap at the
// end of a line, and updates that are shown at once. Terminals that lack the last ignore
// it.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	leaveScreen = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
	beginUpdate = "\x1b[?2026h"
	endUpdate   = "\x1b[?2026l"
	clearToEnd  = "\x1b[K"
)

// Screen is a whole terminal. Whoever opens it must close it on every way out, also in a
// panic: until then the terminal is not usable for anything else. Its methods but Close
// belong to one goroutine.
type Screen struct {
	in, out *os.File
	look    Look
	keys    chan Key
	resized chan os.Signal

	// shown are the rows as the terminal has them, for its size; nil when that is not
	// known.
	shown         []string
	width, height int

	close sync.Once
	leave func()
}

// OpenScreen takes over the terminal that in and out are.
func OpenScreen(in, out *os.File, look Look) (*Screen, error) {
	if !Is(in) || !Is(out) {
		return nil, errors.New("standard input and output are not both a terminal")
	}
	if err := enableSequences(out); err != nil {
		return nil, fmt.Errorf("this terminal does not follow escape sequences: %w", err)
	}
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("taking over the terminal: %w", err)
	}
	s := &Screen{in: in, out: out, look: look, keys: make(chan Key), resized: make(chan os.Signal, 1)}
	stop := notifyResize(s.resized)
	s.leave = func() {
		stop()
		_, _ = out.WriteString(leaveScreen) // a terminal that is gone needs nothing
		_ = term.Restore(int(in.Fd()), old)
	}
	if _, err := out.WriteString(enterScreen); err != nil {
		s.Close()
		return nil, fmt.Errorf("writing to the terminal: %w", err)
	}
	go s.read()
	return s, nil
}

// Close gives the terminal back as it was. It may be called more than once, and from any
// goroutine.
func (s *Screen) Close() { s.close.Do(s.leave) }

// Keys are the keys that are pressed.
func (s *Screen) Keys() <-chan Key { return s.keys }

// Resized has something when the size may have changed or others may have written to the
// terminal. What it held is not known then: see Forget.
func (s *Screen) Resized() <-chan os.Signal { return s.resized }

// Forget makes the next Draw write every row.
func (s *Screen) Forget() { s.shown = nil }

// Size is the terminal's size in cells. One that does not tell is taken for the usual.
func (s *Screen) Size() (width, height int) {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

// Draw shows the lines from the top. Rows that have not changed are not written, and none
// is cleared before it is, so that nothing flickers.
func (s *Screen) Draw(lines []Line) error {
	width, height := s.Size()
	if width != s.width || height != s.height {
		s.width, s.height = width, height
		s.Forget()
	}
	all := s.shown == nil
	if all {
		s.shown = make([]string, height)
	}
	var b strings.Builder
	for row := range height {
		var line Line
		if row < len(lines) {
			line = lines[row].Cut(width)
		}
		text := line.In(s.look)
		if !all && text == s.shown[row] {
			continue
		}
		s.shown[row] = text
		fmt.Fprintf(&b, "\x1b[%d;1H%s", row+1, text)
		// At the last cell the cursor stays on it, and clearing would take it away.
		if line.Width() < width {
			b.WriteString(clearToEnd)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	if _, err := s.out.WriteString(beginUpdate + b.String() + endUpdate); err != nil {
		return fmt.Errorf("writing to the terminal: %w", err)
	}
	return nil
}

// read passes on the keys until the terminal is gone.
func (s *Screen) read() {
	var keys keyReader
	buffer := make([]byte, 64)
	for {
		n, err := s.in.Read(buffer)
		for _, k := range keys.read(buffer[:n]) {
			s.keys <- k
		}
		if err != nil {
			s.keys <- KeyQuit
			return
		}
	}
}
