package shunt

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// stopsWithin bounds how long a pool that ends with the process waits for the exchanges
// that it has stopped.
const stopsWithin = 3 * time.Second

// underway are the exchanges of a pool that have asked an account. When the process ends
// before they do, at the end of grace_period, they are stopped, so that what they used is
// booked: upstream charges it all the same.
type underway struct {
	mu        sync.Mutex
	exchanges map[*exchange]context.CancelFunc // each ends its last request to upstream
	over      chan struct{}                    // closed when none is left, nil while nobody waits for that
}

// sends takes note of an exchange that asks an account, perhaps after another.
func (u *underway) sends(x *exchange, cancel context.CancelFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.exchanges == nil {
		u.exchanges = make(map[*exchange]context.CancelFunc)
	}
	u.exchanges[x] = cancel
}

// ended takes note of an exchange that has been booked.
func (u *underway) ended(x *exchange) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.exchanges, x)
	if u.over != nil && len(u.exchanges) == 0 {
		close(u.over)
		u.over = nil
	}
}

// stop stops all of them and waits until they are booked. It returns how many there were
// and how many did not end in time.
func (u *underway) stop(within time.Duration) (stopped, left int) {
	u.mu.Lock()
	stopped = len(u.exchanges)
	if stopped == 0 {
		u.mu.Unlock()
		return 0, 0
	}
	over := make(chan struct{})
	u.over = over
	for x, cancel := range u.exchanges {
		x.stopped.Store(true)
		cancel()
		// A client that does not read must not hold it up.
		if conn, ok := x.r.Context().Value(caddyhttp.ConnCtxKey).(net.Conn); ok {
			_ = conn.SetWriteDeadline(time.Now().Add(within / 3))
		}
	}
	u.mu.Unlock()
	select {
	case <-over:
	case <-time.After(within):
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = nil
	return stopped, len(u.exchanges)
}

// stopUnderway ends what is under way when the process ends.
func (l *livePool) stopUnderway() {
	stopped, left := l.underway.stop(stopsWithin)
	if m := l.sharing.means.Load(); stopped > 0 && m != nil {
		m.logger.Warn("requests were stopped at the end of grace_period; what they used is booked", logPool(l.name), zap.Int("requests", stopped), zap.Int("not_booked", left))
	}
}
