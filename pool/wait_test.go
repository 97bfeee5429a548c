package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// line is requests that wait at a group, by name, in a synctest bubble. What they
// are told is guarded by the pool's lock, which is held when they are.
type line struct {
	t     *testing.T
	g     *Group
	told  []string // in the order in which they were told; with "!" if refused
	by    map[string]telling
	leave map[string]func()
	began time.Time
}

type telling struct {
	lease   *Lease
	refused *Refusal
	after   time.Duration
}

func newLine(t *testing.T, members ...*Member) *line {
	return lineOf(t, New(SystemClock{}, 1).Group(members, Policies[DefaultPolicy]))
}

func lineOf(t *testing.T, g *Group) *line {
	return &line{t: t, g: g, by: map[string]telling{}, leave: map[string]func(){}, began: time.Now()}
}

func (l *line) of(name string) telling {
	l.g.pool.mu.Lock()
	defer l.g.pool.mu.Unlock()
	return l.by[name]
}

func (l *line) lease(name string) *Lease        { return l.of(name).lease }
func (l *line) refusal(name string) *Refusal    { return l.of(name).refused }
func (l *line) after(name string) time.Duration { return l.of(name).after }

// restart counts time from now.
func (l *line) restart() {
	l.g.pool.mu.Lock()
	defer l.g.pool.mu.Unlock()
	l.began = time.Now()
}

// join lets a request wait; the person's name comes first in its own.
func (l *line) join(name string, req *Request, w Waiting) {
	if req.User == "ann" {
		req.User, _, _ = strings.Cut(name, " ")
	}
	if w.Hold == 0 {
		w.Hold = time.Minute
	}
	l.leave[name] = l.g.Join(req, w, func(lease *Lease, refused *Refusal) {
		l.by[name] = telling{lease, refused, time.Since(l.began)}
		if refused != nil {
			name += "!"
		}
		l.told = append(l.told, name)
	})
}

// want compares who was told since the last time.
func (l *line) want(names ...string) {
	l.t.Helper()
	synctest.Wait()
	l.g.pool.mu.Lock()
	defer l.g.pool.mu.Unlock()
	if !slices.Equal(l.told, names) {
		l.t.Fatalf("after %v: told %q, want %q", time.Since(l.began), l.told, names)
	}
	l.told = nil
}

// sofar is who was told.
func (l *line) sofar() []string {
	l.g.pool.mu.Lock()
	defer l.g.pool.mu.Unlock()
	return slices.Clone(l.told)
}

// hold takes the account for a request of nobody in particular.
func (l *line) hold(account string) *Lease {
	l.t.Helper()
	pinned := l.g.Pool().Pinned()
	l.g.Pool().Pin(account)
	defer l.g.Pool().Pin(pinned)
	lease, refused := l.g.Pick(&Request{Model: "claude-opus-5", Endpoint: anthropic.EndpointMessages})
	if lease == nil || lease.Member.Name != account {
		l.t.Fatalf("%s is not open: %+v", account, refused)
	}
	return lease
}

// trouble makes the account answer so.
func (l *line) trouble(account string, v *anthropic.Verdict) {
	l.t.Helper()
	lease := l.hold(account)
	lease.Report(v, nil)
	lease.End(anthropic.Usage{})
}

func one(name string) *Member { return &Member{Name: name, Key: name + "#1", MaxConcurrent: 1} }

// resting is a trouble whose end is a guess and which says nothing about how many
// requests the account takes.
func resting(rest time.Duration) *anthropic.Verdict {
	return &anthropic.Verdict{Name: "credential", Scope: anthropic.ScopeAccount, Until: time.Now().Add(rest), Source: "retry-after"}
}

func burst(rest time.Duration) *anthropic.Verdict {
	return &anthropic.Verdict{Name: verdictBurst, Scope: anthropic.ScopeAccount, Until: time.Now().Add(rest), Source: "retry-after"}
}

func TestABurstHoldsNobodyElseUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, other := range []string{"aaron", "zoe"} {
			l := newLine(t, one("a"))
			held := l.hold("a")
			for i := range 50 {
				l.join(fmt.Sprint("mary ", i), message(""), Waiting{})
			}
			l.join(other, message(""), Waiting{})
			held.End(anthropic.Usage{})
			for turn := range 2 {
				synctest.Wait()
				if l.lease(other) != nil {
					break
				}
				if turn == 1 {
					t.Errorf("%s stood behind more than one of mary's: %q", other, l.sofar())
				}
				l.lease(l.sofar()[turn]).End(anthropic.Usage{})
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

func TestWhoUsedLeastLatelyIsServedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, one("a"))
		for user, tokens := range map[string]int64{"heavy": 5_000_000, "light": 1000} {
			req := message("")
			req.User = user
			lease, _ := l.g.Pick(req)
			lease.End(anthropic.Usage{InputTokens: tokens})
		}
		held := l.hold("a")
		for _, name := range []string{"heavy 1", "heavy 2", "light 1", "light 2", "new"} {
			l.join(name, message(""), Waiting{})
		}
		held.End(anthropic.Usage{})
		l.want("new")
		l.lease("new").End(anthropic.Usage{})
		l.want("light 1")
		// What it used counts at once: the next one of the same person has to be put
		// against the others again.
		l.lease("light 1").End(anthropic.Usage{InputTokens: 50_000_000})
		l.want("heavy 1")
		l.lease("heavy 1").End(anthropic.Usage{})
		l.want("heavy 2")
		time.Sleep(2 * time.Minute)

		// After two hours nobody remembers, and who came first is first.
		time.Sleep(2 * time.Hour)
		l = newLine(t, one("a"))
		held = l.hold("a")
		for _, name := range []string{"zoe", "mary", "aaron"} {
			l.join(name, message(""), Waiting{})
		}
		held.End(anthropic.Usage{})
		l.want("zoe")
		l.lease("zoe").End(anthropic.Usage{})
		l.want("mary")
		time.Sleep(2 * time.Minute)
	})
}

// TestPeopleTakeTurnsWhenMuchOpensAtOnce: who used least goes first, not with all
// that it has.
func TestPeopleTakeTurnsWhenMuchOpensAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, &Member{Name: "a", Key: "a", MaxConcurrent: 4})
		req := message("")
		req.User = "heavy"
		lease, _ := l.g.Pick(req)
		lease.Report(windowSpent(time.Now().Add(30*time.Second)), nil)
		lease.End(anthropic.Usage{InputTokens: 5_000_000})
		for i := range 6 {
			l.join(fmt.Sprint("heavy ", i), message(""), Waiting{})
			l.join(fmt.Sprint("light ", i), message(""), Waiting{})
		}
		time.Sleep(30 * time.Second)
		l.want("light 0", "heavy 0", "light 1", "heavy 1")
		time.Sleep(time.Minute)
	})
}

// TestOnesRefusalIsNotAnothers: that no account is open to one request in line
// says nothing about those that may go elsewhere.
func TestOnesRefusalIsNotAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		haiku := message("")
		haiku.Model = "claude-haiku-4-5"
		tried := message("")
		tried.Tried = []string{"anns#1"}
		bound := message("")
		bound.Refs = []string{"file_1"}
		counted := message("")
		counted.Endpoint = anthropic.EndpointCountTokens
		for name, other := range map[string]*Request{"bob": message(""), "ann haiku": haiku, "ann tried": tried, "ann bound": bound, "ann free": counted} {
			l := newLine(t, &Member{Name: "anns", Key: "anns#1", MaxConcurrent: 1, Owners: []string{"ann"}}, one("all"))
			all := l.hold("all")
			all.Hold("file_1", time.Hour)
			own, _ := l.g.Pick(message(""))
			l.join("ann 1", &Request{User: "ann", Model: "claude-opus-5", Endpoint: anthropic.EndpointMessages, Tried: []string{"all#1"}}, Waiting{})
			l.join(name, other, Waiting{})
			all.End(anthropic.Usage{})
			l.want(name)
			own.End(anthropic.Usage{})
			l.want("ann 1")
		}
		l := newLine(t, &Member{Name: "anns", Key: "anns#1", MaxConcurrent: 1, Owners: []string{"ann"}}, &Member{Name: "bobs", Key: "bobs#1", MaxConcurrent: 1, Owners: []string{"bob"}})
		bobs := message("")
		bobs.User = "bob"
		own, _ := l.g.Pick(message(""))
		held, _ := l.g.Pick(bobs)
		l.join("ann", message(""), Waiting{})
		l.join("bob", message(""), Waiting{})
		held.End(anthropic.Usage{})
		l.want("bob")
		own.End(anthropic.Usage{})
		l.want("ann")
	})
}

func TestOnePersonsRequestsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, one("a"))
		held := l.hold("a")
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprint("ann ", i))
			l.join(want[i], message(fmt.Sprint(i%3)), Waiting{})
		}
		held.End(anthropic.Usage{})
		for i := range want {
			l.want(want[i])
			l.lease(want[i]).Report(&served, nil)
			l.lease(want[i]).End(anthropic.Usage{InputTokens: 1000})
		}
	})
}

func TestAsManyWakeAsThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, &Member{Name: "a", Key: "a", MaxConcurrent: 3})
		held := []*Lease{l.hold("a"), l.hold("a"), l.hold("a")}
		for i := range 10 {
			l.join(fmt.Sprint("ann ", i), message(""), Waiting{})
		}
		l.want()
		held[0].End(anthropic.Usage{})
		held[2].End(anthropic.Usage{})
		l.want("ann 0", "ann 1")
		if n := l.g.Pool().Waiting(); n != 8 {
			t.Errorf("%d wait", n)
		}
		time.Sleep(2 * time.Minute)
	})
}

func TestOneInLineTriesAnAccountAfterATrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, members("a")...)
		l.trouble("a", resting(5*time.Second))
		for i := range 5 {
			l.join(fmt.Sprint("ann ", i), message(""), Waiting{})
		}
		time.Sleep(5*time.Second - time.Millisecond)
		l.want()
		time.Sleep(time.Millisecond)
		l.want("ann 0")
		time.Sleep(3 * time.Second)
		l.want()
		// A bad answer sends nobody else there.
		l.lease("ann 0").Report(resting(5*time.Second), nil)
		l.lease("ann 0").End(anthropic.Usage{})
		l.want()
		time.Sleep(5 * time.Second)
		l.want("ann 1")
		// An answer that tells nothing either way leaves it at one.
		l.lease("ann 1").Report(&anthropic.Unreachable, nil)
		l.want()
		l.lease("ann 1").End(anthropic.Usage{})
		l.want("ann 2")
		l.lease("ann 2").Report(&served, nil)
		l.want("ann 3", "ann 4")
	})
}

// settled makes the session live at the account: an answer of that prompt size
// came from there.
func settled(t *testing.T, g *Group, session, account string, tokens int64) {
	t.Helper()
	req := message(session)
	for _, m := range g.members {
		if m.Name != account {
			req.Tried = append(req.Tried, m.Key)
		}
	}
	lease, refused := g.Pick(req)
	if lease == nil {
		t.Fatalf("%s is not open: %+v", account, refused)
	}
	lease.Report(&served, nil)
	lease.End(anthropic.Usage{InputTokens: tokens})
}

func staying() Waiting { return Waiting{Hold: 5 * time.Minute, Stay: MaxStay} }

func arrived(session string) *Request {
	req := message(session)
	req.Arrived = time.Now()
	return req
}

func TestAWarmSessionWaitsForItsOwnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, members("a", "b")...)
		settled(t, l.g, "s", "a", worth(MaxStay))
		l.trouble("a", burst(20*time.Second))
		l.restart()
		l.join("ann s", arrived("s"), staying())
		l.want()
		l.join("ann new", arrived("other"), staying())
		l.want("ann new")
		if got := l.lease("ann new").Member.Name; got != "b" {
			t.Errorf("a new session went to %s", got)
		}
		time.Sleep(time.Minute)
		l.want("ann s")
		if lease := l.lease("ann s"); lease.Member.Name != "a" || lease.Reason != ReasonSession || l.after("ann s") != 20*time.Second {
			t.Errorf("went to %s (%s) after %v", lease.Member.Name, lease.Reason, l.after("ann s"))
		}
	})
}

func overloadedFor(d time.Duration) *anthropic.Verdict {
	v := resting(d)
	v.Name = verdictOverloaded
	return v
}

// worth is the size of the smallest prompt that is worth waiting so long for after
// a burst.
func worth(d time.Duration) int64 { return int64((d + stayPerToken - 1) / stayPerToken) }

func TestHowLongAWarmSessionStays(t *testing.T) {
	const second = time.Second
	large := worth(2 * MaxStay)
	for _, test := range []struct {
		name   string
		tokens int64
		v      func() *anthropic.Verdict
		life   time.Duration // 5 min if not set
		stay   time.Duration // MaxStay if not set, negative for none
		late   time.Duration // how long ago the request came
		age    time.Duration // how long ago the session was served
		stays  time.Duration
	}{
		{name: "burst within its prompt's worth", tokens: worth(30 * second), v: func() *anthropic.Verdict { return burst(30 * second) }, stays: 30 * second},
		{name: "burst beyond its prompt's worth", tokens: worth(30*second) - 1, v: func() *anthropic.Verdict { return burst(30 * second) }},
		{name: "burst, the request came some time ago", tokens: worth(30 * second), v: func() *anthropic.Verdict { return burst(30 * second) }, late: second},
		{name: "burst, prompt of unknown size", tokens: 0, v: func() *anthropic.Verdict { return burst(second) }},
		{name: "burst of MaxStay", tokens: large, v: func() *anthropic.Verdict { return burst(MaxStay) }, stays: MaxStay},
		{name: "burst beyond MaxStay", tokens: large, v: func() *anthropic.Verdict { return burst(MaxStay + second) }},
		{name: "an overload is not counted by tokens", tokens: 1000, v: func() *anthropic.Verdict { return overloadedFor(50 * second) }, stays: 50 * second},
		{name: "another trouble is", tokens: 1000, v: func() *anthropic.Verdict { return resting(50 * second) }},
		{name: "another trouble beyond MaxStay", tokens: large, v: func() *anthropic.Verdict { return resting(61 * second) }},
		{name: "the cache is cold by then", tokens: large, v: func() *anthropic.Verdict { return burst(30 * second) }, age: 4*time.Minute + 30*second},
		{name: "the cache is just warm by then", tokens: large, v: func() *anthropic.Verdict { return burst(30 * second) }, age: 4*time.Minute + 29*second, stays: 30 * second},
		{name: "a cache of an hour", tokens: large, v: func() *anthropic.Verdict { return burst(30 * second) }, life: time.Hour, age: 50 * time.Minute, stays: 30 * second},
		{name: "not asked to stay", tokens: large, v: func() *anthropic.Verdict { return burst(5 * second) }, stay: -1},
		{name: "asked to stay for less", tokens: large, v: func() *anthropic.Verdict { return burst(5 * second) }, stay: 4 * second},
		{name: "no login", tokens: large, v: func() *anthropic.Verdict {
			v := resting(10 * second)
			v.Login = true
			return v
		}},
		{name: "a spent window", tokens: large, v: func() *anthropic.Verdict { return windowSpent(time.Now().Add(time.Hour)) }},
		{name: "a window that is about to start anew", tokens: large, v: func() *anthropic.Verdict { return windowSpent(time.Now().Add(40 * second)) }, stays: 40 * second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLine(t, members("a", "b")...)
				req := message("s")
				req.Tried = []string{"b#1"}
				if test.life > 0 {
					req.CacheLife = test.life
				}
				lease, _ := l.g.Pick(req)
				lease.Report(&served, nil)
				lease.End(anthropic.Usage{InputTokens: test.tokens})
				time.Sleep(test.age)
				l.trouble("a", test.v())
				w := staying()
				if test.stay != 0 {
					w.Stay = max(0, test.stay)
				}
				next := message("s")
				next.Arrived = time.Now().Add(-test.late)
				l.restart()
				l.join("ann s", next, w)
				time.Sleep(2 * time.Minute)
				l.want("ann s")
				home := "a"
				if test.stays == 0 {
					home = "b"
				}
				if got := l.lease("ann s").Member.Name; got != home || l.after("ann s") != test.stays {
					t.Errorf("went to %s after %v, want %s after %v", got, l.after("ann s"), home, test.stays)
				}
			})
		})
	}
}

func TestAnUnprovedPlaceIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, members("a", "b")...)
		req := message("s")
		req.Tried = []string{"b#1"}
		first, _ := l.g.Pick(req)
		first.Report(burst(time.Second), nil)
		next := arrived("s")
		next.Tokens = worth(MaxStay)
		l.join("ann s", next, staying())
		l.want("ann s")
		if got := l.lease("ann s").Member.Name; got != "b" {
			t.Errorf("went to %s", got)
		}
	})
}

// TestAStayAlwaysEnds: whatever keeps its own account closed, and however often
// the line is asked meanwhile, the session moves in time.
func TestAStayAlwaysEnds(t *testing.T) {
	size := worth(30 * time.Second)
	bursty := time.Duration(size) * stayPerToken
	for _, test := range []struct {
		name  string
		tell  bool // whether the request says when it came
		cap   int
		block func(l *line)
		stays time.Duration
	}{
		{"full, and nobody ends", true, 1, func(l *line) { l.hold("a") }, bursty},
		{"full, and no time of arrival", false, 1, func(l *line) { l.hold("a") }, bursty},
		{"being tried, and no answer comes", true, 0, func(l *line) {
			l.trouble("a", resting(time.Second))
			time.Sleep(time.Second)
			l.hold("a")
		}, MaxStay},
		{"being tried, and no time of arrival", false, 0, func(l *line) {
			l.trouble("a", resting(time.Second))
			time.Sleep(time.Second)
			l.hold("a")
		}, MaxStay},
		{"one trouble after the other", true, 0, func(l *line) {
			held := l.hold("a")
			held.Report(overloadedFor(7*time.Second), nil)
			go func() {
				for range 100 {
					time.Sleep(2 * time.Second)
					held.Report(overloadedFor(7*time.Second), nil)
				}
			}()
		}, 54 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &Member{Name: "a", Key: "a#1", MaxConcurrent: test.cap}
				l := newLine(t, a, members("b")[0])
				settled(t, l.g, "s", "a", size)
				test.block(l)
				req := message("s")
				if test.tell {
					req.Arrived = time.Now()
				}
				l.restart()
				l.join("ann s", req, staying())
				for range 600 {
					// The pool goes on, so the line is asked again and again.
					time.Sleep(time.Second)
					serve(t, l.g, &Request{User: "bob", Model: "claude-opus-5", Endpoint: anthropic.EndpointMessages, Tried: []string{"a#1"}})
				}
				l.want("ann s")
				if got := l.lease("ann s").Member.Name; got != "b" || l.after("ann s") != test.stays {
					t.Errorf("went to %s after %v, want b after %v", got, l.after("ann s"), test.stays)
				}
			})
		})
	}
}

func TestWhoLeavesIsToldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, one("a"))
		held := l.hold("a")
		for _, name := range []string{"ann 1", "ann 2", "ann 3"} {
			l.join(name, message(""), Waiting{})
		}
		l.leave["ann 2"]()
		l.leave["ann 2"]()
		if n := l.g.Pool().Waiting(); n != 2 {
			t.Errorf("%d wait", n)
		}
		held.End(anthropic.Usage{})
		l.want("ann 1")
		l.leave["ann 1"]() // too late: it has its lease
		l.lease("ann 1").End(anthropic.Usage{})
		l.want("ann 3")
		l.leave["ann 3"]()
		l.lease("ann 3").End(anthropic.Usage{})
		if l.hold("a") == nil {
			t.Error("the account is lost")
		}
		time.Sleep(time.Hour)
		l.want()
	})
}

// TestNoLeaseIsLostWhenAClientLeavesInItsMoment: its turn and its end come at the
// same instant, in either order.
func TestNoLeaseIsLostWhenAClientLeavesInItsMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, one("a"))
		granted := 0
		for i := range 300 {
			held := l.hold("a")
			ctx, cancel := context.WithCancel(t.Context())
			var lease *Lease
			var waited time.Duration
			done, behind := make(chan struct{}), make(chan *Lease, 1)
			go func() {
				lease, _, waited = l.g.Acquire(ctx, message(fmt.Sprint(i)), Waiting{Hold: time.Minute})
				close(done)
			}()
			synctest.Wait()
			go func() {
				next, _, _ := l.g.Acquire(t.Context(), message(""), Waiting{Hold: time.Minute})
				behind <- next
			}()
			synctest.Wait()
			var wg sync.WaitGroup
			wg.Go(func() {
				time.Sleep(time.Second)
				held.End(anthropic.Usage{})
			})
			wg.Go(func() {
				time.Sleep(time.Second)
				cancel()
			})
			wg.Wait()
			<-done
			if waited != time.Second {
				t.Fatalf("waited %v", waited)
			}
			if lease != nil {
				granted++
				lease.End(anthropic.Usage{})
			}
			// Whoever stands behind gets the account at once, from one or the other.
			at := time.Now()
			(<-behind).End(anthropic.Usage{})
			if late := time.Since(at); late > 0 {
				t.Fatalf("the one behind got the account %v later", late)
			}
			if a := l.g.pool.accounts["a#1"]; a.inFlight != 0 || a.reserved != 0 || l.g.Pool().Waiting() != 0 {
				t.Fatalf("%d in flight, %v reserved, %d wait", a.inFlight, a.reserved, l.g.Pool().Waiting())
			}
		}
		t.Logf("%d of 300 got their lease", granted)
	})
}

func TestTicksComeWhileTheRequestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, one("a"))
		var ticks []time.Duration
		w := Waiting{Hold: time.Minute, First: 10 * time.Second, Every: 3 * time.Second}
		w.Tick = func() { ticks = append(ticks, time.Since(l.began)) }
		free, _, _ := l.g.Acquire(t.Context(), message(""), w)
		time.Sleep(30 * time.Second)
		if len(ticks) != 0 {
			t.Errorf("ticks for a request that did not wait: %v", ticks)
		}
		l.restart()
		go func() {
			time.Sleep(20 * time.Second)
			free.End(anthropic.Usage{})
		}()
		lease, _, _ := l.g.Acquire(t.Context(), message(""), w)
		time.Sleep(30 * time.Second)
		want := []time.Duration{10 * time.Second, 13 * time.Second, 16 * time.Second, 19 * time.Second}
		if !slices.Equal(ticks, want) {
			t.Errorf("ticks at %v, want %v", ticks, want)
		}
		// A hold that ends before the first tick has none.
		ticks = nil
		w.Hold = 9 * time.Second
		if none, _, _ := l.g.Acquire(t.Context(), message(""), w); none != nil || len(ticks) != 0 {
			t.Errorf("%v after ticks at %v", none, ticks)
		}
		lease.End(anthropic.Usage{})
	})
}

func TestTheLineIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, one("a"), one("b"))
		settled(t, l.g, "s", "a", worth(MaxStay))
		a := l.hold("a")
		b := l.hold("b")
		w := Waiting{Hold: time.Minute, Queue: 2, Stay: MaxStay}
		l.join("ann 1", message(""), w)
		l.join("ann 2", message(""), w)
		l.join("ann 3", message(""), w)
		l.want("ann 3!")
		if !l.refusal("ann 3").Full {
			t.Error("it is not told that the line is full")
		}
		// Who would stay for its own account has no place for that either, and goes
		// elsewhere if there is an elsewhere.
		l.join("ann s", arrived("s"), w)
		l.want("ann s!")
		if !l.refusal("ann s").Full {
			t.Error("one who would stay is not told that the line is full")
		}
		l.leave["ann 2"]()
		b.End(anthropic.Usage{})
		l.want("ann 1")
		for i := range 2 {
			l.join(fmt.Sprint("ann in ", i), message(""), w)
		}
		l.want()
		l.leave["ann in 0"]()
		l.leave["ann in 1"]()
		l.lease("ann 1").End(anthropic.Usage{})
		w.Queue = 1
		settled(t, l.g, "other", "b", worth(MaxStay))
		l.join("ann staying", arrived("s"), w)
		l.want()
		l.join("ann elsewhere", arrived("s"), w)
		l.want("ann elsewhere")
		if got := l.lease("ann elsewhere").Member.Name; got != "b" {
			t.Errorf("went to %s", got)
		}
		a.End(anthropic.Usage{})
		l.want("ann staying")
	})
}

func TestWhoCannotBeServedAnyMoreIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, one("a"))
		held := l.hold("a")
		l.join("ann", message(""), Waiting{Hold: time.Minute})
		haiku := message("")
		haiku.Model = "claude-haiku-4-5"
		l.join("bob", haiku, Waiting{Hold: time.Minute})
		l.join("patient", message(""), Waiting{Hold: 4 * time.Hour})
		time.Sleep(10 * time.Second)
		held.Report(&anthropic.Verdict{Name: "model_window", Scope: anthropic.ScopeFamily, Until: time.Now().Add(3 * time.Hour), Source: "reset", Window: "7d_opus"}, nil)
		l.want("ann!")
		if l.after("ann") != 10*time.Second || l.refusal("ann").Until.IsZero() {
			t.Errorf("told after %v: %+v", l.after("ann"), l.refusal("ann"))
		}
		held.End(anthropic.Usage{})
		l.want("bob")
		l.lease("bob").End(anthropic.Usage{})
		time.Sleep(4 * time.Hour)
		l.want("patient")
		l.lease("patient").End(anthropic.Usage{})

		// Nor does anybody stand in line in vain.
		held = l.hold("a")
		for name, req := range map[string]*Request{
			"tried":   {User: "ann", Model: "claude-opus-5", Endpoint: anthropic.EndpointMessages, Tried: []string{"a#1"}},
			"unknown": {User: "ann", Endpoint: anthropic.EndpointFiles, Refs: []string{"file_x"}},
		} {
			l := lineOf(t, l.g.pool.Group([]*Member{one("a"), {Name: "b", Key: "b#1", Owners: []string{"bob"}}}, Policies[DefaultPolicy]))
			l.join(name, req, Waiting{Hold: time.Minute})
			l.want(name + "!")
		}
		held.End(anthropic.Usage{})
	})
}

// counting is a policy that counts how often it is asked. A request with a trace
// asks it about every account, also those that are closed.
type counting struct{ asked int }

func (*counting) Name() string { return "counting" }

func (p *counting) Score(time.Time, *Request, *Candidate) float64 {
	p.asked++
	return 0
}

// TestALongLineIsNotAskedAllTheTime: each end asks for one request of those that
// the same accounts could serve, not for all that wait.
func TestALongLineIsNotAskedAllTheTime(t *testing.T) {
	for _, test := range []struct {
		name           string
		people, owners int // how many people there are, and how many own an account each
	}{{"one person", 1, 0}, {"a team", 10, 0}, {"each a person", 1000, 0}, {"owners", 1000, 5}} {
		t.Run(test.name, func(t *testing.T) {
			const waiting = 1000
			kinds := test.owners + 1 // of requests that differ in who may serve them
			policy := &counting{}
			ms := []*Member{one("all")}
			for i := range test.owners {
				ms = append(ms, &Member{Name: fmt.Sprint("own", i), Key: fmt.Sprint("own", i), MaxConcurrent: 1, Owners: []string{fmt.Sprint("person", i)}})
			}
			c := newSteppedClock()
			g := New(c, 1).Group(ms, policy)
			request := func(i int) *Request {
				req := message("")
				req.User, req.Trace = fmt.Sprint("person", i%test.people), new(Trace)
				return req
			}
			next := []*Lease{pick(t, g, &Request{User: "nobody", Model: "claude-opus-5", Endpoint: anthropic.EndpointMessages})}
			for i := range test.owners {
				next = append(next, pick(t, g, request(i)))
			}
			held := len(next)
			picks := func() int { return policy.asked / len(ms) }
			policy.asked = 0
			for i := range waiting {
				g.Join(request(i), Waiting{Hold: time.Hour}, func(lease *Lease, _ *Refusal) { next = append(next, lease) })
			}
			if n := picks(); n > waiting*(kinds+1) {
				t.Errorf("%d picks for %d that came", n, waiting)
			}
			policy.asked = 0
			for i := range waiting + held {
				if i >= len(next) {
					break // nobody was waked by the last one
				}
				next[i].Report(&served, nil)
				next[i].End(anthropic.Usage{InputTokens: 1000})
			}
			if len(next) != waiting+held {
				t.Errorf("%d were served", len(next)-held)
			}
			// For each kind that fails, at the report and at the end, and one for who is served.
			if n := picks(); n > (waiting+held)*(2*kinds+1) {
				t.Errorf("%d picks for %d that were served", n, waiting)
			}
		})
	}
}

func TestWaitingIsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(SystemClock{}, 1)
		g := p.Group([]*Member{{Name: "a", Key: "a", MaxConcurrent: 1}}, Policies[DefaultPolicy])
		first, _ := g.Pick(message(""))
		order := make(chan int, 3)
		for i := range 3 {
			go func() {
				lease, _, _ := g.Acquire(t.Context(), message(""), Waiting{Hold: time.Minute})
				if lease == nil {
					t.Error("gave up")
					return
				}
				order <- i
				time.Sleep(time.Second)
				lease.End(anthropic.Usage{})
			}()
			synctest.Wait()
		}
		if p.Waiting() != 3 {
			t.Fatalf("%d wait", p.Waiting())
		}
		time.Sleep(5 * time.Second)
		first.End(anthropic.Usage{})
		for want := range 3 {
			if got := <-order; got != want {
				t.Errorf("waiter %d came when it was the turn of %d", got, want)
			}
		}
		synctest.Wait()
		if p.Waiting() != 0 || g.View().Accounts[0].InFlight > 1 {
			t.Error("somebody was left behind")
		}
		time.Sleep(2 * time.Second)
	})
}

func TestWaitingEndsWhenABenchDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(SystemClock{}, 1).Group(members("a"), Policies[DefaultPolicy])
		lease, _ := g.Pick(message(""))
		lease.Report(windowSpent(time.Now().Add(20*time.Second)), nil)
		lease.End(anthropic.Usage{})
		begun := time.Now()
		lease, _, waited := g.Acquire(t.Context(), message(""), Waiting{Hold: time.Minute})
		if lease == nil || time.Since(begun) != 20*time.Second || waited != 20*time.Second {
			t.Errorf("waited %v for %v", time.Since(begun), lease)
		}
	})
}

func TestWaitingGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(SystemClock{}, 1)
		g := p.Group([]*Member{{Name: "a", Key: "a", MaxConcurrent: 1}}, Policies[DefaultPolicy])
		held, _ := g.Pick(message(""))
		begun := time.Now()
		if lease, refused, _ := g.Acquire(t.Context(), message(""), Waiting{Hold: 10 * time.Second}); lease != nil || !refused.Busy || time.Since(begun) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), lease)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(3 * time.Second)
			cancel()
		}()
		begun = time.Now()
		if lease, _, _ := g.Acquire(ctx, message(""), Waiting{Hold: time.Minute}); lease != nil || time.Since(begun) != 3*time.Second {
			t.Errorf("a client that left was kept for %v", time.Since(begun))
		}
		if p.Waiting() != 0 {
			t.Error("a client that left is still in line")
		}
		full := Waiting{Hold: time.Minute, Queue: 1}
		go func() { _, _, _ = g.Acquire(t.Context(), message(""), full) }()
		synctest.Wait()
		if _, refused, waited := g.Acquire(t.Context(), message(""), full); !refused.Full || waited != 0 {
			t.Error("the line has no end")
		}
		// A bench that ends after the hold is not waited for.
		held.Report(windowSpent(time.Now().Add(2*time.Minute)), nil)
		held.End(anthropic.Usage{})
		begun = time.Now()
		if lease, refused, _ := g.Acquire(t.Context(), message(""), Waiting{Hold: time.Minute}); lease != nil || refused.Until.IsZero() || time.Since(begun) != 0 {
			t.Errorf("waited %v in vain", time.Since(begun))
		}
		time.Sleep(2 * time.Minute)
	})
}

// TestLeasesUnderLoad: whatever happens at once, nobody gets an account beyond
// its cap and all leases come back.
func TestLeasesUnderLoad(t *testing.T) {
	p := New(SystemClock{}, 1)
	ms := []*Member{{Name: "a", Key: "a", MaxConcurrent: 3}, {Name: "b", Key: "b", MaxConcurrent: 2}}
	g := p.Group(ms, Policies[DefaultPolicy])
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for range 40 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(3000))*time.Microsecond)
				lease, _, _ := g.Acquire(ctx, message(fmt.Sprint(i)), Waiting{Hold: time.Second})
				if lease != nil {
					for _, a := range g.View().Accounts {
						if a.InFlight > a.Member.MaxConcurrent {
							t.Errorf("%s has %d in flight", a.Member.Name, a.InFlight)
						}
					}
					lease.Report(&served, nil)
					lease.End(anthropic.Usage{})
					lease.End(anthropic.Usage{}) // the second does nothing
				}
				cancel()
			}
		})
	}
	wg.Wait()
	for _, a := range g.View().Accounts {
		if a.InFlight != 0 {
			t.Errorf("%s has %d in flight after all", a.Member.Name, a.InFlight)
		}
	}
	if p.Waiting() != 0 {
		t.Errorf("%d wait for ever", p.Waiting())
	}
}

// TestLeaseOfAClientThatLeftComesBack: a client may leave in the moment in which
// its turn comes.
func TestLeaseOfAClientThatLeftComesBack(t *testing.T) {
	p := New(SystemClock{}, 1)
	g := p.Group([]*Member{{Name: "a", Key: "a", MaxConcurrent: 1}}, Policies[DefaultPolicy])
	held, _ := g.Pick(message(""))
	p.mu.Lock()
	_, _, self := g.join(message(""), Waiting{Hold: time.Minute})
	ready := make(chan answer, 1)
	self.done = func(l *Lease, r *Refusal) { ready <- answer{l, r} }
	p.mu.Unlock()
	held.End(anthropic.Usage{}) // hands the account to the one in line
	g.giveUp(self, ready)
	if lease, _ := g.Pick(message("")); lease == nil {
		t.Error("the account is lost")
	}
}
