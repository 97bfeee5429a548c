package credential

import "sync"

// teller hands events to one function, one at a time and in order, from a
// goroutine that holds no lock. The zero value with a nil function tells nobody.
type teller struct {
	to func(Event)

	mu      sync.Mutex // guards all below; never held during a call of to
	queue   []Event
	telling bool
}

// tell queues an event. It may be called with locks held.
func (t *teller) tell(e Event) {
	if t.to == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, e)
	if !t.telling {
		t.telling = true
		go t.drain()
	}
}

func (t *teller) drain() {
	for {
		t.mu.Lock()
		if len(t.queue) == 0 {
			t.queue, t.telling = nil, false
			t.mu.Unlock()
			return
		}
		e := t.queue[0]
		t.queue = t.queue[1:]
		t.mu.Unlock()
		t.to(e)
	}
}
