package faults

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	model = "claude-sonnet-5"
	// mostMeetings is how many requests it may take until a proxy without sticky
	// sessions has come to the sick account.
	mostMeetings = 6
	// followers is how many requests show that an account is left alone.
	followers = 3
	// mostFollowers is how many requests show that an account is in use, even if
	// the proxy draws lots: one in a million is unlucky.
	mostFollowers = 20
)

// player plays one scene as the client.
type player struct {
	judge
	client *http.Client
	ctx    context.Context //nolint:containedctx // it is the scene's, and ends with it
	got    result
	asked  int // sessions so far
}

func newPlayer(t *testing.T, s *scene, key string, secure *endpoint) *player {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	return &player{judge: judge{s: s, key: key}, client: newClient(s.protocol, secure), ctx: ctx}
}

// fresh is the name of a conversation that the proxy does not know.
func (p *player) fresh() string {
	p.asked++
	return fmt.Sprintf("%s-session-%d", p.s.id, p.asked)
}

// ask makes a call and judges what upstream saw of it.
func (p *player) ask(c *call) (answer, []try) {
	before := p.s.recorder.count()
	a := ask(p.ctx, p.client, c, p.key)
	tries := p.s.recorder.since(before)
	p.asks(c, tries)
	return a, tries
}

// play goes through the scene.
func (p *player) play() result {
	switch {
	case p.s.row.leaves != 0:
		p.leave()
	case p.s.run == oneSick:
		p.oneOfTwo()
	default:
		p.both()
	}
	for _, v := range p.s.fake.Violations() {
		p.errorf("upstream's rules were broken: %s", v)
	}
	p.got.problems = p.problems
	return p.got
}

// oneOfTwo makes that account sick to which a conversation belongs, so that the
// conversation's next request meets it.
func (p *player) oneOfTwo() {
	session, sick, ok := p.oneFalls()
	if !ok {
		return
	}
	arrivals := p.s.doors[sick].arrivals.Load()
	for range mostMeetings {
		c := p.s.call(model, session)
		a, tries := p.ask(c)
		met := countOf(tries, sick) > 0 || p.s.doors[sick].arrivals.Load() > arrivals || p.unseen(tries)
		if !met {
			p.meets(&outcome{ending: whole}, c, &a)
			session = p.fresh()
			continue
		}
		p.got.seen, p.got.took = seen(p.s.kind, &a), a.took
		p.got.tries = fmt.Sprintf("%d+%d", countOf(tries, sick), len(tries)-countOf(tries, sick))
		p.meets(&p.s.row.one, c, &a)
		p.counts(&p.s.row.one, tries, sick)
		p.after(&p.s.row.one, sick)
		return
	}
	p.errorf("the sick account was not asked in %d requests", mostMeetings)
}

// oneFalls makes the account sick that a new conversation belongs to.
func (p *player) oneFalls() (session, sick string, ok bool) {
	session, sick = p.fresh(), "a"
	if !p.s.row.sick.static() {
		a, tries := p.ask(p.s.call(model, session))
		if a.status != http.StatusOK || a.err != nil || len(tries) != 1 {
			p.errorf("before anything is wrong: status %d, %v, %d tries, %s", a.status, a.err, len(tries), excerpt(a.body))
			return "", "", false
		}
		sick = tries[0].account
	}
	if err := p.s.fall(sick); err != nil {
		p.errorf("%v", err)
		return "", "", false
	}
	return session, sick, true
}

// unseen reports whether a sickness that upstream does not see must have been
// met: the conversation's account was not asked, another one was.
func (p *player) unseen(tries []try) bool {
	k := &p.s.row.sick
	return (k.door != doorOpen || k.onTheWay()) && len(tries) > 0
}

func (p *player) both() {
	if err := p.s.fall(accountNames...); err != nil {
		p.errorf("%v", err)
		return
	}
	want := &p.s.row.all
	c := p.s.call(model, p.fresh())
	a, tries := p.ask(c)
	p.got.seen, p.got.took = seen(p.s.kind, &a), a.took
	p.got.tries = fmt.Sprint(len(tries))
	p.meets(want, c, &a)
	p.counts(want, tries, "")
	p.after(want, "")
}

// after judges what becomes of the requests that follow. sick is empty when
// all are.
func (p *player) after(want *outcome, sick string) {
	if want.next != away && want.next != closed || want.reopens > 0 {
		defer p.cured(want, sick)
	}
	began := time.Now()
	switch want.next {
	case away:
		for range followers {
			if n := countOf(p.follow(model), sick); n > 0 {
				p.errorf("the account was asked again while it is out")
				p.got.next = "asked again"
				return
			}
		}
		p.got.next = "away"
	case closed:
		c := p.s.call(model, p.fresh())
		a, tries := p.ask(c)
		// The count of seconds that is left has gone on.
		again := want.with(func(o *outcome) { o.shortest = 0 })
		p.meets(&again, c, &a)
		if len(tries) > 0 {
			p.errorf("all accounts are out, and upstream was asked again %d times", len(tries))
		}
		p.got.next = "closed " + seen(p.s.kind, &a)
	}
	if want.otherModel != "" && len(p.problems) == 0 {
		_ = p.s.heal()
		if unused := p.use(want.otherModel); len(unused) > 0 {
			p.errorf("accounts that still serve %s were not asked for it: %v", want.otherModel, unused)
		}
	}
	if want.reopens > 0 {
		time.Sleep(time.Until(began.Add(want.reopens)))
	}
}

// use makes requests until every account has been asked, and names those that
// were not.
func (p *player) use(model string) (unused []string) {
	met, before := map[string]bool{}, len(p.problems)
	for range mostFollowers {
		for _, t := range p.follow(model) {
			met[t.account] = true
		}
		if len(met) == len(accountNames) || len(p.problems) > before {
			break
		}
	}
	for _, name := range accountNames {
		if !met[name] {
			unused = append(unused, name)
		}
	}
	return unused
}

// cured makes everybody well, and looks whether the accounts are in use.
func (p *player) cured(want *outcome, sick string) {
	if p.s.row.sick.static() {
		p.got.next = "incurable"
		return
	}
	if err := p.s.heal(); err != nil {
		p.errorf("%v", err)
		return
	}
	if want.next == anyNext && want.reopens == 0 {
		if sick != "" {
			p.follow(model)
		}
		return
	}
	said := "asked"
	if unused := p.use(model); len(unused) > 0 {
		p.errorf("no account is benched, and in %d requests these were not asked: %v", mostFollowers, unused)
		said = "left alone"
	}
	p.got.next = strings.TrimPrefix(p.got.next+", then "+said, ", then ")
}

// follow makes one request in a new conversation, which must be served, and
// tells who was asked for it.
func (p *player) follow(model string) []try {
	c := p.s.call(model, p.fresh())
	a, tries := p.ask(c)
	p.meets(&outcome{ending: whole}, c, &a)
	return tries
}
