package shunt

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

func init() { caddy.RegisterModule(new(eventSink)) }

// eventSink is a handler of events that keeps them.
type eventSink struct {
	Name string `json:"name"`

	mu   sync.Mutex
	seen []caddy.Event
	// each is called for each event first, unless nil.
	each func(caddy.Event)
}

var eventSinks sync.Map // by name

func (*eventSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.shunt_test", New: func() caddy.Module { return new(eventSink) }}
}

func (s *eventSink) Handle(_ context.Context, e caddy.Event) error {
	kept, _ := eventSinks.LoadOrStore(s.Name, new(eventSink))
	sink := kept.(*eventSink)
	sink.mu.Lock()
	each := sink.each
	sink.mu.Unlock()
	if each != nil {
		each(e)
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	sink.seen = append(sink.seen, e)
	return nil
}

func (s *eventSink) set(f func(*eventSink)) { s.mu.Lock(); f(s); s.mu.Unlock() }

// of lists the events of that name in a pool.
func (s *eventSink) of(name, pool string) (found []map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.seen {
		if e.Name() == name && e.Data["pool"] == pool {
			found = append(found, e.Data)
		}
	}
	return found
}

// await waits for the nth event of that name.
func (s *eventSink) await(t *testing.T, name, pool string, n int) map[string]any {
	t.Helper()
	soon(t, fmt.Sprintf("event %d of %s", n, name), func() bool { return len(s.of(name, pool)) >= n })
	return s.of(name, pool)[n-1]
}

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come: %s", what)
		}
	}
}

// started is a handler as a configuration starts it, with events and logs.
type started struct {
	t    *testing.T
	h    *Handler
	sink *eventSink
	logs *observer.ObservedLogs
	root string
	ctx  caddy.Context
}

// begin starts a block in a pool and a folder that others may take up. It is not
// for parallel tests: the newest configuration of the process gets the events.
func begin(t *testing.T, pool, root, block string, prepare ...func(*started)) *started {
	t.Helper()
	s, err := tryBegin(t, pool, root, block)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prepare {
		p(s)
	}
	s.start()
	return s
}

func tryBegin(t *testing.T, pool, root, block string) (*started, error) {
	t.Helper()
	s := &started{t: t, h: new(Handler), root: root}
	kept, _ := eventSinks.LoadOrStore(t.Name(), new(eventSink))
	s.sink = kept.(*eventSink)
	text := fmt.Sprintf("shunt {\npool %s\nstorage file_system {\nroot %q\n}\n%s\n}", pool, root, block)
	if err := s.h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
		return nil, err
	}
	subscription, err := json.Marshal(map[string]any{"subscriptions": []any{map[string]any{
		"handlers": []any{map[string]string{"handler": "shunt_test", "name": t.Name()}},
	}}})
	if err != nil {
		return nil, err
	}
	provisioning.Lock()
	s.ctx, err = caddy.ProvisionContext(&caddy.Config{AppsRaw: caddy.ModuleMap{"events": subscription}})
	provisioning.Unlock()
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := s.h.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	if err := s.h.Provision(s.ctx); err != nil {
		return nil, err
	}
	core, logs := observer.New(zap.InfoLevel)
	s.logs, s.h.logger, s.h.app.logger = logs, zap.New(core), zap.New(core)
	return s, s.h.Validate()
}

func (s *started) events() *caddyevents.App {
	app, err := s.ctx.App("events")
	if err != nil {
		s.t.Fatal(err)
	}
	return app.(*caddyevents.App)
}

// start starts the apps as Caddy does.
func (s *started) start() {
	s.t.Helper()
	if err := s.h.app.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.stop)
	if err := s.events().Start(); err != nil {
		s.t.Fatal(err)
	}
	s.events().Emit(s.ctx, "started", nil)
}

func (s *started) stop() {
	s.t.Helper()
	if err := s.h.app.Stop(); err != nil {
		s.t.Error(err)
	}
	s.h.app.stop = nil
	if err := s.h.Cleanup(); err != nil {
		s.t.Error(err)
	}
}

func (s *started) record(name string) string {
	return filepath.Join(s.root, "shunt", s.h.Pool, "credentials", name+".json")
}

func (s *started) account(name string) *account {
	s.t.Helper()
	for _, a := range s.h.accounts {
		if a.member.Name == name {
			return a
		}
	}
	s.t.Fatalf("no account %s", name)
	return nil
}

// putLogin stores a login in clear, as an import does.
func putLogin(t *testing.T, root, pool, name, access, refresh string, change func(*credential.Record)) {
	t.Helper()
	rec, err := credential.NewRecord(access, refresh, time.Now().Add(8*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&rec)
	}
	if err := credential.Import(t.Context(), &certmagic.FileStorage{Path: root}, credentialKey(pool, name), rec); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// asides lists the copies that were set aside beside a file.
func asides(t *testing.T, path string) []string {
	t.Helper()
	found, err := filepath.Glob(path + ".corrupt-*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// sealingKey sets an environment variable to a key and returns the key's ID.
func sealingKey(t *testing.T, name string, b byte) (id string) {
	t.Helper()
	text := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32))
	t.Setenv(name, text)
	key, err := credential.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key.ID()
}

// logged counts the log lines that contain the text.
func (s *started) logged(text string) (n int) {
	for _, e := range s.logs.All() {
		if strings.Contains(e.Message, text) {
			n++
		}
	}
	return n
}

// serveStarted puts the handler behind a server.
func serveStarted(t *testing.T, s *started, fake *fakeclaude.Server) *bench {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveWith(s.h, w, r) }))
	t.Cleanup(server.Close)
	return &bench{t: t, fake: fake, h: s.h, url: server.URL, serving: new(atomic.Int64)}
}

// processCounter is the count of refreshes of account main.
func processCounter(t *testing.T, pool, result string) float64 {
	t.Helper()
	return gather(t)["caddy_shunt_refreshes_total{"+pool+",main,"+result+"}"]
}
