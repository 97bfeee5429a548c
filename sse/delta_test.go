package sse

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func delta(body string) string {
	return `{"type":"content_block_delta","index":12,"delta":{` + body + `}}`
}

func TestDeltaTokens(t *testing.T) {
	text := func(escaped string) string { return delta(`"type":"text_delta","text":"` + escaped + `"`) }
	long := strings.Repeat("w", 2<<20)
	for _, tc := range []struct {
		name, data string
		want       int64
	}{
		{"text", text("Hello, you"), 3},
		{"one byte", text("H"), 1},
		{"four bytes", text("Word"), 1},
		{"five bytes", text("Words"), 2},
		{"empty", text(""), 0},
		{"input", delta(`"type":"input_json_delta","partial_json":"{\"a\":\"} \"}"`), 3},
		{"thinking", delta(`"type":"thinking_delta","thinking":"hm"`), 1},
		{"backslash", text(`\\\\\\\\`), 1},
		{"quote behind backslash", text(`\\\"\\\"x`), 2},
		{"controls", text(`\n\t\b\f\r\/`), 2},
		{"two bytes", text(`\u00e9\u00E9`), 1},
		{"three bytes", text(`\u6771\u4eac`), 2},
		{"a pair", text(`\ud83d\ude42`), 1},
		{"two pairs", text(`\uD83D\uDE42\ud83d\ude42x`), 3},
		{"half a pair", text(`\ud83d`), 1},
		{"halves", text(`\ud83d\ud83d\ude42`), 2},
		{"the wrong half first", text(`\ude42\ud83dx`), 2},
		{"ASCII by number", text(`\u0041\u0022\u005c\u0000`), 1},
		{"raw", text(`東京🙂`), 3},
		{"looks like a frame", text(`\"delta\":{\"type\":\"text_delta\",\"text\":\"`), 10},
		{"padded", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello "}      }`, 2},
		{"more behind the text", delta(`"type":"text_delta","text":"Hello","more":"and more than that"`), 2},
		{"signature", delta(`"type":"signature_delta","signature":"AAAA"`), 0},
		{"citation", delta(`"type":"citations_delta","citation":{"type":"text_delta","text":"abc"}`), 0},
		{"unknown", delta(`"type":"colour_delta","colour":"blue"`), 0},
		{"other order", delta(`"text":"Hello, \"you\"","type":"text_delta"`), 3},
		{"blanks", `{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello, you"}}`, 3},
		{"no string", delta(`"type":"text_delta","text":7`), 0},
		{"long", text(long), (2 << 20) / 4},
		{"nothing", ``, 0},
		{"broken", `{"type":"content_block_delta","index":0,"delta":{"type":"text_de`, 0},
		{"broken in an escape", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"ab\u12`, 1},
		{"no JSON", "\nnocolon", 0},
	} {
		kept := tc.data[:min(len(tc.data), tapDelta)]
		if got := deltaTokens([]byte(kept), len(tc.data)); got != tc.want {
			t.Errorf("%s: %d tokens, want %d", tc.name, got, tc.want)
		}
	}
}

// TestDeltaBeyondTheBound: what is not kept of a delta is taken to be like what is.
func TestDeltaBeyondTheBound(t *testing.T) {
	for _, word := range []string{"w", "word ", "\\n", "a\\\"b", "\\u6771", "\\ud83d\\ude42 x"} {
		var meant string
		if err := json.Unmarshal([]byte(`"`+word+`"`), &meant); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{tapDelta - 200, tapDelta, tapDelta + 7, 3 * tapDelta, 2 << 20} {
			n := size / len(word)
			data := delta(`"type":"text_delta","text":"` + strings.Repeat(word, n) + `"`)
			got := deltaTokens([]byte(data[:min(len(data), tapDelta)]), len(data))
			want := tokensOf(strings.Repeat(meant, n))
			if off := got - want; len(data) <= tapDelta && off != 0 || off < -want/100-1 || off > want/100+1 {
				t.Errorf("%d times %s: %d tokens, want %d", n, word, got, want)
			}
		}
	}
}

func tokensOf(text string) int64 { return int64(len(text)+3) / 4 }

// asASCII writes a JSON string with every rune beyond ASCII, and some others, by number.
func asASCII(random *rand.Rand, text string) string {
	var b strings.Builder
	for _, r := range text {
		format := "\\u%04x"
		if random.IntN(2) == 0 {
			format = "\\u%04X"
		}
		switch {
		case r > 0xFFFF:
			fmt.Fprintf(&b, format+format, 0xD800+(r-0x10000)>>10, 0xDC00+(r-0x10000)&0x3FF)
		case r > 126 || r < 32 || r == '"' || r == '\\' || random.IntN(4) == 0:
			fmt.Fprintf(&b, format, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// TestEstimateOfAnyText: the sum over the deltas, whatever the text, however it is
// escaped and the stream cut up.
func TestEstimateOfAnyText(t *testing.T) {
	alphabet := []rune("abc \"\\/\n\t\x00<>&{}:éß東京🙂𝄞\u2028\uFFFD")
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 7))
		var stream strings.Builder
		var want int64
		for range random.IntN(20) {
			runes := make([]rune, random.IntN(1+random.IntN(300)))
			for i := range runes {
				runes[i] = alphabet[random.IntN(len(alphabet))]
			}
			text := string(runes)
			want += tokensOf(text)
			kind := deltaKinds[random.IntN(len(deltaKinds))]
			plain, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			escaped := []string{string(plain), `"` + asASCII(random, text) + `"`}[random.IntN(2)]
			if random.IntN(3) > 0 {
				stream.WriteString("event: content_block_delta\n")
			}
			fmt.Fprintf(&stream, `data: {"type":"content_block_delta","index":%d,"delta":{"type":%q,%q:%s}}`, random.IntN(200), kind.name, kind.field, escaped)
			stream.WriteString([]string{"\n\n", "\r\n\r\n", "\r\r"}[random.IntN(3)])
		}
		for cut := range uint64(4) {
			tap := NewStreamTap()
			for _, chunk := range cutUp([]byte(stream.String()), seed*10+cut) {
				tapped(t, tap, chunk)
			}
			if got := tap.Result().EstimatedOutputTokens; got != want {
				t.Fatalf("seed %d, cut %d: %d tokens; want %d of\n%s", seed, cut, got, want, stream.String())
			}
		}
	}
}

func TestDeltaTokensNoAllocations(t *testing.T) {
	for _, data := range []string{delta(`"type":"text_delta","text":"word \"\ud83d\ude42\u00e9\n"`), delta(`"type":"input_json_delta","partial_json":"{\"a\":"`)} {
		b := []byte(data)
		if n := testing.AllocsPerRun(100, func() { deltaTokens(b, len(b)) }); n != 0 {
			t.Errorf("%v allocations for %s", n, data)
		}
	}
}

// FuzzDeltaTokens compares with what a JSON decoder reads.
func FuzzDeltaTokens(f *testing.F) {
	for _, body := range []string{`"type":"text_delta","text":"a\ud83d\ude42\"\\"`, `"type":"thinking_delta","thinking":"\u00e9"`, `"type":"input_json_delta","partial_json":"{\"a"`, `"type":"signature_delta","text":"x"`} {
		f.Add([]byte(delta(body)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := deltaTokens(data, len(data))
		if got < 0 || got > int64(len(data)) {
			t.Fatalf("%d tokens in %d bytes", got, len(data))
		}
		for _, size := range []int{len(data) + 1, len(data) + 1000, 1 << 40} {
			if n := deltaTokens(data, size); n < got || n > int64(size) {
				t.Fatalf("%d tokens in %d bytes, %d in what is kept", n, size, got)
			}
		}
		if !slices.Equal(data, []byte(strings.ToValidUTF8(string(data), ""))) {
			return // the decoder would mend it
		}
		// Where a field is there twice, it is anybody's guess which one counts.
		once := func(json []byte, field string) bool { return strings.Count(string(json), `"`+field+`"`) == 1 }
		var event map[string]json.RawMessage
		if json.Unmarshal(data, &event) != nil || len(event) != 3 || !once(data, "delta") {
			return
		}
		var fields map[string]any
		if json.Unmarshal(event["delta"], &fields) != nil || len(fields) != 2 || !once(event["delta"], "type") {
			return
		}
		for _, kind := range deltaKinds {
			text, isText := fields[kind.field].(string)
			if fields["type"] == kind.name && isText && once(event["delta"], kind.field) && got != tokensOf(text) {
				t.Fatalf("%d tokens in %s; want %d", got, data, tokensOf(text))
			}
		}
	})
}
