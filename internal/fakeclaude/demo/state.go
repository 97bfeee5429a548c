package demo

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// worlds holds running fakes by their configuration: a reload that does not
// change it keeps windows, caches and books. ports holds listeners by address.
var (
	worlds = caddy.NewUsagePool()
	ports  = caddy.NewUsagePool()
)

// world makes a fake a caddy.Destructor.
type world struct{ *fakeclaude.Server }

func (w world) Destruct() error {
	w.Close()
	return nil
}

// takeWorld finds or builds the fake. Building one starts nothing.
func (a *App) takeWorld() error {
	key, err := json.Marshal([]any{a.Listen, a.Speed, a.Capacity, a.Pace, a.Accounts})
	if err != nil {
		return err
	}
	value, _, err := worlds.LoadOrNew(string(key), func() (caddy.Destructor, error) {
		return world{fakeclaude.New(a.options())}, nil
	})
	if err != nil {
		return err
	}
	a.worldKey = string(key)
	a.fake = value.(world).Server
	return nil
}

// port is a listener that outlives reloads. It serves the fake of the youngest
// configuration that has started; a reload that is rolled back leaves the field
// to the one before.
type port struct {
	key      string
	listener net.Listener
	server   *http.Server
	serving  sync.WaitGroup

	mu    sync.Mutex
	fakes []*fakeclaude.Server
}

func takePort(address string, fake *fakeclaude.Server) (*port, error) {
	value, _, err := ports.LoadOrNew(address, func() (caddy.Destructor, error) { return openPort(address) })
	if err != nil {
		return nil, err
	}
	p := value.(*port)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fakes = append(p.fakes, fake)
	return p, nil
}

func openPort(address string) (*port, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	p := &port{key: address, listener: listener}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	p.serving.Go(func() {
		// Serve always ends with an error, at the latest when it is closed.
		_ = p.server.Serve(listener)
	})
	return p, nil
}

func (p *port) address() string { return p.listener.Addr().String() }

func (p *port) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	var fake *fakeclaude.Server
	if n := len(p.fakes); n > 0 {
		fake = p.fakes[n-1]
	}
	p.mu.Unlock()
	if fake == nil {
		http.Error(w, "the fake upstream is going away", http.StatusServiceUnavailable)
		return
	}
	fake.ServeHTTP(w, r)
}

// release takes one configuration's fake off the port and closes the port after
// the last one.
func (p *port) release(fake *fakeclaude.Server) error {
	p.mu.Lock()
	if i := slices.Index(p.fakes, fake); i >= 0 {
		p.fakes = slices.Delete(p.fakes, i, i+1)
	}
	p.mu.Unlock()
	_, err := ports.Delete(p.key)
	return err
}

// lastAnswers is how long answers in flight may take when the port closes.
const lastAnswers = 3 * time.Second

// Destruct closes the port; answers that take too long are cut.
func (p *port) Destruct() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	err := p.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = p.server.Close()
	}
	p.serving.Wait()
	return err
}
