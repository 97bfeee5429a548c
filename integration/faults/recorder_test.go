package faults

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// try is one request that reached the upstream of an account.
type try struct {
	account string
	path    string
	header  http.Header
	length  int64
	sum     string    // of the body, once it was read to its end
	gone    time.Time // when the proxy took the request back
}

// recorder writes down what upstream sees, before the fake upstream does
// anything with it.
type recorder struct {
	mu    sync.Mutex
	tries []*try
}

func (rec *recorder) of(account string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := &try{account: account, path: r.URL.Path, header: r.Header.Clone(), length: r.ContentLength}
		if r.URL.RawQuery != "" {
			t.path += "?" + r.URL.RawQuery
		}
		rec.mu.Lock()
		rec.tries = append(rec.tries, t)
		rec.mu.Unlock()
		r.Body = &summed{ReadCloser: r.Body, digest: sha256.New(), done: func(sum string) {
			rec.mu.Lock()
			defer rec.mu.Unlock()
			t.sum = sum
		}}
		// net/http ends the context of every finished request too: by then nobody
		// watches any more.
		unwatch := context.AfterFunc(r.Context(), func() {
			rec.mu.Lock()
			defer rec.mu.Unlock()
			t.gone = time.Now()
		})
		defer unwatch()
		next.ServeHTTP(w, r)
	})
}

// summed is a body that is summed up while it is read.
type summed struct {
	io.ReadCloser
	digest hash.Hash
	done   func(string)
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.digest.Write(p[:n])
	if err == io.EOF {
		s.done(hex.EncodeToString(s.digest.Sum(nil)))
	}
	return n, err
}

// count is how many requests there have been.
func (rec *recorder) count() int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return len(rec.tries)
}

// since are the requests for messages after the first n.
func (rec *recorder) since(n int) (tries []try) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, t := range rec.tries[n:] {
		if strings.HasPrefix(t.path, messagesPath) {
			tries = append(tries, *t)
		}
	}
	return tries
}

func countOf(tries []try, account string) (n int) {
	for i := range tries {
		if tries[i].account == account {
			n++
		}
	}
	return n
}
