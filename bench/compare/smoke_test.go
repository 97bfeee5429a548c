package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	actRole()
	os.Exit(m.Run())
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestSmoke drives a few hundred requests of each of parts A to D through the Caddy that
// SHUNT_CADDY names, with both configurations. It shows that the harness works and that
// everything arrives; how fast is not looked at.
func TestSmoke(t *testing.T) {
	path := os.Getenv("SHUNT_CADDY")
	if path == "" {
		t.Skip("SHUNT_CADDY does not name a Caddy with shunt")
	}
	binary, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	up, err := startUpstream(0)
	if err != nil {
		t.Fatal(err)
	}
	defer up.kill()
	b := &bench{caddyBinary: binary, upstream: up}
	runs := 0
	for _, c := range cells(20_000) {
		c.Job.Warm, c.Job.Run = min(c.Job.Warm, 50*time.Millisecond), min(c.Job.Run, 250*time.Millisecond)
		if c.Job.Kind == kindPaced {
			if c.Name != "500 streams, 20 ms" {
				continue
			}
			c.Job.Connections, c.Job.Ramp = 100, c.Job.Ramp/4
		}
		if strings.Contains(c.Name, "30 MB") {
			continue
		}
		rows, err := b.compare(c, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != len(c.Shows) {
			t.Errorf("%s: %d rows of %d", c.Name, len(rows), len(c.Shows))
		}
		runs += 2
	}
	if err := up.stop(); err != nil {
		t.Error(err)
	}
	fmt.Printf("bench: %d runs\n", runs)
}

// TestSmokeFails: a load that does not get what it asked for is an error, not a figure.
func TestSmokeFails(t *testing.T) {
	path := os.Getenv("SHUNT_CADDY")
	if path == "" {
		t.Skip("SHUNT_CADDY does not name a Caddy with shunt")
	}
	up, err := startUpstream(0)
	if err != nil {
		t.Fatal(err)
	}
	defer up.kill()
	b := &bench{caddyBinary: path, upstream: up}
	// The stream that upstream is asked for has fewer events than the load waits for.
	c := &cell{Name: "short streams", Job: job{Kind: kindPaced, Connections: 3, Events: 5, Query: "?events=4&spacing=1ms"}}
	if f, err := b.once(c, reverseProxy, ""); err == nil || !strings.Contains(err.Error(), "3 of them") {
		t.Errorf("got %v, %v", f, err)
	}
}
