package faults

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// playElsewhere plays the scenes against a proxy that runs already. It has two
// accounts for all of them, so they come one after the other.
func playElsewhere(t *testing.T, scenes []*scene) {
	t.Helper()
	addresses := map[string]string{"a": *listenA, "b": *listenB}
	t.Logf("the proxy at %s needs two accounts: a with the key %s and the upstream http://%s, b with the key %s and the upstream http://%s",
		*proxyURL, accountKeys["a"], *listenA, accountKeys["b"], *listenB)
	for _, s := range scenes {
		t.Run(s.name(), func(t *testing.T) {
			if why := s.meaningless(); why != "" {
				stage.report.add(s, result{cannot: why})
				return
			}
			s.url = strings.TrimSuffix(*proxyURL, "/")
			err := s.open(func(account string) string { return addresses[account] })
			defer s.close()
			if err == nil {
				err = s.settle(t)
			}
			if err != nil {
				// The table tells, so that one row does not hide the others.
				stage.report.add(s, result{problems: []string{err.Error()}})
				return
			}
			stage.report.add(s, newPlayer(t, s, *proxyKey, nil).play())
		})
	}
}

// meaningless says why a scene cannot be played with the other proxy.
func (s *scene) meaningless() string {
	if s.row.sick.ours() {
		return "it needs accounts that are configured for it"
	}
	if s.row.ownSettings {
		return "it is about a setting of shunt's"
	}
	for spoken := range strings.SplitSeq(*protocols, ",") {
		if spoken == s.protocol {
			return ""
		}
	}
	return "the proxy does not speak " + s.protocol
}

// settle makes the proxy forget what was, and waits until it serves. Waiting is
// all that can be done without a command; accounts that were benched for hours
// then fail the rows that follow, truly.
func (s *scene) settle(t *testing.T) error {
	t.Helper()
	if *resetWith != "" {
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", *resetWith).CombinedOutput(); err != nil {
			return fmt.Errorf("-reset: %w: %s", err, out)
		}
	}
	client := newClient(s.protocol, nil)
	defer client.CloseIdleConnections()
	return eventually(10*time.Second, func() error {
		c := s.call(model, "settling-"+s.id)
		if a := ask(t.Context(), client, c, *proxyKey); a.status != http.StatusOK || a.err != nil {
			return fmt.Errorf("the proxy does not serve while nothing is wrong: %d %w %s", a.status, a.err, excerpt(a.body))
		}
		return nil
	})
}
