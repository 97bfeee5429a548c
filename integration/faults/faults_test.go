package faults

import (
	"fmt"
	"testing"
)

// TestFaults plays every row: with each kind of request, over each protocol,
// with one sick account and with two.
func TestFaults(t *testing.T) {
	scenes := scenesOf(rows())
	if *proxyURL != "" {
		playElsewhere(t, scenes)
		return
	}
	t.Cleanup(func() {
		for _, s := range scenes {
			s.close()
		}
	})
	for _, s := range scenes {
		if err := s.open(func(string) string { return "127.0.0.1:0" }); err != nil {
			t.Fatal(err)
		}
	}
	c, err := startCaddy(stage.binary, t.TempDir(), scenes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
			stage.report.extra = append(stage.report.extra, err.Error())
		}
	})
	for _, s := range scenes {
		t.Run(s.name(), func(t *testing.T) {
			t.Parallel()
			perform(t, s, clientKey, &c.secure)
		})
	}
}

func perform(t *testing.T, s *scene, key string, secure *endpoint) {
	t.Helper()
	got := newPlayer(t, s, key, secure).play()
	for _, problem := range got.problems {
		t.Error(problem)
	}
	stage.report.add(s, got)
}

// scenesOf multiplies the rows.
func scenesOf(all []row) []*scene {
	var scenes []*scene
	for i := range all {
		r := &all[i]
		if !stage.filter.MatchString(r.name) {
			continue
		}
		for _, run := range r.runsOrBoth() {
			for _, kind := range r.kindsOrBoth() {
				for _, protocol := range r.protocolsOrOne() {
					id := fmt.Sprintf("p%04d", len(scenes)+1)
					scenes = append(scenes, &scene{row: r, run: run, kind: kind, protocol: protocol, id: id})
				}
			}
		}
	}
	return scenes
}
