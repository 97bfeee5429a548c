package pool

import (
	"container/heap"
	"time"
)

// turns are the people in line, who is least far first.
type turns []*share

// arrange gives everybody in line their place behind those of the same person, and
// the people their turns.
func (p *Pool) arrange(now time.Time) {
	q := &p.waiting
	q.turns = q.turns[:0]
	for _, w := range q.line {
		sh := w.share
		if sh.first == nil {
			sh.first = w
			p.shares.place(sh, now)
			q.turns = append(q.turns, sh)
		} else {
			sh.last.behind = w
		}
		sh.last = w
	}
	heap.Init(&q.turns)
}

// place says what the person is put against others by.
func (s *shares) place(sh *share, now time.Time) {
	sh.rank = s.far(sh)
	sh.lately = (sh.recent.at(now) + sh.running) / sh.weight
}

// serveInTurn calls attend for everybody in line. attend reports whether the request
// got an account: then its person's next one is put against the others again.
func (p *Pool) serveInTurn(now time.Time, attend func(*waiter) bool) {
	p.arrange(now)
	q := &p.waiting
	for len(q.turns) > 0 {
		sh := q.turns[0]
		for served := false; !served && sh.first != nil; {
			w := sh.first
			sh.first, w.behind = w.behind, nil
			served = attend(w)
		}
		if sh.first == nil {
			sh.last = nil
			heap.Pop(&q.turns)
			continue
		}
		p.shares.place(sh, now)
		heap.Fix(&q.turns, 0)
	}
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (t *turns) Len() int { return len(*t) }

// Less orders people who are equally far by what they used lately, and by who came
// first.
func (t *turns) Less(i, j int) bool {
	a, b := (*t)[i], (*t)[j]
	switch {
	case a.rank != b.rank:
		return a.rank < b.rank
	case a.lately != b.lately:
		return a.lately < b.lately
	}
	return a.first.number < b.first.number
}

// Swap swaps two.
func (t *turns) Swap(i, j int) { (*t)[i], (*t)[j] = (*t)[j], (*t)[i] }

// Push adds a person.
func (t *turns) Push(x any) { *t = append(*t, x.(*share)) }

// Pop takes the last one out.
func (t *turns) Pop() any {
	n := len(*t) - 1
	last := (*t)[n]
	*t = (*t)[:n]
	return last
}
