package terminal

import (
	"slices"
	"strings"
)

// Column is a column of a table.
type Column struct {
	Title string
	// Right puts its cells to the right.
	Right bool
	// Least is how few cells it may be cut to when the width is short; 0 if it must not be
	// cut.
	Least int
	// Drop says when the column goes if the width is short: the highest first; 0 never.
	Drop int
}

// Row is a row with the lines that belong below it.
type Row struct {
	Cells []Line
	Below []Line
}

// Table is a table. Each row has a cell for each column.
type Table struct {
	Columns []Column
	Rows    []Row
}

// gap is what is between two columns.
const gap = 2

// Lines draws the table in at most that many cells: columns are cut and dropped until
// it fits.
func (t *Table) Lines(cells int) []Line {
	shown := *t
	for shown.least() > cells && shown.DropOne() {
	}
	widths := shown.fit(cells)
	title := make([]Line, len(shown.Columns))
	for i, c := range shown.Columns {
		title[i] = Marked(c.Title, Faint)
	}
	lines := []Line{shown.line(title, widths)}
	for _, row := range shown.Rows {
		lines = append(lines, shown.line(row.Cells, widths))
		lines = append(lines, row.Below...)
	}
	return lines
}

// Natural is the width that the table takes when there is no limit.
func (t *Table) Natural() int { return total(t.widths()) }

func total(widths []int) int {
	n := gap * max(0, len(widths)-1)
	for _, w := range widths {
		n += w
	}
	return n
}

func (t *Table) widths() []int {
	widths := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		widths[i] = textWidth(c.Title)
		for _, row := range t.Rows {
			widths[i] = max(widths[i], row.Cells[i].Width())
		}
	}
	return widths
}

// least is the width that the table takes when its columns are cut as far as they may.
func (t *Table) least() int {
	widths := t.widths()
	for i, c := range t.Columns {
		if c.Least > 0 {
			widths[i] = min(widths[i], c.Least)
		}
	}
	return total(widths)
}

// DropOne takes out the column that goes first, and reports whether there was one.
func (t *Table) DropOne() bool {
	last := -1
	for i, c := range t.Columns {
		if c.Drop > 0 && (last < 0 || c.Drop > t.Columns[last].Drop) {
			last = i
		}
	}
	if last < 0 {
		return false
	}
	t.Columns = slices.Delete(slices.Clone(t.Columns), last, last+1)
	rows := slices.Clone(t.Rows)
	for i := range rows {
		rows[i].Cells = slices.Delete(slices.Clone(rows[i].Cells), last, last+1)
	}
	t.Rows = rows
	return true
}

// fit cuts the columns until they fit: those that may be, and if that is not enough all
// of them. The widest is cut first.
func (t *Table) fit(cells int) []int {
	widths := t.widths()
	for _, all := range []bool{false, true} {
		for total(widths) > cells {
			widest := -1
			for i, c := range t.Columns {
				may := widths[i] > 1 && (all || c.Least > 0 && widths[i] > c.Least)
				if may && (widest < 0 || widths[i] > widths[widest]) {
					widest = i
				}
			}
			if widest < 0 {
				break
			}
			widths[widest]--
		}
	}
	return widths
}

func (t *Table) line(cells []Line, widths []int) Line {
	var line Line
	for i, c := range t.Columns {
		if i > 0 {
			line = line.Add(strings.Repeat(" ", gap), Plain)
		}
		if c.Right {
			line = line.Join(cells[i].RightTo(widths[i]))
		} else {
			line = line.Join(cells[i].PadTo(widths[i]))
		}
	}
	return line
}
