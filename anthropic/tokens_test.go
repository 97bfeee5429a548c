package anthropic

import (
	"strings"
	"testing"
)

func TestEstimateTokens(t *testing.T) {
	text := strings.Repeat("word ", 8000)
	const frame = `{"messages":[{"role":"user","content":[{"source":{"type":"base64","media_type":"x","data": "%"}}]}]}`
	of := func(data string) string { return strings.Replace(frame, "%", data, 1) }
	long := strings.Repeat("A", 400_000)
	for _, test := range []struct {
		name, body string
		want       int64
	}{
		{"text", `{"messages":[{"role":"user","content":"` + text + `"}]}`, 10_000},
		{"no JSON", text, 0},
		{"empty", "", 0},
		{"JPEG", of("/9j/" + long), imageTokens},
		{"JPEG with escaped slashes", of(`\/9j\/` + long), imageTokens},
		{"PNG", of("iVBORw0KGgo" + long), imageTokens},
		{"GIF", of("R0lGODlh" + long), imageTokens},
		{"WebP", of("UklGR" + long), imageTokens},
		{"a small picture", of("iVBORw0K"), imageTokens},
		{"PDF", of("JVBERi0" + long), 12_500},
		{"two pictures", strings.Replace(of("/9j/"+long), "[{", `[{"data":"UklGR`+long+`"},{`, 1), 2 * imageTokens},
		{"a text in a field of that name", of(text), 10_000},
		{"a cut body", `{"messages":[{"data":"/9j/` + long, imageTokens},
	} {
		got := ReadFacts(EndpointMessages, nil, []byte(test.body)).Tokens
		if got < test.want || got > test.want+50 {
			t.Errorf("%s: %d tokens, want %d", test.name, got, test.want)
		}
	}
}
