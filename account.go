package shunt

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/people"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// Account is the configuration of one account of a pool. It has exactly one
// kind of credential.
type Account struct {
	// What people call the account: letters, digits, and . _ @ - inside.
	Name string `json:"name"`

	// A key of the API. Accepts {env.*} and {file.*}; what is written here in
	// clear can be read in Caddy's configuration.
	APIKey string `json:"api_key,omitempty"`

	// A login that `caddy shunt import` has put into storage.
	OAuth *OAuth `json:"oauth,omitempty"`

	// A long-lived token, as `claude setup-token` prints it. Accepts {env.*} and
	// {file.*}.
	SetupToken string `json:"setup_token,omitempty"`

	// When the setup token was made: a date such as 2026-02-01, or RFC 3339. Its end
	// is a year later. Default: the end is guessed from when the token was first seen.
	SetupTokenMade string `json:"setup_token_made,omitempty"`

	// The identity of a workload, whose JWT is exchanged for access tokens.
	Federation *Federation `json:"federation,omitempty"`

	// Who may use the account, by the names of their keys; "*" is everybody.
	// Required for logins and setup tokens, which belong to one person. By default
	// everybody may use an API key or a federation.
	Owners []string `json:"owners,omitempty"`

	// The account's size relative to the others. Default: 1.
	Weight int `json:"weight,omitempty"`

	// The account's tier: accounts of a larger number are used only when none of a
	// smaller number is open. Default: 0.
	Priority int `json:"priority,omitempty"`

	// Globs of the model ids that the account serves. Default: all.
	Models []string `json:"models,omitempty"`

	// How many requests the account has in flight at most. Default: no limit.
	MaxConcurrent int `json:"max_concurrent,omitempty"`

	// Keep requests away that might be paid for as extra usage, once the plan is used up.
	// For logins and setup tokens.
	PlanOnly bool `json:"plan_only,omitempty"`

	// What may be used of the account in a day, a week or a month. Default: no limit.
	Budgets []people.Budget `json:"budgets,omitempty"`

	// The base URL of the API for this account. Default: the handler's.
	Upstream string `json:"upstream,omitempty"`
}

// OAuth names a login in storage.
type OAuth struct {
	// The login's name in storage. Default: the account's name.
	Name string `json:"name,omitempty"`
	// Where tokens are refreshed. Default: Anthropic's token endpoint.
	TokenURL string `json:"token_url,omitempty"`
	// The OAuth client that the login was made with. Default: Claude Code's.
	ClientID string `json:"client_id,omitempty"`
}

var nameSyntax = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?$`)

const nameRule = "up to 64 letters and digits, with . _ @ - inside"

func validPoolName(name string) error {
	if !nameSyntax.MatchString(name) {
		return fmt.Errorf("pool: the name %q is not %s", name, nameRule)
	}
	return nil
}

// check finds what is wrong with an account's settings, apart from secrets that
// cannot be resolved. Both the Caddyfile and JSON come through here.
func (a *Account) check() error {
	if !nameSyntax.MatchString(a.Name) {
		return fmt.Errorf("account %q: the name is not %s", a.Name, nameRule)
	}
	kinds := 0
	for _, has := range []bool{a.APIKey != "", a.OAuth != nil, a.SetupToken != "", a.Federation != nil} {
		if has {
			kinds++
		}
	}
	switch {
	case kinds == 0:
		return fmt.Errorf("account %q: no credential; expected one of api_key, federation, oauth or setup_token", a.Name)
	case kinds > 1:
		return fmt.Errorf("account %q: more than one credential; expected exactly one of api_key, federation, oauth or setup_token", a.Name)
	case a.personal() && len(a.Owners) == 0:
		return fmt.Errorf("account %q: a subscription login belongs to one person; expected owner <key name...> or, by your own decision, owner *", a.Name)
	case a.Weight < 0:
		return fmt.Errorf("account %q: weight must not be negative", a.Name)
	case a.PlanOnly && !a.personal():
		return fmt.Errorf("account %q: plan_only is for oauth and setup_token; an API key has no plan", a.Name)
	case a.MaxConcurrent < 0:
		return fmt.Errorf("account %q: max_concurrent must not be negative", a.Name)
	}
	for _, glob := range a.Models {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("account %q: models: %q is not a glob", a.Name, glob)
		}
	}
	limits := people.Limits{Budgets: a.Budgets}
	if err := limits.Check(); err != nil {
		return fmt.Errorf("account %q: %w", a.Name, err)
	}
	if a.OAuth != nil && a.OAuth.Name != "" && !nameSyntax.MatchString(a.OAuth.Name) {
		return fmt.Errorf("account %q: oauth: the name %q is not %s", a.Name, a.OAuth.Name, nameRule)
	}
	if err := a.checkMade(); err != nil {
		return fmt.Errorf("account %q: %w", a.Name, err)
	}
	if a.Federation != nil {
		if err := a.Federation.check(); err != nil {
			return fmt.Errorf("account %q: federation: %w", a.Name, err)
		}
	}
	return nil
}

// personal reports whether the credential belongs to one person.
func (a *Account) personal() bool { return a.OAuth != nil || a.SetupToken != "" }

// upstreamBase is where an account's requests go.
type upstreamBase struct {
	scheme, host, path string
}

// String is the base as a URL.
func (u upstreamBase) String() string {
	return (&url.URL{Scheme: u.scheme, Host: u.host, Path: u.path}).String()
}

func parseUpstream(raw string) (upstreamBase, error) {
	u, err := url.Parse(raw)
	switch {
	case strings.Contains(raw, "@"):
		// What stands before it may be a password, so the URL is not repeated.
		return upstreamBase{}, errors.New("expected no user, and no @ in the URL")
	case err != nil:
		return upstreamBase{}, fmt.Errorf("%q is not a URL", raw)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return upstreamBase{}, fmt.Errorf("%q; expected http:// or https:// and a host", raw)
	case u.RawQuery != "" || u.Fragment != "":
		return upstreamBase{}, fmt.Errorf("%q; expected no query or fragment", u.Redacted())
	}
	return upstreamBase{scheme: u.Scheme, host: u.Host, path: strings.TrimRight(u.Path, "/")}, nil
}

// provisionAccounts resolves the accounts' secrets and makes what is needed to
// use them.
func (h *Handler) provisionAccounts() error {
	if len(h.Accounts) == 0 {
		return fmt.Errorf("pool %q: no account; expected at least one account <name> { ... }", h.Pool)
	}
	h.byKey = make(map[string]*account, len(h.Accounts))
	names := make(map[string]bool, len(h.Accounts))
	for _, config := range h.Accounts {
		if err := config.check(); err != nil {
			return err
		}
		if names[config.Name] {
			return fmt.Errorf("account %q: the name is used twice", config.Name)
		}
		names[config.Name] = true
		a, err := h.newAccount(config)
		if err != nil {
			return fmt.Errorf("account %q: %w", config.Name, err)
		}
		h.accounts = append(h.accounts, a)
		h.byKey[a.member.Key] = a
	}
	h.warn()
	return nil
}

func (h *Handler) newAccount(config *Account) (*account, error) {
	raw := config.Upstream
	if raw == "" {
		raw = h.Upstream
	}
	upstream, err := resolve("upstream", raw)
	if err != nil {
		return nil, err
	}
	base, err := parseUpstream(upstream)
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	a := &account{config: config, base: base}
	identity, err := h.openCredential(a)
	if err != nil {
		return nil, err
	}
	a.member = &pool.Member{
		Name: config.Name, Key: config.Name + "#" + fingerprint(identity+" "+upstream),
		Weight: config.Weight, Priority: config.Priority, Models: config.Models,
		MaxConcurrent: config.MaxConcurrent, Owners: config.Owners, PlanOnly: config.PlanOnly,
	}
	return a, nil
}

// openCredential gives the account its source. identity tells the account's
// credential from others; it stays the same while the credential is renewed.
func (h *Handler) openCredential(a *account) (identity string, err error) {
	switch config := a.config; {
	case config.OAuth != nil:
		if err := h.openLogin(a); err != nil {
			return "", err
		}
		return "oauth:" + a.login.key, nil
	case config.Federation != nil:
		return h.openFederation(a)
	case config.SetupToken != "":
		return h.openSecret(a, credential.KindSetupToken, config.SetupToken)
	default:
		return h.openSecret(a, credential.KindAPIKey, config.APIKey)
	}
}

// fingerprint tells credentials apart without telling them.
func fingerprint(secret string) string {
	sum := sha256.Sum256([]byte("shunt account\x00" + secret))
	return hex.EncodeToString(sum[:6])
}

// resolve replaces placeholders. A placeholder that has no value, and a value
// that is empty, is an error that names the setting.
func resolve(setting, raw string) (string, error) {
	value, err := caddy.NewReplacer().ReplaceOrErr(raw, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: %w", setting, err)
	}
	value = strings.TrimSpace(value)
	if value == "" {
		return "", fmt.Errorf("%s: the value is empty (from %s)", setting, raw)
	}
	if strings.ContainsAny(value, "\r\n") {
		return "", fmt.Errorf("%s: the value has more than one line", setting)
	}
	return value, nil
}

// warn says once what an operator should know about the credentials.
func (h *Handler) warn() {
	var written, shared []string
	for _, a := range h.accounts {
		if a.written {
			written = append(written, a.config.Name)
		}
		if a.config.personal() && slices.Contains(a.config.Owners, "*") {
			shared = append(shared, a.config.Name)
		}
		for _, owner := range a.config.Owners {
			if owner != "*" && h.hasKeys() && !h.roster.Load().has(owner) {
				h.logger.Warn("an owner has no remote_key here, so the account serves only whom Caddy authenticates by that name",
					zap.String("account", a.config.Name), zap.String("owner", owner))
			}
		}
	}
	if len(written) > 0 {
		h.logger.Warn("credentials are written in the configuration, where Caddy's admin API and autosave show them; use {env.*} or {file.*}", zap.Strings("accounts", written))
	}
	if len(shared) > 0 {
		h.logger.Warn("subscription logins are shared with everybody (owner *); see Terms in the README", zap.Strings("accounts", shared))
	}
}
