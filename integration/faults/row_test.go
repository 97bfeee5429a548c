package faults

import (
	"time"
)

// row is one scripted fault, and what has to come of it.
type row struct {
	name  string
	place string
	sick  sickness

	// kinds and protocols multiply the row's runs. Default: a stream and a JSON
	// answer, over HTTP/1.1.
	kinds     []kind
	protocols []string
	request   request
	// runs says how many accounts are sick. Default: one, then all.
	runs []run
	// settings are further lines of the proxy's configuration, if this suite has
	// configured it.
	settings string
	// ownSettings says that another proxy has nothing like them.
	ownSettings bool

	one, all outcome

	// leaves, when set, makes the client go away before the answer is whole; the
	// outcomes have no meaning then.
	leaves moment
}

// moment is when a client goes away.
type moment int

const (
	_ moment = iota
	// beforeHead: upstream has the request and has not answered.
	beforeHead
	// midStream: the first text has come.
	midStream
	// inLine: every account is out for a moment, and the request waits for one.
	inLine
)

// kind is what the client asks for.
type kind string

const (
	stream   kind = "stream"
	document kind = "json"
)

// run says how many accounts are sick.
type run string

const (
	oneSick run = "one"
	allSick run = "all"
)

// request is how a row's request differs from a plain one.
type request struct {
	// fields are added to the body, each with a comma before it.
	fields string
	// padding makes the prompt that many bytes longer.
	padding int
	header  map[string]string
}

// ending is how the client's request must end.
type ending int

const (
	_ ending = iota
	// whole: 200 and, to the byte, what a healthy upstream says directly.
	whole
	// same: what upstream says directly while it is sick, to the byte but for the
	// request id.
	same
	// broken: a 200 whose transfer visibly fails after a beginning of the right
	// content. It must not end as if it were complete.
	broken
	// failed: broken, or refused before anything of the answer was sent.
	failed
	// own: an answer of the proxy's, in the API's envelope.
	own
	// ownEvent: such an answer, as the error event of a stream that the proxy opened
	// while the request waited.
	ownEvent
)

func (e ending) String() string {
	return [...]string{"anything", "whole", "as upstream", "broken off", "broken off or refused", "the proxy's own answer", "the proxy's own error event"}[e]
}

// next is what becomes of requests that follow.
type next int

const (
	// anyNext: the next request is answered by whomever.
	anyNext next = iota
	// asked: nobody is benched, so the account that was sick is asked again.
	asked
	// away: the account that was sick is left alone, and requests are served.
	away
	// closed: with all accounts benched nobody is asked, and the answer says so.
	closed
)

func (n next) String() string { return [...]string{"any", "asked", "away", "closed"}[n] }

// outcome is what has to come of one run.
type outcome struct {
	ending ending
	// status lists the statuses that an answer other than 200 may have.
	status []int
	// text lists what the body must contain.
	text []string
	// head are headers that the answer must have: a text, "" for absent, "a..b"
	// for a number between, "+a..b" for a time in so many seconds.
	head map[string]string
	// clock: the text names a time of day.
	clock bool

	// sickTries and tries bound how often upstream is asked for the client's one
	// request: the sick account, and all together. Exactly says that it must be
	// that often and no less. Zero means the default of judge_test.go.
	sickTries, tries int
	exactly          bool
	// longest bounds the time until the answer's end, shortest from below.
	shortest, longest time.Duration

	next next
	// otherModel is a model that the account still serves.
	otherModel string
	// reopens is after what time the account must serve again.
	reopens time.Duration
}

// with returns the outcome with changes.
func (o outcome) with(change func(*outcome)) outcome {
	head := make(map[string]string, len(o.head))
	for name, value := range o.head {
		head[name] = value
	}
	o.head = head
	change(&o)
	return o
}

func (r *row) kindsOrBoth() []kind {
	if len(r.kinds) > 0 {
		return r.kinds
	}
	return []kind{stream, document}
}

func (r *row) protocolsOrOne() []string {
	if len(r.protocols) > 0 {
		return r.protocols
	}
	return []string{http11}
}

func (r *row) runsOrBoth() []run {
	if len(r.runs) > 0 {
		return r.runs
	}
	return []run{oneSick, allSick}
}

// rows are all faults, in the order of their places.
func rows() []row {
	var all []row
	for _, table := range [][]row{connectRows, headRows, limitRows, moneyRows, credentialRows, requestRows, serviceRows, firstRows, streamRows, endRows, keepaliveRows, goneRows} {
		all = append(all, table...)
	}
	return all
}
