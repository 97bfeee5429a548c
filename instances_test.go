package shunt

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

// beside starts another instance of the bench's pool on its storage.
func (b *bench) beside(name string) *node {
	b.t.Helper()
	n := newNode(b.t, b.h.storage, name)
	n.livePool = newLivePool(b.h.Pool)
	n.sharing.boot, n.sharing.host, n.sharing.runs = "boot-of-"+name, name, func(int) bool { return true }
	n.attach(&poolMeans{storage: b.h.storage, logger: zap.NewNop(), interval: 2 * time.Second, instance: name})
	n.group = n.state.Group(b.h.group.Members(), pool.Policies[pool.DefaultPolicy])
	n.start()
	b.t.Cleanup(n.stop)
	deadline := time.Now().Add(10 * time.Second)
	for !n.lives("me") || !strings.Contains(b.do(http.MethodGet, "/status", "").body, `"name":"`+name+`","self":false`) {
		if time.Now().After(deadline) {
			b.t.Fatalf("they do not find each other: %s", b.do(http.MethodGet, "/status", "").body)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return n
}

const twoSeconds = "instances {\ninterval 2s\nname me\n}\n"

// TestUnknownFileIsAskedFor: what another instance made a moment ago is found.
func TestUnknownFileIsAskedFor(t *testing.T) {
	b := newFour(t, twoSeconds)
	n := b.beside("other")
	body := `{"model":"claude-sonnet-5","max_tokens":100,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"file_011CNha8iCJcU1wXNR6q4V8w"}}]}]}`
	begun := time.Now()
	if r := b.ask(body); r.status != http.StatusBadRequest {
		t.Errorf("a file that nobody knows: %d %s", r.status, r.body)
	}
	if took := time.Since(begun); took > askWithin+time.Second {
		t.Errorf("the refusal took %s", took)
	}
	time.Sleep(askEvery)
	held := n.hold("file_011CNha8iCJcU1wXNR6q4V8w")
	b.ask(body)
	b.mustBeIdle()
	if got := b.h.group.View().Recent[0].Account; got != held {
		t.Errorf("%q was asked, %q holds the file", got, held)
	}
}

// sample is the value of a counter or gauge.
func sample(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	m := families[0].GetMetric()[0]
	return m.GetGauge().GetValue() + m.GetCounter().GetValue()
}

// TestInstancesAreShown in /status and the metrics.
func TestInstancesAreShown(t *testing.T) {
	b := newFour(t, twoSeconds)
	b.beside("other")
	var status statusView
	if err := json.Unmarshal([]byte(b.do(http.MethodGet, "/status", "").body), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Instances) != 2 {
		t.Fatalf("%+v", status.Instances)
	}
	self, other := status.Instances[0], status.Instances[1]
	if self.Name != "me" || !self.Self || !self.Live || other.Name != "other" || other.Self || !other.Live {
		t.Errorf("%+v", status.Instances)
	}
	if other.LastHeardMS == nil || time.Since(time.UnixMilli(*other.LastHeardMS)).Abs() > 10*time.Second {
		t.Errorf("last heard %v", other.LastHeardMS)
	}
	if got := sample(t, processMetrics.peers.WithLabelValues(b.h.Pool)); got != 1 {
		t.Errorf("caddy_shunt_peers is %v", got)
	}
}

// TestInstancesOnFiles: the storage that Caddy has by default, with files that are
// being written in it.
func TestInstancesOnFiles(t *testing.T) {
	b := newFour(t, twoSeconds)
	n := b.beside("other")
	folder := filepath.Join(b.h.storage.(interface{ Filename(string) string }).Filename("shunt/" + b.h.Pool + "/facts"))
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				if f, err := os.CreateTemp(folder, ""); err == nil {
					_ = f.Close()
					_ = os.Remove(f.Name())
				}
			}
		}
	}()
	errorsBefore := sample(t, processMetrics.peerErrors.WithLabelValues(b.h.Pool))
	b.h.live.state.Pin("c")
	deadline := time.Now().Add(5 * time.Second)
	for n.state.Pinned() != "c" && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	for range 5000 {
		if _, err := listInstances(t.Context(), b.h.storage, "shunt/"+b.h.Pool+"/facts"); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-done
	if n.state.Pinned() != "c" {
		t.Error("the pin was not heard of")
	}
	if got := sample(t, processMetrics.peerErrors.WithLabelValues(b.h.Pool)); got != errorsBefore {
		t.Errorf("%v errors", got-errorsBefore)
	}
}

// TestPeersAreHeardAtStart: before the first request.
func TestPeersAreHeardAtStart(t *testing.T) {
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	n := newNode(t, storage, "other")
	n.livePool = newLivePool("heard-at-start")
	n.attach(&poolMeans{storage: storage, logger: zap.NewNop(), interval: time.Minute, instance: "other"})
	n.state.Pin("a")
	n.start()
	defer n.stop()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(storage.Filename("shunt/heard-at-start/base/other.json")); err == nil {
			break
		}
	}
	time.Sleep(100 * time.Millisecond)
	h := new(Handler)
	text := "shunt {\npool heard-at-start\nstorage file_system " + storage.Path + "\ninstances {\nname me\n}\naccount a {\napi_key sk-ant-api03-aaaa\n}\n}"
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
		t.Fatal(err)
	}
	if err := h.Provision(newContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := h.app.Start(); err != nil {
		t.Fatal(err)
	}
	if got := h.live.state.Pinned(); got != "a" {
		t.Errorf("pinned: %q", got)
	}
	if err := errors.Join(h.app.Stop(), h.Cleanup()); err != nil {
		t.Fatal(err)
	}
}

// TestInstancesAgree: handlers of one pool.
func TestInstancesAgree(t *testing.T) {
	const account = "account a {\napi_key sk-ant-api03-aaaa\n}\n"
	for _, c := range []struct {
		name, first, second string
		fails               bool
		interval            time.Duration
	}{
		{"same", "instances {\ninterval 2s\n}\n", "instances {\ninterval 2s\n}\n", false, 2 * time.Second},
		{"one only", "", "instances {\ninterval 2s\n}\n", false, 2 * time.Second},
		{"none", "", "", false, DefaultInterval},
		{"other interval", "instances {\ninterval 2s\n}\n", "instances {\ninterval 3s\n}\n", true, 0},
		{"other name", "instances {\nname a\n}\n", "instances {\nname b\n}\n", true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, folder := newContext(t), t.TempDir()
			var app *App
			var err error
			for _, block := range []string{c.first, c.second} {
				h := new(Handler)
				text := "shunt {\npool agree\nstorage file_system " + folder + "\n" + block + account + "}"
				if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
					t.Fatal(err)
				}
				err = h.Provision(ctx)
				t.Cleanup(func() { _ = h.Cleanup() })
				app = h.app
			}
			if (err != nil) != c.fails || c.fails && !strings.Contains(err.Error(), "instances: ") {
				t.Fatal(err)
			}
			if c.fails {
				return
			}
			app.lend(nil, nil)
			if got := app.handlers[0].live.sharing.means.Load().interval; got != c.interval {
				t.Errorf("interval %s", got)
			}
		})
	}
}

// TestFirstInstanceID: another part of Caddy makes an id in the same moment.
func TestFirstInstanceID(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	want := uuid.NewString()
	late := time.AfterFunc(20*time.Millisecond, func() {
		if err := os.WriteFile(filepath.Join(caddy.AppDataDir(), "instance.uuid"), []byte(want), 0o600); err != nil {
			t.Error(err)
		}
	})
	defer late.Stop()
	if got, err := instanceID(t.Context()); got != want {
		t.Errorf("%s, %v; the file has %s", got, err, want)
	}
	begun := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(caddy.AppDataDir(), "instance.uuid"), begun, begun); err != nil {
		t.Fatal(err)
	}
	begun = time.Now()
	if got, err := instanceID(t.Context()); got != want || time.Since(begun) > settled/2 {
		t.Errorf("%s, %v, after %s", got, err, time.Since(begun))
	}
}

// TestInstanceNames: a name may come from the environment, and is checked then.
func TestInstanceNames(t *testing.T) {
	t.Setenv("SHUNT_TEST_GOOD", "host-1")
	t.Setenv("SHUNT_TEST_BAD", "a/b")
	for raw, want := range map[string]string{"{env.SHUNT_TEST_GOOD}": "host-1", "{env.SHUNT_TEST_BAD}": "", "{env.SHUNT_TEST_NONE}": "", strings.Repeat("x", 57): ""} {
		_, got, err := (&Instances{Name: raw}).resolved()
		if (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %q, %v", raw, got, err)
		}
	}
}
