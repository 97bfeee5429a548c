package shunt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
)

const (
	// dialTimeout bounds the look whether Caddy is running.
	dialTimeout = 5 * time.Second
	// callTimeout bounds one call of the admin API. An import may have to wait for a
	// refresh in another process to end.
	callTimeout = 2 * time.Minute
	// maxAdminAnswer bounds what is read of an answer.
	maxAdminAnswer = 16 << 20
)

// errNotRunning means that nobody listens at the admin address.
var errNotRunning = errors.New("no Caddy answers")

// adminClient calls the admin API of a Caddy, over TCP or a Unix socket.
type adminClient struct {
	network, address string
	origin           string
	client           *http.Client
}

func newAdminClient(address string) (*adminClient, error) {
	resolved, err := caddy.NewReplacer().ReplaceOrErr(address, true, true)
	if err != nil {
		return nil, fmt.Errorf("the admin address %s: %w", address, err)
	}
	parsed, err := caddy.ParseNetworkAddress(resolved)
	if err != nil || parsed.PortRangeSize() > 1 {
		return nil, fmt.Errorf("the admin address %q is not one address", resolved)
	}
	c := &adminClient{network: parsed.Network, address: parsed.JoinHostPort(0), origin: "http://" + parsed.JoinHostPort(0)}
	if parsed.IsUnixNetwork() {
		// Behind a bar may be the socket's permissions, which are not of its path.
		c.address, _, _ = strings.Cut(parsed.Host, "|")
		c.origin = "http://127.0.0.1"
	}
	c.client = &http.Client{Timeout: callTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
	}}
	return c, nil
}

func (c *adminClient) String() string {
	if strings.HasPrefix(c.network, "unix") {
		return c.network + "/" + c.address
	}
	return c.address
}

// dial fails with errNotRunning when nobody listens. It goes to this machine only:
// what it carries are logins, in clear.
func (c *adminClient) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, c.network, c.address)
	switch {
	case refused(err):
		return nil, errNotRunning
	case err != nil:
		return nil, err
	}
	if !sameMachine(conn) {
		conn.Close()
		return nil, errors.New("it is not on this machine, and logins would go there in clear; run the command where Caddy runs")
	}
	return conn, nil
}

// refused reports whether a failed dial means that nobody listens.
func refused(err error) bool {
	const wsaRefused = syscall.Errno(10061) // of Windows, which Go does not map
	var code syscall.Errno
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) ||
		runtime.GOOS == "windows" && errors.As(err, &code) && code == wsaRefused
}

func sameMachine(conn net.Conn) bool {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return true // a socket in the file system
	}
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	return remote.IP.IsLoopback() || ok && local.IP.Equal(remote.IP)
}

// adminError is an answer that is not a success.
type adminError struct {
	status int
	text   string
}

func (e *adminError) Error() string { return e.text }

// call makes one call and reads its answer into v. The errors of the API are those
// that it wrote.
func (c *adminClient) call(ctx context.Context, method, path string, query url.Values, body, v any) error {
	raw, err := c.fetch(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("what answers at %s is not Caddy's admin API with shunt", c)
	}
	return nil
}

// fetch makes one call and returns its answer as it came.
func (c *adminClient) fetch(ctx context.Context, method, path string, query url.Values, body any) ([]byte, error) {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, errors.New("making the request for the admin API failed")
		}
		in = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.origin+path+"?"+query.Encode(), in)
	if err != nil {
		return nil, fmt.Errorf("the admin address %s cannot be called", c)
	}
	if c.network == "tcp" || strings.HasPrefix(c.network, "tcp") {
		r.Header.Set("Origin", c.origin)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.client.Do(r)
	if errors.Is(err, errNotRunning) {
		return nil, errNotRunning
	}
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return nil, fmt.Errorf("calling the admin API at %s: %w", c, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of the admin API at %s: %w", c, err)
	}
	if resp.StatusCode != http.StatusOK {
		var told struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(raw, &told) != nil || told.Error == "" {
			told.Error = fmt.Sprintf("what answers at %s gave status %d", c, resp.StatusCode)
		}
		return nil, &adminError{resp.StatusCode, told.Error}
	}
	return raw, nil
}
