package shunt

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// Federation is a workload's identity (workload identity federation): a JWT that
// something like Kubernetes keeps in a file is exchanged for access tokens of a
// service account. All settings accept placeholders.
type Federation struct {
	// The id of the federation rule.
	Rule string `json:"rule"`
	// The id of the organization.
	Organization string `json:"organization"`
	// The id of the service account.
	ServiceAccount string `json:"service_account"`
	// The id of a workspace, if tokens shall be for one in particular.
	Workspace string `json:"workspace,omitempty"`
	// The file with the JWT. It is read anew for each exchange. Either this or
	// token_env is required.
	TokenFile string `json:"token_file,omitempty"`
	// The environment variable with the JWT.
	TokenEnv string `json:"token_env,omitempty"`
	// Where the JWT is exchanged. Default: https://api.anthropic.com/v1/oauth/token.
	TokenURL string `json:"token_url,omitempty"`
}

// federationField is a setting of a federation block.
type federationField struct {
	value    *string
	expected string
	required bool
}

func (f *Federation) fields() map[string]federationField {
	return map[string]federationField{
		"rule":            {&f.Rule, "<federation rule id>", true},
		"organization":    {&f.Organization, "<organization id>", true},
		"service_account": {&f.ServiceAccount, "<service account id>", true},
		"workspace":       {&f.Workspace, "<workspace id>", false},
		"token_file":      {&f.TokenFile, "<path>", false},
		"token_env":       {&f.TokenEnv, "<name>", false},
		"token_url":       {&f.TokenURL, "<url>", false},
	}
}

func (f *Federation) check() error {
	fields := f.fields()
	for _, word := range wordsOf(fields) {
		if field := fields[word]; field.required && *field.value == "" {
			return fmt.Errorf("no %s; expected %s %s", word, word, field.expected)
		}
	}
	switch {
	case f.TokenFile == "" && f.TokenEnv == "":
		return errors.New("no token; expected token_file <path> or token_env <name>")
	case f.TokenFile != "" && f.TokenEnv != "":
		return errors.New("token_file and token_env are both there; expected one of them")
	}
	return nil
}

func parseFederation(a *Account, d *caddyfile.Dispenser) error {
	if err := noArg(d, "federation"); err != nil {
		return err
	}
	a.Federation = new(Federation)
	fields := a.Federation.fields()
	return eachWord(d, "federation", nil, wordsOf(fields), func(word string) (err error) {
		field := fields[word]
		*field.value, err = oneArg(d, word, field.expected)
		if err = nonEmpty(d, word, *field.value, err); err != nil || word != "token_url" {
			return err
		}
		return literalURL(d, word, *field.value)
	})
}

// openFederation takes a reference to the source of an account's federation.
func (h *Handler) openFederation(a *account) (identity string, err error) {
	settings := *a.config.Federation
	fields := settings.fields()
	id := []string{"federation", h.Pool, a.config.Name}
	for _, word := range wordsOf(fields) {
		value := fields[word].value
		if *value != "" {
			if *value, err = resolve(word, *value); err != nil {
				return "", fmt.Errorf("federation: %w", err)
			}
		}
		id = append(id, *value)
	}
	err = h.keep(a, strings.Join(id, "\x00"), func(k *keeper) (runningSource, error) {
		source, err := credential.NewFederation(credential.FederationConfig{
			Name:      a.config.Name,
			Assertion: credential.Assertion{File: settings.TokenFile, Env: settings.TokenEnv},
			Rule:      settings.Rule, Organization: settings.Organization,
			ServiceAccount: settings.ServiceAccount, Workspace: settings.Workspace,
			TokenURL: settings.TokenURL, Transport: loginTransport{k}, OnEvent: k.federationEvent,
		})
		if err != nil {
			return nil, fmt.Errorf("federation: %w", err)
		}
		return source, nil
	})
	identity = strings.Join([]string{"federation", settings.Rule, settings.Organization, settings.ServiceAccount, settings.Workspace}, ":")
	return identity, err
}

// federationEvent logs what an operator should know. A new token ends what the
// account was benched for.
func (k *keeper) federationEvent(e credential.Event) {
	with := k.with.Load()
	with.tell(e)
	log := with.logger.With(zap.String("account", e.Key))
	switch e.Type {
	case credential.EventRefreshed:
		log.Info("the federation has a new token", zap.Time("expires", e.Expires))
		with.revive()
	case credential.EventLoginRequired:
		log.Error("the federation is refused; it is tried again slowly, and at once when the assertion changes", logReason(e.Reason))
	case credential.EventRefreshFailed:
		log.Warn("getting a federation token failed", zap.Time("next_try", e.Next), logError(e.Err))
	}
}
