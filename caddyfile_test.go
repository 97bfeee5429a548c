package shunt

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

var update = flag.Bool("update", false, "write what the adapter says now into the fixtures")

const fixtureSeparator = "\n----------\n"

// fixtures calls each with the parts of every fixture: a Caddyfile and what is
// expected of it. With -update it writes what each returns.
func fixtures(t *testing.T, folder string, each func(t *testing.T, caddyfile string) string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.caddyfiletest"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d fixtures: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(data), fixtureSeparator)
			got := each(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(strings.TrimSpace(input)+"\n"+fixtureSeparator+got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if strings.TrimSpace(got) != strings.TrimSpace(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func adapt(text string) ([]byte, error) {
	// A parser knows the file's name and line of each token.
	result, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return result, err
}

func TestAdapt(t *testing.T) {
	fixtures(t, "adapt", func(t *testing.T, text string) string {
		result, err := adapt(text)
		if err != nil {
			t.Fatal(err)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, result, "", "\t"); err != nil {
			t.Fatal(err)
		}
		return pretty.String()
	})
}

func TestAdaptErrors(t *testing.T) {
	fixtures(t, "errors", func(t *testing.T, text string) string {
		result, err := adapt(text)
		if err == nil {
			t.Fatalf("adapted to %s", result)
		}
		if !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("no file and line in %q", err)
		}
		return err.Error()
	})
}

// TestEveryWordHasFixtures: a word of the block without a fixture is one that
// nobody has tried.
func TestEveryWordHasFixtures(t *testing.T) {
	words := append(wordsOf(subdirectives), wordsOf(accountWords)...)
	words = append(words, wordsWith("admin", "expires")...)
	for _, folder := range []string{"adapt", "errors"} {
		var all bytes.Buffer
		files, _ := filepath.Glob(filepath.Join("testdata", folder, "*.caddyfiletest"))
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(data)
		}
		for _, word := range words {
			if !bytes.Contains(all.Bytes(), []byte("\t"+word)) {
				t.Errorf("no fixture in %s uses %s", folder, word)
			}
		}
	}
}

func FuzzCaddyfile(f *testing.F) {
	for _, folder := range []string{"adapt", "errors"} {
		files, _ := filepath.Glob(filepath.Join("testdata", folder, "*.caddyfiletest"))
		for _, file := range files {
			if data, err := os.ReadFile(file); err == nil {
				input, _, _ := strings.Cut(string(data), fixtureSeparator)
				if i := strings.Index(input, "shunt"); i >= 0 {
					f.Add(input[i:])
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "import") || strings.Contains(text, "{$") {
			return // reads files and the environment
		}
		h := new(Handler)
		if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err == nil && len(h.Accounts) == 0 {
			t.Error("a block without an account was taken")
		}
	})
}
