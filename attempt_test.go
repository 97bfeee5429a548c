package shunt

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// scriptedSource is a true source whose Get can be made to fail.
type scriptedSource struct {
	credential.Source
	fails  error
	proved atomic.Int64
}

func (s *scriptedSource) Get(ctx context.Context) (credential.Credential, error) {
	if s.fails != nil {
		return credential.Credential{}, s.fails
	}
	return s.Source.Get(ctx)
}

func (s *scriptedSource) Proved(used credential.Credential) {
	if !used.Bearer() && used.Version() != "" {
		s.proved.Add(1)
	}
}

// script puts a scripted source in the place of the first account's.
func (b *bench) script(fails error) *scriptedSource {
	b.t.Helper()
	if err := b.h.app.Stop(); err != nil { // it looks at the sources now and then
		b.t.Fatal(err)
	}
	source := &scriptedSource{Source: b.h.accounts[0].source, fails: fails}
	b.h.accounts[0].source = source
	return source
}

// TestSourceHearsOfItsCredential: that upstream took it, and not that it failed.
func TestSourceHearsOfItsCredential(t *testing.T) {
	b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:1]}, "remote_key ann "+annKey+"\nupstream %UPSTREAM%\nhold off\naccount a {\napi_key sk-ant-api03-aaaa\n}")
	source := b.script(nil)
	b.ask(hello).mustServe(t, "once")
	b.mustBeIdle()
	if n := source.proved.Load(); n != 1 {
		t.Errorf("told %d times of a request that was served", n)
	}
	b.fake.SetFault("a", fakeclaude.Fault{Name: fakeclaude.WindowFiveHour})
	b.ask(hello)
	b.mustBeIdle()
	if n := source.proved.Load(); n != 1 {
		t.Errorf("told %d times, and the second request was refused", n)
	}
}

// TestAccountWithoutTokenRestsUntilTheNextTry and no longer.
func TestAccountWithoutTokenRestsUntilTheNextTry(t *testing.T) {
	b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:1]}, "remote_key ann "+annKey+"\nupstream %UPSTREAM%\nhold off\naccount a {\napi_key sk-ant-api03-aaaa\n}")
	next := time.Now().Add(3 * time.Second)
	b.script(&credential.RetryError{Next: next, Err: errors.New("the token server answered 503")})
	if r := b.ask(hello); r.status == http.StatusOK {
		t.Fatal("served without a credential")
	}
	benched := b.h.group.View().Accounts[0].Benched()
	if benched == nil || benched.Until.Sub(next).Abs() > time.Second {
		t.Errorf("the account rests: %+v, and the next try is at %v", benched, next)
	}
}

// TestAQueryStaysInItsLine: HTTP/2 has no line that a space could end; upstream has.
func TestAQueryStaysInItsLine(t *testing.T) {
	for query, want := range map[string]string{
		"beta=true":               "beta=true",
		"a=%20b&c=d+e&&;[]|'\"":   "a=%20b&c=d+e&&;[]|'\"",
		"a HTTP/1.1":              "a%20HTTP/1.1",
		"a=\x7f\r\nX: y\x00":      "a=%7F%0D%0AX:%20y%00",
		"name=\xc3\xa4&odd=\xff!": "name=%C3%A4&odd=%FF!",
	} {
		if got := wireQuery(query); got != want {
			t.Errorf("%q goes out as %q, want %q", query, got, want)
		}
	}

	b := newFour(t, "")
	r := httptest.NewRequest(http.MethodPost, "https://pool.example/v1/messages", strings.NewReader(hello))
	r.Header = http.Header{"Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}, "X-Api-Key": {annKey}}
	r.URL.RawQuery = "a HTTP/1.1"
	serveWith(b.h, httptest.NewRecorder(), r)
	requests := b.fake.Requests()
	if len(requests) != 1 || requests[0].URI != "/v1/messages?a%20HTTP/1.1" {
		t.Errorf("upstream saw %+v", requests)
	}
}

// TestAStatusOfNobodys: what is no answer of the API's is not given to the client as
// one, and does not end the process (net/http panics on a status of two digits).
func TestAStatusOfNobodys(t *testing.T) {
	for _, status := range []string{"099 Low", "101 Switching Protocols", "600 High", "999 Higher", "302 Found"} {
		t.Run(status[:3], func(t *testing.T) {
			upstream := rawUpstream(t, "HTTP/1.1 "+status+"\r\nConnection: Upgrade\r\nUpgrade: odd\r\nLocation: http://127.0.0.1:1/\r\nContent-Type: application/json\r\n\r\n{}")
			b := newBench(t, fakeclaude.Options{Accounts: fourAccounts()[:1]}, "remote_key ann "+annKey+"\nhold off\naccount a {\napi_key sk-ant-api03-aaaa\nupstream "+upstream+"\n}")
			r := b.ask(hello)
			if r.status != http.StatusBadGateway || !strings.Contains(r.body, `"api_error"`) || r.header.Get("Upgrade")+r.header.Get("Location") != "" {
				t.Errorf("%d %v %s", r.status, r.header, r.body)
			}
			b.mustBeIdle()
		})
	}
}

// rawUpstream answers each request with the same bytes, and then keeps silent with the
// connection open.
func rawUpstream(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(c, answer)
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}
