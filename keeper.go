package shunt

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// keepers are the sources of the running configurations, apart from logins, that
// have work to do in the background. They live through reloads, so that a token
// which is stored nowhere is not got again each time.
var keepers = caddy.NewUsagePool()

// runningSource is a credential source with work to do in the background.
type runningSource interface {
	credential.Source
	// Run works until ctx ends.
	Run(ctx context.Context)
	// Close ends what Run and requests have begun.
	Close(ctx context.Context) error
}

// keeper is a source that outlives the configuration which made it. What it works
// with comes from the newest configuration that was started.
type keeper struct {
	runs runningSource
	with atomic.Pointer[loginMeans]
}

// keep takes a reference to the keeper of that id for an account, and makes its
// source if there is none yet.
func (h *Handler) keep(a *account, id string, open func(k *keeper) (runningSource, error)) error {
	value, _, err := keepers.LoadOrNew(id, func() (caddy.Destructor, error) {
		k := new(keeper)
		k.with.Store(h.means(nil))
		source, err := open(k)
		if err != nil {
			return nil, err
		}
		k.runs = source
		return k, nil
	})
	if err != nil {
		return err
	}
	h.cleanup = append(h.cleanup, func() error {
		_, err := keepers.Delete(id)
		return err
	})
	a.keeper = value.(*keeper)
	a.source = a.keeper.runs
	return nil
}

// attach makes the keeper work with what h has: its configuration was started.
func (k *keeper) attach(h *Handler) {
	means := h.means(func() {
		for _, a := range h.accounts {
			if a.keeper == k {
				h.live.state.Revive(a.member.Key)
				h.sawRecord(a)
			}
		}
	})
	for _, a := range h.accounts {
		if a.keeper == k {
			means.accounts = append(means.accounts, a.member.Name)
		}
	}
	k.with.Store(means)
}

// revive tells the pool that the credential is a new one.
func (m *loginMeans) revive() {
	if m.renewed != nil {
		m.renewed()
	}
}

// Destruct ends the source, once what it has begun is done.
func (k *keeper) Destruct() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return k.runs.Close(ctx)
}

var _ caddy.Destructor = (*keeper)(nil)
