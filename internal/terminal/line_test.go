package terminal

import (
	"strings"
	"testing"
	"unicode"
)

func TestLineIsClean(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "a\x1b[2Jb": "a[2Jb", "a\r\nb\tc": "abc", "\u202etfel": "tfel", "\u009b31m": "31m", "\x07\x00": "", "小é": "小é", "bad\xff": "bad\ufffd",
	} {
		if got := Text(text).In(Look{Unicode: true}); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got := Text("小é\u009b2J!").In(Look{}); got != "??2J!" {
		t.Errorf("in ASCII: %q", got)
	}
}

func TestLineMarks(t *testing.T) {
	l := Marked("a", Good).Add("b", Good).Add("c", Plain).Join(Marked("d  ", Bad), Text("  "))
	if got := l.In(Look{Colour: true}); got != "\x1b[32mab\x1b[0mc\x1b[31md\x1b[0m" {
		t.Errorf("%q", got)
	}
	if got := l.In(Look{}); got != "abcd" {
		t.Errorf("%q", got)
	}
	// A line that was given away does not change when another is made of it.
	head := Text("head")
	one, two := head.Add(" one", Plain), head.Add(" two", Plain)
	if one.In(Look{}) != "head one" || two.In(Look{}) != "head two" || head.In(Look{}) != "head" {
		t.Errorf("%v %v %v", head, one, two)
	}
}

func TestLineCells(t *testing.T) {
	for _, test := range []struct {
		line  Line
		cells int
		want  string
	}{
		{Text("abcdef"), 6, "abcdef"}, {Text("abcdef"), 5, "abcd~"}, {Text("abcdef"), 1, "~"}, {Text("abcdef"), 0, ""}, {Text("abcdef"), -1, ""},
		{Text("小林さん"), 8, "小林さん"}, {Text("小林さん"), 7, "小林さ~"}, {Text("小林さん"), 6, "小林~"},
		{Text("e\u0301e\u0301"), 2, "e\u0301e\u0301"}, {Marked("ab", Good).Add("cd", Bad), 3, "ab~"},
	} {
		got := test.line.Cut(test.cells)
		if got.In(Look{Unicode: true}) != test.want || got.Width() > max(0, test.cells) {
			t.Errorf("%q in %d: %q, %d wide", test.line.In(Look{Unicode: true}), test.cells, got.In(Look{Unicode: true}), got.Width())
		}
		if test.cells >= 0 {
			if w := test.line.PadTo(test.cells).Width(); w != test.cells && test.want != "小林~" {
				t.Errorf("%q padded to %d is %d", test.want, test.cells, w)
			}
		}
	}
	if got := Text("7").RightTo(3).Add("|", Plain).In(Look{}); got != "  7|" {
		t.Errorf("%q", got)
	}
}

func TestWrap(t *testing.T) {
	text := "one two  three\nfour a-word-that-is-longer-than-the-line end"
	got := Render(Wrap(text, Plain, 12, 2), Look{})
	if want := "one two\n  three four\n  a-word-th~\n  end\n"; got != want {
		t.Errorf("%q", got)
	}
	if len(Wrap("", Plain, 10, 0)) != 0 || len(Wrap("a b", Plain, -5, 0)) != 1 {
		t.Error("nothing, or no width")
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\x1b[31mb", 3)
	f.Add("小林\u0301さん", 5)
	f.Fuzz(func(t *testing.T, text string, cells int) {
		cells %= 300
		l := Marked(text, Warn).Add(text, Plain)
		if w := l.Cut(cells).Width(); w > max(0, cells) {
			t.Errorf("%d wide in %d", w, cells)
		}
		for _, look := range []Look{{}, {Unicode: true}} {
			for _, r := range l.In(look) {
				if !unicode.IsPrint(r) || !look.Unicode && r > unicode.MaxASCII {
					t.Errorf("%q in %q", r, l.In(look))
				}
			}
		}
		for _, wrapped := range Wrap(text, Plain, cells, 2) {
			if wrapped.Width() > max(cells, 10) {
				t.Errorf("%d wide in %d: %q", wrapped.Width(), cells, wrapped.In(Look{}))
			}
		}
	})
}

func TestBar(t *testing.T) {
	for _, test := range []struct {
		used, pace float64
		want       string
	}{
		{0, -1, "----------"}, {0.001, -1, "#---------"}, {0.5, -1, "#####-----"}, {0.999, -1, "#########-"}, {1, -1, "##########"}, {1.7, -1, "##########"}, {-1, -1, "----------"},
		{0.5, 0.3, "###|#-----"}, {0.2, 0.8, "##------|-"}, {1, 1, "#########|"}, {0, 0, "|---------"}, {0.5, 3, "#####----|"},
	} {
		if got := (Gauge{Used: test.used, Pace: test.pace}).Bar(10, Look{}); got.In(Look{}) != test.want || got.Width() != 10 {
			t.Errorf("%v at %v: %s", test.used, test.pace, got.In(Look{}))
		}
	}
	for cells := -1; cells < 5; cells++ {
		if got := (Gauge{Used: 0.5, Pace: 0.5}).Bar(cells, Look{Unicode: true}).Width(); got != max(0, cells) {
			t.Errorf("%d cells: %d", cells, got)
		}
	}
	if got := (Gauge{Used: 0.5, Pace: 0.8, Mark: Good}).Bar(4, Look{Unicode: true}).In(Look{Unicode: true, Colour: true}); got != "\x1b[32m██\x1b[0m\x1b[2m░\x1b[0m\x1b[1m│\x1b[0m" {
		t.Errorf("%q", got)
	}
}

func TestTable(t *testing.T) {
	table := &Table{
		Columns: []Column{{Title: "NAME", Least: 4}, {Title: "N", Right: true}, {Title: "MORE", Drop: 1}, {Title: "MOST", Drop: 2}},
		Rows: []Row{
			{Cells: []Line{Text("a-long-name"), Text("1"), Text("more"), Text("most")}, Below: []Line{Text("  below")}},
			{Cells: []Line{Text("b"), Text("22"), {}, {}}},
		},
	}
	for cells, want := range map[int]string{
		40: "NAME          N  MORE  MOST\na-long-name   1  more  most\n  below\nb            22\n",
		24: "NAME       N  MORE  MOST\na-long-~   1  more  most\n  below\nb         22\n",
		14: "NAME   N  MORE\na-l~   1  more\n  below\nb     22\n",
		8:  "NAME   N\na-l~   1\n  below\nb     22\n",
		5:  "~   N\n~   1\n  below\nb  22\n",
	} {
		if got := Render(table.Lines(cells), Look{}); got != want {
			t.Errorf("in %d:\n%s\nnot\n%s", cells, got, want)
		}
	}
	if table.Natural() != 27 || len(table.Columns) != 4 || len(table.Rows[0].Cells) != 4 {
		t.Errorf("drawing changed the table: %+v", table)
	}
	dropped := 0
	for table.DropOne() {
		dropped++
	}
	if dropped != 2 || len(table.Rows[1].Cells) != 2 {
		t.Errorf("%+v", table)
	}
	if strings.Contains(Render((&Table{}).Lines(10), Look{}), " ") {
		t.Error("an empty table has spaces")
	}
}
