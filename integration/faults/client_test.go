package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// The protocols that a client may speak to the proxy.
const (
	http11 = "h1"
	http2c = "h2c"
	http3q = "h3"
)

// patience bounds every request of the suite.
const patience = 20 * time.Second

// answer is all that a client gets to see.
type answer struct {
	status int
	header http.Header
	body   string
	// err is how the transfer ended when it did not end well.
	err   error
	proto string
	took  time.Duration
}

// clients makes a client for each protocol. Compression is left to the sender:
// a client that asked for none must get none.
func newClient(protocol string, secure *endpoint) *http.Client {
	switch protocol {
	case http2c:
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		return &http.Client{Transport: &http.Transport{Protocols: &protocols, DisableCompression: true}, CheckRedirect: noRedirect}
	case http3q:
		return &http.Client{CheckRedirect: noRedirect, Transport: &http3.Transport{
			DisableCompression: true,
			TLSClientConfig:    &tls.Config{RootCAs: secure.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13},
			Dial: func(ctx context.Context, _ string, tlsConfig *tls.Config, config *quic.Config) (*quic.Conn, error) {
				return quic.DialAddrEarly(ctx, secure.addr, tlsConfig, config)
			},
		}}
	default:
		return &http.Client{Transport: &http.Transport{DisableCompression: true, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}, CheckRedirect: noRedirect}
	}
}

// endpoint is where HTTP/3 is spoken and whom to trust there.
type endpoint struct {
	addr  string
	roots *x509.CertPool
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// call is one request to the proxy.
type call struct {
	url     string
	body    []byte
	session string
	header  map[string]string
}

func (c *call) request(ctx context.Context, key string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+messagesPath, bytes.NewReader(c.body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	r.Header.Set("X-Api-Key", key)
	r.Header.Set("X-Claude-Code-Session-Id", c.session)
	r.Header.Set("User-Agent", "fault-suite/1")
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	return r, nil
}

// ask makes the call and reads the answer to its end.
func ask(ctx context.Context, client *http.Client, c *call, key string) (a answer) {
	began := time.Now()
	defer func() { a.took = time.Since(began) }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := c.request(ctx, key)
	if err != nil {
		return answer{err: err}
	}
	resp, err := client.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: string(data), err: err, proto: resp.Proto}
}
