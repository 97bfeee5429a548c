package shunt

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// parseSetupToken reads setup_token <secret> { made <date> }.
func parseSetupToken(a *Account, d *caddyfile.Dispenser) (err error) {
	a.SetupToken, err = oneArg(d, "setup_token", "<secret>")
	if err = nonEmpty(d, "setup_token", a.SetupToken, err); err != nil {
		return err
	}
	return eachWord(d, "setup_token", nil, []string{"made"}, func(word string) (err error) {
		if a.SetupTokenMade, err = oneArg(d, word, "<date>"); err != nil {
			return err
		}
		if err := a.checkMade(); err != nil {
			return d.WrapErr(err)
		}
		return nil
	})
}

// checkMade finds what is wrong with the setting setup_token_made.
func (a *Account) checkMade() error {
	if a.SetupTokenMade == "" {
		return nil
	}
	if a.SetupToken == "" {
		return errors.New("setup_token_made: there is no setup_token")
	}
	made, err := parseDate(a.SetupTokenMade)
	if err != nil {
		return fmt.Errorf("made: %w", err)
	}
	// A day is what time zones can make of a date.
	if made.After(time.Now().Add(24 * time.Hour)) {
		return fmt.Errorf("made: %s is in the future", a.SetupTokenMade)
	}
	return nil
}

// parseDate reads a day (its beginning in UTC) or an instant.
func parseDate(text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q; expected a date such as 2026-02-01, or RFC 3339", text)
}

// openSecret gives an account the source of an API key or a setup token.
//
// A secret that is read from files is known by its setting, so that the account keeps
// its record when the secret is replaced.
func (h *Handler) openSecret(a *account, kind credential.Kind, raw string) (identity string, err error) {
	field := string(kind)
	secret, err := resolve(field, raw)
	if err != nil {
		return "", err
	}
	a.written = raw == secret
	identity = field + ":" + fingerprint(secret)
	files := filesOf(raw)
	if len(files) > 0 {
		identity = field + ":" + raw
	}
	if len(files) == 0 && kind == credential.KindAPIKey {
		if a.source, err = credential.Static(kind, secret); err != nil {
			return "", fmt.Errorf("%s: %w", field, err)
		}
		return identity, nil
	}
	id := strings.Join([]string{"secret", h.Pool, a.config.Name, identity, a.config.SetupTokenMade}, "\x00")
	err = h.keep(a, id, func(k *keeper) (runningSource, error) {
		source, err := k.openSecret(h, a, kind, raw, files)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		return source, nil
	})
	return identity, err
}

// openSecret makes the source of a secret that has something to do in the background.
func (k *keeper) openSecret(h *Handler, a *account, kind credential.Kind, raw string, files []string) (runningSource, error) {
	read := func() (string, error) { return resolve(string(kind), raw) }
	var source credential.Source
	if len(files) > 0 {
		file, err := credential.NewFileSource(credential.FileConfig{
			Name: a.config.Name, Kind: kind, Files: files, Read: read, OnEvent: k.secretEvent,
		})
		if err != nil || kind == credential.KindAPIKey {
			return file, err
		}
		source = file
	} else {
		secret, err := read()
		if err != nil {
			return nil, err
		}
		if source, err = credential.Static(kind, secret); err != nil {
			return nil, err
		}
	}
	var made time.Time
	if a.config.SetupTokenMade != "" {
		var err error
		if made, err = parseDate(a.config.SetupTokenMade); err != nil {
			return nil, fmt.Errorf("made: %w", err)
		}
	}
	return credential.NewSetupToken(credential.SetupTokenConfig{
		Token: source, Made: made, Storage: loginStorage{k}, OnEvent: k.secretEvent,
		Key: strings.TrimSuffix(credentialKey(h.Pool, a.config.Name), ".json") + "~first-seen.json",
	})
}

// secretEvent logs what an operator should know. A new secret ends what the one
// before was benched for.
func (k *keeper) secretEvent(e credential.Event) {
	with := k.with.Load()
	switch log := with.logger; e.Type {
	case credential.EventAdopted:
		log.Info("the secret in a file has changed and is in use", zap.String("account", e.Key))
		with.revive()
	case credential.EventRefreshFailed:
		log.Error("a secret cannot be read again; the last one stays in use", zap.String("account", e.Key), logError(e.Err))
	case credential.EventStoreFailed:
		log.Warn("the date of a setup token cannot be kept; its end is not known", zap.String("record", e.Key), zap.Time("next_try", e.Next), logError(e.Err))
	case credential.EventStored:
		log.Info("the date of a setup token is kept", zap.String("record", e.Key))
	}
}

// filesOf lists the files that the {file.*} placeholders of a setting name.
func filesOf(raw string) []string {
	var files []string
	repl := caddy.NewEmptyReplacer()
	repl.Map(func(key string) (any, bool) {
		if name, ok := strings.CutPrefix(key, "file."); ok && !slices.Contains(files, name) {
			files = append(files, name)
		}
		return "", true
	})
	repl.ReplaceAll(raw, "")
	return files
}
