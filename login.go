package shunt

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
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
	key    string
	source *credential.OAuth
	with   atomic.Pointer[loginMeans]
}

// loginMeans is what a configuration lends to a login.
type loginMeans struct {
	credential.Storage
	transport http.RoundTripper
	logger    *zap.Logger
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
		l := &login{key: key}
		l.with.Store(h.means(nil))
		source, err := credential.NewOAuth(credential.Config{
			Storage: loginStorage{l}, Key: key, TokenURL: tokenURL, ClientID: a.config.OAuth.ClientID,
			Transport: loginTransport{l}, OnEvent: l.event,
		})
		if err != nil {
			return nil, fmt.Errorf("oauth: %w", err)
		}
		l.source = source
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
	a.source = a.login.source
	return nil
}

func (h *Handler) means(renewed func()) *loginMeans {
	return &loginMeans{Storage: h.records, transport: h.transport, logger: h.logger, renewed: renewed, pool: h.Pool}
}

// attach makes the login work with what h has: its configuration was started.
func (l *login) attach(h *Handler) {
	means := h.means(func() {
		for _, a := range h.accounts {
			if a.login == l {
				h.live.state.Revive(a.member.Key)
			}
		}
	})
	for _, a := range h.accounts {
		if a.login == l {
			means.accounts = append(means.accounts, a.member.Name)
		}
	}
	l.with.Store(means)
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

// Destruct ends the source, once what it has begun is done.
func (l *login) Destruct() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return l.source.Close(ctx)
}

// loginStorage is the storage of the newest configuration.
type loginStorage struct{ l *login }

func (s loginStorage) Store(ctx context.Context, key string, value []byte) error {
	return s.l.with.Load().Store(ctx, key, value)
}
func (s loginStorage) Load(ctx context.Context, key string) ([]byte, error) {
	return s.l.with.Load().Load(ctx, key)
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
type loginTransport struct{ l *login }

func (t loginTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.l.with.Load().transport.RoundTrip(r)
}

var (
	_ caddy.Destructor   = (*login)(nil)
	_ credential.Storage = loginStorage{}
	_ http.RoundTripper  = loginTransport{}
)
