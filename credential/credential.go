package credential

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Kind says what a credential is, and so how it is sent.
type Kind string

// The kinds of credentials.
const (
	// KindAPIKey is a Console key, sent as x-api-key.
	KindAPIKey Kind = "api_key"
	// KindOAuth is the access token of a login, sent as a bearer and refreshed.
	KindOAuth Kind = "oauth"
	// KindSetupToken is what `claude setup-token` prints: a bearer for one year
	// that cannot be refreshed.
	KindSetupToken Kind = "setup_token"
	// KindFederation is an access token got for the identity of a workload, sent
	// as a bearer and got anew ahead of its end.
	KindFederation Kind = "federation"
)

// bearer reports whether credentials of the kind go into Authorization.
func (k Kind) bearer() bool { return k == KindOAuth || k == KindSetupToken || k == KindFederation }

// Credential is one secret and how to send it. It is an immutable value, safe to
// copy, and prints as REDACTED whatever the verb or the encoder. The zero value
// is no credential.
type Credential struct {
	kind    Kind
	secret  secret
	version string
	expires time.Time
}

func newCredential(kind Kind, s secret, expires time.Time) Credential {
	return Credential{kind: kind, secret: s, version: fingerprint("credential", string(kind), s.reveal()), expires: expires}
}

// Kind returns the credential's kind, empty for the zero value.
func (c Credential) Kind() Kind { return c.kind }

// Bearer reports whether the credential goes into Authorization rather than
// x-api-key.
func (c Credential) Bearer() bool { return c.kind.bearer() }

// Expires returns when the credential ends; the zero time means that it is not
// known or never.
func (c Credential) Expires() time.Time { return c.expires }

// Version names the secret without giving it away: 12 hexadecimal digits that
// differ for every access token. It is empty for the zero value.
func (c Credential) Version() string { return c.version }

// Apply makes h carry this credential and no other: exactly one of x-api-key and
// Authorization, whatever h had before. The zero value leaves neither.
//
// With a bearer the anthropic-beta value oauth-2025-04-20 is added once to those
// that h has; the API answers 401 without it (official SDKs, OAuthAPIBetaHeader).
// With an API key that one value is taken out, since nothing promises that the
// API tolerates it there. Other beta values stay as they are. The value slices of
// h are not written to, so h may share them with the client's header.
func (c Credential) Apply(h http.Header) {
	for name := range h {
		if strings.EqualFold(name, "Authorization") || strings.EqualFold(name, "X-Api-Key") {
			delete(h, name)
		}
	}
	switch {
	case c.secret.empty():
	case c.Bearer():
		h["Authorization"] = []string{"Bearer " + c.secret.reveal()}
		addBeta(h, oauthBeta)
	default:
		h["X-Api-Key"] = []string{c.secret.reveal()}
		dropOAuthBeta(h)
	}
}

// String returns REDACTED.
func (c Credential) String() string { return redacted }

// GoString returns REDACTED.
func (c Credential) GoString() string { return redacted }

// Format prints REDACTED for every verb.
func (c Credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText gives REDACTED.
func (c Credential) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON gives "REDACTED".
func (c Credential) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue gives REDACTED.
func (c Credential) LogValue() slog.Value { return slog.StringValue(redacted) }
