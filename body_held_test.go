package shunt

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestBodyIsLetGo: a request's body is held until its answer has begun, to be sent again,
// and no longer: an answer may take minutes.
func TestBodyIsLetGo(t *testing.T) {
	const streams, size = 12, 4 << 20
	began, finish := make(chan struct{}, streams), make(chan struct{})
	tried := make(map[string]int)
	var mu sync.Mutex
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		mu.Lock()
		tried[r.Header.Get("X-Number")]++
		first := tried[r.Header.Get("X-Number")] == 1
		mu.Unlock()
		if n < size || first { // each is sent twice, whole
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"usage\":{\"input_tokens\":1}}}\n\n")
		_ = http.NewResponseController(w).Flush()
		began <- struct{}{}
		<-finish
		fmt.Fprint(w, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
	}))
	defer upstream.Close()
	b := newFour(t, "")
	for _, a := range b.h.accounts {
		a.base.host = strings.TrimPrefix(upstream.URL, "http://")
	}
	body := `{"model":"claude-sonnet-5","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("x", size) + `"}]}`
	before := inUse()
	var all sync.WaitGroup
	for i := range streams {
		all.Go(func() { b.ask(body, "X-Number", fmt.Sprint(i)).mustServe(t, "a large request") })
	}
	for range streams {
		<-began
	}
	// Upstream's first event is on its way to us, and the body is let go of when it comes.
	held := inUse() - before
	for patience := time.Now().Add(20 * time.Second); held > streams*size/4 && time.Now().Before(patience); held = inUse() - before {
		time.Sleep(10 * time.Millisecond)
	}
	if held > streams*size/4 {
		t.Errorf("%d MB are held for %d streams of requests of %d MB", held>>20, streams, size>>20)
	}
	close(finish)
	all.Wait()
}

// TestConnectionsAreKept: what a team has under way at once needs no new connection the
// next time.
func TestConnectionsAreKept(t *testing.T) {
	const atOnce = 100
	var dialled atomic.Int64
	arrived, answer := make(chan struct{}, atOnce), make(chan struct{})
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-answer
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"msg_1","type":"message","usage":{"input_tokens":1,"output_tokens":1}}`)
	}))
	upstream.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			dialled.Add(1)
		}
	}
	upstream.Start()
	defer upstream.Close()
	b := newFour(t, "")
	for _, a := range b.h.accounts {
		a.base.host = strings.TrimPrefix(upstream.URL, "http://")
	}
	round := func() {
		var all sync.WaitGroup
		for range atOnce {
			all.Go(func() { b.ask(hello).mustServe(t, "one of many") })
		}
		for range atOnce {
			<-arrived
		}
		for range atOnce {
			answer <- struct{}{}
		}
		all.Wait()
		b.mustBeIdle()
	}
	round()
	first := dialled.Load()
	round()
	if again := dialled.Load() - first; again > atOnce/10 {
		t.Errorf("%d of %d connections were dialled anew", again, atOnce)
	}
}

// inUse is the memory that is in use after a collection.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
