// Package fctest starts a fake upstream for the time of a test.
package fctest

import (
	"net/http/httptest"
	"testing"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// Start serves a fake upstream on loopback until the test ends and returns it
// with its base URL.
func Start(t testing.TB, options fakeclaude.Options) (*fakeclaude.Server, string) {
	t.Helper()
	fake := fakeclaude.New(options)
	server := httptest.NewServer(fake)
	t.Cleanup(func() {
		// The fake goes first: the listener waits for handlers that hang.
		fake.Close()
		server.Close()
	})
	return fake, server.URL
}
