package shunt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestLentSizes(t *testing.T) {
	last := -1
	for _, n := range []int{leastLent, leastLent + 1, 80 << 10, 80<<10 + 1, 100_000, 1 << 20, 1<<20 + 1, 5 << 20, 30_000_000, mostLent - 1, mostLent} {
		class, size := lentSize(n)
		if size < n || size > n+n/4 || class < last || class >= len(lenders) {
			t.Errorf("%d bytes get %d of class %d", n, size, class)
		}
		if again, same := lentSize(size); again != class || same != size {
			t.Errorf("%d bytes are of class %d and size %d, not of their own %d", size, again, same, class)
		}
		last = class
	}
}

// TestHeldBodyGoesWithItsLastHolder, and nobody reads it after that.
func TestHeldBodyGoesWithItsLastHolder(t *testing.T) {
	held, err := readAll(strings.NewReader(strings.Repeat("x", 2*leastLent)), 2*leastLent)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := held.toSend()
	second, _ := held.toSend()
	held.letGo()
	if n, err := io.Copy(io.Discard, first); n != 2*leastLent || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	part := make([]byte, 10)
	if n, err := second.Read(part); n != 10 || err != nil || held.buffer == nil {
		t.Errorf("%d bytes, %v, while it is held", n, err)
	}
	_ = first.Close()
	_ = second.Close()
	_ = second.Close()
	if held.buffer != nil || held.bytes != nil || held.holders != 0 {
		t.Errorf("%+v is left", held)
	}
	if n, err := second.Read(part); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes after Close, %v", n, err)
	}
	if _, err := held.toSend(); !errors.Is(err, errLetGo) {
		t.Errorf("it is sent again: %v", err)
	}
}

// TestLentBodiesStayApart: of many who come and go while upstream takes all, half or
// nothing of a request, nobody's bytes are in another's.
func TestLentBodiesStayApart(t *testing.T) {
	var whole atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mark := r.Header.Get("X-Mark")
		check := func(p []byte) {
			if i := bytes.IndexFunc(p, func(c rune) bool { return c >= 'A' && c <= 'Z' && string(c) != mark }); i >= 0 {
				t.Errorf("%q in the body of %s", p[i], mark)
			}
		}
		switch rand.IntN(4) {
		case 0: // an answer before the body
			w.WriteHeader(http.StatusInternalServerError)
			return
		case 1:
			half := make([]byte, 50_000)
			n, _ := io.ReadFull(r.Body, half)
			check(half[:n])
			panic(http.ErrAbortHandler)
		}
		body, err := io.ReadAll(r.Body)
		check(body)
		if err == nil && int64(len(body)) == r.ContentLength {
			whole.Add(1)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"msg_1","usage":{"input_tokens":1,"output_tokens":1}}`)
	}))
	defer upstream.Close()
	b := newFour(t, "hold off\n")
	for _, a := range b.h.accounts {
		a.base.host = strings.TrimPrefix(upstream.URL, "http://")
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 30 {
				mark := string(rune('A' + (i*30+j)%26))
				body := fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"%s"}]}`, strings.Repeat(mark, leastLent+rand.IntN(leastLent)))
				ctx, cancel := context.WithCancel(context.Background())
				r := httptest.NewRequest(http.MethodPost, "/v1/messages", strings.NewReader(body)).WithContext(ctx)
				r.Header = http.Header{"X-Api-Key": {annKey}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}, "X-Mark": {mark}}
				if j%5 == 0 {
					time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, cancel)
				}
				serveWith(b.h, httptest.NewRecorder(), r)
				cancel()
			}
		})
	}
	all.Wait()
	if whole.Load() == 0 {
		t.Error("nothing came whole")
	}
	b.mustBeIdle()
}
