package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadScenarioRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"name": "x", "lod": 1, "pool": [{"plan": 5, "n": 2}]}`, "lod"},
		{`{"name": "x", "pool": [{"plan": 5, "n": 2, "dead_at": 3}]}`, "dead_at"},
		{`{"name": "x", "pool": [{"plan": 4, "n": 2}]}`, "plan"},
		{`{"name": "x", "pool": [{"plan": 5}]}`, `"n"`},
		{`{"name": "x", "pool": []}`, "pool"},
		{`{"name": "x", "load": 0, "pool": [{"plan": 5, "n": 2}]}`, "load"},
		{`{"pool": [{"plan": 5, "n": 2}]}`, "name"},
		{`{"name": "x", "load": "much", "pool": [{"plan": 5, "n": 2}]}`, "load"},
		{`{"name": "x", "pool": [{"plan": 5, "n": 2}]} {}`, "follows"},
	} {
		_, err := readScenario("some.json", []byte(c.text))
		if err == nil {
			t.Errorf("%s: no error", c.text)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "some.json") {
			t.Errorf("%s: error %q does not name the file and %q", c.text, err, c.want)
		}
	}
}

func TestReadScenarioDefaults(t *testing.T) {
	s, err := readScenario("some.json", []byte(`{"name": "x", "pool": [{"plan": 5, "n": 2}], "batch": 0}`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Weeks != 4 || s.Batch != 0 || s.TTL != 5 || s.Bursts != 2 || s.Overloads != 3 || s.Patience != 12 {
		t.Errorf("defaults are %+v", s)
	}
}

func TestReadScenariosOfADirectory(t *testing.T) {
	dir := t.TempDir()
	if _, err := readScenarios(dir); err == nil {
		t.Error("an empty directory is no error")
	}
	if err := os.WriteFile(filepath.Join(dir, "mine.json"), []byte(`{"name": "mine", "pool": [{"plan": 1, "n": 3}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := readScenarios(dir)
	if err != nil || len(all) != 1 || all[0].Name != "mine" {
		t.Errorf("read %v, %v", all, err)
	}
	if all, err = readScenarios(""); err != nil || len(all) != 20 {
		t.Errorf("%d scenarios are built in, want 20: %v", len(all), err)
	}
}
