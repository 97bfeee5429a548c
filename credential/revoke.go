package credential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// revokeTimeout bounds one call. It is short: somebody waits for it, the storage
// lock is held, and the login is given up whatever comes of it.
const revokeTimeout = 10 * time.Second

// Revoker ends logins at the token server.
type Revoker struct {
	// TokenURL is where refreshes are posted to, by default DefaultTokenURL.
	// Revocations go to the path revoke below it, as Claude Code's do
	// (https://platform.claude.com/v1/oauth/token/revoke).
	TokenURL string
	// ClientID is sent along, unless the record names its own; by default
	// DefaultClientID.
	ClientID string
	// Transport carries the call; nil means http.DefaultTransport. Redirects are
	// not followed.
	Transport http.RoundTripper
}

// Revoke asks the token server to end the record's login, as RFC 7009 has it: with
// its refresh token, or its access token when there is no other. It ends within 10
// seconds. Errors hold no token and nothing that the server wrote.
func (v Revoker) Revoke(ctx context.Context, rec Record) error {
	address := v.TokenURL
	if address == "" {
		address = DefaultTokenURL
	}
	if err := checkTokenURL(address); err != nil {
		return fmt.Errorf("revoking the login: %w", err)
	}
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("revoking the login: the token URL is not valid")
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath("revoke").String(), strings.NewReader(v.form(rec).Encode()))
	if err != nil {
		return errors.New("revoking the login: the token URL is not valid")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "caddy-shunt")
	transport := v.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		e := transportError(err)
		if e.err == nil {
			return fmt.Errorf("revoking the login: %s", e.what)
		}
		return fmt.Errorf("revoking the login: %s: %w", e.what, e.err)
	}
	defer resp.Body.Close()
	// The status says it all; the rest is read so that the connection is of use.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("revoking the login: the token server answered %d", resp.StatusCode)
	}
	return nil
}

func (v Revoker) form(rec Record) url.Values {
	client := rec.ClientID
	if client == "" {
		client = v.ClientID
	}
	if client == "" {
		client = DefaultClientID
	}
	token, hint := rec.refresh, "refresh_token"
	if token.empty() {
		token, hint = rec.access, "access_token"
	}
	return url.Values{"token": {token.reveal()}, "token_type_hint": {hint}, "client_id": {client}}
}
