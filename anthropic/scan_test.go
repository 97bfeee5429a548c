package anthropic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// plainFacts reads by encoding/json what scan reads, from a JSON object in which no
// object has a key twice.
func plainFacts(t *testing.T, body []byte) (facts struct {
	model                   string
	stream, fast, longCache bool
	system, messages        any
	files                   []string
	container               string
}) {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(body, &root); err != nil {
		t.Fatal(err)
	}
	facts.model, _ = root["model"].(string)
	facts.stream, _ = root["stream"].(bool)
	facts.fast = root["speed"] == "fast"
	facts.system, facts.messages = root["system"], root["messages"]
	switch c := root["container"].(type) {
	case string:
		facts.container = c
	case map[string]any:
		facts.container, _ = c["id"].(string)
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for key, e := range v {
				text, isText := e.(string)
				if key == "ttl" && text == "1h" {
					facts.longCache = true
				}
				if key == "file_id" && isText && ValidID(text) && !slices.Contains(facts.files, text) {
					facts.files = append(facts.files, text)
				}
				walk(e)
			}
		}
	}
	walk(root)
	slices.Sort(facts.files)
	return facts
}

// hasKeysTwice reports whether some object of a JSON text has a key twice, or one that
// differs only in its case: encoding/json and the API need not agree on what it means.
func hasKeysTwice(t *testing.T, body []byte) bool {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	var value func() bool
	value = func() bool {
		token, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		opened, _ := token.(json.Delim)
		keys := make(map[string]bool)
		for opened != 0 && d.More() {
			if opened == '{' {
				key, err := d.Token()
				if err != nil {
					t.Fatal(err)
				}
				if name, _ := key.(string); keys[name] {
					return true
				} else {
					keys[name] = true
				}
			}
			if value() {
				return true
			}
		}
		if opened != 0 {
			_, _ = d.Token()
		}
		return false
	}
	return value()
}

func compareWithPlain(t *testing.T, body []byte) {
	t.Helper()
	want, got := plainFacts(t, body), readBody(body)
	files := slices.Clone(got.files)
	slices.Sort(files)
	if !got.readable || got.model != want.model || got.stream != want.stream || got.fast != want.fast || got.longCache != want.longCache || got.container != want.container {
		t.Errorf("%+v, want %+v of\n%s", got, want, body)
	}
	if len(want.files) <= maxRefs && !slices.Equal(files, want.files) {
		t.Errorf("files %q, want %q of\n%s", files, want.files, body)
	}
	for name, pair := range map[string][2]any{"system": {got.system.Raw, want.system}, "messages": {got.messages.Raw, want.messages}} {
		var value any
		if raw := pair[0].(string); raw != "" {
			if err := json.Unmarshal([]byte(raw), &value); err != nil {
				t.Errorf("%s: %v in %q of\n%s", name, err, raw, body)
			}
		}
		if fmt.Sprint(value) != fmt.Sprint(pair[1]) {
			t.Errorf("%s is %v, want %v of\n%s", name, value, pair[1], body)
		}
	}
}

var scanWords = []string{
	"model", "stream", "speed", "fast", "ttl", "1h", "file_id", "file_1", "file_2", "container", "id", "container_1", "system", "messages",
	"data", "/9j/xx", "text", `say "ttl":"1h"`, `\`, `\\`, `a\"`, "é\u2028\x00\n", "", "{", "}]", ",", ":", strings.Repeat("long ", 40),
}

func randomValue(random *rand.Rand, depth int) any {
	word := func() string { return scanWords[random.IntN(len(scanWords))] }
	switch n := random.IntN(9); {
	case n < 2 && depth < 5:
		object := make(map[string]any)
		for range random.IntN(6) {
			object[word()] = randomValue(random, depth+1)
		}
		return object
	case n < 4 && depth < 5:
		list := make([]any, random.IntN(5))
		for i := range list {
			list[i] = randomValue(random, depth+1)
		}
		return list
	case n == 5:
		return random.Float64() * 1e6
	case n == 6:
		return []any{true, false, nil}[random.IntN(3)]
	default:
		return word()
	}
}

// TestScanReadsWhatJSONSays, of any object, however it is laid out and escaped.
func TestScanReadsWhatJSONSays(t *testing.T) {
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 3))
		object := make(map[string]any)
		for _, key := range append([]string{"model", "stream", "speed", "container", "system", "messages"}, scanWords...) {
			if random.IntN(2) == 0 {
				object[key] = randomValue(random, 1)
			}
		}
		body, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		if seed%3 == 1 {
			var indented bytes.Buffer
			_ = json.Indent(&indented, body, " ", "\t")
			body = append([]byte("\r\n "), indented.Bytes()...)
		}
		if seed%3 == 2 {
			body = bytes.ReplaceAll(body, []byte(`"ttl"`), []byte(`"\u0074tl"`))
			body = bytes.ReplaceAll(body, []byte(`"file_id"`), []byte(`"fil\u0065_id" `))
			body = bytes.ReplaceAll(body, []byte(`"model"`), []byte(`"\u006dodel"`))
		}
		compareWithPlain(t, body)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// FuzzScan: of JSON it reads what JSON says, of anything else no matter what.
func FuzzScan(f *testing.F) {
	f.Add([]byte(`{"model":"m","a":{"ttl":"1h","file_id":"file_1"},"stream":true}`))
	f.Add([]byte(` {"\u006dodel" : "x\\\"", "messages":[{"role":"user"}],"system":"\\"}`))
	f.Add([]byte(`{"model":"cut`))
	f.Add([]byte(`{"a":[}}],"container":{"id":"c"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		lent := bytes.Clone(body)
		facts := ReadFacts(EndpointMessages, http.Header{}, lent)
		for i := range lent {
			lent[i] = '#' // it belongs to another request now
		}
		if again := ReadFacts(EndpointMessages, http.Header{}, body); !reflect.DeepEqual(facts, again) {
			t.Errorf("%+v holds a part of the body", facts)
		}
		if facts.Tokens < 0 || len(facts.Refs) > maxRefs {
			t.Errorf("%+v", facts)
		}
		if b := readBody(body); b.readable && json.Valid(body) && !hasKeysTwice(t, body) {
			compareWithPlain(t, body)
		}
	})
}
