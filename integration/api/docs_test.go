package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// examples runs the curl lines of docs/api.md, each of which must be served and be as the
// file says. Streams and lines that only show the way are left out.
func (c *caddy) examples(t *testing.T) {
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	// The names that the text uses, and those of the tests' pool.
	names := strings.NewReplacer("pool=default", "pool=team", `"default"`, `"team"`, `"main"`, `"a"`, "account=ann-plan", "account=f")
	ran := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "curl ") || strings.Contains(line, "curl -N") {
			continue
		}
		line, _, _ = strings.Cut(strings.TrimSpace(line), " | jq")
		method, address, key, body := c.words(t, names.Replace(line))
		u, err := url.Parse(address)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		where := u.RequestURI()
		if u.Host == "claude.example.com" {
			where = "team.test" + where
		}
		c.call(t, http.StatusOK, method, where, key, body)
		ran++
	}
	if ran < 15 {
		t.Errorf("only %d examples were run", ran)
	}
}

// TestDocs: the answers in docs/api.md are JSON with fields that the file describes, and
// every path is in it.
func TestDocs(t *testing.T) {
	s := loadSpec(t)
	raw, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for path := range s.doc.Paths.Map() {
		if !strings.Contains(text, "`"+path+"`") {
			t.Errorf("docs/api.md does not have %s", path)
		}
	}
	known := map[string]bool{"5h": true, "7d": true}
	var learn func(ref *openapi3.SchemaRef)
	learn = func(ref *openapi3.SchemaRef) {
		for field, of := range ref.Value.Properties {
			known[field] = true
			if of.Ref == "" {
				learn(of)
			}
		}
	}
	for _, ref := range s.doc.Components.Schemas {
		learn(ref)
	}
	blocks := strings.Split(text, "```json\n")[1:]
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		var v any
		if err := json.Unmarshal([]byte(block), &v); err != nil {
			t.Errorf("%v in %s", err, block)
		}
		for _, field := range fields(v) {
			if !known[field] {
				t.Errorf("the field %q is not in the file: %s", field, block)
			}
		}
	}
	if len(blocks) < 10 {
		t.Errorf("only %d answers", len(blocks))
	}
}

func fields(v any) (names []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			names = append(append(names, name), fields(value)...)
		}
	case []any:
		for _, value := range v {
			names = append(names, fields(value)...)
		}
	}
	return names
}

// words are what a shell makes of a line with curl in it.
func (c *caddy) words(t *testing.T, line string) (method, address, key, body string) {
	t.Helper()
	sh := exec.CommandContext(t.Context(), "sh", "-c", "curl() { printf '%s\\0' \"$@\"; }\n"+line)
	sh.Env = []string{"SHUNT_KEY=" + annKey}
	out, err := sh.Output()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	method = http.MethodGet
	words := bytes.Split(bytes.TrimSuffix(out, []byte{0}), []byte{0})
	for i := 0; i < len(words); i++ {
		switch word := string(words[i]); {
		case word == "-H" && i+1 < len(words):
			i++
			key = strings.TrimPrefix(string(words[i]), "x-api-key: ")
		case word == "-X" && i+1 < len(words):
			i++
			method = string(words[i])
		case word == "-d" && i+1 < len(words):
			i++
			method, body = http.MethodPost, string(words[i])
		case strings.HasPrefix(word, "http"):
			address = word
		default:
			t.Errorf("%s: %q is not known to this test", line, word)
		}
	}
	return method, address, key, body
}
