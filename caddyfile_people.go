package shunt

import (
	"fmt"
	"path"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-shunt/caddy-shunt/people"
)

// limitWords are the words that say what a person may use.
var limitWords = map[string]func(*people.Limits, *caddyfile.Dispenser) error{
	"models": func(l *people.Limits, d *caddyfile.Dispenser) (err error) {
		l.Models, err = globs(d)
		return err
	},
	"max_concurrent": func(l *people.Limits, d *caddyfile.Dispenser) (err error) {
		l.MaxConcurrent, err = number(d, "max_concurrent", 1)
		return err
	},
	"rate": func(l *people.Limits, d *caddyfile.Dispenser) (err error) {
		l.Rate, err = number(d, "rate", 1)
		return err
	},
	"budget": func(l *people.Limits, d *caddyfile.Dispenser) error {
		b, err := people.ParseBudget(d.RemainingArgs())
		if err != nil {
			return d.Errf("budget: %v", err)
		}
		l.Budgets = append(l.Budgets, b)
		return nil
	},
	"weight": func(l *people.Limits, d *caddyfile.Dispenser) (err error) {
		l.Weight, err = number(d, "weight", 1)
		return err
	},
}

var limitsRepeat = map[string]bool{"budget": true}

// wordsWith are the words of limits and these.
func wordsWith(words ...string) []string {
	return append(words, wordsOf(limitWords)...)
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
	if !strings.Contains(key.Secret, "{") && !strings.HasPrefix(key.Secret, hashPrefix) {
		if err := checkSecret(key.Secret); err != nil {
			return d.Errf("remote_key %s: %v", key.Name, err)
		}
		key.Secret = hashSecret(key.Secret)
	}
	file, line := d.File(), d.Line()
	err := eachWord(d, "remote_key "+key.Name, limitsRepeat, wordsWith("admin", "expires"), func(word string) (err error) {
		switch word {
		case "admin":
			key.Admin = true
			return noArg(d, word)
		case "expires":
			key.Expires, err = oneArg(d, word, "<date>")
			return err
		default:
			return limitWords[word](&key.Limits, d)
		}
	})
	if err != nil {
		return err
	}
	if err := key.check(); err != nil {
		return fmt.Errorf("%w, at %s:%d", err, file, line)
	}
	h.RemoteKeys = append(h.RemoteKeys, key)
	return nil
}

// parsePersonInto reads person <name>|* { ... }.
func parsePersonInto(h *Handler, d *caddyfile.Dispenser) (err error) {
	p := new(Person)
	if p.Name, err = oneArg(d, "person", "<name> { ... } or * { ... }"); err != nil {
		return err
	}
	for _, other := range h.People {
		if other.Name == p.Name {
			return d.Errf("person %s is already specified", p.Name)
		}
	}
	file, line := d.File(), d.Line()
	err = eachWord(d, "person "+p.Name, limitsRepeat, wordsWith("admin"), func(word string) error {
		if word == "admin" {
			p.Admin = true
			return noArg(d, word)
		}
		return limitWords[word](&p.Limits, d)
	})
	if err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return fmt.Errorf("%w, at %s:%d", err, file, line)
	}
	h.People = append(h.People, p)
	return nil
}

func parseKeysWord(h *Handler, d *caddyfile.Dispenser) (err error) {
	h.KeysFile, err = oneArg(d, "keys", "<file>")
	return nonEmpty(d, "keys", h.KeysFile, err)
}

func parseUser(h *Handler, d *caddyfile.Dispenser) (err error) {
	if h.User, err = oneArg(d, "user", "<placeholder>"); err != nil {
		return err
	}
	if !strings.Contains(h.User, "{") {
		return d.Errf("user: %q; expected a placeholder such as %s", h.User, DefaultUser)
	}
	return nil
}

func parseTimeZone(h *Handler, d *caddyfile.Dispenser) (err error) {
	if h.TimeZone, err = oneArg(d, "time_zone", "<name>"); err != nil {
		return err
	}
	if _, err := zoneOf(h.TimeZone); err != nil || h.TimeZone == "" {
		return d.Errf("time_zone: %q is not known; expected a name such as Europe/Berlin", h.TimeZone)
	}
	return nil
}

// globs reads the globs of model ids.
func globs(d *caddyfile.Dispenser) ([]string, error) {
	models := d.RemainingArgs()
	if len(models) == 0 {
		return nil, d.Err("models: found no glob; expected models <glob...>")
	}
	for _, glob := range models {
		if _, err := path.Match(glob, ""); err != nil {
			return nil, d.Errf("models: %q is not a glob", glob)
		}
	}
	return models, nil
}
