package shunt

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// TestRestart: an instance that comes back has its own counters, all of them once.
func TestRestart(t *testing.T) {
	for _, c := range []struct {
		name  string
		end   func(*node)
		moved bool // the name of its machine is another one
		after time.Duration
	}{
		{"stopped", (*node).stop, false, 0},
		{"killed", (*node).kill, false, 0},
		{"killed, machine renamed", (*node).kill, true, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				storage := newSharedStorage()
				other := newNode(t, storage, "y").start()
				defer other.stop()
				var a *node
				host := ""
				for round := range 3 {
					a = newNode(t, storage, "x")
					if host == "" || c.moved {
						host = a.sharing.host
					}
					a.sharing.host = host
					a.sharing.runs = func(int) bool { return false }
					a.start()
					time.Sleep(c.after)
					if got := a.sharing.own(); got != "x" {
						t.Fatalf("round %d: named %q", round, got)
					}
					if got := totals(a); got != int64(round) {
						t.Errorf("round %d: %d requests", round, got)
					}
					a.serve()
					time.Sleep(10 * time.Second)
					if round < 2 {
						c.end(a)
					}
				}
				a.stop()
			})
		})
	}
}

// TestTwins: two processes with the same name and the same data directory.
func TestTwins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		a := newNode(t, storage, "x").start()
		defer a.stop()
		a.serve()
		time.Sleep(time.Minute)
		for round := range 2 {
			b := newNode(t, storage, "x")
			if round > 0 {
				b.sharing.host, b.sharing.runs = a.sharing.host, func(int) bool { return true }
			}
			b.start()
			b.serve()
			time.Sleep(time.Minute)
			if a.sharing.own() != "x" || b.sharing.own() != "x-2" {
				t.Fatalf("round %d: named %q and %q", round, a.sharing.own(), b.sharing.own())
			}
			if got := b.messages("another process uses"); len(got) != 1 {
				t.Errorf("round %d: warned: %v", round, got)
			}
			if both := int64(round) + 2; totals(a) != both || totals(b) != both {
				t.Errorf("round %d: %d and %d requests", round, totals(a), totals(b))
			}
			if !a.lives("x-2") || !b.lives("x") {
				t.Errorf("round %d: %+v %+v", round, a.sharing.instances(), b.sharing.instances())
			}
			b.stop()
		}
	})
}

// TestTwinsAtOnce: replicas that start in the same moment.
func TestTwinsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		newNode(t, storage, "x").start().stop()
		time.Sleep(time.Hour)
		nodes := []*node{newNode(t, storage, "x"), newNode(t, storage, "x"), newNode(t, storage, "x")}
		var all sync.WaitGroup
		for _, n := range nodes {
			all.Go(func() { n.start() })
		}
		all.Wait()
		time.Sleep(2 * time.Minute)
		names := make(map[string]bool)
		for _, n := range nodes {
			names[n.sharing.own()] = true
			n.stop()
		}
		if len(names) != 3 || !names["x"] || !names["x-2"] || !names["x-3"] {
			t.Errorf("named %v", names)
		}
	})
}

// TestContestedName: however two came to have one name, the first keeps it and its
// counters, and the other finds another.
func TestContestedName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		a := newNode(t, storage, "x").start()
		defer a.stop()
		a.serve()
		a.serve()
		time.Sleep(time.Minute)
		b := newNode(t, storage, "x")
		b.sharing.take(t.Context(), b.sharing.means.Load(), "x", nil)
		b.restored = "x"
		b.sharing.ready.Store(true)
		b.serve()
		b.save()
		b.start()
		time.Sleep(2 * time.Minute)
		if a.sharing.own() != "x" || b.sharing.own() != "x-2" {
			t.Fatalf("named %q and %q", a.sharing.own(), b.sharing.own())
		}
		b.stop()
		for name, want := range map[string]int64{"x": 2, "x-2": 1} {
			n := newNode(t, storage, name)
			if err := n.load(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if got := totals(n); got != want {
				t.Errorf("the state of %s has %d requests, expected %d", name, got, want)
			}
		}
	})
}

// lockless is a storage whose locks fail, as those of a read-only folder do.
type lockless struct{ *sharedStorage }

func (lockless) Lock(context.Context, string) error { return errStorage }

// TestStorageWithoutLocks: what it holds is known all the same.
func TestStorageWithoutLocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		a := newNode(t, storage, "x").start()
		a.serve()
		a.stop()
		broken := &lockless{storage}
		b := newNode(t, broken, "x").start()
		defer b.stop()
		if b.sharing.own() != "x" || totals(b) != 1 {
			t.Errorf("named %q with %d requests", b.sharing.own(), totals(b))
		}
	})
}

// TestTwinsBeforeTheFirstWord: a name is taken as soon as it is claimed, before anything is told
// under it.
func TestTwinsBeforeTheFirstWord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		newNode(t, storage, "x").start().stop()
		time.Sleep(time.Hour)
		a, b := newNode(t, storage, "x"), newNode(t, storage, "x")
		if name, err := a.sharing.claim(t.Context()); name != "x" {
			t.Fatal(name, err)
		}
		time.Sleep(time.Second)
		if name, err := b.sharing.claim(t.Context()); !errors.Is(err, errInDoubt) {
			t.Errorf("the second has %q, %v", name, err)
		}
		time.Sleep(time.Minute)
		if name, err := b.sharing.claim(t.Context()); name != "x" {
			t.Errorf("the first never said a word, and keeps the name: %q, %v", name, err)
		}
	})
}
