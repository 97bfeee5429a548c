package chaos

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestChaos(t *testing.T) {
	w := newWorld(t)
	w.begin()
	t.Logf("chaos: seed %d, %v, %d clients", *chaosSeed, *chaosFor, *workers)
	began := time.Now()
	w.load(3*time.Second, nil)
	before := w.rest()

	d := newDriver(w)
	w.load(0, func() { d.run(*chaosFor) })
	for _, err := range d.failed {
		t.Errorf("the driver: %v", err)
	}
	w.settle()
	// All accounts are well again: nothing may fail now.
	w.load(3*time.Second, nil)

	after := w.rest()
	books := w.compareBooks(w.truth.kills())
	lost := w.checkLogins()
	w.compareRest(before, after)
	w.checkSecrets()
	if err := w.caddy.stop(); err != nil {
		t.Error(err)
	}
	w.report(time.Since(began), lost, books)
}

// load has all workers ask for that time, or for as long as during lasts.
func (w *world) load(length time.Duration, during func()) {
	stop := make(chan struct{})
	var running sync.WaitGroup
	for n := range *workers {
		running.Add(1)
		go newWorker(w, n).run(stop, &running)
	}
	sweeper := time.NewTicker(5 * time.Second)
	defer sweeper.Stop()
	go func() {
		for {
			select {
			case <-sweeper.C:
				w.recorder.sweep(time.Now().Add(-2 * patience))
			case <-stop:
				return
			}
		}
	}()
	if during != nil {
		during()
	} else {
		time.Sleep(length)
	}
	close(stop)
	running.Wait()
}

// settle waits until the consequences of all faults are over.
func (w *world) settle() { time.Sleep(recovery + time.Second) }

func (w *world) report(took time.Duration, loginsLost int, booksOff int64) {
	tr := w.truth
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, found := range tr.found {
		w.t.Error(found)
	}
	sum := tr.line(total)
	if sum.Lost+sum.Wrong > 0 {
		w.t.Errorf("%d requests lost, %d wrong answers", sum.Lost, sum.Wrong)
	}
	times := 0
	for _, l := range tr.table {
		times += l.Times
	}
	if tr.counts["served"] < 100 || times < 10 {
		w.t.Errorf("%d served and %d faults are no test", tr.counts["served"], times)
	}
	for what, n := range tr.counts {
		w.t.Logf("%8d %s", n, what)
	}
	fmt.Printf("chaos: %d requests served, %d faults, %d lost, %d wrong, %d logins lost, books off by %d, in %v, seed %d\n",
		tr.counts["served"], times, sum.Lost, sum.Wrong, loginsLost, booksOff, took.Round(time.Second), *chaosSeed)
	if *update && !w.t.Failed() {
		if err := writeTable(tr, took, loginsLost, booksOff); err != nil {
			w.t.Error(err)
		}
	}
}
