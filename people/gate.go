package people

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Gate counts what each person has under way and how often they come. It outlives
// configurations: limits are told with each request. Its methods are safe for
// concurrent use.
type Gate struct {
	clock func() time.Time

	mu     sync.Mutex // guards all below
	people map[string]*visitor
}

// NewGate makes a gate that takes the time from clock.
func NewGate(clock func() time.Time) *Gate {
	return &Gate{clock: clock, people: make(map[string]*visitor)}
}

// maxVisitors is how many people are kept before those are forgotten of whom there
// is nothing to know.
const maxVisitors = 10_000

// visitor is one person at the gate.
type visitor struct {
	inside int
	line   []*place // who waits, first come first
	rate   *rate.Limiter
}

// place is one request in the line of its person.
type place struct {
	most  int // MaxConcurrent when it came
	ready chan struct{}
}

// Busy is why a request was not let in.
type Busy struct {
	// Message says what the limit is.
	Message string
	// Rate is true when there were too many a minute, false for too many at once.
	Rate bool
	// RetryAfter is how long it takes until another try may succeed.
	RetryAfter time.Duration
}

// Waiting bounds how long and with how many others of the same person a request
// waits at the gate.
type Waiting struct {
	Hold  time.Duration
	Queue int
}

// Enter lets a request of the person in, after waiting while as many are under way
// as limits allow. leave must be called once the request has ended; it is nil when
// the request was not let in, or ctx has ended, for which there is no Busy.
// waited is how long the request stood in line.
func (g *Gate) Enter(ctx context.Context, name string, limits *Limits, w Waiting) (leave func(), busy *Busy, waited time.Duration) {
	if limits.Rate == 0 && limits.MaxConcurrent == 0 {
		return func() {}, nil, 0
	}
	since := g.clock()
	g.mu.Lock()
	v := g.visitor(name, since)
	if busy := v.come(limits.Rate, since); busy != nil {
		g.mu.Unlock()
		return nil, busy, 0
	}
	leave = sync.OnceFunc(func() { g.leave(v) })
	if limits.MaxConcurrent == 0 || v.inside < limits.MaxConcurrent && len(v.line) == 0 {
		v.inside++
		g.mu.Unlock()
		return leave, nil, 0
	}
	if w.Hold <= 0 || w.Queue > 0 && len(v.line) >= w.Queue {
		g.mu.Unlock()
		return nil, tooMany(limits), 0
	}
	p := &place{most: limits.MaxConcurrent, ready: make(chan struct{})}
	v.line = append(v.line, p)
	g.mu.Unlock()

	timer := time.NewTimer(w.Hold)
	defer timer.Stop()
	select {
	case <-p.ready:
		return leave, nil, g.clock().Sub(since)
	case <-timer.C:
		busy = tooMany(limits)
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(v.line, p)
	if i >= 0 {
		v.line = slices.Delete(v.line, i, i+1)
	}
	g.mu.Unlock()
	if i < 0 {
		// Its turn came in the same moment.
		if busy != nil {
			return leave, nil, g.clock().Sub(since)
		}
		leave()
	}
	return nil, busy, g.clock().Sub(since)
}

// Inside is how many requests of the person are under way, of those that a limit
// counts.
func (g *Gate) Inside(name string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if v := g.people[name]; v != nil {
		return v.inside
	}
	return 0
}

// leave ends a request of the visitor, and lets in who may come now.
func (g *Gate) leave(v *visitor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v.inside--
	for len(v.line) > 0 && v.inside < v.line[0].most {
		v.inside++
		close(v.line[0].ready)
		v.line = v.line[1:]
	}
}

// visitor finds or makes the person's record; mu must be held.
func (g *Gate) visitor(name string, now time.Time) *visitor {
	v := g.people[name]
	if v == nil {
		if len(g.people) >= maxVisitors {
			g.forget(now)
		}
		v = &visitor{}
		g.people[name] = v
	}
	return v
}

// forget drops those who have nothing under way and may come as often as anybody
// new; mu must be held.
func (g *Gate) forget(now time.Time) {
	for name, v := range g.people {
		if v.inside == 0 && len(v.line) == 0 && (v.rate == nil || v.rate.TokensAt(now) >= float64(v.rate.Burst())) {
			delete(g.people, name)
		}
	}
}

// come counts a request against the rate, a number of requests a minute: as many may
// come at once, and one more each time that a minute's part has passed.
func (v *visitor) come(perMinute int, now time.Time) *Busy {
	if perMinute == 0 {
		v.rate = nil
		return nil
	}
	each := rate.Limit(float64(perMinute) / 60)
	if v.rate == nil {
		v.rate = rate.NewLimiter(each, perMinute)
	} else if v.rate.Burst() != perMinute {
		v.rate.SetLimitAt(now, each)
		v.rate.SetBurstAt(now, perMinute)
	}
	r := v.rate.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	return &Busy{Rate: true, Message: fmt.Sprintf("you may make %d requests a minute here, and have made them", perMinute), RetryAfter: wait}
}

// tooMany is the refusal of one request too many at once. When the next one ends is
// not known; a moment later is as good a time as any.
func tooMany(l *Limits) *Busy {
	return &Busy{Message: fmt.Sprintf("you may have %d requests under way at once here, and have them", l.MaxConcurrent), RetryAfter: time.Second}
}
