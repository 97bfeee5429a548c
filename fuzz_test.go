package shunt

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzOwnEndpoints: queries and bodies of any kind get an answer in JSON, and never one
// that blames the server.
func FuzzOwnEndpoints(f *testing.F) {
	f.Add(uint(0), "account=a", `{"account":"a"}`)
	f.Add(uint(1), "by=person,day&from=2026-11-01", `{"policy":"balanced"}`)
	f.Add(uint(2), "request=shunt_1&model=m&session=s", `{"action":"bench","account":"a","for":"1h"}`)
	f.Add(uint(3), "range=1d&person=ann", "{")
	f.Add(uint(4), "a;b=%zz", `{"action":"`+strings.Repeat("x", 300)+`"}`)
	h := provision(f, "remote_key ann "+annKey+" {\nadmin\n}"+fourBlocks)
	endpoints := []string{"GET /status", "GET /usage", "GET /explain", "POST /use", "POST /steer", "GET /history", "GET /health"}
	f.Fuzz(func(t *testing.T, n uint, query, body string) {
		method, path, _ := strings.Cut(endpoints[n%uint(len(endpoints))], " ")
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.URL = &url.URL{Path: path, RawQuery: query}
		r.Header = http.Header{"X-Api-Key": {annKey}, "Content-Type": {"application/json"}}
		w := httptest.NewRecorder()
		serveWith(h, w, r)
		if w.Code >= 500 && (path != "/health" || w.Code != http.StatusServiceUnavailable) {
			t.Errorf("%s %s?%s %q: %d %s", method, path, query, body, w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s?%s %q: %d %s", method, path, query, body, w.Code, w.Body)
		}
	})
}
