package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// orders are what an operator can order of an account that keeps it from requests.
var orders = map[string]struct {
	give  func(p *Pool, key string, c *clock) bool
	take  func(p *Pool, key string) bool
	until time.Duration // 0 for no end
}{
	"drained": {
		func(p *Pool, key string, _ *clock) bool { return p.Drain(key, "drained by ann: it moves house") },
		func(p *Pool, key string) bool { return p.Undrain(key) }, 0,
	},
	"benched": {
		func(p *Pool, key string, c *clock) bool { return p.BenchUntil(key, c.now.Add(time.Hour), "") },
		func(p *Pool, key string) bool {
			ended, ok := p.Unbench(key)
			return ok && ended == 1
		}, time.Hour,
	},
}

// TestOrders: an account that the operator took out gets nothing, however it would be
// chosen and although it costs nothing, until it is given back.
func TestOrders(t *testing.T) {
	for name, o := range orders {
		t.Run(name, func(t *testing.T) {
			c, groups := instances(t, 1)
			g := groups[0]
			p := g.Pool()
			p.Pin("a")
			under := pick(t, g, message("s"))
			if under.Member.Name != "a" || o.give(p, "nobody", c) || !o.give(p, g.members[0].Key, c) {
				t.Fatal("not as expected before")
			}
			under.Report(&anthropic.Verdict{Name: anthropic.Served}, nil)
			under.End(anthropic.Usage{}) // what is under way ends as always, and proves nothing
			for _, endpoint := range []anthropic.Endpoint{anthropic.EndpointMessages, anthropic.EndpointCountTokens} {
				req := message("s")
				req.Endpoint = endpoint
				if l := pick(t, g, req); l.Member.Name != "b" {
					t.Errorf("%v goes to %s", endpoint, l.Member.Name)
				} else {
					l.End(anthropic.Usage{})
				}
			}
			p.Drain(g.members[1].Key, "")
			l, refused := g.Pick(message("s"))
			if l != nil || refused.Hopeless() != (o.until == 0) || o.until > 0 && !refused.Reopens().Equal(c.now.Add(o.until)) {
				t.Errorf("with both out: %+v", refused)
			}
			if ready, why := g.Ready(func(*Member) string { return "" }); ready || !strings.Contains(why.Words(c.now), "by the operator") {
				t.Errorf("ready: %v, %s", ready, why.Words(c.now))
			}
			v := g.View().Accounts[0]
			if b := v.Benched(); b == nil || b.Source != "operator" || v.Drained() != (o.until == 0) {
				t.Errorf("seen as %+v", v.Benches)
			}
			var told *Lease
			leave := g.Join(message("s"), Waiting{Hold: 2 * time.Hour}, func(l *Lease, _ *Refusal) { told = l })
			defer leave()
			if !o.take(p, g.members[0].Key) {
				t.Fatal("not given back")
			}
			if o.until > 0 && (told == nil || told.Member.Name != "a") {
				t.Error("who waits is not served when the account is given back")
			}
			if l := pick(t, g, message("other")); l.Member.Name != "a" {
				t.Errorf("given back, it goes to %s", l.Member.Name)
			}
		})
	}
}

// TestOrdersLast: an order survives a restart, also of an account that was not used for
// long, and other instances follow it and its end.
func TestOrdersLast(t *testing.T) {
	for name, o := range orders {
		t.Run(name, func(t *testing.T) {
			c, g := instances(t, 3)
			key := g[0].members[0].Key
			pick(t, g[0], message("s")).End(anthropic.Usage{})
			o.give(g[0].Pool(), key, c)
			select {
			case <-g[0].Pool().Urgent():
			default:
				t.Error("an order is not urgent")
			}
			if o.until == 0 {
				c.advance(2 * forgetAfter)
			}
			data, _, err := g[0].Pool().Snapshot()
			if err == nil {
				err = g[1].Pool().Restore(data)
			}
			if err != nil || !benchedIn(g[1], 0) {
				t.Errorf("not after a restart: %v", err)
			}
			inform(t, g[0], "one", g[2])
			if !benchedIn(g[2], 0) {
				t.Error("another instance does not follow")
			}
			c.advance(time.Second)
			o.take(g[2].Pool(), key)
			inform(t, g[2], "three", g[0])
			inform(t, g[0], "one", g[2])
			if benchedIn(g[0], 0) || benchedIn(g[2], 0) {
				t.Error("the end did not travel")
			}
		})
	}
}

// TestUnbench: all that keeps an account out for a time ends, one request at a time finds
// out whether it serves, and other instances hear of it.
func TestUnbench(t *testing.T) {
	c, g := instances(t, 2)
	p := g[0].Pool()
	p.Pin("a")
	l := pick(t, g[0], message("s"))
	l.Report(spentWindow(c), nil)
	l.Report(&anthropic.Verdict{Name: "login_required", Scope: anthropic.ScopeAccount, Login: true, Until: c.now.Add(9 * time.Hour), Source: "guess", Reason: "revoked"}, nil)
	l.End(anthropic.Usage{})
	inform(t, g[0], "one", g[1])
	if n := len(g[1].View().Accounts[0].Benches); n != 2 {
		t.Fatalf("%d benches", n)
	}
	c.advance(time.Second)
	if ended, ok := p.Unbench(g[0].members[0].Key); ended != 2 || !ok {
		t.Fatalf("%d %v", ended, ok)
	}
	inform(t, g[0], "one", g[1])
	if benchedIn(g[0], 0) || benchedIn(g[1], 0) {
		t.Error("still benched")
	}
	first, second := pick(t, g[0], message("x")), pick(t, g[0], message("y"))
	if first.Member.Name != "a" || second.Member.Name != "b" {
		t.Errorf("tried by %s and %s; want one request to find out", first.Member.Name, second.Member.Name)
	}
	p.Drain(g[0].members[1].Key, "")
	if ended, _ := p.Unbench(g[0].members[1].Key); ended != 0 || !benchedIn(g[0], 1) {
		t.Error("unbench ended a drain")
	}
}
