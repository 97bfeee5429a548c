package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// load runs one job and gathers what its connections saw.
type load struct {
	job  *job
	body []byte

	counting atomic.Bool  // what happens now counts
	ended    atomic.Bool  // the time is over
	events   atomic.Int64 // of floods, while counting

	mu                     sync.Mutex
	out                    outcome
	latency, first, delays []int64
}

// runLoad is the role of the load: a job on standard input, phases and the outcome on
// standard output.
func runLoad() error {
	// Collections of its own would be seen as delays of whoever is measured.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(1 << 30)
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("reading the job: %w", err)
	}
	l := &load{job: new(job)}
	if err := json.Unmarshal(line, l.job); err != nil {
		return fmt.Errorf("reading the job: %w", err)
	}
	small := requestBody(400, false)
	l.body = small
	if l.job.Body > 0 || l.job.Events > 0 {
		l.body = requestBody(max(400, l.job.Body), l.job.Events > 0)
	}
	wait := func(phase string) error {
		fmt.Println(phase)
		_, err := in.ReadBytes('\n')
		return err
	}
	if err := l.greet(small); err != nil {
		return err
	}
	if err := wait(phaseIdle); err != nil {
		return fmt.Errorf("waiting to begin: %w", err)
	}
	if l.job.Kind == kindPaced || l.job.Kind == kindBurst {
		l.once()
	} else if err := l.repeat(wait); err != nil {
		return err
	}
	l.out.Latency, l.out.First, l.out.Delay = quantilesOf(l.latency), quantilesOf(l.first), quantilesOf(l.delays)
	fmt.Println(phaseDone)
	return json.NewEncoder(os.Stdout).Encode(&l.out)
}

// greet has a few small requests served, so that what is made at the first one is there.
func (l *load) greet(body []byte) error {
	plain := *l.job
	plain.Query = ""
	for i := range 4 {
		c, err := connect(&plain, i, body, 4<<10)
		if err != nil {
			return err
		}
		for range 8 {
			if _, err := c.do(nil); err != nil {
				return fmt.Errorf("the first requests: %w", err)
			}
		}
		c.conn.Close()
	}
	return nil
}

// repeat keeps every connection busy, first to warm up and then for what counts.
func (l *load) repeat(wait func(string) error) error {
	size := 16 << 10
	if l.job.Kind == kindFlood {
		size = 64 << 10
	}
	clients := make([]*client, l.job.Connections)
	for i := range clients {
		c, err := connect(l.job, i, l.body, size)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		clients[i] = c
	}
	var running sync.WaitGroup
	for _, c := range clients {
		running.Go(func() { l.keepBusy(c) })
	}
	time.Sleep(l.job.Warm)
	if err := wait(phaseWarm); err != nil {
		return fmt.Errorf("waiting to begin: %w", err)
	}
	begun := time.Now()
	l.counting.Store(true)
	time.Sleep(l.job.Run)
	l.counting.Store(false)
	l.mu.Lock()
	l.out.Seconds = time.Since(begun).Seconds()
	l.mu.Unlock()
	l.ended.Store(true)
	if l.job.Kind == kindFlood {
		for _, c := range clients {
			c.conn.Close()
		}
	}
	running.Wait()
	l.out.Events = int(l.events.Load())
	return nil
}

func (l *load) keepBusy(c *client) {
	var latency []int64
	done, before := 0, 0
	var watch func([]byte, int)
	if l.job.Kind == kindFlood {
		watch = func(_ []byte, events int) {
			if l.counting.Load() {
				l.events.Add(int64(events - before))
			}
			before = events
		}
	}
	for !l.ended.Load() {
		counted := l.counting.Load()
		before = 0
		e, err := c.do(watch)
		if err == nil && l.job.Kind == kindFlood && e.events != l.job.Events+frameEvents {
			err = fmt.Errorf("a stream ended after %d of %d events", e.events, l.job.Events+frameEvents)
		}
		if err != nil {
			if l.ended.Load() {
				break // the connection was closed in the middle of a stream
			}
			l.fail(err)
			return
		}
		// What began before the time or ends after it does not count.
		if counted && l.counting.Load() {
			latency = append(latency, int64(time.Since(e.sent)))
			done++
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latency = append(l.latency, latency...)
	l.out.Requests += done
	l.out.Bytes += int64(done) * int64(len(c.body))
}

// once opens every connection for one request, spread over the ramp.
func (l *load) once() {
	begun := time.Now()
	var running, opening sync.WaitGroup
	opening.Add(l.job.Connections)
	for i := range l.job.Connections {
		running.Go(func() {
			time.Sleep(time.Until(begun.Add(l.job.Ramp * time.Duration(i) / time.Duration(l.job.Connections))))
			l.follow(i, sync.OnceFunc(opening.Done))
		})
	}
	opening.Wait()
	if l.job.Kind == kindPaced {
		fmt.Println(phaseOpen)
	}
	running.Wait()
	l.out.Seconds = time.Since(begun).Seconds()
}

// follow makes one request and reads it to its end; opened is called when its answer has
// begun or there is none.
func (l *load) follow(i int, opened func()) {
	defer opened()
	c, err := connect(l.job, i, l.body, 4<<10)
	if err != nil {
		l.fail(err)
		return
	}
	defer c.conn.Close()
	if l.job.Kind == kindBurst {
		// Bodies that come in together: all connections are there before the first.
		time.Sleep(100 * time.Millisecond)
	}
	delays := make([]int64, 0, l.job.Events)
	var times stamps
	e, err := c.do(func(chunk []byte, _ int) {
		now := time.Now().UnixNano()
		times.in(chunk, func(stamp int64) { delays = append(delays, now-stamp) })
		opened()
	})
	if err == nil && l.job.Kind == kindPaced && (e.events != l.job.Events+frameEvents || len(delays) != l.job.Events) {
		err = fmt.Errorf("a stream ended after %d of %d events", e.events, l.job.Events+frameEvents)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delays = append(l.delays, delays...)
	l.out.Events += len(delays)
	if err != nil {
		l.failLocked(err)
		return
	}
	l.first = append(l.first, int64(e.first.Sub(e.sent)))
	l.out.Requests++
	l.out.Bytes += int64(len(c.body))
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failLocked(err)
}

func (l *load) failLocked(err error) {
	l.out.Failed++
	if l.out.Failure == "" {
		l.out.Failure = err.Error()
	}
}

var errFailed = errors.New("requests failed")

// mayFail is how many percent of paced streams may fail: with thousands on a machine that
// is busy otherwise, what happens to some is a figure.
const mayFail = 5

// check is an error unless everything was as it must be.
func (o *outcome) check(j *job) error {
	if o.Failed > 0 && (j.Kind != kindPaced || o.Failed*100 > j.Connections*mayFail) {
		return fmt.Errorf("%w: %d of them, the first so: %s", errFailed, o.Failed, o.Failure)
	}
	if o.Requests == 0 && o.Events == 0 {
		return fmt.Errorf("%w: none was complete", errFailed)
	}
	return nil
}
