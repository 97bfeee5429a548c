package shunt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// keyPlace is what encrypt takes: a key that stands in the configuration itself
// would lie beside what it protects.
var keyPlace = regexp.MustCompile(`^\{(env|file)\.[^{}]+\}$`)

func checkKeyPlace(n int, place string) error {
	if !keyPlace.MatchString(place) {
		return fmt.Errorf("encrypt: key %d is not {env.<name>} or {file.<path>}; expected one of them, since the configuration can be read", n)
	}
	return nil
}

// sealKeys resolves what encrypt names, the key that seals first.
func sealKeys(places []string) ([]credential.Key, error) {
	keys := make([]credential.Key, 0, len(places))
	for i, place := range places {
		if err := checkKeyPlace(i+1, place); err != nil {
			return nil, err
		}
		text, err := resolve("encrypt", place)
		if err != nil {
			return nil, err
		}
		key, err := credential.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("encrypt: %s: %w", place, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// credentialStorage is where credentials are kept: st, sealed if encrypt names keys.
// It also gives the ID of the key that seals, empty for none.
func credentialStorage(st credential.Storage, encrypt []string) (_ credential.Storage, sealedBy string, err error) {
	keys, err := sealKeys(encrypt)
	if err != nil || len(keys) == 0 {
		return st, "", err
	}
	return credential.Sealed(st, keys...), keys[0].ID(), nil
}

// credentialsFolder is the prefix of the pool's credentials in storage.
func credentialsFolder(pool string) string { return "shunt/" + pool + "/credentials" }

// tendRecords brings the pools' credentials in storage in order, once for each
// configuration: file modes are looked at, and what is plain or sealed with an
// older key is sealed with the first.
func (a *App) tendRecords(ctx context.Context) {
	done := make(map[string]bool)
	for _, h := range a.registered() {
		if done[h.Pool] {
			continue
		}
		done[h.Pool] = true
		h.warnModes()
		if len(h.Encrypt) > 0 {
			h.reseal(ctx)
		}
	}
	for _, h := range a.registered() {
		for _, acct := range h.accounts {
			// This configuration may have brought the key that was missing.
			if acct.login != nil && acct.login.source.Status().LoginRequired {
				_ = acct.login.source.Reload(ctx) // told by the login itself
			}
		}
	}
}

// reseal seals the pool's records with the first key.
func (h *Handler) reseal(ctx context.Context) {
	var sealed []string
	for _, key := range h.credentialKeys(ctx) {
		changed, err := credential.Reseal(ctx, h.records, key)
		if err != nil && ctx.Err() == nil {
			h.logger.Error("a credential could not be sealed with the first key of encrypt", logPool(h.Pool), zap.String("record", key), logError(err))
		}
		if changed {
			sealed = append(sealed, key)
		}
	}
	if len(sealed) > 0 {
		h.logger.Info("credentials were sealed with the first key of encrypt", logPool(h.Pool), zap.String("key", h.sealedBy), zap.Strings("records", sealed))
	}
}

// credentialKeys lists the pool's records in storage: the logins, configured or
// not, and what was set aside. A storage that cannot list gives the logins.
func (h *Handler) credentialKeys(ctx context.Context) []string {
	listing, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	folder := credentialsFolder(h.Pool)
	listed, err := h.storage.List(listing, folder, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.logger.Warn("the credentials in storage could not be listed", logPool(h.Pool), logError(err))
	}
	seen := make(map[string]bool)
	var keys []string
	add := func(key string) {
		if !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	for _, key := range listed {
		if strings.HasPrefix(key, folder+"/") && strings.Contains(key, ".json") {
			add(key)
		}
	}
	for _, acct := range h.accounts {
		if acct.login != nil {
			add(acct.login.key)
		}
	}
	return keys
}

var _ credential.Storage = certmagic.Storage(nil)
