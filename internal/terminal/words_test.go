package terminal

import (
	"os"
	"slices"
	"testing"
	"time"
)

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 400 * time.Millisecond: "0s", 89 * time.Second: "89s", 90 * time.Second: "2m", 59*time.Minute + 29*time.Second: "59m", 59*time.Minute + 30*time.Second: "1h",
		time.Hour: "1h", 130 * time.Minute: "2h10m", 47*time.Hour + 59*time.Minute: "47h59m", 48*time.Hour - time.Second: "2d", 48 * time.Hour: "2d", 76*time.Hour - time.Minute: "3d4h",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "0ms", 999 * time.Millisecond: "999ms", 1500 * time.Millisecond: "1.5s", 99 * time.Second: "99.0s", 100 * time.Second: "2m"} {
		if got := Took(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1.0k", 12_345: "12.3k", 99_949: "99.9k", 99_950: "100k", 999_499: "999k", 999_500: "1.0M", 45_600_000: "45.6M", 7_000_000_000: "7.0G", -5: "-5",
	} {
		if got := Count(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	for share, want := range map[float64]string{0: "0%", 0.001: "<1%", 0.42: "42%", 0.999: "99%", 1: "100%", 1.5: "150%"} {
		if got := Percent(share); got != want {
			t.Errorf("%v: %s", share, got)
		}
	}
	zone := time.FixedZone("", 2*3600)
	now := time.Date(2026, 11, 23, 23, 30, 0, 0, zone)
	for after, want := range map[time.Duration]string{10 * time.Minute: "23:40", 90 * time.Second: "23:31:30", 31 * time.Minute: "Tue 24 Nov 00:01", -time.Hour: "22:30", time.Hour: "Tue 24 Nov 00:30", 60 * 24 * time.Hour: "22 Jan 2027 23:30"} {
		if got := Clock(now.Add(after).UTC(), now); got != want {
			t.Errorf("in %v: %s", after, got)
		}
	}
}

func TestKeys(t *testing.T) {
	for typed, want := range map[string][]Key{
		"q": {KeyQuit}, "\x03": {KeyQuit}, "jk": {KeyDown, KeyUp}, "\x1b[A\x1bOB": {KeyUp, KeyDown}, "\x1b[5~\x1b[6~": {KeyPageUp, KeyPageDown},
		"\x1b[1;5A\x1b[200~xq": {KeyQuit}, "\x1bq": nil, "\x1b\x1b[A": {KeyUp}, "\x1b[999": nil, "xyz€": nil, "\x1b[H\x1b[F": {KeyTop, KeyBottom}, "": nil,
	} {
		var whole, bytewise keyReader
		if got := whole.read([]byte(typed)); !slices.Equal(got, want) {
			t.Errorf("%q: %v", typed, got)
		}
		var got []Key
		for i := range len(typed) {
			got = append(got, bytewise.read([]byte{typed[i]})...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, byte by byte: %v", typed, got)
		}
	}
	var r keyReader
	for range 100 {
		r.read([]byte("\x1b[1;1;1;1;1;1"))
	}
	if len(r.pending) > 64 {
		t.Errorf("%d bytes wait for the end of a sequence that has none", len(r.pending))
	}
}

func TestOutputOf(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, test := range []struct {
		colour string
		env    map[string]string
		want   Output
	}{
		{"auto", nil, Output{Width: plainWidth}},
		{"auto", map[string]string{"LANG": "de_DE.UTF-8", "COLUMNS": "77"}, Output{Look: Look{Unicode: true}, Width: 77}},
		{"always", map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, Output{Look: Look{Colour: true}, Drawn: true, Width: plainWidth}},
		{"always", map[string]string{"LC_CTYPE": "C.utf8", "NO_COLOR": "1"}, Output{Look: Look{Unicode: true, Colour: true}, Drawn: true, Width: plainWidth}},
		{"never", map[string]string{"LC_CTYPE": "C.utf8", "TERM": "dumb", "COLUMNS": "many"}, Output{Width: plainWidth}},
	} {
		got := OutputOf(f, test.colour, func(name string) string { return test.env[name] })
		if alwaysUTF8 {
			test.want.Unicode = test.env["TERM"] != "dumb"
		}
		if got != test.want {
			t.Errorf("%s %v: %+v", test.colour, test.env, got)
		}
	}
	if _, err := OpenScreen(f, f, Look{}); err == nil {
		t.Error("a file is taken for a screen")
	}
}
