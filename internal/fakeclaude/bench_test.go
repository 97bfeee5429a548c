package fakeclaude_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// BenchmarkAnswer shows what the fake itself costs, to be told apart from what
// is measured against it.
func BenchmarkAnswer(b *testing.B) {
	for name, body := range map[string]string{
		"document":     ask(modelID, false, "x"),
		"stream":       ask(modelID, true, "x"),
		"stream-100KB": ask(modelID, true, strings.Repeat("x", 100<<10)),
	} {
		b.Run(name, func(b *testing.B) {
			fake := fakeclaude.New(fakeclaude.Options{
				Accounts: []fakeclaude.Account{{Name: "k", APIKey: keyK, RPM: 1 << 40, ITPM: 1 << 40, OTPM: 1 << 40}}, KeepRequests: -1,
			})
			defer fake.Close()
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("POST", "/v1/messages", strings.NewReader(body))
				r.Header.Set("X-Api-Key", keyK)
				r.Header.Set("Anthropic-Version", "2023-06-01")
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				if fake.ServeHTTP(w, r); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
