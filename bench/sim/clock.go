package main

import "time"

// clock is virtual time: it jumps from event to event. It is a pool.Clock.
type clock struct {
	now    time.Duration // since epoch
	events []event       // a heap of four children a node: flatter than one of two
	number uint64
}

// event is what happens at a time. Events of the same time happen in the order
// they were made.
type event struct {
	at     time.Duration
	number uint64
	kind   eventKind
	stamp  int // the wait that impatience is about, or the account that is used outside
	runner *runner
	alarm  *alarm
}

type eventKind uint8

const (
	turnDue    eventKind = iota // the client sends the turn for the first time
	sendAgain                   // the client sends it anew
	joined                      // the pool has decided
	refusedNow                  // a refusal has come back
	retryHere                   // the pause before the same account is asked again is over
	headCame                    // the head of an answer
	answerOver                  // its end
	impatient                   // the client's patience with a request in line is over
	gaveUp                      // it is over while the client waits to send anew
	alarmRings
	outsideUse
)

// alarm is what AfterFunc set.
type alarm struct {
	ring func()
}

func (c *clock) Now() time.Time { return epoch.Add(c.now) }

func (c *clock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	a := &alarm{f}
	c.push(event{at: c.now + max(0, d), kind: alarmRings, alarm: a})
	return func() bool {
		set := a.ring != nil
		a.ring = nil
		return set
	}
}

func (c *clock) push(e event) {
	e.number = c.number
	c.number++
	c.events = append(c.events, e)
	i := len(c.events) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !e.before(&c.events[parent]) {
			break
		}
		c.events[i] = c.events[parent]
		i = parent
	}
	c.events[i] = e
}

// pop takes the next event; the caller has seen that there is one.
func (c *clock) pop() event {
	first := c.events[0]
	last := len(c.events) - 1
	e := c.events[last]
	c.events[last] = event{}
	c.events = c.events[:last]
	if last == 0 {
		return first
	}
	i := 0
	for {
		child := 4*i + 1
		if child >= last {
			break
		}
		least := child
		for k := child + 1; k < min(child+4, last); k++ {
			if c.events[k].before(&c.events[least]) {
				least = k
			}
		}
		if !c.events[least].before(&e) {
			break
		}
		c.events[i] = c.events[least]
		i = least
	}
	c.events[i] = e
	return first
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.number < o.number
}
