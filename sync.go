package shunt

import (
	"context"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

// sharedState is what sharing needs of a pool.
type sharedState interface {
	Changes() uint64
	Facts(since time.Time) ([]byte, error)
	Merge(peer string, data []byte) error
	Drop(peer string)
	Urgent() <-chan struct{}
}

var _ sharedState = (*pool.Pool)(nil)

// sharing is an instance's part in telling the others that use the same storage
// what it knows of a pool, and in hearing them. Each instance writes records of its
// own and reads those of the others; nothing is ever written by two.
type sharing struct {
	pool    string
	state   sharedState
	boot    string
	started time.Time
	host    string
	pid     int
	runs    func(pid int) bool

	means     atomic.Pointer[poolMeans] // of the newest configuration that was started
	name      atomic.Pointer[string]    // our own, once it is claimed
	ready     atomic.Bool               // what we know ourselves is complete: it may be told
	contested atomic.Bool               // another process may have overwritten our records
	view      atomic.Pointer[[]instanceStatus]
	merges    atomic.Uint64 // records taken over

	mu      sync.Mutex // guards all below; held across storage, so that one thing is done at a time
	doubts  map[string]doubt
	seenOwn stamp
	seq     uint64
	peers   map[string]*peer
	greeted map[string]bool // the peers that were told of us since they live
	company bool            // there is a peer that lives
	base    baseNote
	// leastBase is how much is told at least before everything is written anew.
	leastBase int
	told      told
	// hello says that a peer waits for us to tell, urgentAt since when something
	// urgent does, notBefore when to try again after a failure.
	hello     bool
	urgentAt  time.Time
	notBefore time.Time

	lookAt, peekAt, sweepAt      time.Time
	lookTook, peekTook, tellTook time.Duration
	reading, writing             outage

	asking sync.Mutex // guards flight and asked
	flight chan struct{}
	asked  time.Time
}

func newSharing(name string, state sharedState) *sharing {
	host, _ := os.Hostname()
	s := &sharing{
		pool: name, state: state, boot: processBoot, started: processStarted, host: host, pid: os.Getpid(), runs: processRuns,
		leastBase: leastBase, peers: make(map[string]*peer), greeted: make(map[string]bool), sweepAt: time.Now().Add(sweepFirst),
	}
	return s
}

// outage is a row of failures of the same kind: they come every few seconds, and
// are told once.
type outage struct{ failing bool }

// failed reports a failure of storage; s.mu must be held.
func (s *sharing) failed(o *outage, doing string, err error) {
	processMetrics.peerErrors.WithLabelValues(s.pool).Inc()
	if !o.failing {
		s.means.Load().logger.Error(doing+" failed; it will be tried again", logPool(s.pool), logError(err))
	}
	o.failing = true
}

func (s *sharing) passed(o *outage, doing string) {
	if o.failing {
		s.means.Load().logger.Info(doing+" works again", logPool(s.pool))
	}
	o.failing = false
}

const (
	sayReading = "reading what the other instances know"
	sayWriting = "writing what the other instances should know"
)

func (s *sharing) lookEvery(m *poolMeans) time.Duration { return max(m.interval, 20*s.lookTook) }
func (s *sharing) peekEvery(m *poolMeans) time.Duration {
	return max(m.interval/5, 20*s.peekTook)
}

// meet hears all others that there are, once, before the first requests.
func (s *sharing) meet(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookAt = time.Time{}
	s.read(ctx, s.means.Load(), time.Now())
	s.publish()
}

// share tells and hears until ctx ends. During a reload there are two calls: what is
// due when is kept in s, so nothing is done twice.
func (s *sharing) share(ctx context.Context) {
	urgent := s.state.Urgent()
	s.mu.Lock()
	s.lookAt, s.peekAt = time.Time{}, time.Time{} // the interval may be another one
	s.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.lastly(false)
			return
		case <-urgent:
			s.mu.Lock()
			if s.urgentAt.IsZero() {
				s.urgentAt = time.Now()
			}
			in := s.dueIn(s.means.Load(), time.Now())
			s.mu.Unlock()
			timer.Reset(in)
		case <-timer.C:
			timer.Reset(s.step(ctx))
		}
	}
}

// step does what is due, and returns the time until something may be due again.
func (s *sharing) step(ctx context.Context) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.means.Load()
	s.read(ctx, m, time.Now())
	if s.tellIn(m, time.Now()) <= 0 {
		s.write(ctx, m, false)
	}
	s.publish()
	return s.dueIn(m, time.Now())
}

// dueIn is how long it is until there may be something to do.
func (s *sharing) dueIn(m *poolMeans, now time.Time) time.Duration {
	next := s.lookAt
	if s.company && s.peekAt.Before(next) {
		next = s.peekAt
	}
	return max(time.Millisecond, min(next.Sub(now), s.tellIn(m, now)))
}

// read hears the others as far as it is time to.
func (s *sharing) read(ctx context.Context, m *poolMeans, now time.Time) {
	all := !now.Before(s.lookAt) || s.lookAt.Sub(now) > 2*s.lookEvery(m)
	if !all && now.Before(s.peekAt) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	var err error
	if all {
		err = s.look(ctx, m)
		if err == nil && now.After(s.sweepAt) {
			s.sweepAt = now.Add(sweepEvery)
			err = s.sweep(ctx, m, now)
		}
	} else {
		err = s.hearAll(ctx, m, true)
	}
	end := time.Now()
	switch {
	case err != nil:
		if ctx.Err() == nil || end.Sub(now) >= storageTimeout {
			s.failed(&s.reading, sayReading, err)
		}
		s.judgeAll(m, end)
	case all:
		s.lookTook = end.Sub(now)
		s.passed(&s.reading, sayReading)
	default:
		s.peekTook = end.Sub(now)
	}
	s.peekAt = end.Add(s.peekEvery(m))
	if all {
		s.lookAt = end.Add(s.lookEvery(m))
	}
	s.company = false
	for _, p := range s.peers {
		s.company = s.company || p.live
	}
}

// judgeAll finds out who has been silent for too long, also when storage is.
func (s *sharing) judgeAll(m *poolMeans, now time.Time) {
	for _, p := range s.peers {
		if p.live {
			s.judge(m, p, now)
		}
	}
}

// write tells the others.
func (s *sharing) write(ctx context.Context, m *poolMeans, closing bool) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	if err := s.tell(ctx, m, closing); err != nil {
		s.failed(&s.writing, sayWriting, err)
		s.notBefore = time.Now().Add(max(m.interval, 20*s.tellTook))
		return
	}
	s.notBefore = time.Time{}
	s.passed(&s.writing, sayWriting)
}

// lastly tells what has not been told. closing says that this instance is gone
// from the pool then.
func (s *sharing) lastly(closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.means.Load()
	if m == nil || s.own() == "" || !s.ready.Load() || !closing && s.state.Changes() == s.told.changes {
		return
	}
	s.write(context.Background(), m, closing)
	if closing {
		processMetrics.peers.DeleteLabelValues(s.pool)
	}
}

const (
	askEvery  = time.Second // at most
	askTries  = 3
	askAgain  = 200 * time.Millisecond // from one try to the next: a peer tells within urgentGap
	askWithin = 2 * time.Second
)

// ask hears the others out of turn, for something that nobody here knows: at once,
// and a few times more for what is about to be told, until there is news. They are
// asked once for all requests that come meanwhile. It reports whether there is
// somebody to ask, and whether there was news.
func (s *sharing) ask(ctx context.Context) (asked, news bool) {
	if !s.accompanied() {
		return false, false
	}
	before := s.merges.Load()
	s.asking.Lock()
	done := s.flight
	if done == nil {
		done = make(chan struct{})
		s.flight = done
		go s.fly(context.WithoutCancel(ctx), done, s.asked.Add(askEvery))
	}
	s.asking.Unlock()
	timeout := time.NewTimer(askWithin)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
	case <-ctx.Done():
	}
	return true, s.merges.Load() != before
}

// accompanied reports whether another instance lives, as it was last seen.
func (s *sharing) accompanied() bool {
	if view := s.view.Load(); view != nil {
		for _, i := range *view {
			if i.Live && !i.Self {
				return true
			}
		}
	}
	return false
}

func (s *sharing) fly(ctx context.Context, done chan struct{}, notBefore time.Time) {
	defer func() {
		s.asking.Lock()
		s.flight, s.asked = nil, time.Now()
		s.asking.Unlock()
		close(done)
	}()
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if !pause(ctx, min(askEvery, time.Until(notBefore))) {
		return
	}
	before := s.merges.Load()
	for try := range askTries {
		if try > 0 && !pause(ctx, askAgain) {
			return
		}
		if s.hearNow(ctx); s.merges.Load() != before {
			return
		}
	}
}

func (s *sharing) hearNow(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.hearAll(ctx, s.means.Load(), true); err != nil {
		s.failed(&s.reading, sayReading, err)
	}
}

// instanceStatus is an instance in /status.
type instanceStatus struct {
	Name        string `json:"name"`
	Self        bool   `json:"self"`
	LastHeardMS *int64 `json:"last_heard_ms"`
	Live        bool   `json:"live"`
}

// publish shows what is known of the instances to those who may not wait for
// storage; s.mu must be held.
func (s *sharing) publish() {
	list := make([]instanceStatus, 0, len(s.peers)+1)
	live := 0
	for _, p := range s.peers {
		list = append(list, instanceStatus{Name: p.name, LastHeardMS: millis(p.lastNews), Live: p.live})
		if p.live {
			live++
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	s.view.Store(&list)
	processMetrics.peers.WithLabelValues(s.pool).Set(float64(live))
}

// instances are those that share the pool, this one first.
func (s *sharing) instances() []instanceStatus {
	now := time.Now().UnixMilli()
	list := []instanceStatus{{Name: s.own(), Self: true, LastHeardMS: &now, Live: true}}
	if view := s.view.Load(); view != nil {
		list = append(list, *view...)
	}
	return list
}
