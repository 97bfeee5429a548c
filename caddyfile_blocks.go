package shunt

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// wordsOf lists the words of a block for error messages.
func wordsOf[V any](words map[string]V) []string {
	list := make([]string, 0, len(words))
	for word := range words {
		list = append(list, word)
	}
	slices.Sort(list)
	return list
}

// parseRemoteKeyInto reads remote_key [<name>] <secret>. A secret that is
// written out is hashed at once, so that it does not stand in Caddy's
// configuration.
func parseRemoteKeyInto(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	key := &RemoteKey{Name: DefaultKeyName}
	switch len(args) {
	case 1:
		key.Secret = args[0]
	case 2:
		key.Name, key.Secret = args[0], args[1]
	default:
		return d.Errf("remote_key: found %d arguments; expected remote_key [<name>] <secret>", len(args))
	}
	if !nameSyntax.MatchString(key.Name) {
		return d.Errf("remote_key: the name %q is not %s", key.Name, nameRule)
	}
	if key.Secret == "" {
		return d.Errf("remote_key %s: the secret is empty", key.Name)
	}
	if strings.HasPrefix(key.Secret, "sk-ant-") {
		return d.Errf("remote_key %s: this looks like a credential of Anthropic's; expected a key of your own making", key.Name)
	}
	if !strings.Contains(key.Secret, "{") && !strings.HasPrefix(key.Secret, hashPrefix) {
		if len(key.Secret) < shortestKey {
			return d.Errf("remote_key %s: the key has %d characters; expected at least %d, best 32 random bytes", key.Name, len(key.Secret), shortestKey)
		}
		key.Secret = hashSecret(key.Secret)
	}
	h.RemoteKeys = append(h.RemoteKeys, key)
	return eachWord(d, "remote_key "+key.Name, nil, []string{"admin"}, func(word string) error {
		key.Admin = true
		return noArg(d, word)
	})
}

var accountWords = map[string]func(*Account, *caddyfile.Dispenser) error{
	"api_key": func(a *Account, d *caddyfile.Dispenser) (err error) {
		a.APIKey, err = oneArg(d, "api_key", "<secret>")
		return nonEmpty(d, "api_key", a.APIKey, err)
	},
	"federation":  parseFederation,
	"setup_token": parseSetupToken,
	"oauth":       parseOAuth,
	"owner":       parseOwner,
	"models":      parseModels,
	"weight": func(a *Account, d *caddyfile.Dispenser) (err error) {
		a.Weight, err = number(d, "weight", 1)
		return err
	},
	"priority": func(a *Account, d *caddyfile.Dispenser) (err error) {
		a.Priority, err = number(d, "priority", 0)
		return err
	},
	"max_concurrent": func(a *Account, d *caddyfile.Dispenser) (err error) {
		a.MaxConcurrent, err = number(d, "max_concurrent", 1)
		return err
	},
	"upstream": func(a *Account, d *caddyfile.Dispenser) (err error) {
		if a.Upstream, err = oneArg(d, "upstream", "<url>"); err != nil {
			return err
		}
		return literalURL(d, "upstream", a.Upstream)
	},
}

func nonEmpty(d *caddyfile.Dispenser, word, value string, err error) error {
	if err == nil && value == "" {
		return d.Errf("%s: the value is empty", word)
	}
	return err
}

func parseAccountInto(h *Handler, d *caddyfile.Dispenser) error {
	name, err := oneArg(d, "account", "<name> { ... }")
	if err != nil {
		return err
	}
	for _, other := range h.Accounts {
		if other.Name == name {
			return d.Errf("account %s is already specified", name)
		}
	}
	a := &Account{Name: name}
	file, line := d.File(), d.Line()
	err = eachWord(d, "account "+name, nil, wordsOf(accountWords), func(word string) error {
		return accountWords[word](a, d)
	})
	if err != nil {
		return err
	}
	if err := a.check(); err != nil {
		// What is wrong is the account as a whole: its first line, not its last.
		return fmt.Errorf("%w, at %s:%d", err, file, line)
	}
	h.Accounts = append(h.Accounts, a)
	return nil
}

func parseOAuth(a *Account, d *caddyfile.Dispenser) error {
	a.OAuth = new(OAuth)
	switch args := d.RemainingArgs(); len(args) {
	case 0:
	case 1:
		a.OAuth.Name = args[0]
	default:
		return d.Errf("oauth: found %d arguments; expected oauth [<storage name>]", len(args))
	}
	return eachWord(d, "oauth", nil, []string{"client_id", "token_url"}, func(word string) (err error) {
		if word == "client_id" {
			a.OAuth.ClientID, err = oneArg(d, word, "<id>")
			return err
		}
		if a.OAuth.TokenURL, err = oneArg(d, word, "<url>"); err != nil {
			return err
		}
		return literalURL(d, word, a.OAuth.TokenURL)
	})
}

func parseOwner(a *Account, d *caddyfile.Dispenser) error {
	a.Owners = d.RemainingArgs()
	if len(a.Owners) == 0 {
		return d.Err("owner: found no name; expected owner <key name...> or owner *")
	}
	for _, owner := range a.Owners {
		if owner == "*" && len(a.Owners) > 1 {
			return d.Err("owner: * means everybody; expected no other name beside it")
		}
		if owner != "*" && !nameSyntax.MatchString(owner) {
			return d.Errf("owner: the name %q is not %s", owner, nameRule)
		}
	}
	return nil
}

func parseModels(a *Account, d *caddyfile.Dispenser) error {
	a.Models = d.RemainingArgs()
	if len(a.Models) == 0 {
		return d.Err("models: found no glob; expected models <glob...>")
	}
	for _, glob := range a.Models {
		if _, err := path.Match(glob, ""); err != nil {
			return d.Errf("models: %q is not a glob", glob)
		}
	}
	return nil
}
