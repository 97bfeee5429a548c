package shunt

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

func init() {
	caddy.RegisterModule(new(RemoteKeys))
}

// RemoteKey is a key that a client may use, and whose it is.
type RemoteKey struct {
	// The person's name. Default: "default".
	Name string `json:"name,omitempty"`
	// The key, or "sha256:" and the hex SHA-256 of the key. Accepts {env.*} and
	// {file.*}.
	Secret string `json:"secret"`
	// May pin accounts and see other people's usage.
	Admin bool `json:"admin,omitempty"`
}

// DefaultKeyName is the name of a key that was given none.
const DefaultKeyName = "default"

const hashPrefix = "sha256:"

// shortestKey is the length in bytes below which a key is taken for a mistake:
// remote_key ann {$UNSET} leaves the name in the place of the key.
const shortestKey = 8

// hashSecret gives a key in the form in which configuration may safely keep it.
func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// person is who makes a request.
type person struct {
	// name is empty for the owner of this machine when there are no keys.
	name  string
	admin bool
}

// keyring holds the hashes of the keys; the keys themselves are not kept.
type keyring struct {
	entries []keyEntry
	names   map[string]bool
}

type keyEntry struct {
	hash [sha256.Size]byte
	person
}

func newKeyring(keys []*RemoteKey) (*keyring, error) {
	ring := &keyring{names: make(map[string]bool, len(keys))}
	for _, k := range keys {
		name := k.Name
		if name == "" {
			name = DefaultKeyName
		}
		if !nameSyntax.MatchString(name) {
			return nil, fmt.Errorf("remote_key %q: the name is not %s", name, nameRule)
		}
		secret, err := resolve("remote_key "+name, k.Secret)
		if err != nil {
			return nil, err
		}
		entry := keyEntry{person: person{name: name, admin: k.Admin}}
		if digits, hashed := strings.CutPrefix(secret, hashPrefix); hashed {
			sum, err := hex.DecodeString(digits)
			if err != nil || len(sum) != sha256.Size {
				return nil, fmt.Errorf("remote_key %s: expected %s and 64 hex digits", name, hashPrefix)
			}
			copy(entry.hash[:], sum)
		} else {
			if strings.HasPrefix(secret, "sk-ant-") {
				return nil, fmt.Errorf("remote_key %s: this looks like a credential of Anthropic's; expected a key of your own making", name)
			}
			if len(secret) < shortestKey {
				return nil, fmt.Errorf("remote_key %s: the key has %d characters; expected at least %d, best 32 random bytes", name, len(secret), shortestKey)
			}
			entry.hash = sha256.Sum256([]byte(secret))
		}
		for _, other := range ring.entries {
			if other.hash == entry.hash && other.name != name {
				return nil, fmt.Errorf("remote_key %s: has the same key as %s", name, other.name)
			}
		}
		ring.entries = append(ring.entries, entry)
		ring.names[name] = true
	}
	return ring, nil
}

func (k *keyring) has(name string) bool { return k.names[name] }

func (k *keyring) empty() bool { return len(k.entries) == 0 }

// find looks a key up. Every entry is compared, in constant time.
func (k *keyring) find(key string) (who person, ok bool) {
	sum := sha256.Sum256([]byte(key))
	for i := range k.entries {
		if subtle.ConstantTimeCompare(sum[:], k.entries[i].hash[:]) == 1 {
			who, ok = k.entries[i].person, true
		}
	}
	return who, ok
}

// authenticate finds out who makes the request: by a key of ours in either
// header, by what Caddy found out before this handler, or, without any key
// configured, because the client is on this machine.
func (h *Handler) authenticate(r *http.Request) (person, *anthropic.Error) {
	keys, n := anthropic.ClientKeys(r.Header)
	for _, key := range keys[:n] {
		if who, ok := h.keys.find(key); ok {
			return who, nil
		}
	}
	if repl := replacer(r); repl != nil {
		if name, ok := repl.GetString("http.auth.user.id"); ok && name != "" {
			return person{name: name}, nil
		}
	}
	if h.keys.empty() {
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

	ring *keyring
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
	p.ring, err = newKeyring(p.Keys)
	return err
}

// Authenticate implements caddyauth.Authenticator.
func (p *RemoteKeys) Authenticate(_ http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	keys, n := anthropic.ClientKeys(r.Header)
	for _, key := range keys[:n] {
		if who, ok := p.ring.find(key); ok {
			return caddyauth.User{ID: who.name}, true, nil
		}
	}
	return caddyauth.User{}, false, nil
}

var (
	_ caddy.Provisioner       = (*RemoteKeys)(nil)
	_ caddyauth.Authenticator = (*RemoteKeys)(nil)
)
