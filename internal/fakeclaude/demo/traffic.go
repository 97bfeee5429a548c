package demo

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Traffic is a few simulated developers who work through an endpoint.
type Traffic struct {
	// URL is the base URL that they use, as ANTHROPIC_BASE_URL would be.
	URL string `json:"url"`
	// Pause is the usual time between an answer and the next question.
	// Default: 1s.
	Pause caddy.Duration `json:"pause,omitempty"`
	// People are the developers. At least one is needed.
	People []Person `json:"people,omitempty"`
}

// Person is one developer.
type Person struct {
	Name string `json:"name"`
	Key  string `json:"key"`
	// Sessions is how many sessions the person runs at a time, at most 20.
	// Default: 1.
	Sessions int `json:"sessions,omitempty"`
}

const (
	maxSessions  = 20
	defaultPause = time.Second
)

func (t *Traffic) complete() {
	if t.Pause == 0 {
		t.Pause = caddy.Duration(defaultPause)
	}
	for i := range t.People {
		if t.People[i].Sessions == 0 {
			t.People[i].Sessions = 1
		}
	}
}

func (t *Traffic) check() error {
	target, err := url.Parse(t.URL)
	if err != nil || target.Host == "" || (target.Scheme != "http" && target.Scheme != "https") {
		return fmt.Errorf("fakeclaude: traffic needs an http or https URL, not %q", t.URL)
	}
	if t.Pause < 0 {
		return errors.New("fakeclaude: the pause of the traffic cannot be negative")
	}
	if len(t.People) == 0 {
		return errors.New("fakeclaude: traffic needs at least one person")
	}
	for _, person := range t.People {
		if person.Name == "" || person.Key == "" || person.Sessions < 1 || person.Sessions > maxSessions {
			return fmt.Errorf("fakeclaude: person %q needs a name, a key and 1 to %d sessions", person.Name, maxSessions)
		}
	}
	return nil
}
