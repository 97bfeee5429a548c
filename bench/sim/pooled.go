package main

import (
	"strconv"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// pooled is a policy of the pool's, through the pool.
type pooled struct {
	run     *run
	group   *pool.Group
	byKey   map[string]int
	change  *change
	stay    time.Duration
	life    time.Duration
	persons []string
}

const (
	holdFor = 55 * time.Second
	queueUp = 1000
	stayFor = time.Minute
)

func newPooled(w *run, r *rule) *pooled {
	p := &pooled{run: w, byKey: make(map[string]int), change: r.change, stay: stayFor, life: w.world.ttl}
	if p.change == nil {
		p.change = &change{}
	}
	if p.change.noStay {
		p.stay = 0
	}
	if p.change.lifeShare > 0 {
		p.life = time.Duration(float64(p.life) * p.change.lifeShare)
	}
	var members []*pool.Member
	for i := range w.world.accounts {
		key := accountKeys[i]
		members = append(members, &pool.Member{Name: key, Key: key, Weight: 1})
		p.byKey[key] = i
	}
	for i := range w.demand.people {
		p.persons = append(p.persons, "person"+strconv.Itoa(i))
	}
	policy := pool.Policies[r.policy]
	if p.change.blind != nil {
		policy = &blinded{Policy: policy, blind: p.change.blind}
	}
	p.group = pool.New(&w.clock, w.world.seed).Group(members, policy)
	return p
}

// begin makes the pool's request of a session's.
func (p *pooled) begin(r *runner) {
	s := r.session
	r.want = pool.Request{User: p.persons[s.person], Model: modelIDs[s.model], Endpoint: anthropic.EndpointMessages, CacheLife: p.life, Tried: r.want.Tried[:0]}
	if !p.change.noSession {
		r.want.Session = "s" + strconv.Itoa(r.index)
		if s.parent >= 0 {
			r.want.Parent = "s" + strconv.Itoa(s.parent)
			r.want.Session = r.want.Parent + "/" + strconv.Itoa(r.index)
		}
	}
	if !p.change.noPrefix {
		r.want.Prefix = mix(uint64(s.model), uint64(s.kind))
	}
	r.rule.done = func(lease *pool.Lease, refused *pool.Refusal) { p.decide(r, lease, refused) }
}

func (p *pooled) join(r *runner, hold time.Duration) bool {
	if r.rule.done == nil {
		p.begin(r)
	}
	r.want.Tokens = int64(p.run.demand.turns[r.turn].prompt)
	r.want.Arrived = epoch.Add(r.arrived)
	r.rule.inJoin = true
	r.decision = decision{account: undecided}
	r.rule.leave = p.group.Join(&r.want, pool.Waiting{Hold: hold, Queue: queueUp, Stay: p.stay}, r.rule.done)
	r.rule.inJoin = false
	return r.account != undecided
}

func (p *pooled) decide(r *runner, lease *pool.Lease, refused *pool.Refusal) {
	if lease != nil {
		r.decision = decision{account: p.byKey[lease.Member.Key], lease: lease, warmHere: lease.Reason == pool.ReasonSession}
	} else {
		r.decision = decision{account: nobody, full: refused.Full}
		if at := refused.Reopens(); !at.IsZero() {
			r.reopens = at.Sub(epoch)
		}
	}
	if !r.rule.inJoin {
		p.run.clock.push(event{at: p.run.clock.now, kind: joined, runner: r})
	}
}

func (p *pooled) leave(r *runner) { r.rule.leave() }

func (p *pooled) report(r *runner, a *answer) {
	if p.change.retell != nil {
		p.change.retell(a, p.run.clock.Now())
	}
	r.lease.Report(&a.verdict, &a.limits)
}

func (p *pooled) end(r *runner, used anthropic.Usage) {
	r.lease.End(used)
	r.lease = nil
}
