package shunt

import (
	"fmt"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestPeersHearOfABench(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		a, b := newNode(t, storage, "x").start(), newNode(t, storage, "y").start()
		defer a.stop()
		defer b.stop()
		time.Sleep(6 * time.Second)
		if !a.lives("y") || !b.lives("x") {
			t.Fatalf("they do not know each other: %+v %+v", a.sharing.instances(), b.sharing.instances())
		}
		account := a.bench()
		time.Sleep(1200 * time.Millisecond)
		if !b.benched(account) {
			t.Error("a bench takes longer than a fifth of the interval")
		}
		a.hold("file_1")
		time.Sleep(1200 * time.Millisecond)
		if b.holder("file_1") == "" {
			t.Error("who holds a file is not told soon")
		}
	})
}

// TestLatePeer: what was told long ago reaches one that starts now, whether or not
// the one that told it still lives.
func TestLatePeer(t *testing.T) {
	for name, end := range map[string]func(*node){"alive": nil, "stopped": (*node).stop, "killed": (*node).kill} {
		for _, least := range []int{1, leastBase} { // in what changed since everything was written, or not
			t.Run(fmt.Sprint(name, " ", least), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					storage := newSharedStorage()
					a := newNode(t, storage, "x")
					a.sharing.leastBase = least
					a.start()
					held := a.hold("file_1")
					time.Sleep(10 * time.Minute)
					if end == nil {
						defer a.stop()
					} else {
						end(a)
					}
					b := newNode(t, storage, "y").start()
					defer b.stop()
					if got := b.holder("file_1"); got != held {
						t.Errorf("%q holds the file, not %q", got, held)
					}
					time.Sleep(25 * time.Second)
					if b.lives("x") != (end == nil) || b.peer("x") == nil {
						t.Errorf("%+v", b.sharing.instances())
					}
				})
			})
		}
	}
}

func TestSilentPeerIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		a := newNode(t, storage, "x")
		drops := &restless{sharedState: a.sharing.state}
		a.sharing.state = drops
		b, c := newNode(t, storage, "y").start(), newNode(t, storage, "z").start()
		a.start()
		defer a.stop()
		time.Sleep(time.Minute)
		b.kill()
		time.Sleep(3 * time.Second)
		if !a.lives("y") {
			t.Error("it was given up after one interval")
		}
		time.Sleep(16 * time.Second) // its last record was seen up to a second late
		if a.lives("y") || !a.lives("z") {
			t.Errorf("after three intervals: %+v", a.sharing.instances())
		}
		if got := a.messages("is silent"); len(got) != 1 {
			t.Errorf("logged: %v", got)
		}
		if got := drops.dropped; len(got) != 1 || got[0] != "y" {
			t.Errorf("dropped the load of %v", got)
		}
		c.stop()
		time.Sleep(5100 * time.Millisecond)
		if a.lives("z") {
			t.Error("one that said goodbye still lives")
		}
		// It comes back.
		b = newNode(t, storage, "y")
		b.sharing.host, b.sharing.runs = "boot", nil
		b = b.start()
		defer b.stop()
		time.Sleep(30 * time.Second)
		if !a.lives("y") {
			t.Errorf("one that came back is not seen: %+v", a.sharing.instances())
		}
	})
}

func TestRecordsThatCannotBeRead(t *testing.T) {
	for name, text := range map[string]string{
		"garbage": "{", "newer": `{"version":2,"instance":"x","boot":"b"}`, "nobody's": `{"version":1}`,
		"facts of another kind": `{"version":1,"instance":"x","boot":"b","seq":1,"within_ms":5000,"facts":[1]}`,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				storage := newSharedStorage()
				storage.times0 = true // it is loaded again and again
				if err := storage.Store(t.Context(), "shunt/p/facts/x.json", []byte(text)); err != nil {
					t.Fatal(err)
				}
				b, c := newNode(t, storage, "y").start(), newNode(t, storage, "z").start()
				defer b.stop()
				defer c.stop()
				time.Sleep(time.Minute)
				if got := b.messages("cannot be read"); len(got) != 1 {
					t.Errorf("logged: %v", got)
				}
				if storage.get("shunt/p/facts/x.json") != text {
					t.Error("the record was touched")
				}
				if b.lives("x") || !b.lives("z") {
					t.Errorf("%+v", b.sharing.instances())
				}
			})
		})
	}
}

func TestOwnRecordThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		if err := storage.Store(t.Context(), "shunt/p/facts/x.json", []byte("{")); err != nil {
			t.Fatal(err)
		}
		a := newNode(t, storage, "x").start()
		defer a.stop()
		if len(a.messages("it was set aside")) != 1 || a.sharing.own() != "x" {
			t.Errorf("%v, named %q", a.logs.All(), a.sharing.own())
		}
		aside := 0
		keys, _ := storage.List(t.Context(), "shunt/p/facts", false)
		for _, key := range keys {
			if strings.Contains(key, ".corrupt-") && storage.get(key) == "{" {
				aside++
			}
		}
		if aside != 1 {
			t.Errorf("kept: %v", keys)
		}
	})
}

// TestBaseThatCannotBeRead: what changed lately is taken over all the same.
func TestBaseThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		a := newNode(t, storage, "x").start()
		defer a.stop()
		time.Sleep(time.Minute)
		a.hold("file_1")
		time.Sleep(time.Minute)
		storage.set(func() { storage.values["shunt/p/base/x.json"] = []byte("{") })
		b := newNode(t, storage, "y").start()
		defer b.stop()
		if b.holder("file_1") == "" {
			t.Error("nothing was taken over")
		}
		time.Sleep(time.Minute)
		if got := b.messages("cannot be read"); len(got) != 1 {
			t.Errorf("logged: %v", got)
		}
	})
}

func TestStorageOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		a, b := newNode(t, storage, "x").start(), newNode(t, storage, "y").start()
		defer a.stop()
		defer b.stop()
		time.Sleep(20 * time.Second)
		storage.set(func() { storage.fail = errStorage })
		a.hold("file_1")
		time.Sleep(time.Minute)
		if a.lives("y") || b.lives("x") {
			t.Error("nobody can be heard, and still lives")
		}
		storage.set(func() { storage.fail = nil })
		time.Sleep(15 * time.Second)
		if b.holder("file_1") == "" {
			t.Error("what happened in the outage is not told after it")
		}
		if !a.lives("y") || !b.lives("x") {
			t.Errorf("they do not find each other again: %+v", a.sharing.instances())
		}
		for _, part := range []string{sayReading + " failed", sayWriting + " failed", sayReading + " works", sayWriting + " works", "writing the pool's state failed", "pool's state works"} {
			if got := a.messages(part); len(got) != 1 {
				t.Errorf("%s: %v", part, got)
			}
		}
	})
}

// TestStorageIsGoneAtStart: the pool serves, and shares once storage is there.
func TestStorageIsGoneAtStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		storage.fail = errStorage
		a := newNode(t, storage, "x").start()
		defer a.stop()
		a.hold("file_1")
		time.Sleep(time.Minute)
		storage.set(func() { storage.fail = nil })
		time.Sleep(20 * time.Second)
		b := newNode(t, storage, "y").start()
		defer b.stop()
		if a.sharing.own() != "x" || b.holder("file_1") == "" {
			t.Errorf("named %q", a.sharing.own())
		}
	})
}

// TestStorageWithoutTimes: then each record is loaded once an interval.
func TestStorageWithoutTimes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		storage.times0 = true
		a, b := newNode(t, storage, "x").start(), newNode(t, storage, "y").start()
		defer a.stop()
		defer b.stop()
		time.Sleep(time.Minute)
		for _, pin := range []string{"a", "b"} { // records of the same size
			a.state.Pin(pin)
			b.state.Pin("")
			time.Sleep(6 * time.Second)
			if got := b.state.Pinned(); got != pin {
				t.Errorf("pinned: %q", got)
			}
		}
	})
}

// TestCostOfRest: what instances that nothing happens to ask of storage.
func TestCostOfRest(t *testing.T) {
	for _, n := range []struct {
		nodes, stores, lists, stats int
		restless                    bool // the pool counts changes in which there is nothing to tell
	}{
		// Of the lists, half are for the books; alone, one a minute.
		{1, 4 * 10, 13 * 10, 4 * 10, false},
		{2, 2 * 6 * 10, 2 * 2 * 12 * 10, 2 * (60 + 12) * 10, false},
		{2, 2 * 6 * 10, 2 * 2 * 12 * 10, 2 * (60 + 24) * 10, true},
	} {
		bubble(t, func(t *testing.T) {
			storage := newSharedStorage()
			for _, name := range []string{"x", "y"}[:n.nodes] {
				node := newNode(t, storage, name)
				if n.restless {
					node.sharing.state = &restless{sharedState: node.sharing.state, grows: true}
				}
				node.start()
				defer node.stop()
			}
			time.Sleep(61 * time.Minute) // a bubble begins at midnight, and for an hour yesterday's books are read, too
			before := map[string]int{"store": storage.count("store"), "list": storage.count("list"), "stat": storage.count("stat")}
			time.Sleep(10 * time.Minute)
			for what, most := range map[string]int{"store": n.stores, "list": n.lists, "stat": n.stats} {
				if did := storage.count(what) - before[what]; did > most+2 || did < most/2 {
					t.Errorf("%d instances: %d times %s in ten minutes, expected about %d", n.nodes, did, what, most)
				}
			}
		})
	}
}

// TestReload: the background work of two configurations overlaps, and goes on.
func TestReload(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		a, b := newNode(t, storage, "x").start(), newNode(t, storage, "y").start()
		defer b.stop()
		time.Sleep(61 * time.Minute)
		for range 5 {
			old := *a
			a.done = new(sync.WaitGroup)
			a.start()
			time.Sleep(time.Second)
			old.end()
			old.done.Wait()
		}
		if !b.lives("x") || b.messages("is silent") != nil {
			t.Error("a reload looks like a stop")
		}
		before := storage.count("list")
		time.Sleep(time.Minute)
		if did := storage.count("list") - before; did > 2*2*12+2 {
			t.Errorf("%d lists in a minute: the work is doubled", did)
		}
		b.hold("file_1")
		time.Sleep(1200 * time.Millisecond)
		if a.holder("file_1") == "" {
			t.Error("after reloads nothing is heard")
		}
		a.stop()
	})
}

func TestForgottenInstances(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		for name, days := range map[string]int{"old": 36, "young": 34} {
			n := newNode(t, storage, name).start()
			n.hold("file_" + name)
			time.Sleep(time.Minute)
			n.stop()
			storage.set(func() {
				for key, at := range storage.times {
					if path.Base(key) == name+".json" {
						storage.times[key] = at.AddDate(0, 0, -days)
					}
				}
			})
		}
		a := newNode(t, storage, "x").start()
		defer a.stop()
		a.hold("file_x")
		time.Sleep(30 * time.Minute)
		if storage.get("shunt/p/state/old.json") == "" {
			t.Fatal("removed too soon")
		}
		time.Sleep(31 * time.Minute)
		for _, kind := range []string{"state", "facts", "base"} {
			if storage.get("shunt/p/"+kind+"/old.json") != "" {
				t.Errorf("%s of the old one is still there", kind)
			}
			if storage.get("shunt/p/"+kind+"/young.json") == "" || storage.get("shunt/p/"+kind+"/x.json") == "" {
				t.Errorf("%s of the others is gone", kind)
			}
		}
		if a.peer("old") != nil || a.peer("young") == nil {
			t.Errorf("%+v", a.sharing.instances())
		}
	})
}

// restless is a pool that notes who is dropped, and whose count of changes can grow
// without any.
type restless struct {
	sharedState
	grows   bool
	changes atomic.Uint64
	dropped []string
}

func (r *restless) Drop(peer string) {
	r.dropped = append(r.dropped, peer)
	r.sharedState.Drop(peer)
}

func (r *restless) Changes() uint64 {
	if r.grows {
		r.changes.Add(1)
	}
	return r.changes.Load() + r.sharedState.Changes()
}

func TestAskingIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		a := newNode(t, storage, "x").start()
		defer a.stop()
		begun := time.Now()
		if asked, _ := a.sharing.ask(t.Context()); asked || time.Since(begun) != 0 {
			t.Error("there is nobody to ask")
		}
		b := newNode(t, storage, "y").start()
		defer b.stop()
		time.Sleep(23500 * time.Millisecond) // between two records
		before := storage.count("stat")
		begun = time.Now()
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				if asked, news := a.sharing.ask(t.Context()); !asked || news {
					t.Errorf("asked: %t, news: %t", asked, news)
				}
			})
		}
		all.Wait()
		if took, did := time.Since(begun), storage.count("stat")-before; took > askTries*askAgain || did > 2*askTries {
			t.Errorf("%d stats in %s", did, took)
		}
		if asked, _ := a.sharing.ask(t.Context()); !asked || time.Since(begun) < askEvery {
			t.Error("asked again at once")
		}
	})
}
