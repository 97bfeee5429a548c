package faults

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// doorState is how an account's address behaves before HTTP begins.
type doorState int32

const (
	doorOpen doorState = iota
	// doorClosed: nobody listens, and connections that were there are gone.
	doorClosed
	// doorResets: a connection is reset as soon as it is there.
	doorResets
	// doorGarbage: a TLS alert comes where plain HTTP is spoken.
	doorGarbage
	// doorRestarts: connections that were there are gone, and new ones are welcome.
	doorRestarts
)

// tlsAlert is the record by which a TLS server says that it did not understand.
var tlsAlert = []byte{0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46}

// door is the address that the proxy knows as an account's upstream.
type door struct {
	addr    string
	handler http.Handler
	state   atomic.Int32
	// arrivals counts connections, also those that never became a request.
	arrivals atomic.Int64
	server   *http.Server
	toxic    *toxiproxy.Proxy // nil when the way is clean
}

// toxicServer holds what toxiproxy's proxies share; it listens nowhere.
var toxicServer = toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())

// openDoor listens on addr. With onTheWay a toxic proxy does, and upstream is
// behind it.
func openDoor(addr string, handler http.Handler, onTheWay bool) (*door, error) {
	d := &door{addr: addr, handler: handler}
	if !onTheWay {
		return d, d.listen()
	}
	behind := &door{addr: "127.0.0.1:0", handler: handler}
	if err := behind.listen(); err != nil {
		return nil, err
	}
	d.server = behind.server
	d.toxic = toxiproxy.NewProxy(toxicServer, addr, addr, behind.addr)
	if err := d.toxic.Start(); err != nil {
		return nil, fmt.Errorf("starting toxiproxy: %w", err)
	}
	d.addr = d.toxic.Listen
	return d, nil
}

func (d *door) listen() error {
	var listener net.Listener
	// A port that was closed a moment ago may have to be waited for.
	err := eventually(5*time.Second, func() (err error) {
		listener, err = net.Listen("tcp", d.addr)
		return err
	})
	if err != nil {
		return fmt.Errorf("listening for an account: %w", err)
	}
	d.addr = listener.Addr().String()
	d.server = &http.Server{Handler: d.handler, ReadHeaderTimeout: time.Minute, ErrorLog: quiet}
	go func(server *http.Server) { _ = server.Serve(guarded{listener, d}) }(d.server)
	return nil
}

// guarded is the listener of a door.
type guarded struct {
	net.Listener
	d *door
}

func (g guarded) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g.d.arrivals.Add(1)
		switch doorState(g.d.state.Load()) {
		case doorResets:
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
		case doorGarbage:
			_, _ = conn.Write(tlsAlert)
		default:
			return conn, nil
		}
		_ = conn.Close()
	}
}

// set changes how the door behaves. Connections from before do not outlive it.
func (d *door) set(state doorState) error {
	if doorState(d.state.Swap(int32(state))) == state {
		return nil
	}
	if err := d.server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	if state == doorClosed {
		return nil
	}
	return d.listen()
}

// toxic is one of toxiproxy's, by its documented names.
type toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Toxicity   float32        `json:"toxicity"`
	Attributes map[string]int `json:"attributes"`
}

// answering is a toxic on the way from upstream, asking one on the way there.
func answering(kind string, attributes map[string]int) toxic {
	return toxic{kind + "_answer", kind, "downstream", 1, attributes}
}

func asking(kind string, attributes map[string]int) toxic {
	return toxic{kind + "_request", kind, "upstream", 1, attributes}
}

func (d *door) poison(all []toxic) error {
	for _, t := range all {
		data, err := json.Marshal(t)
		if err != nil {
			return err
		}
		if _, err := d.toxic.Toxics.AddToxicJson(bytes.NewReader(data)); err != nil {
			return fmt.Errorf("adding the toxic %s: %w", t.Name, err)
		}
	}
	return nil
}

// fall makes the door as sick as its account.
func (d *door) fall(s *sickness) error {
	if s.cut {
		d.toxic.Stop()
	}
	if len(s.toxics) > 0 {
		return d.poison(s.toxics)
	}
	return d.set(s.door)
}

// settled is how long a proxy gets to notice that its idle connections are gone.
// A request on one of them would be a fault of its own.
const settled = 50 * time.Millisecond

// heal makes the door well again. It leaves no connection behind that was there
// while it was sick.
func (d *door) heal(s *sickness) error {
	switch {
	case s.onTheWay():
		d.toxic.Stop()
		d.toxic = toxiproxy.NewProxy(toxicServer, d.addr, d.addr, d.toxic.Upstream)
		if err := eventually(5*time.Second, d.toxic.Start); err != nil {
			return err
		}
	case s.door != doorOpen:
		if err := d.set(doorOpen); err != nil {
			return err
		}
	default:
		return nil
	}
	time.Sleep(settled)
	return nil
}

func (d *door) close() {
	if d.toxic != nil {
		d.toxic.Stop()
	}
	_ = d.server.Close()
}

// eventually tries something until it succeeds or the time is over.
func eventually(limit time.Duration, try func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
