package shunt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/credential"
)

// freeCallTimeout bounds the call with which a credential is tried.
const freeCallTimeout = 20 * time.Second

// checkAnswer is the answer of POST /shunt/check: what upstream says to an account's
// credential. It holds no secret.
type checkAnswer struct {
	Pool    string `json:"pool"`
	Account string `json:"account"`
	Kind    string `json:"kind"`
	OK      bool   `json:"ok"`
	// Verdict is a verdict of the API's answers, "login_required", or
	// "no_credential" when there was nothing to send.
	Verdict string `json:"verdict"`
	// Words say it for people.
	Words string `json:"words"`
	// Scope is whom the verdict speaks of, and Login that only a person can help.
	Scope string `json:"scope,omitempty"`
	Login bool   `json:"login,omitempty"`
	// Renews says that the next request gets another token.
	Renews bool `json:"renews,omitempty"`
	// Status is the answer's; 0 when none came.
	Status       int    `json:"status,omitempty"`
	Organization string `json:"organization,omitempty"`
	LatencyMS    int64  `json:"latency_ms,omitempty"`
}

// check makes a free call with what the account would send now. The account's
// state in the pool stays as it is; only its organisation is taken note of.
func (r *runningAccount) check(ctx context.Context) checkAnswer {
	ctx, cancel := context.WithTimeout(ctx, freeCallTimeout)
	defer cancel()
	answer := checkAnswer{Pool: r.h.Pool, Account: r.a.config.Name, Kind: r.a.kind()}
	cred, err := r.a.source.Get(ctx)
	if err != nil {
		answer.noCredential(err, r.a.source.Status())
		return answer
	}
	header := answer.call(ctx, r.h.transport, r.a.base, cred, r.a.source.Refreshable())
	r.h.sawOrganization(r.a, header)
	return answer
}

// noCredential tells why there is nothing to send. The error of a source may speak
// of files and servers, but not of secrets.
func (c *checkAnswer) noCredential(err error, status credential.Status) {
	c.Verdict, c.Words = "no_credential", err.Error()
	if errors.Is(err, credential.ErrLoginRequired) {
		c.Verdict, c.Login, c.Words = "login_required", true, "there is no login, or it has ended"
		if status.LoginReason != "" {
			c.Words = status.LoginReason
		}
	}
}

// call lists the account's models, which costs nothing, and returns the answer's
// header.
func (c *checkAnswer) call(ctx context.Context, transport http.RoundTripper, base upstreamBase, cred credential.Credential, refreshable bool) http.Header {
	ctx, cancel := context.WithTimeout(ctx, freeCallTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base.String()+"/v1/models?limit=1", nil)
	if err != nil {
		c.Verdict, c.Words = anthropic.Unreachable.Name, "its upstream is not a URL that can be asked"
		return nil
	}
	r.Header.Set("Anthropic-Version", "2023-06-01")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "caddy-shunt-doctor")
	cred.Apply(r.Header)
	begun := time.Now()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		c.judge(&anthropic.Unreachable)
		c.Words += ": " + err.Error()
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, anthropic.ErrorPrefix))
	c.LatencyMS, c.Status = time.Since(begun).Milliseconds(), resp.StatusCode
	now := time.Now()
	v := anthropic.Classify(&anthropic.Answer{
		Status: resp.StatusCode, Header: resp.Header, Body: body, Limits: anthropic.ReadLimits(resp.Header, now), Refreshable: refreshable, Now: now,
	})
	if v.Served() && (err != nil || !isModelList(body)) {
		v = anthropic.Unreachable
		v.Reason = "the answer was not one of the API's: something in between answers in its place"
	}
	c.judge(&v)
	if id := resp.Header.Get(organizationHeader); len(id) <= maxOrganization {
		c.Organization = id
	}
	return resp.Header
}

func (c *checkAnswer) judge(v *anthropic.Verdict) {
	c.OK, c.Verdict, c.Words = v.Served(), v.Name, v.Reason
	c.Scope, c.Login, c.Renews = v.Scope.String(), v.Login, v.Action == anthropic.Renew
	if c.OK {
		c.Words = "the credential is accepted"
	}
}

// isModelList reports whether a body is the API's list of models.
func isModelList(body []byte) bool {
	var list struct {
		Data *[]json.RawMessage `json:"data"`
	}
	return json.Unmarshal(bytes.TrimSpace(body), &list) == nil && list.Data != nil
}
