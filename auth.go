package shunt

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/internal/failpoint"
	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

func init() {
	caddy.RegisterModule(new(RemoteKeys))
}

// authenticate finds out who makes the request: by a key of ours in either
// header, by what Caddy found out before this handler, or, without any key
// configured, because the client is on this machine. Whom Caddy knows may be known
// by what a browser sends by itself (basic_auth, a cookie, a certificate), so a
// page of another site must not use it. A key in a header no such page can send.
func (h *Handler) authenticate(r *http.Request) (person, *anthropic.Error) {
	roster := h.roster.Load()
	keys, n := anthropic.ClientKeys(r.Header)
	for _, key := range keys[:n] {
		entry := roster.find(key)
		switch {
		case entry == nil:
		case entry.expired(h.now()):
			return person{}, unauthorized("this key ended at " + entry.expires.In(h.zone).Format("2006-01-02 15:04 MST") + "; ask the operator of this endpoint for another one")
		default:
			return person{name: entry.name, admin: entry.admin || roster.admin(entry.name)}, nil
		}
	}
	if name := h.nameFromCaddy(r); name != "" {
		if n == 0 && crossOrigin.Check(r) != nil {
			return person{}, &anthropic.Error{Status: http.StatusForbidden, Message: foreignPage, NoRetry: true}
		}
		return person{name: name, admin: roster.admin(name)}, nil
	}
	if !h.hasKeys() {
		if directLoopback(r) {
			return person{admin: true}, nil
		}
		return person{}, unauthorized("this endpoint has no remote_key configured, so it serves only direct clients on its own machine")
	}
	if n == 0 {
		return person{}, unauthorized("a key is required, in x-api-key or as Authorization: Bearer")
	}
	for _, key := range keys[:n] {
		if strings.HasPrefix(key, "sk-ant-") {
			return person{}, unauthorized("this endpoint wants the key that its operator gave you, not a credential of Anthropic's")
		}
	}
	return person{}, unauthorized("the key is not known here")
}

// DefaultUser is the placeholder that tells who Caddy has found the client to be.
const DefaultUser = "{http.auth.user.id}"

// nameFromCaddy is the person that what comes before this handler tells, empty for
// none.
func (h *Handler) nameFromCaddy(r *http.Request) string {
	repl := replacer(r)
	if repl == nil {
		return ""
	}
	if h.User == DefaultUser {
		name, _ := repl.GetString("http.auth.user.id")
		return personName(name)
	}
	// Every part must be known: cn:{...} without a certificate is nobody's name.
	name, err := repl.ReplaceOrErr(h.User, true, true)
	if err != nil {
		return ""
	}
	return personName(strings.TrimSpace(name))
}

// personName is a name as it is kept and shown. One that would command a terminal, or
// look like another's, is shown with such characters escaped.
func personName(name string) string {
	if terminal.Printable(name) != name {
		name = strings.Trim(strconv.Quote(name), `"`)
	}
	return clip(name, mostPersonName)
}

// hasKeys reports whether people come with keys at all.
func (h *Handler) hasKeys() bool { return len(h.RemoteKeys) > 0 || h.KeysFile != "" }

// unauthorized tells clients not to retry: Claude Code would do so for minutes
// without a word.
func unauthorized(message string) *anthropic.Error {
	return &anthropic.Error{Status: http.StatusUnauthorized, Message: message, NoRetry: true}
}

// proxyHeaders show that a request did not come straight from its client.
var proxyHeaders = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"}

// directLoopback reports whether the client is on this machine and talks to us
// directly. The Host must be of this machine too, and so must the Origin if there
// is one: a page elsewhere must not get in through the visitor's browser.
func directLoopback(r *http.Request) bool {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err != nil || !isLoopback(host) {
		return false
	}
	for _, name := range proxyHeaders {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || !isLoopback(u.Hostname()) {
			return false
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return isLoopback(strings.Trim(host, "[]"))
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// RemoteKeys authenticates clients of any site by keys, as the shunt handler
// does: from x-api-key or Authorization: Bearer. The name of the key becomes
// `{http.auth.user.id}`.
type RemoteKeys struct {
	// The keys. At least one is required.
	Keys []*RemoteKey `json:"keys,omitempty"`

	roster *roster
}

// CaddyModule returns the Caddy module information.
func (*RemoteKeys) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.authentication.providers.shunt",
		New: func() caddy.Module { return new(RemoteKeys) },
	}
}

// Provision hashes the keys.
func (p *RemoteKeys) Provision(caddy.Context) error {
	if len(p.Keys) == 0 {
		return fmt.Errorf("no keys")
	}
	var err error
	p.roster, err = newRoster(p.Keys, nil, time.UTC)
	return err
}

// Authenticate implements caddyauth.Authenticator.
func (p *RemoteKeys) Authenticate(_ http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	keys, n := anthropic.ClientKeys(r.Header)
	for _, key := range keys[:n] {
		if entry := p.roster.find(key); entry != nil && !entry.expired(failpoint.Now()) {
			return caddyauth.User{ID: entry.name}, true, nil
		}
	}
	return caddyauth.User{}, false, nil
}

var (
	_ caddy.Provisioner       = (*RemoteKeys)(nil)
	_ caddyauth.Authenticator = (*RemoteKeys)(nil)
)
