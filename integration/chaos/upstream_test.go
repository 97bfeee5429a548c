package chaos

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// attempt is what upstream was asked and what it sent, as seen outside of the fake.
type attempt struct {
	nonce   string
	digest  [32]byte
	account string
	sent    []byte
	whole   bool // the handler came to its end
	at      time.Time
}

// recorder sits between the listeners and the fake.
type recorder struct {
	fake *fakeclaude.Server

	mu       sync.Mutex
	attempts map[string]*attempt // by request-id, until its client has been judged
	leaks    []string
	secrets  []string // of people; none may come here
}

var nonceIn = regexp.MustCompile(`Nonce ([0-9]+)\.`)

func (rc *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc.inspect(r)
	in := &bodyTap{ReadCloser: r.Body, digest: sha256.New()}
	r.Body = in
	out := &answerTap{ResponseWriter: w, rc: rc, in: in, at: time.Now()}
	defer func() {
		rc.mu.Lock()
		defer rc.mu.Unlock()
		if out.attempt != nil {
			out.attempt.whole = true
		}
	}()
	rc.fake.ServeHTTP(out, r)
}

// inspect looks for credentials that have no business here.
func (rc *recorder) inspect(r *http.Request) {
	var text bytes.Buffer
	_ = r.Header.Write(&text)
	fmt.Fprintln(&text, r.RequestURI)
	for _, secret := range rc.secrets {
		if bytes.Contains(text.Bytes(), []byte(secret)) {
			rc.mu.Lock()
			rc.leaks = append(rc.leaks, "the key of a person came to upstream: "+r.Method+" "+r.URL.Path)
			rc.mu.Unlock()
		}
	}
}

// take hands out an attempt and forgets it.
func (rc *recorder) take(id string) *attempt {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	a := rc.attempts[id]
	delete(rc.attempts, id)
	if a == nil {
		return nil
	}
	c := *a
	c.sent = bytes.Clone(a.sent)
	return &c
}

// sweep forgets attempts whose client never got to see them.
func (rc *recorder) sweep(before time.Time) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	for id, a := range rc.attempts {
		if a.at.Before(before) {
			delete(rc.attempts, id)
		}
	}
}

// bodyTap takes the digest of a request body, and its nonce.
type bodyTap struct {
	io.ReadCloser
	digest hash.Hash
	head   []byte
}

func (b *bodyTap) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.digest.Write(p[:n])
	if room := 512 - len(b.head); room > 0 {
		b.head = append(b.head, p[:min(n, room)]...)
	}
	return n, err
}

// answerTap keeps what the fake sends.
type answerTap struct {
	http.ResponseWriter
	rc      *recorder
	in      *bodyTap
	at      time.Time
	attempt *attempt
}

func (t *answerTap) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *answerTap) WriteHeader(status int) {
	if id := t.Header().Get("Request-Id"); id != "" && status == http.StatusOK {
		a := &attempt{at: t.at}
		if m := nonceIn.FindSubmatch(t.in.head); m != nil {
			a.nonce = string(m[1])
		}
		t.in.digest.Sum(a.digest[:0])
		a.account = t.Header().Get("Anthropic-Organization-Id")
		t.rc.mu.Lock()
		t.rc.attempts[id], t.attempt = a, a
		t.rc.mu.Unlock()
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *answerTap) Write(p []byte) (int, error) {
	if t.attempt != nil {
		t.rc.mu.Lock()
		t.attempt.sent = append(t.attempt.sent, p...)
		t.rc.mu.Unlock()
	}
	return t.ResponseWriter.Write(p)
}

// door is an account's way to upstream: a server of its own behind a toxic proxy.
type door struct {
	handler http.Handler
	addr    string // of the server
	url     string // of the way in

	mu     sync.Mutex
	server *http.Server
	toxic  *toxiproxy.Proxy // nil when the way is direct
}

// toxiproxy's toxics write to a logger of their own.
func init() { zerolog.SetGlobalLevel(zerolog.Disabled) }

var toxicServer = toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())

func openDoor(t *testing.T, handler http.Handler, toxic bool) *door {
	t.Helper()
	d := &door{handler: handler, addr: freeAddress(t)}
	if err := d.open(); err != nil {
		t.Fatal(err)
	}
	d.url = "http://" + d.addr
	if toxic {
		listen := freeAddress(t)
		d.toxic = toxiproxy.NewProxy(toxicServer, listen, listen, d.addr)
		if err := d.toxic.Start(); err != nil {
			t.Fatal(err)
		}
		d.url = "http://" + listen
	}
	t.Cleanup(func() {
		d.shut()
		if d.toxic != nil {
			d.toxic.Stop()
		}
	})
	return d
}

func (d *door) open() error {
	listener, err := net.Listen("tcp", d.addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: d.handler, ReadHeaderTimeout: time.Minute}
	d.mu.Lock()
	d.server = server
	d.mu.Unlock()
	go func() { _ = server.Serve(listener) }()
	return nil
}

// shut cuts all connections, and nobody listens any more.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.server.Close()
}
