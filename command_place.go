package shunt

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// loginRef is a login as commands and the admin API name it.
type loginRef struct {
	pool, account, login string
}

// pickLogin finds the login that an account's name, or the login's own, means.
// where says of which configuration the refs are, for the errors.
func pickLogin(refs []loginRef, where, poolName, name string) (loginRef, error) {
	var found []loginRef
	var known []string
	for _, r := range refs {
		known = append(known, r.pool+"/"+r.account)
		if (r.account != name && r.login != name) || poolName != "" && poolName != r.pool {
			continue
		}
		if len(found) == 0 || found[0].pool != r.pool || found[0].login != r.login {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1 && poolName != "":
		return loginRef{}, &loginError{several: true, text: fmt.Sprintf("%q means several logins of pool %s; give the login's own name, one of: %s", name, poolName, listLogins(found))}
	case len(found) > 1:
		return loginRef{}, &loginError{several: true, text: fmt.Sprintf("several pools have a login %q; say which pool: %s", name, listLogins(found))}
	case len(known) == 0:
		return loginRef{}, &loginError{text: where + " has no account with oauth; expected shunt { account <name> { oauth } }"}
	case poolName != "":
		return loginRef{}, &loginError{text: fmt.Sprintf("%s has no account with oauth called %q in pool %q; it has %s", where, name, poolName, strings.Join(known, ", "))}
	default:
		return loginRef{}, &loginError{text: fmt.Sprintf("%s has no account with oauth called %q; it has %s", where, name, strings.Join(known, ", "))}
	}
}

// loginError is a name that means no login, or several.
type loginError struct {
	text    string
	several bool
}

func (e *loginError) Error() string { return e.text }

func listLogins(refs []loginRef) string {
	texts := make([]string, len(refs))
	for i, r := range refs {
		texts[i] = r.pool + "/" + r.login
	}
	return strings.Join(texts, ", ")
}

// storedName is the name of an account's login in storage.
func (a *Account) storedName() string {
	if a.OAuth.Name != "" {
		return a.OAuth.Name
	}
	return a.Name
}

// configured is an account in a configuration that is not running.
type configured struct {
	pool    string
	config  *Account
	handler *Handler // that has it first
	place   loginPlace
}

// loginPlace is where a configuration keeps the logins of a pool.
type loginPlace struct {
	encrypt []string
	// StorageRaw is the storage module; nil for Caddy's default.
	StorageRaw json.RawMessage `json:"storage,omitempty" caddy:"namespace=caddy.storage inline_key=module"`
}

// configuredAccounts lists the accounts of a configuration by pool, each once.
func configuredAccounts(config []byte) ([]configured, error) {
	var root struct {
		Storage json.RawMessage `json:"storage"`
		Apps    any             `json:"apps"`
	}
	if len(config) == 0 {
		return nil, errors.New("there is no configuration")
	}
	if err := json.Unmarshal(config, &root); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	var all []configured
	seen := make(map[[2]string]bool)
	for _, h := range handlersIn(root.Apps) {
		if h.Pool == "" {
			h.Pool = DefaultPool
		}
		place := loginPlace{StorageRaw: h.StorageRaw, encrypt: h.Encrypt}
		if place.StorageRaw == nil {
			place.StorageRaw = root.Storage
		}
		for _, a := range h.Accounts {
			if a == nil || seen[[2]string{h.Pool, a.Name}] {
				continue
			}
			seen[[2]string{h.Pool, a.Name}] = true
			all = append(all, configured{pool: h.Pool, config: a, handler: &h, place: place})
		}
	}
	slices.SortStableFunc(all, func(a, b configured) int { return strings.Compare(a.pool, b.pool) })
	return all, nil
}

// findLogin looks a login up in a configuration.
func findLogin(all []configured, poolName, name string) (configured, loginRef, error) {
	var refs []loginRef
	byRef := make(map[loginRef]configured)
	for _, c := range all {
		if c.config.OAuth != nil {
			r := loginRef{c.pool, c.config.Name, c.config.storedName()}
			refs = append(refs, r)
			byRef[r] = c
		}
	}
	r, err := pickLogin(refs, "the configuration", poolName, name)
	return byRef[r], r, err
}

// handlersIn finds the shunt handlers in a configuration's apps, however deep
// their routes are nested.
func handlersIn(node any) []Handler {
	var handlers []Handler
	switch v := node.(type) {
	case map[string]any:
		if v["handler"] == "shunt" {
			delete(v, "handler")
			var h Handler
			if raw, err := json.Marshal(v); err == nil && json.Unmarshal(raw, &h) == nil {
				return []Handler{h}
			}
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			handlers = append(handlers, handlersIn(v[key])...)
		}
	case []any:
		for _, child := range v {
			handlers = append(handlers, handlersIn(child)...)
		}
	}
	return handlers
}

// open opens the storage of a configuration that is not running.
func (p *loginPlace) open(ctx caddy.Context) (credential.Storage, error) {
	storage, err := p.openPlain(ctx)
	if err != nil {
		return nil, err
	}
	sealed, _, err := credentialStorage(storage, p.encrypt)
	return sealed, err
}

func (p *loginPlace) openPlain(ctx caddy.Context) (credential.Storage, error) {
	if p.StorageRaw == nil {
		return caddy.DefaultStorage, nil
	}
	once := *p // Caddy empties the field that it loads from
	mod, err := ctx.LoadModule(&once, "StorageRaw")
	if err != nil {
		return nil, fmt.Errorf("loading the storage: %w", err)
	}
	converter, ok := mod.(caddy.StorageConverter)
	if !ok {
		return nil, fmt.Errorf("storage module %T is not a storage", mod)
	}
	storage, err := converter.CertMagicStorage()
	if err != nil {
		return nil, fmt.Errorf("opening the storage: %w", err)
	}
	return storage, nil
}
