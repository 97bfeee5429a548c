package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/tidwall/gjson"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// freeAddress names a loopback port that nobody uses now.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// run loads a configuration with this app alone, as a reload does.
func run(t *testing.T, a *App) error {
	t.Helper()
	app, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"level":"ERROR"}}},"apps":{"fakeclaude":%s}}`, app)
	return caddy.Load([]byte(config), true)
}

func mustRun(t *testing.T, a *App) {
	t.Helper()
	if err := run(t, a); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return string(body)
}

func ask(t *testing.T, address, key string) int {
	t.Helper()
	request, _ := http.NewRequest(http.MethodPost, "http://"+address+"/v1/messages",
		strings.NewReader(`{"model":"claude-haiku-5-5","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}`))
	request.Header = http.Header{"X-Api-Key": {key}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return response.StatusCode
}

func team(key string) []Account { return []Account{{Name: "team", Plan: "api", APIKey: key}} }

func requests(t *testing.T, address string) int64 {
	t.Helper()
	return gjson.Get(get(t, "http://"+address+"/_fake/books"), "team.requests").Int()
}

func TestReloadKeepsPortAndState(t *testing.T) {
	address := freeAddress(t)
	mustRun(t, &App{Listen: address, Accounts: team("k1")})
	if status := ask(t, address, "k1"); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	// Another storm is no other world.
	mustRun(t, &App{Listen: address, Accounts: team("k1"), Storm: caddy.Duration(time.Hour)})
	if n := requests(t, address); n != 1 {
		t.Errorf("after a reload the books show %d requests", n)
	}
	mustRun(t, &App{Listen: address, Accounts: team("k2")})
	if n := requests(t, address); n != 0 {
		t.Errorf("another world shows %d requests", n)
	}
	if status := ask(t, address, "k1"); status != http.StatusUnauthorized {
		t.Errorf("the old key gets %d", status)
	}
	if references, _ := ports.References(address); references != 1 {
		t.Errorf("%d configurations hold the port", references)
	}
}

func TestFailedReloadChangesNothing(t *testing.T) {
	address := freeAddress(t)
	mustRun(t, &App{Listen: address, Accounts: team("k1")})
	ask(t, address, "k1")
	if err := run(t, &App{Listen: address, Accounts: team("k1"), Traffic: &Traffic{URL: "nowhere"}}); err == nil {
		t.Fatal("nonsense was loaded")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := run(t, &App{Listen: taken.Addr().String(), Accounts: team("k2")}); err == nil {
		t.Fatal("a port that is taken was opened")
	}
	if n := requests(t, address); n != 1 {
		t.Errorf("the books show %d requests", n)
	}
}

func TestStopFreesThePort(t *testing.T) {
	address := freeAddress(t)
	if err := run(t, &App{Listen: address, Accounts: team("k1")}); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	count := 0
	worlds.Range(func(any, any) bool { count++; return true })
	if count != 0 {
		t.Errorf("%d worlds are left", count)
	}
}

func TestTrafficComesAndGoes(t *testing.T) {
	address := freeAddress(t)
	mustRun(t, &App{
		Listen: address, Pace: 1, Accounts: team("k1"), Speed: 1,
		Traffic: &Traffic{URL: "http://" + address, Pause: caddy.Duration(time.Millisecond), People: []Person{{Name: "ann", Key: "k1", Sessions: 2}}},
	})
	deadline := time.Now().Add(20 * time.Second)
	for requests(t, address) < 10 {
		if time.Now().After(deadline) {
			t.Fatal("no traffic")
		}
		time.Sleep(10 * time.Millisecond)
	}
	books := get(t, "http://"+address+"/_fake/books")
	if read := gjson.Get(books, "team.cache_read_tokens").Int(); read < 20_000 {
		t.Errorf("traffic reads nothing from the cache: %s", books)
	}
	sessions := map[string]bool{}
	largest := int64(0)
	for _, r := range gjson.Get(get(t, "http://"+address+"/_fake/log"), `#(method=="POST")#`).Array() {
		sessions[r.Get("headers.X-Claude-Code-Session-Id").String()] = true
		largest = max(largest, r.Get("body_bytes").Int())
	}
	if len(sessions) < 2 || largest < int64(len(house))+4000 {
		t.Errorf("%d sessions, the largest prompt has %d bytes", len(sessions), largest)
	}
	// A reload without traffic sends people home.
	mustRun(t, &App{Listen: address, Pace: 1, Accounts: team("k1"), Speed: 1})
	// A request that was on its way may still arrive.
	time.Sleep(50 * time.Millisecond)
	before := requests(t, address)
	time.Sleep(100 * time.Millisecond)
	if n := requests(t, address); n != before {
		t.Errorf("traffic goes on: %d, then %d requests", before, n)
	}
}

func TestStormsComeAndGo(t *testing.T) {
	address := freeAddress(t)
	mustRun(t, &App{Listen: address, Accounts: team("k1"), Storm: caddy.Duration(200 * time.Millisecond)})
	// Storms hit accounts at work only, so the first one comes after a request.
	// The first kind of trouble is overload, for half the interval.
	for _, want := range []int{http.StatusOK, 529, http.StatusOK} {
		deadline := time.Now().Add(6 * time.Second)
		for ask(t, address, "k1") != want {
			if time.Now().After(deadline) {
				t.Fatalf("no answer %d", want)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func TestStopWaitsForEverybody(t *testing.T) {
	a := new(App)
	release := make(chan struct{})
	a.running.Go(func() { <-release })
	stopped := make(chan error)
	go func() { stopped <- a.Stop() }()
	select {
	case <-stopped:
		t.Fatal("Stop left somebody behind")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestPortServesTheYoungest(t *testing.T) {
	address := freeAddress(t)
	var fakes []*fakeclaude.Server
	for _, key := range []string{"k1", "k2"} {
		fake := fakeclaude.New(fakeclaude.Options{Accounts: []fakeclaude.Account{{Name: "team", APIKey: key}}})
		defer fake.Close()
		fakes = append(fakes, fake)
		if _, err := takePort(address, fake); err != nil {
			t.Fatal(err)
		}
	}
	if status := ask(t, address, "k2"); status != http.StatusOK {
		t.Errorf("the youngest answers %d", status)
	}
	value, _ := ports.LoadOrStore(address, nil)
	p := value.(*port)
	if _, err := ports.Delete(address); err != nil {
		t.Fatal(err)
	}
	// What a reload that fails after Start does.
	if err := p.release(fakes[1]); err != nil {
		t.Fatal(err)
	}
	if status := ask(t, address, "k1"); status != http.StatusOK {
		t.Errorf("the one before answers %d", status)
	}
	if err := p.release(fakes[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("the port is still open")
	}
}
