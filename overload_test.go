package shunt

import (
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// TestWarmSessionWaitsWhileItsAccountIsOverloaded: at once and after a moment it
// is asked again where it is warm; only then another account is.
func TestWarmSessionWaitsWhileItsAccountIsOverloaded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		warm     bool
		times    int
		own      int // tries at the account where it began
		elsewise int // tries at another
	}{
		"over after a wait":      {"", true, 2, 3, 0},
		"over after three waits": {"", true, 4, 5, 0},
		"not over":               {"", true, -1, 5, 1},
		"a new conversation":     {"", false, -1, 2, 1},
		"hold off":               {"hold off\n", true, -1, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFour(t, test.settings)
			own, session, before := "b", []string(nil), 0
			if test.warm {
				session, own = b.warm(longPrompt)
				before = 1
			} else {
				b.h.live.state.Pin(own)
			}
			b.fake.SetFault(own, fakeclaude.Fault{Name: fakeclaude.Overloaded, Times: test.times, RetryAfter: time.Second})
			b.ask(longPrompt, session...).mustServe(t, name)
			others := 0
			tries := b.tries(before)
			for account, n := range tries {
				if account != own {
					others += n
				}
			}
			if tries[own] != test.own || others != test.elsewise {
				t.Errorf("asked %v, first %s; want %d tries there and %d elsewhere", tries, own, test.own, test.elsewise)
			}
			b.mustBeIdle()
		})
	}
}
