package shunt

import (
	"context"
	"errors"
	"net/http"
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
