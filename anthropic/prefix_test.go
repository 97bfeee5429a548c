package anthropic

import (
	"encoding/json"
	"strings"
	"testing"
)

func prefixOf(body string) uint64 {
	b := readBody([]byte(body))
	hash, _ := prefixHash(&b)
	return hash
}

// TestShortPrefixesAreNone: upstream does not cache them.
func TestShortPrefixesAreNone(t *testing.T) {
	for n, want := range map[int]bool{leastPrefix - 100: false, leastPrefix + 100: true} {
		f := ReadFacts(EndpointMessages, nil, []byte(`{"model":"m","system":"`+strings.Repeat("x", n)+`"}`))
		if got := f.Prefix != 0; got != want {
			t.Errorf("a system text of %d bytes is named: %v", n, got)
		}
	}
}

// TestPrefixStays: what changes from turn to turn is not part of the prefix.
func TestPrefixStays(t *testing.T) {
	const mark = `"cache_control":{"type":"ephemeral","ttl":"1h","scope":{"kind":["a"]}}`
	for _, same := range [][]string{
		{ // markers move, at the end, the beginning and in the middle of an object
			`{"model":"m","tools":[{"name":"a","description":"d"},{"name":"b"}],"system":[{"type":"text","text":"be kind"}]}`,
			`{"model":"m","tools":[{"name":"a","description":"d"},{"name":"b",` + mark + `}],"system":[{"type":"text","text":"be kind"}]}`,
			`{"model":"m","tools":[{` + mark + `,"name":"a","description":"d"},{"name":"b"}],"system":[{"type":"text","text":"be kind",` + mark + `}]}`,
			`{"model":"m","tools":[{"name":"a",` + mark + `,"description":"d"},{"name":"b"}],"system":[{"type":"text","cache_control" : null,"text":"be kind"}]}`,
			`{"model":"m","tools":[{"name":"a","description":"d"},{"name":"b"}],"system":[{"type":"text","text":"be kind"}],` + mark + `,"messages":[{"role":"user","content":"x"}],"max_tokens":5}`,
		},
		{ // the billing line changes
			`{"system":[{"type":"text","text":"x-anthropic-billing-header: cch=1;"},{"type":"text","text":"be kind"}]}`,
			`{"system":[{"type":"text","text":"x-anthropic-billing-header: cch=\"2\";"},{"type":"text","text":"be kind"}]}`,
			`{"system":[{"type":"text","text":"be kind"}]}`,
		},
		{ // it is a line of a longer text
			`{"system":"x-anthropic-billing-header: cch=1;\nbe kind"}`,
			`{"system":"x-anthropic-billing-header: \\n;\nbe kind"}`,
			`{"system":"be kind"}`,
		},
	} {
		for _, body := range same {
			if !json.Valid([]byte(body)) {
				t.Fatalf("bad body %s", body)
			}
			if got := prefixOf(body); got == 0 || got != prefixOf(same[0]) {
				t.Errorf("%s has another prefix than %s", body, same[0])
			}
		}
	}
}

func TestPrefixDiffers(t *testing.T) {
	seen := map[uint64]string{}
	for _, body := range []string{
		`{"model":"m","tools":[{"name":"a"}],"system":"s"}`,
		`{"model":"n","tools":[{"name":"a"}],"system":"s"}`,
		`{"model":"m","tools":[{"name":"b"}],"system":"s"}`,
		`{"model":"m","tools":[{"name":"a","description":"d"}],"system":"s"}`,
		`{"model":"m","tools":[{"name":"a"}],"system":"t"}`,
		`{"model":"m","tools":[{"name":"a"}],"system":[{"type":"text","text":"s"},{"type":"text","text":"t"}]}`,
		`{"model":"m","tools":[{"name":"a"}]}`,
		`{"model":"m","system":"s"}`,
		`{"model":"m","system":"x-anthropic-billing-header: a\nt"}`,
		`{"model":"m","system":[{"type":"text","text":"say \"x-anthropic-billing-header: a"}]}`,
		`{"model":"m","system":[{"type":"text","text":"say \"x-anthropic-billing-header: b"}]}`,
		`{"model":"m","tools":[{"name":"c","input_schema":{"required":["cache_control"],"enum":["a"]}}]}`,
		`{"model":"m","tools":[{"name":"c","input_schema":{"required":["cache_control"],"enum":["b"]}}]}`,
		`{"model":"m","tools":[{"name":"c","input_schema":{"required":[],"enum":["a"]}}]}`,
		`{"model":"m","tools":[{"name":"c","access_control":{"a":1}}]}`,
		`{"model":"m","tools":[{"name":"c","access_control":{"b":1}}]}`,
		`{"model":"m","tools":[{"name":"d","description":"\"cache_control\":{\"a\"}"}]}`,
		`{"model":"m","tools":[{"name":"d","description":"\"cache_control\":{\"b\"}"}]}`,
	} {
		got := prefixOf(body)
		if other, found := seen[got]; found || got == 0 {
			t.Errorf("%s has the prefix %d, as has %q", body, got, other)
		}
		seen[got] = body
	}
}

func TestNoPrefix(t *testing.T) {
	for _, body := range []string{
		``, `hello`, `{}`, `{"model":"m","messages":[{"role":"user","content":"x"}]}`, `{"model":"m","tools":[],"system":[]}`, `{"tools":null,"system":null}`,
		`{"system":""}`, `{"system":"x-anthropic-billing-header: a"}`, `{"system":[{"type":"text","text":"x-anthropic-billing-header: a"}]}`, `{"system":5,"tools":7}`,
	} {
		if got := prefixOf(body); got != 0 {
			t.Errorf("%s has the prefix %d", body, got)
		}
	}
}

func TestPrefixAllocatesNothing(t *testing.T) {
	b := readBody(bodies()["tools"])
	if n := testing.AllocsPerRun(10, func() { prefixHash(&b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzPrefix: markers and the billing line make no difference, words do.
func FuzzPrefix(f *testing.F) {
	f.Add("be kind", "reads a file", "cch=1", uint8(3))
	f.Add(`"cache_control":{}`, `\"cache_control\":{`, "a\nb", uint8(255))
	f.Add(`_control"`, `x-anthropic-billing-header`, `\`, uint8(9))
	f.Fuzz(func(t *testing.T, system, description, billing string, marks uint8) {
		if strings.HasPrefix(system, billingPrefix) || strings.Contains(billing, "\n") || strings.HasPrefix(description, billingPrefix) {
			return
		}
		build := func(billing, system string, marks uint8) string {
			object := func(bit uint8, fields map[string]any) map[string]any {
				if marks&(1<<bit) != 0 {
					fields["cache_control"] = map[string]any{"type": "ephemeral", "ttl": "1h"}
				}
				return fields
			}
			data, err := json.Marshal(map[string]any{
				"model": "m",
				"tools": []any{object(0, map[string]any{"name": "a", "description": description}), object(1, map[string]any{"zone": []string{description}})},
				"system": []any{
					object(2, map[string]any{"type": "text", "text": billingPrefix + ": " + billing}),
					object(3, map[string]any{"text": system, "a": 1}), object(4, map[string]any{"text": "end"}),
				},
				"messages": []any{map[string]any{"role": "user", "content": []any{object(5, map[string]any{"type": "text", "text": "hi"})}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		plain, marked := build("", system, 0), build(billing, system, marks)
		a, b := ReadFacts(EndpointMessages, nil, []byte(plain)), ReadFacts(EndpointMessages, nil, []byte(marked))
		if prefixOf(plain) != prefixOf(marked) || a.Session != b.Session {
			t.Errorf("markers %b and billing %q make another prefix or session", marks, billing)
		}
		if c := prefixOf(build(billing, system+".", marks)); c == prefixOf(plain) {
			t.Errorf("another system text makes no difference to %q", system)
		}
	})
}
