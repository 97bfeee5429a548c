package sse

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go/packages/ssestream"
	gosse "github.com/tmaxmax/go-sse"

	"github.com/caddy-shunt/caddy-shunt/sse"
)

type event struct{ name, data string }

// ours are shunt's events of a stream that comes in pieces of this size.
func ours(stream []byte, size int) (events []event) {
	p := sse.NewParser(1<<20, func(e sse.Event) { events = append(events, event{string(e.Name), string(e.Data)}) })
	for piece := range slices.Chunk(stream, size) {
		p.Write(piece)
	}
	return withData(events)
}

func goSSEs(t *testing.T, stream []byte) (events []event) {
	t.Helper()
	for e, err := range gosse.Read(bytes.NewReader(stream), &gosse.ReadConfig{MaxEventSize: 2 << 20}) {
		if err != nil {
			t.Fatalf("go-sse: %v", err)
		}
		events = append(events, event{e.Type, e.Data})
	}
	return withData(events)
}

func theSDKs(t *testing.T, stream []byte) (events []event) {
	t.Helper()
	d := ssestream.NewDecoder(&http.Response{Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(stream))})
	for d.Next() {
		events = append(events, event{d.Event().Type, strings.TrimSuffix(string(d.Event().Data), "\n")})
	}
	if d.Err() != nil {
		t.Fatalf("the SDK: %v", d.Err())
	}
	return withData(events)
}

// withData leaves out events without data: the standard says that they are none, and so
// does shunt; the others deliver those that have a name.
func withData(events []event) []event {
	return slices.DeleteFunc(events, func(e event) bool { return e.data == "" })
}

// longestName is what shunt keeps of an event's name, see [sse.Event].
const longestName = 128

func compare(t *testing.T, stream []byte) {
	t.Helper()
	want := goSSEs(t, stream)
	if slices.ContainsFunc(want, func(e event) bool { return len(e.name) > longestName }) {
		t.Skip("a name that shunt cuts")
	}
	for _, size := range []int{1, 7, 4096} {
		if got := ours(stream, size); !slices.Equal(got, want) {
			t.Errorf("in pieces of %d: %q, go-sse says %q", size, got, want)
		}
	}
	// The SDK ends lines at line feeds only, and knows no byte order mark.
	if bytes.ContainsRune(stream, '\r') || bytes.HasPrefix(stream, []byte("\xEF\xBB\xBF")) {
		return
	}
	if got := theSDKs(t, stream); !slices.Equal(got, want) {
		t.Errorf("the SDK says %q, go-sse %q", got, want)
	}
}

func streams(t testing.TB) (all [][]byte) {
	t.Helper()
	files, err := filepath.Glob("../../sse/testdata/*.sse")
	if err != nil || len(files) == 0 {
		t.Fatalf("no captured streams: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data)
	}
	for _, s := range []string{
		"data: a\n\n", "event: x\ndata: a\ndata: b\n\n", "event: x\r\ndata: a\r\n\r\n", "data: a\rdata: b\r\r", ": comment\n\ndata:a\n\n", "data\n\ndata: a\n\n", "event: x\n\ndata: y\n\n",
		"\xEF\xBB\xBFdata: a\n\n", "data:  a\n\n", "event: \ndata: a\n\n", "data: a", "data: a\n", "id: 1\nretry: 5\ndata: a\n\n", "Data: a\n\n", "event: x\nevent: y\ndata: a\n\n", "data: a\n\n\n\ndata: b\n\n",
	} {
		all = append(all, []byte(s))
	}
	return all
}

func TestAgainstOthers(t *testing.T) {
	for _, stream := range streams(t) {
		compare(t, stream)
	}
}

func FuzzAgainstOthers(f *testing.F) {
	for _, stream := range streams(f) {
		if len(stream) < 4<<10 {
			f.Add(stream)
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte) { compare(t, stream) })
}
