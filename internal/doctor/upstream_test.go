package doctor_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/doctor"
)

// dateOf answers with a Date that is off by so much.
func dateOf(off time.Duration, status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead || r.Header.Get("X-Api-Key") != "" || r.Header.Get("Authorization") != "" {
			status = http.StatusTeapot
		}
		w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
		w.WriteHeader(status)
	}
}

func upstreams(url string, transport http.RoundTripper) *doctor.Upstreams {
	return &doctor.Upstreams{List: []doctor.Upstream{{URL: url, Accounts: []string{"a", "b", "c", "d", "e"}, Transport: transport}}}
}

func TestClock(t *testing.T) {
	for off, want := range map[time.Duration]string{
		0:                "ok ",
		5 * time.Second:  "ok ",
		-8 * time.Second: "ok ",
		// What the network takes and what Date leaves out is no difference of clocks.
		30 * time.Second:  "warning x: this machine's clock is 30s behind",
		-30 * time.Second: "warning x: this machine's clock is 30s ahead of",
		time.Hour:         "problem x: this machine's clock is 1h0m0s behind",
		-10 * time.Minute: "problem x: this machine's clock is 10m0s ahead of",
	} {
		server := httptest.NewServer(dateOf(off, http.StatusNotFound))
		got := strings.ReplaceAll(told(upstreams(server.URL, new(http.Transport)).Clock(t.Context())), server.URL, "x")
		got = strings.NewReplacer("29s", "30s", "31s", "30s", "59m59s", "1h0m0s", "9m59s", "10m0s", "59m58s", "1h0m0s", "9m58s", "10m0s", "28s", "30s").Replace(got)
		if !strings.HasPrefix(got, want) {
			t.Errorf("%v: %s", off, got)
		}
		server.Close()
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header()["Date"] = nil }))
	defer server.Close()
	if got := told(upstreams(server.URL, new(http.Transport)).Clock(t.Context())); got != "skipped : no upstream told the time" {
		t.Error(got)
	}
}

func TestReach(t *testing.T) {
	plain := httptest.NewServer(dateOf(0, http.StatusNotFound))
	defer plain.Close()
	sick := httptest.NewServer(dateOf(0, http.StatusBadGateway))
	defer sick.Close()
	secure := httptest.NewTLSServer(dateOf(0, http.StatusNotFound))
	defer secure.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	trust := func(change func(*tls.Config)) *http.Transport {
		c := secure.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		if change != nil {
			change(c)
		}
		return &http.Transport{TLSClientConfig: c}
	}
	end := secure.Certificate().NotAfter
	for _, c := range []struct {
		name, url string
		transport http.RoundTripper
		now       time.Time
		within    time.Duration
		want      []string
	}{
		{"plain", plain.URL, new(http.Transport), time.Time{}, 0, []string{"ok ", "(a, b, c and 2 more)", "TCP ", "answer ", "status 404"}},
		{"TLS", secure.URL, trust(nil), time.Time{}, 0, []string{"ok ", "TLS ", "certificate until " + end.UTC().Format(time.DateOnly)}},
		{"ends soon", secure.URL, trust(nil), end.Add(-24 * time.Hour), 0, []string{"warning ", "its certificate ends on"}},
		{"ended", secure.URL, trust(func(c *tls.Config) { c.Time = func() time.Time { return end.Add(time.Hour) } }), time.Time{}, 0, []string{"problem ", "has ended, or is not valid yet, by this machine's clock"}},
		{"wrong name", secure.URL, trust(func(c *tls.Config) { c.ServerName = "wrong.example.org" }), time.Time{}, 0, []string{"problem ", "for another name", "wrong.example.org"}},
		{"unknown authority", secure.URL, new(http.Transport), time.Time{}, 0, []string{"problem ", "an authority that this machine does not trust"}},
		{"not TLS", strings.Replace(plain.URL, "http:", "https:", 1), new(http.Transport), time.Time{}, 0, []string{"problem ", "TLS failed"}},
		{"sick", sick.URL, new(http.Transport), time.Time{}, 0, []string{"warning ", "answers with status 502"}},
		{"closed", "http://" + closed.Addr().String(), new(http.Transport), time.Time{}, 0, []string{"problem ", "TCP failed", "refused"}},
		{"silent", "http://" + silent.Addr().String(), new(http.Transport), time.Time{}, 300 * time.Millisecond, []string{"problem ", "no answer within", "the last step was TCP"}},
		{"no such name", "http://no-such-host.invalid", new(http.Transport), time.Time{}, 0, []string{"problem ", "the name no-such-host.invalid"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			if c.within > 0 {
				short, cancel := context.WithTimeout(ctx, c.within)
				defer cancel()
				ctx = short
			}
			u := upstreams(c.url, c.transport)
			if !c.now.IsZero() {
				u.Now = func() time.Time { return c.now }
			}
			got := told(u.Reach(ctx))
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in %s", want, got)
				}
			}
		})
	}
	u := upstreams(plain.URL, nil)
	u.List[0].Err = errors.New("no such module")
	if got := told(u.Reach(t.Context())); !strings.Contains(got, "its transport cannot be made: no such module") {
		t.Error(got)
	}
	u = upstreams(plain.URL, nil)
	u.List[0].Err = doctor.ErrNotHere
	if got := told(u.Reach(t.Context())); !strings.HasPrefix(got, "skipped ") {
		t.Error(got)
	}
}

// TestOffline: nobody is asked, and nobody is asked twice.
func TestOffline(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer server.Close()
	u := upstreams(server.URL, new(http.Transport))
	u.Offline = true
	if got := told(u.Reach(t.Context())) + told(u.Clock(t.Context())); strings.Count(got, "skipped") != 2 || asked != 0 {
		t.Errorf("%d times, %s", asked, got)
	}
	u = upstreams(server.URL, new(http.Transport))
	if u.Reach(t.Context()); told(u.Clock(t.Context())) == "" || asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}
