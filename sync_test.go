package shunt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// sharedStorage is a storage in memory that can fail, be slow and tell coarse times.
type sharedStorage struct {
	mu     sync.Mutex
	values map[string][]byte
	times  map[string]time.Time
	fail   error
	delay  time.Duration
	times0 bool // tell no times
	counts map[string]int
	stores map[string]int // by key
	locks  map[string]chan struct{}
}

func newSharedStorage() *sharedStorage {
	return &sharedStorage{
		values: make(map[string][]byte), times: make(map[string]time.Time), counts: make(map[string]int), stores: make(map[string]int),
		locks: make(map[string]chan struct{}),
	}
}

func (s *sharedStorage) begin(ctx context.Context, what string) error {
	s.mu.Lock()
	s.counts[what]++
	delay, err := s.delay, s.fail
	s.mu.Unlock()
	if delay > 0 && !pause(ctx, delay) {
		return ctx.Err()
	}
	return err
}

func (s *sharedStorage) Store(ctx context.Context, key string, value []byte) error {
	if err := s.begin(ctx, "store"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores[key]++
	// A hair past the second: bubbles begin at a whole one, and so do their timers.
	s.values[key], s.times[key] = append([]byte(nil), value...), time.Now().Add(time.Duration(s.stores[key]))
	return nil
}

func (s *sharedStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if err := s.begin(ctx, "load"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return append([]byte(nil), value...), nil
}

func (s *sharedStorage) Delete(ctx context.Context, key string) error {
	if err := s.begin(ctx, "delete"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, key)
	return nil
}

func (s *sharedStorage) Exists(_ context.Context, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[key] != nil
}

func (s *sharedStorage) List(ctx context.Context, folder string, _ bool) (keys []string, err error) {
	if err := s.begin(ctx, "list"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.values {
		if path.Dir(key) == folder {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func (s *sharedStorage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if err := s.begin(ctx, "stat"); err != nil {
		return certmagic.KeyInfo{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[key]
	if !ok {
		return certmagic.KeyInfo{}, fs.ErrNotExist
	}
	info := certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}
	if !s.times0 {
		info.Modified = s.times[key]
	}
	return info, nil
}

func (s *sharedStorage) Lock(ctx context.Context, name string) error {
	if err := s.begin(ctx, "lock"); err != nil {
		return err
	}
	s.mu.Lock()
	held := s.locks[name]
	if held == nil {
		held = make(chan struct{}, 1)
		s.locks[name] = held
	}
	s.mu.Unlock()
	select {
	case held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *sharedStorage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	<-s.locks[name]
	return nil
}

func (s *sharedStorage) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *sharedStorage) get(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.values[key])
}

// copies are the values whose keys begin so.
func (s *sharedStorage) copies(prefix string) (values []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, value := range s.values {
		if strings.HasPrefix(key, prefix) {
			values = append(values, string(value))
		}
	}
	return values
}

func (s *sharedStorage) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[what]
}

// node is an instance: a live pool with its background work, as a process has it.
type node struct {
	*livePool
	t     *testing.T
	logs  *observer.ObservedLogs
	group *pool.Group
	ctx   context.Context
	end   context.CancelFunc
	done  *sync.WaitGroup
}

var nodeAccounts = []*pool.Member{{Name: "a", Key: "a#1"}, {Name: "b", Key: "b#1"}}

var nodeNumber = 0

// newNode is an instance that has not been started. Each is a process of its own
// on a machine of its own.
func newNode(t *testing.T, storage certmagic.Storage, name string) *node {
	core, logs := observer.New(zapcore.InfoLevel)
	n := &node{livePool: newLivePool("p"), t: t, logs: logs, done: new(sync.WaitGroup)}
	nodeNumber++
	n.sharing.boot, n.sharing.started = fmt.Sprintf("boot-%03d", nodeNumber), time.Now()
	n.sharing.host, n.sharing.runs = n.sharing.boot, func(int) bool { return true }
	n.attach(&poolMeans{storage: storage, logger: zap.New(core), interval: DefaultInterval, instance: name})
	n.group = n.state.Group(nodeAccounts, pool.Policies[pool.DefaultPolicy])
	return n
}

// start does what App.Start does.
func (n *node) start() *node {
	n.ctx, n.end = context.WithCancel(context.Background())
	n.restore(n.ctx)
	n.sharing.meet(n.ctx)
	n.run()
	return n
}

func (n *node) run() {
	ctx, done := n.ctx, n.done
	done.Add(2)
	go func() { defer done.Done(); n.keepSaved(ctx) }()
	go func() { defer done.Done(); n.sharing.share(ctx) }()
}

// stop does what App.Stop and Cleanup do.
func (n *node) stop() {
	n.end()
	n.done.Wait()
	if err := n.Destruct(); err != nil {
		n.t.Error(err)
	}
}

// kill ends the instance without a last word.
func (n *node) kill() {
	n.sharing.mu.Lock()
	n.sharing.means.Store(&poolMeans{storage: newSharedStorage(), logger: zap.NewNop(), interval: DefaultInterval})
	n.sharing.mu.Unlock()
	n.end()
	n.done.Wait()
}

func (n *node) messages(part string) (found []string) {
	for _, e := range n.logs.All() {
		if strings.Contains(e.Message, part) {
			found = append(found, e.Message)
		}
	}
	return found
}

func (n *node) peer(name string) *instanceStatus {
	for _, i := range n.sharing.instances() {
		if i.Name == name && !i.Self {
			return &i
		}
	}
	return nil
}

func (n *node) lives(name string) bool {
	p := n.peer(name)
	return p != nil && p.Live
}

// hold makes the account of the next request the holder of the thing.
func (n *node) hold(id string) string {
	n.t.Helper()
	lease, refused := n.group.Pick(&pool.Request{User: "ann", Endpoint: anthropic.EndpointFiles})
	if lease == nil {
		n.t.Fatal(refused)
	}
	lease.Hold(id, time.Hour)
	lease.End(anthropic.Usage{})
	return lease.Member.Name
}

// holder names the account that has the thing, as far as this instance knows.
func (n *node) holder(id string) string {
	lease, _ := n.group.Pick(&pool.Request{User: "bob", Endpoint: anthropic.EndpointFiles, Refs: []string{id}})
	if lease == nil {
		return ""
	}
	lease.End(anthropic.Usage{})
	return lease.Member.Name
}

func (n *node) benched(account string) bool {
	for _, a := range n.group.View().Accounts {
		if a.Member.Name == account {
			return a.Benched() != nil
		}
	}
	return false
}

// bench makes the account rest, as an answer of upstream does.
func (n *node) bench() (account string) {
	lease, refused := n.group.Pick(&pool.Request{Model: "claude-sonnet-5", Endpoint: anthropic.EndpointMessages})
	if lease == nil {
		n.t.Fatal(refused)
	}
	lease.Report(&anthropic.Verdict{
		Name: "account_window", Scope: anthropic.ScopeAccount, Action: anthropic.Next, Until: time.Now().Add(time.Hour), Source: "reset", Reason: "spent",
	}, nil)
	lease.End(anthropic.Usage{})
	return lease.Member.Name
}

var errStorage = errors.New("the disk is gone")

// bubble runs a test in virtual time, which also finds goroutines that are left.
func bubble(t *testing.T, test func(t *testing.T)) { synctest.Test(t, test) }

// totals counts the requests that the pool knows of.
func totals(n *node) (requests int64) {
	for _, a := range n.group.View().Accounts {
		requests += a.Totals.Attempts
	}
	return requests
}

// serve counts a request.
func (n *node) serve() {
	lease, refused := n.group.Pick(&pool.Request{Model: "claude-sonnet-5", Endpoint: anthropic.EndpointMessages})
	if lease == nil {
		n.t.Fatal(refused)
	}
	lease.Report(&anthropic.Verdict{Name: "served"}, nil)
	lease.End(anthropic.Usage{InputTokens: 1})
}

// TestNewsWhileAloneDoesNotDelayTheLook: an instance that has something urgent to
// tell, and nobody to tell it to, finds who comes as soon as ever.
func TestNewsWhileAloneDoesNotDelayTheLook(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		a := newNode(t, storage, "x").start()
		defer a.stop()
		time.Sleep(time.Second)
		a.state.Pin("a")
		b := newNode(t, storage, "y").start()
		defer b.stop()
		time.Sleep(6 * time.Second)
		if !a.lives("y") {
			t.Errorf("%+v", a.sharing.instances())
		}
	})
}
