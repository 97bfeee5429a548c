package terminal

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// Mark is what a piece of text is to its reader. A Look makes colours of it.
type Mark uint8

// The marks. Good, Warn and Bad are shown by colour only, so the text must say it too.
const (
	Plain Mark = iota
	Strong
	Faint
	Good
	Warn
	Bad
	Accent
)

// codes are the marks as SGR parameters (ECMA-48, 8.3.117). The sixteen colours that
// people choose for their terminal are readable on its background.
var codes = [...]string{Strong: "1", Faint: "2", Good: "32", Warn: "33", Bad: "31", Accent: "36"}

// Look is what the output can show.
type Look struct {
	// Colour allows escape sequences in the text.
	Colour bool
	// Unicode allows more than ASCII. Without it, foreign text loses what is beyond: a
	// terminal of another charset would take some of its bytes for commands.
	Unicode bool
}

// span is a piece of a line. Its text is printable: only add makes spans.
type span struct {
	text string
	mark Mark
}

// Line is a line of marked text, without its end. The zero Line is empty.
type Line struct{ spans []span }

// Text is a line of plain text.
func Text(text string) Line { return Marked(text, Plain) }

// Marked is a line of text with one mark.
func Marked(text string, mark Mark) Line {
	var l Line
	return l.Add(text, mark)
}

// Add is the line with text behind it. What could command a terminal is taken out.
func (l Line) Add(text string, mark Mark) Line {
	if text = Printable(text); text == "" {
		return l
	}
	return l.Join(Line{[]span{{text, mark}}})
}

// Join is the line with others behind it.
func (l Line) Join(others ...Line) Line {
	spans := slices.Clone(l.spans)
	for _, o := range others {
		for _, s := range o.spans {
			if n := len(spans); n > 0 && spans[n-1].mark == s.mark {
				spans[n-1].text += s.text
			} else {
				spans = append(spans, s)
			}
		}
	}
	return Line{spans}
}

// Width is how many cells of a terminal the line takes.
func (l Line) Width() (n int) {
	for _, s := range l.spans {
		n += textWidth(s.text)
	}
	return n
}

// Empty reports whether there is nothing in the line.
func (l Line) Empty() bool { return len(l.spans) == 0 }

// Cut is the line in at most that many cells; a tilde says that there was more.
func (l Line) Cut(cells int) Line {
	if l.Width() <= cells {
		return l
	}
	if cells <= 0 {
		return Line{}
	}
	var short Line
	left := cells - 1
	for _, s := range l.spans {
		for i, r := range s.text {
			if w := runeWidth(r); w <= left {
				left -= w
				continue
			}
			return short.Add(s.text[:i]+"~", s.mark)
		}
		short.spans = append(short.spans, s)
	}
	return short
}

// PadTo is the line with spaces behind it, in exactly that many cells.
func (l Line) PadTo(cells int) Line {
	l = l.Cut(cells)
	return l.Add(strings.Repeat(" ", max(0, cells-l.Width())), Plain)
}

// RightTo is the line with spaces before it, in exactly that many cells.
func (l Line) RightTo(cells int) Line {
	l = l.Cut(cells)
	return Text(strings.Repeat(" ", max(0, cells-l.Width()))).Join(l)
}

// In is the line as it goes to a terminal, without spaces at its end.
func (l Line) In(look Look) string {
	end := len(l.spans)
	for end > 0 && strings.Trim(l.spans[end-1].text, " ") == "" {
		end--
	}
	var b strings.Builder
	for i, s := range l.spans[:end] {
		text := s.text
		if i == end-1 {
			text = strings.TrimRight(text, " ")
		}
		if !look.Unicode {
			text = ascii(text)
		}
		if look.Colour && s.mark != Plain {
			text = "\x1b[" + codes[s.mark] + "m" + text + "\x1b[0m"
		}
		b.WriteString(text)
	}
	return b.String()
}

// Render is the lines as they go to a terminal or a file, each with its end.
func Render(lines []Line, look Look) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.In(look))
		b.WriteByte('\n')
	}
	return b.String()
}

// Wrap divides a text into lines of at most that many cells, at its spaces where it
// can. The lines after the first are indented.
func Wrap(text string, mark Mark, cells, indent int) (lines []Line) {
	cells = max(cells, indent+8)
	var line Line
	for _, word := range strings.Fields(text) {
		w := Marked(word, mark)
		switch {
		case w.Empty():
		case line.Empty():
			line = w
		case line.Width()+1+w.Width() <= cells:
			line = line.Add(" ", mark).Join(w)
		default:
			lines = append(lines, line.Cut(cells))
			line = Text(strings.Repeat(" ", indent)).Join(w)
		}
	}
	if !line.Empty() {
		lines = append(lines, line.Cut(cells))
	}
	return lines
}

// Printable takes out of a text what would command a terminal: some texts come from
// files and from other servers.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
}

func ascii(text string) string {
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '?'
		}
		return r
	}, text)
}

func textWidth(text string) (n int) {
	for _, r := range text {
		n += runeWidth(r)
	}
	return n
}

// runeWidth is how many cells a terminal gives to a character (UAX 11).
func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	default:
		return 1
	}
}
