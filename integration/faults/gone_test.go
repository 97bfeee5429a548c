package faults

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// latestCancel is by when upstream must have been told that the client left. On
// an idle machine it is a few milliseconds; the table tells what was measured.
const latestCancel = 500 * time.Millisecond

// goneRows: the client leaves. That costs no account anything.
var goneRows = []row{
	{name: "gone_before_head", place: "client gone", protocols: everywhere, sick: fault(fakeclaude.HangBeforeHead), leaves: beforeHead},
	{name: "gone_during_slow_head", place: "client gone", kinds: streamOnly, sick: slow(fakeclaude.SlowHead, 3*time.Second, 0), leaves: beforeHead},
	{name: "gone_after_first_text", place: "client gone", kinds: streamOnly, protocols: everywhere, sick: fault(fakeclaude.StallAfterText), leaves: midStream},
	{name: "gone_during_pings", place: "client gone", kinds: streamOnly, sick: slow(fakeclaude.PingsAfterText, 0, 50*time.Millisecond), leaves: midStream},
	{name: "gone_during_pings_only", place: "client gone", kinds: streamOnly, sick: slow(fakeclaude.PingsOnly, 0, 50*time.Millisecond), leaves: beforeHead},
	{
		name: "gone_while_in_line", place: "client gone", protocols: everywhere, runs: []run{allSick}, settings: "hold 10s",
		sick: refuses(fakeclaude.Burst, inLineFor), leaves: inLine,
	},
}

// inLineFor is how long all accounts are out while a client stands in line.
const inLineFor = 2 * time.Second

// leave plays a scene in which the client goes away.
func (p *player) leave() {
	session := p.fresh()
	if p.s.run == oneSick {
		var ok bool
		if session, _, ok = p.oneFalls(); !ok {
			return
		}
	} else if err := p.s.fall(accountNames...); err != nil {
		p.errorf("%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	before := p.s.recorder.count()
	ended := make(chan error, 1)
	arrived := make(chan struct{})
	go func() { ended <- p.readUntilGone(ctx, p.s.call(model, session), arrived) }()
	if !p.reached(before, arrived) {
		cancel()
		p.errorf("the moment to leave never came: %v", <-ended)
		return
	}
	left := time.Now()
	cancel()
	<-ended
	if p.s.row.leaves == inLine {
		p.nobodyIsAskedFor(before, left)
	} else {
		p.upstreamIsTold(before, left)
	}
	if err := p.s.heal(); err != nil {
		p.errorf("%v", err)
	}
	if unused := p.use(model); len(unused) > 0 {
		p.errorf("the client left, and these accounts are not asked any more: %v", unused)
	}
	p.got.next = "asked"
}

// readUntilGone makes the call and reads until the client leaves. arrived is
// closed when the first text has come.
func (p *player) readUntilGone(ctx context.Context, c *call, arrived chan struct{}) error {
	r, err := c.request(ctx, p.key)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var got strings.Builder
	buffer, seen := make([]byte, 4096), false
	for {
		n, err := resp.Body.Read(buffer)
		got.Write(buffer[:n])
		if !seen && strings.Contains(got.String(), "text_delta") {
			seen = true
			close(arrived)
		}
		if err == io.EOF {
			return fmt.Errorf("the answer ended: %d %s", resp.StatusCode, excerpt(got.String()))
		}
		if err != nil {
			return err
		}
	}
}

// reached waits for the row's moment.
func (p *player) reached(before int, arrived <-chan struct{}) bool {
	if p.s.row.leaves == midStream {
		select {
		case <-arrived:
			return true
		case <-time.After(patience / 2):
			return false
		}
	}
	wanted := 1
	if p.s.row.leaves == inLine {
		wanted = len(accountNames)
	}
	err := eventually(patience/2, func() error {
		if n := len(p.s.recorder.since(before)); n < wanted {
			return fmt.Errorf("upstream was asked %d times", n)
		}
		return nil
	})
	time.Sleep(settled) // let upstream's answer, if there is one, arrive
	return err == nil
}

// upstreamIsTold: the proxy takes its request back.
func (p *player) upstreamIsTold(before int, left time.Time) {
	var tries []try
	err := eventually(2*latestCancel, func() error {
		tries = p.s.recorder.since(before)
		if len(tries) == 0 || tries[len(tries)-1].gone.IsZero() {
			return fmt.Errorf("upstream was not told within %v that the client left", 2*latestCancel)
		}
		return nil
	})
	p.got.tries = fmt.Sprint(len(tries))
	if err != nil {
		p.errorf("%v", err)
		return
	}
	p.got.took = tries[len(tries)-1].gone.Sub(left)
	p.got.seen = "cancelled"
	if p.got.took > latestCancel {
		p.errorf("upstream was told after %v that the client left, expected %v", p.got.took, latestCancel)
	}
	if len(tries) != 1 {
		p.errorf("upstream was asked %d times for a client that left", len(tries))
	}
}

// nobodyIsAskedFor: a client that left does not come to its turn.
func (p *player) nobodyIsAskedFor(before int, left time.Time) {
	if err := p.s.heal(); err != nil {
		p.errorf("%v", err)
	}
	time.Sleep(time.Until(left.Add(inLineFor + time.Second)))
	n := len(p.s.recorder.since(before))
	p.got.seen, p.got.tries = "out of line", fmt.Sprint(n)
	if n > len(accountNames) {
		p.errorf("upstream was asked %d times more for a client that had left the line", n-len(accountNames))
	}
}
