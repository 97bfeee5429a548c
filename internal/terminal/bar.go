package terminal

import (
	"math"
	"strings"
)

// Gauge is a share with where it should be.
type Gauge struct {
	// Used is what is filled, 0 to 1; more is shown as full.
	Used float64
	// Pace is where the mark is, 0 to 1; negative for none.
	Pace float64
	Mark Mark
}

// glyphs are what a bar is made of.
type glyphs struct{ full, empty, pace string }

var (
	unicodeBar = glyphs{"█", "░", "│"}
	asciiBar   = glyphs{"#", "-", "|"}
)

// Bar draws the gauge in that many cells. Something used is never drawn as nothing,
// and a bar is full only when all is used.
func (g Gauge) Bar(cells int, look Look) Line {
	if cells <= 0 {
		return Line{}
	}
	glyph := asciiBar
	if look.Unicode {
		glyph = unicodeBar
	}
	filled := 0
	if used := min(max(g.Used, 0), 1); used > 0 {
		filled = min(max(1, int(math.Round(used*float64(cells)))), cells)
		if used < 1 && cells > 1 {
			filled = min(filled, cells-1)
		}
	}
	at := -1
	if g.Pace >= 0 {
		at = min(int(min(g.Pace, 1)*float64(cells)), cells-1)
	}
	piece := func(from, to int) Line {
		to = max(from, to)
		line := Marked(strings.Repeat(glyph.full, max(0, min(to, filled)-from)), g.Mark)
		return line.Add(strings.Repeat(glyph.empty, max(0, to-max(from, filled))), Faint)
	}
	if at < 0 {
		return piece(0, cells)
	}
	return piece(0, at).Add(glyph.pace, Strong).Join(piece(at+1, cells))
}
