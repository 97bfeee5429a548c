package shunt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// logins are the OAuth logins of the running configurations. Their sources live
// through reloads: a refresh under way must not be done twice.
var logins = caddy.NewUsagePool()

// credentialKey is where the login of the name is kept.
func credentialKey(pool, name string) string {
	return "shunt/" + pool + "/credentials/" + name + ".json"
}

// login is an OAuth source that outlives the configuration which made it. What
// it works with comes from the newest configuration that was started.
type login struct {
	key                string
	tokenURL, clientID string // as configured; empty for the defaults
	source             *credential.OAuth
	keeper
}

// loginMeans is what a configuration lends to a login, or to another keeper.
type loginMeans struct {
	credential.Storage
	transport http.RoundTripper
	// storageConfig and transportConfig make the same in another process; the first
	// is nil when that cannot be.
	storageConfig, transportConfig json.RawMessage
	// encrypt names the keys that seal records, as configured.
	encrypt []string

	logger *zap.Logger
	// renewed is told that the credential is a new one.
	renewed func()
	// pool and accounts say who uses it; no account before the configuration was
	// started.
	pool     string
	accounts []string
}

// openLogin takes a reference to the login of an account.
func (h *Handler) openLogin(a *account) error {
	name := a.config.OAuth.Name
	if name == "" {
		name = a.config.Name
	}
	key := credentialKey(h.Pool, name)
	tokenURL := a.config.OAuth.TokenURL
	if tokenURL != "" {
		resolved, err := resolve("token_url", tokenURL)
		if err != nil {
			return err
		}
		tokenURL = resolved
	}
	id := key + " " + tokenURL + " " + a.config.OAuth.ClientID
	value, _, err := logins.LoadOrNew(id, func() (caddy.Destructor, error) {
		l := &login{key: key, tokenURL: tokenURL, clientID: a.config.OAuth.ClientID}
		l.with.Store(h.means(nil))
		source, err := credential.NewOAuth(credential.Config{
			Storage: loginStorage{&l.keeper}, Key: key, TokenURL: tokenURL, ClientID: a.config.OAuth.ClientID,
			Transport: loginTransport{&l.keeper}, Renew: l.renew, OnEvent: l.event,
		})
		if err != nil {
			return nil, fmt.Errorf("oauth: %w", err)
		}
		l.source, l.runs = source, source
		return l, nil
	})
	if err != nil {
		return err
	}
	h.cleanup = append(h.cleanup, func() error {
		_, err := logins.Delete(id)
		return err
	})
	a.login = value.(*login)
	a.keeper, a.source = &a.login.keeper, a.login.source
	return nil
}

func (h *Handler) means(renewed func()) *loginMeans {
	return &loginMeans{
		Storage: h.records, storageConfig: h.storageConfig, encrypt: h.Encrypt, transport: h.transport, transportConfig: h.transportConfig,
		logger: h.logger, renewed: renewed, pool: h.Pool,
	}
}

// event logs what an operator should know. A new credential ends what the old
// one was benched for.
func (l *login) event(e credential.Event) {
	with := l.with.Load()
	with.tell(e)
	log := with.logger.With(zap.String("record", e.Key))
	switch e.Type {
	case credential.EventRefreshed, credential.EventAdopted:
		log.Info("login "+string(e.Type), zap.Time("expires", e.Expires))
		if with.renewed != nil {
			with.renewed()
		}
	case credential.EventLoginRequired:
		log.Error("a login is required: run caddy shunt import", logReason(e.Reason))
	case credential.EventStoreFailed:
		log.Error("a refreshed login could not be stored and is in memory only", zap.Time("next_try", e.Next), logError(e.Err))
	case credential.EventRefreshFailed:
		log.Warn("refreshing a login failed", zap.Time("next_try", e.Next), logError(e.Err))
	case credential.EventStored:
		log.Info("the login is stored")
	}
}

// loginStorage is the storage of the newest configuration.
type loginStorage struct{ l *keeper }

func (s loginStorage) Store(ctx context.Context, key string, value []byte) error {
	return s.l.with.Load().Store(ctx, key, value)
}
func (s loginStorage) Load(ctx context.Context, key string) ([]byte, error) {
	return s.l.with.Load().Load(ctx, key)
}
func (s loginStorage) Delete(ctx context.Context, key string) error {
	return s.l.with.Load().Delete(ctx, key)
}
func (s loginStorage) Exists(ctx context.Context, key string) bool {
	return s.l.with.Load().Exists(ctx, key)
}
func (s loginStorage) Lock(ctx context.Context, name string) error {
	return s.l.with.Load().Lock(ctx, name)
}
func (s loginStorage) Unlock(ctx context.Context, name string) error {
	return s.l.with.Load().Unlock(ctx, name)
}

// loginTransport is the transport of the newest configuration.
type loginTransport struct{ l *keeper }

func (t loginTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.l.with.Load().transport.RoundTrip(r)
	// Caddy's transport hides the error of a failed dial, after which nothing was
	// sent and no token can be spent.
	if dial := (reverseproxy.DialError{}); errors.As(err, &dial) {
		err = &net.OpError{Op: "dial", Err: errors.New(strings.TrimPrefix(dial.Error(), "dial "))}
	}
	return resp, err
}

var (
	_ caddy.Destructor   = (*login)(nil)
	_ credential.Storage = loginStorage{}
	_ http.RoundTripper  = loginTransport{}
)
