package terminal

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// plainWidth is taken where nobody knows a width.
const plainWidth = 100

// Output is where text goes.
type Output struct {
	Look
	// Drawn asks for bars and tables instead of lines that stand for themselves.
	Drawn bool
	// Width is how many cells it has.
	Width int
}

// OutputOf looks at a file: whether it is a terminal, and what it can show. colour is
// auto, always or never. Without colour are what NO_COLOR asks for (https://no-color.org)
// and terminals that call themselves dumb.
func OutputOf(f *os.File, colour string, env func(string) string) Output {
	isTerminal := Is(f)
	o := Output{Look: Look{Unicode: utf8(env)}, Drawn: isTerminal || colour == "always", Width: plainWidth}
	if columns, err := strconv.Atoi(env("COLUMNS")); err == nil && columns > 0 {
		o.Width = columns
	}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		o.Width = width
	}
	if env("TERM") == "dumb" {
		o.Unicode = false
	}
	switch colour {
	case "always":
		o.Colour = true
	case "never":
	default:
		o.Colour = isTerminal && env("NO_COLOR") == "" && env("TERM") != "dumb"
	}
	if isTerminal && o.Colour {
		o.Colour = enableSequences(f) == nil
	}
	return o
}

// Is reports whether the file is a terminal.
func Is(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// utf8 reports whether the reader's locale is of UTF-8 (POSIX, 8.2: LC_ALL, then the
// category, then LANG).
func utf8(env func(string) string) bool {
	if alwaysUTF8 {
		return true
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := strings.ToLower(env(name)); locale != "" {
			return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
		}
	}
	return false
}
