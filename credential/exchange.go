package credential

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

const (
	// maxAnswer bounds the answer of the token server in bytes.
	maxAnswer = 64 << 10
	// defaultLife is taken when an answer does not say how long its token lives.
	defaultLife = time.Hour
	// maxLife bounds what an answer can say, so that sums of times stay sane.
	maxLife = 10 * 365 * 24 * time.Hour
)

// exchangeError is a call of the token server that failed. Its text is made here,
// of statuses and well-known codes: never of what the server wrote.
type exchangeError struct {
	doing string // of a refresh empty
	what  string
	err   error // may be nil
	// status is the answer's, and code the error code in it if it is a known one.
	status int
	code   string
	// invalidGrant: the server says that the refresh token is dead.
	invalidGrant bool
	// unanswered: the server may have spent the refresh token and told nobody.
	unanswered bool
	retryAfter time.Duration
	// told: another process says so, in whole sentences.
	told bool
}

func (e *exchangeError) Error() string {
	if e.told {
		return e.what
	}
	text := e.doing
	if text == "" {
		text = "refreshing the access token"
	}
	text += ": " + e.what
	if e.err != nil {
		text += ": " + e.err.Error()
	}
	return text
}

func (e *exchangeError) Unwrap() error { return e.err }

// answer is what a refresh gave. Zero fields were not in it.
type answer struct {
	access, refresh     secret
	life, loginLife     time.Duration
	scopes              []string
	email, org, account string
}

// exchange spends the record's refresh token. It is cancelled by nothing but its
// own deadline.
func (o *OAuth) exchange(rec Record) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), o.cfg.PostTimeout)
	defer cancel()
	client := rec.ClientID
	if client == "" {
		client = o.cfg.ClientID
	}
	// Scope is left out of the body: the server then keeps the full set.
	return post(ctx, &tokenCall{
		url: o.cfg.TokenURL, transport: o.cfg.Transport, clock: o.cfg.Clock,
		body:  map[string]string{"grant_type": "refresh_token", "refresh_token": rec.refresh.reveal(), "client_id": client},
		betas: []string{oauthBeta},
	})
}

// tokenCall is one call of a token server.
type tokenCall struct {
	url       string
	transport http.RoundTripper
	clock     func() time.Time
	body      map[string]string
	betas     []string
}

// post makes the call. It follows no redirect: one could carry what the body holds
// elsewhere.
func post(ctx context.Context, call *tokenCall) (answer, error) {
	body, err := json.Marshal(call.body)
	if err != nil {
		return answer{}, &exchangeError{what: "making the request failed"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, call.url, bytes.NewReader(body))
	if err != nil {
		return answer{}, &exchangeError{what: "the token URL is not valid"}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "caddy-shunt")
	for _, beta := range call.betas {
		addBeta(req.Header, beta)
	}

	resp, err := call.transport.RoundTrip(req)
	if err != nil {
		return answer{}, transportError(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if resp.StatusCode/100 != 2 {
		// The status says enough even when the rest of the answer is lost.
		return answer{}, refusal(resp, raw, call.clock())
	}
	if err != nil {
		e := transportError(err)
		e.what, e.unanswered = "reading the answer failed", true
		return answer{}, e
	}
	return parseAnswer(raw)
}

// transportError says what became of a call without an answer. Errors of kinds
// that are not known are named by type only, since net/http quotes what a broken
// server wrote.
func transportError(err error) *exchangeError {
	e := &exchangeError{what: "the token server did not answer", unanswered: true}
	var (
		op   *net.OpError
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.err = context.DeadlineExceeded
	case errors.As(err, &dns):
		e.what, e.err, e.unanswered = "the token server's name could not be resolved", dns, false
	case errors.As(err, &cert):
		e.what, e.err, e.unanswered = "the token server's certificate is not trusted", cert, false
	case errors.As(err, &op):
		e.err, e.unanswered = op, op.Op != "dial"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.err = io.ErrUnexpectedEOF
	default:
		e.err = fmt.Errorf("%T", err)
	}
	return e
}

// oauthCodes are the error codes of RFC 6749, 5.2, which may be repeated to
// people; whatever else a server writes may not.
var oauthCodes = map[string]bool{
	"invalid_request": true, "invalid_client": true, "invalid_grant": true,
	"unauthorized_client": true, "unsupported_grant_type": true, "invalid_scope": true,
}

// apiCodes are the types of errors that the API's own envelope names for what is
// wrong with the request itself.
var apiCodes = map[string]bool{
	"invalid_request_error": true, "authentication_error": true, "permission_error": true, "not_found_error": true,
}

// refusal reads an answer that is not a success. Only 400 with invalid_grant condemns
// the refresh token; everything else, a Cloudflare page above all, may pass.
func refusal(resp *http.Response, raw []byte, now time.Time) *exchangeError {
	e := &exchangeError{
		what:       fmt.Sprintf("the token server answered %d", resp.StatusCode),
		status:     resp.StatusCode,
		unanswered: resp.StatusCode >= 500,
		retryAfter: retryAfter(resp.Header.Get("Retry-After"), now),
	}
	if len(raw) > maxAnswer || !gjson.ValidBytes(raw) {
		return e
	}
	code := gjson.GetBytes(raw, "error").String()
	if !oauthCodes[code] {
		code = gjson.GetBytes(raw, "error.type").String()
	}
	if oauthCodes[code] || apiCodes[code] {
		e.what += " " + code
		e.code = code
		e.invalidGrant = resp.StatusCode == http.StatusBadRequest && code == "invalid_grant"
	}
	return e
}

// retryAfter reads the header in either form, up to retryAfterMax; not positive
// when it says nothing.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil {
		return time.Duration(min(n, int(retryAfterMax/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(at.Sub(now), retryAfterMax)
	}
	return 0
}

// parseAnswer reads a success. It is lenient in everything but the tokens: the
// refresh token is spent by now, and an answer thrown away is a login lost.
func parseAnswer(raw []byte) (answer, error) {
	bad := &exchangeError{what: "the token server's answer makes no sense", unanswered: true}
	if len(raw) > maxAnswer || !gjson.ValidBytes(raw) {
		return answer{}, bad
	}
	doc := gjson.ParseBytes(raw)
	var a answer
	var err error
	if a.access, err = newSecret(text(doc.Get("access_token"))); err != nil || a.access.empty() {
		return answer{}, bad
	}
	if a.refresh, err = newSecret(text(doc.Get("refresh_token"))); err != nil {
		return answer{}, bad
	}
	if a.life = seconds(doc.Get("expires_in")); a.life == 0 {
		a.life = defaultLife
	}
	a.loginLife = seconds(doc.Get("refresh_token_expires_in"))
	a.scopes = strings.Fields(text(doc.Get("scope")))
	a.email = text(doc.Get("account.email_address"))
	a.account = text(doc.Get("account.uuid"))
	a.org = text(doc.Get("organization.name"))
	return a, nil
}

func text(v gjson.Result) string {
	if v.Type != gjson.String {
		return ""
	}
	return v.Str
}

// seconds reads a duration, from a number or from a text that is one; 0 when it
// is not positive.
func seconds(v gjson.Result) time.Duration {
	n := v.Float()
	if !(n > 0) {
		return 0
	}
	return time.Duration(min(n, maxLife.Seconds()) * float64(time.Second))
}

// after is the record that an answer makes of the one that was refreshed. What
// the answer left out stays, the refresh token too.
func (r Record) after(a answer, now time.Time) Record {
	r.access = a.access
	r.Expires, r.RefreshedAt = now.Add(a.life).UTC(), now.UTC()
	if !a.refresh.empty() {
		r.refresh = a.refresh
	}
	if a.loginLife > 0 {
		r.LoginExpires = now.Add(a.loginLife).UTC()
	}
	if len(a.scopes) > 0 {
		r.Scopes = a.scopes
	}
	for _, f := range []struct{ to, from *string }{
		{&r.Email, &a.email}, {&r.Organization, &a.org}, {&r.AccountUUID, &a.account},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	return r
}
