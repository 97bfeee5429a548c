package pool

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// facts is what an instance tells its peers: a stand-in that carries the pin, the
// benches and the holdings.
type facts struct {
	Pin     string                `json:"pin,omitempty"`
	Benches map[string]benchFacts `json:"benches,omitempty"` // by Member.Key
	Bound   []holdingSnapshot     `json:"bound,omitempty"`
}

type benchFacts struct {
	Name    string  `json:"name"`
	Benches []bench `json:"benches"`
}

// firstSeen is when a holding was first told, by heldBy.
var firstSeen sync.Map

type heldBy struct {
	p  *Pool
	id string
}

// Facts is what this instance has to tell its peers.
func (p *Pool) Facts(since time.Time) ([]byte, error) {
	p.mu.Lock()
	now := p.now()
	f := facts{Pin: p.pin, Benches: make(map[string]benchFacts)}
	for _, h := range liveHoldings(&p.bound, now) {
		at, _ := firstSeen.LoadOrStore(heldBy{p, h.ID}, now)
		if !at.(time.Time).Before(since) {
			f.Bound = append(f.Bound, h)
		}
	}
	for _, a := range p.accounts {
		if len(a.benches) > 0 {
			f.Benches[a.key] = benchFacts{a.name, append([]bench(nil), a.benches...)}
		}
	}
	p.mu.Unlock()
	data, err := json.Marshal(&f)
	if err != nil {
		return nil, fmt.Errorf("marshalling the pool's facts: %w", err)
	}
	return data, nil
}

// Merge takes over what a peer told.
func (p *Pool) Merge(_ string, data []byte) error {
	var f facts
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("reading a peer's facts: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.pin == "" && f.Pin != "" {
		p.pin = f.Pin
		p.changes++
	}
	for key, b := range f.Benches {
		a := p.account(key, b.Name)
		for _, told := range b.Benches {
			if len(a.benches) == 0 && now.Before(told.Until) {
				a.setBench(told)
				p.changes++
			}
		}
	}
	restoreHoldings(&p.bound, f.Bound, now)
	return nil
}

// dropped counts the calls of Drop, for want of loads to forget.
var dropped sync.Map

// Drop forgets the load of a silent peer.
func (p *Pool) Drop(peer string) { dropped.Store(peer, true) }

var urgents sync.Map // *Pool: chan struct{}

// Urgent tells of something that peers should hear of at once.
func (p *Pool) Urgent() <-chan struct{} {
	value, known := urgents.LoadOrStore(p, make(chan struct{}, 1))
	ch := value.(chan struct{})
	if !known {
		p.watch(ch, p.mark())
	}
	return ch
}

// watch looks for changes: the stand-in may not touch the places that make them.
func (p *Pool) watch(ch chan struct{}, seen string) {
	time.AfterFunc(10*time.Millisecond, func() {
		mark := p.mark()
		if mark != seen {
			select {
			case ch <- struct{}{}:
			default:
			}
		}
		p.watch(ch, mark)
	})
}

func (p *Pool) mark() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	benches := 0
	for _, a := range p.accounts {
		benches += len(a.benches)
	}
	return fmt.Sprint(p.pin, benches, p.bound.len())
}
