package shunt

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestNewerFieldsAreKept: what a newer version has written under our name, and this one
// does not know, is still there after this one has written.
func TestNewerFieldsAreKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		a := newNode(t, storage, "x").start()
		a.hold("file_1")
		time.Sleep(time.Minute)
		a.stop()
		records := make(map[string]string)
		for key, more := range map[string][2]string{
			"shunt/p/facts/x.json": {`"version":1,`, `"version":1,"more":["precious"],`},
			"shunt/p/base/x.json":  {`"accounts":`, `"more":["precious"],"accounts":`},
		} {
			records[key] = strings.Replace(storage.get(key), more[0], more[1], 1)
			if records[key] == storage.get(key) {
				t.Fatalf("%s has no %s: %s", key, more[0], records[key])
			}
			storage.set(func() { storage.values[key] = []byte(records[key]) })
		}
		b := newNode(t, storage, "x").start()
		defer b.stop()
		time.Sleep(time.Minute)
		if b.sharing.own() != "x" {
			t.Fatalf("named %q", b.sharing.own())
		}
		for key, record := range records {
			if storage.get(key) == record {
				t.Errorf("%s was not written", key)
			}
			if got := storage.copies(key + ".newer-"); len(got) != 1 || got[0] != record {
				t.Errorf("of %s there are the copies %q", key, got)
			}
		}
		if got := b.messages("a copy is kept"); len(got) != 2 {
			t.Errorf("logged: %v", got)
		}
	})
}

// TestNewerBaseIsSetAside: a record of everything whose version is not known is not
// written over.
func TestNewerBaseIsSetAside(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const newer = `{"version":2,"instance":"x","boot":"b"}`
		storage := newSharedStorage()
		if err := storage.Store(t.Context(), "shunt/p/base/x.json", []byte(newer)); err != nil {
			t.Fatal(err)
		}
		a := newNode(t, storage, "x").start()
		defer a.stop()
		time.Sleep(time.Minute)
		if now := storage.get("shunt/p/base/x.json"); now == newer || now == "" {
			t.Fatalf("the record is %q", now)
		}
		if got := storage.copies("shunt/p/base/x.json.corrupt-"); len(got) != 1 || got[0] != newer {
			t.Errorf("copies: %q", got)
		}
	})
}

// TestOwnFieldsAreKnown: what this version writes needs no copy.
func TestOwnFieldsAreKnown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := newSharedStorage()
		for range 3 {
			a := newNode(t, storage, "x").start()
			a.hold("file_1")
			time.Sleep(time.Minute)
			a.stop()
		}
		for _, kind := range []string{"facts", "base", "state"} {
			if record := storage.get("shunt/p/" + kind + "/x.json"); record == "" {
				t.Errorf("no record of %s", kind)
			}
			if got := storage.copies("shunt/p/" + kind + "/x.json."); len(got) != 0 {
				t.Errorf("copies of %s: %q", kind, got)
			}
		}
	})
}

// TestNewerStateIsKept: as TestNewerFieldsAreKept, for the state; what is known of it is
// taken over.
func TestNewerStateIsKept(t *testing.T) {
	id, err := caddy.InstanceID()
	if err != nil {
		t.Fatal(err)
	}
	const block = "account main {\napi_key sk-ant-api03-aaaa\n}"
	root := t.TempDir()
	path := filepath.Join(root, "shunt", "newerstate", "state", id.String()+".json")
	s := begin(t, "newerstate", root, block)
	s.h.live.state.Pin("main")
	s.stop()
	if copies, _ := filepath.Glob(path + ".*"); len(copies) != 0 {
		t.Fatalf("of what this version wrote there are copies: %v", copies)
	}
	newer := strings.Replace(readFile(t, path), `"pin":`, `"more":{"precious":true},"pin":`, 1)
	if !json.Valid([]byte(newer)) || !strings.Contains(newer, "precious") {
		t.Fatal(newer)
	}
	if err := os.WriteFile(path, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	s = begin(t, "newerstate", root, block)
	if pin := s.h.live.state.Pinned(); pin != "main" {
		t.Errorf("the pin is %q", pin)
	}
	s.h.live.state.Pin("")
	s.stop()
	if strings.Contains(readFile(t, path), "precious") {
		t.Fatal("the record was not written")
	}
	copies, err := filepath.Glob(path + ".newer-*")
	if err != nil || len(copies) != 1 || readFile(t, copies[0]) != newer {
		t.Errorf("copies: %v %v", copies, err)
	}
}
