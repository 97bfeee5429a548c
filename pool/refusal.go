package pool

import (
	"fmt"
	"strings"
	"time"
)

// ClosureKind is why one account cannot serve a request.
type ClosureKind uint8

// The kinds.
const (
	// Open: nothing keeps it from serving.
	Open ClosureKind = iota
	// ClosedOwner: it belongs to somebody else.
	ClosedOwner
	// ClosedModel: it is not configured to serve the model.
	ClosedModel
	// ClosedTried: this request has been there.
	ClosedTried
	// ClosedBench: it is benched until a time.
	ClosedBench
	// ClosedFull: it has as many requests in flight as it may, or as it was found to
	// take.
	ClosedFull
	// ClosedProbe: it had trouble, and one request is finding out whether it is over.
	ClosedProbe
	// ClosedBound: the request needs what another account holds.
	ClosedBound
	// ClosedLimit: a limit of the operator's own is reached, until a time.
	ClosedLimit
	// ClosedOrder: the operator took it out by hand, until a time or for good.
	ClosedOrder
	// ClosedBrake: the whole service is overloaded, and nobody is asked.
	ClosedBrake
)

// Closure says why one account cannot serve a request.
type Closure struct {
	Kind ClosureKind
	// Until is when a bench ends.
	Until           time.Time
	Verdict, Window string
	Login           bool
	Reason          string
}

// closureReasons say in words what needs no more than its kind.
var closureReasons = [...]string{
	ClosedOwner: "somebody else's",
	ClosedModel: "not for this model",
	ClosedTried: "unable to serve this request",
	ClosedFull:  "busy",
	ClosedProbe: "being tried after a trouble",
	ClosedBound: "without what the request names",
	ClosedBrake: "overloaded",
}

// closure tells about a member that is closed to requests for the family.
func (g *Group) closure(i int, kind ClosureKind, family string, now time.Time) Closure {
	c := Closure{Kind: kind}
	if kind == ClosedLimit {
		if b, _ := g.closing(i, family, now); b != nil {
			c.Until, c.Verdict, c.Window, c.Reason = b.Until, b.Verdict, b.Window, b.Reason
		}
		return c
	}
	if kind == ClosedOrder || kind == ClosedTried && g.states[i].order.closes(now) {
		b := g.states[i].order.bench()
		c.Until, c.Verdict, c.Reason = b.Until, b.Verdict, b.Reason
		return c
	}
	if kind == ClosedBench || kind == ClosedTried {
		// What it answered may have benched an account that was tried.
		if b := g.states[i].benchOf(family, now); b != nil {
			c.Until, c.Verdict, c.Window, c.Login, c.Reason = b.Until, b.Verdict, b.Window, b.Login, b.Reason
			return c
		}
	}
	if int(kind) < len(closureReasons) {
		c.Reason = closureReasons[kind]
	}
	return c
}

// Refusal says why no account can serve a request.
type Refusal struct {
	// Until is the soonest time at which an account's bench ends; zero if none is
	// benched for a time.
	Until time.Time
	// Busy is true when an account could serve as soon as a request ends.
	Busy bool
	// Allowed and Serving count the accounts that the person may use, and those of
	// them that serve the model.
	Allowed, Serving int
	// Closures are the reasons of those that serve the model, by name of account.
	Closures []AccountClosure
	// Full is true when the waiting line had no place left.
	Full bool
	// Stay is true when the session waits for its own account although another may
	// be open; Until is then when it gives that up, or when its account opens.
	Stay bool
	// Unknown is the id of a thing that no account is known to hold, Unlisted that
	// the request lists things and no account is known to have any, and Apart that
	// the request names things of several accounts: waiting helps none of them.
	Unknown         string
	Unlisted, Apart bool
}

// AccountClosure is why one named account is closed.
type AccountClosure struct {
	Name string
	Closure
}

// Hopeless reports whether waiting cannot help.
func (r *Refusal) Hopeless() bool { return !r.Busy && r.Until.IsZero() }

func (g *Group) refusal(req *Request, family, only string, now time.Time) *Refusal {
	r := &Refusal{}
	for i, m := range g.members {
		kind := g.closedBy(i, req, family, only, now)
		if kind == Open {
			continue
		}
		c := g.closure(i, kind, family, now)
		switch kind {
		case ClosedOwner, ClosedBound:
			continue
		case ClosedModel:
			r.Allowed++
			continue
		case ClosedBench, ClosedLimit, ClosedOrder:
			if !c.Until.IsZero() && (r.Until.IsZero() || c.Until.Before(r.Until)) {
				r.Until = c.Until
			}
		case ClosedFull, ClosedProbe:
			r.Busy = true
		}
		r.Allowed++
		r.Serving++
		r.Closures = append(r.Closures, AccountClosure{Name: m.Name, Closure: c})
	}
	return r
}

// brakeRefusal is the refusal while the service is overloaded.
func (g *Group) brakeRefusal(req *Request, family, only string, until time.Time, busy bool, now time.Time) *Refusal {
	r := g.refusal(req, family, only, now)
	for i, m := range g.members {
		if g.closedBy(i, req, family, only, now) == Open {
			r.Allowed++
			r.Serving++
			r.Closures = append(r.Closures, AccountClosure{Name: m.Name, Closure: Closure{Kind: ClosedBrake, Until: until, Verdict: verdictOverloaded, Reason: "overloaded"}})
		}
	}
	if r.Serving == 0 {
		return r // the brake is not what keeps this request out
	}
	// An account's own bench may end before the brake does: nobody is asked then.
	r.Until, r.Busy = until, busy
	return r
}

// Reopens is the soonest time at which any account, also one that this request
// has been to, can be expected to serve again; zero when nobody knows one.
func (r *Refusal) Reopens() time.Time {
	var soonest time.Time
	for _, c := range r.Closures {
		if !c.Until.IsZero() && !c.Login && (soonest.IsZero() || c.Until.Before(soonest)) {
			soonest = c.Until
		}
	}
	return soonest
}

// Words that people know for a window, and for a verdict.
var (
	windowWords  = map[string]string{"5h": "at the 5-hour limit", "7d": "at the weekly limit"}
	verdictWords = map[string]string{
		"model_window": "at the limit for this model",
		"overloaded":   "overloaded",
		"burst":        "briefly rate-limited",
		"spend_limit":  "at the spend limit",
		"no_credit":    "out of credit",
		"unreachable":  "unreachable",
		verdictPlan:    "at the end of what the plan covers (extra usage is off)",
		verdictBudget:  "at its budget",
		"upstream":     "failing",
		verdictDrained: "drained by the operator",
		verdictByHand:  "benched by the operator",
	}
)

// Words says it to the person who waits, without naming an account: how many
// are out, why, and until when.
func (r *Refusal) Words(now time.Time) string {
	switch {
	case r.Unknown != "":
		return "it is not known which account holds " + r.Unknown + ": it was not made through this pool, or too long ago; the operator can say where to look with resource_account"
	case r.Unlisted:
		return "files and batches are kept by account, and none was made here with this key; the operator can say where to look with resource_account"
	case r.Apart:
		return "the request names files or a container of different accounts; upload them again, so that one account has them all"
	}
	if r.Allowed == 0 {
		return "no account of this pool may be used with this key"
	}
	if r.Serving == 0 {
		return "no account of this pool serves this model"
	}
	type group struct {
		count int
		until time.Time
	}
	var order []string
	groups := map[string]*group{}
	for _, c := range r.Closures {
		phrase := c.phrase()
		g := groups[phrase]
		if g == nil {
			g = &group{}
			groups[phrase], order = g, append(order, phrase)
		}
		g.count++
		if !c.Until.IsZero() && (g.until.IsZero() || c.Until.Before(g.until)) {
			g.until = c.Until
		}
	}
	parts := make([]string, 0, len(order))
	for _, phrase := range order {
		g := groups[phrase]
		part := fmt.Sprintf("%d %s", g.count, phrase)
		if !g.until.IsZero() {
			part += " until " + timeWords(g.until, now)
		}
		parts = append(parts, part)
	}
	subject := "the only account is out"
	if len(r.Closures) > 1 {
		subject = fmt.Sprintf("all %d accounts are out", len(r.Closures))
	}
	return subject + ": " + strings.Join(parts, ", ")
}

func (c *Closure) phrase() string {
	if c.Login {
		return "in need of a login (" + c.Reason + ")"
	}
	if words, ok := verdictWords[c.Verdict]; ok {
		return words
	}
	if words, ok := windowWords[c.Window]; ok {
		return words
	}
	if c.Window != "" {
		return "at the limit of " + c.Window
	}
	return c.Reason
}

// timeWords names a time for a person: today by its clock, later with its date.
func timeWords(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	switch {
	case t.Sub(now) < 2*time.Minute:
		return t.Format("15:04:05 UTC")
	case t.Sub(now) < 20*time.Hour:
		return t.Format("15:04 UTC")
	default:
		return t.Format("Mon 2 Jan 15:04 UTC")
	}
}
