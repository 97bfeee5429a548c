package shunt

import (
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-shunt/caddy-shunt/people"
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
	"plan_only": func(a *Account, d *caddyfile.Dispenser) error {
		a.PlanOnly = true
		return noArg(d, "plan_only")
	},
	"budget": func(a *Account, d *caddyfile.Dispenser) error {
		var l people.Limits
		err := limitWords["budget"](&l, d)
		a.Budgets = append(a.Budgets, l.Budgets...)
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
	err = eachWord(d, "account "+name, limitsRepeat, wordsOf(accountWords), func(word string) error {
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

func parseModels(a *Account, d *caddyfile.Dispenser) (err error) {
	a.Models, err = globs(d)
	return err
}
