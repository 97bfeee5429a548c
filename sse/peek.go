package sse

// First watches the beginning of an event stream for the first event that says
// how the answer went. Comments and pings say nothing and are passed over. The
// relay holds back the head of its response until then, because an error as the
// first event is a failure that another account may still make good.
//
// First keeps no copy of the stream, except for what it must hold of an
// unfinished error event. Use [NewFirst]. It is not safe for concurrent use.
type First struct {
	parser *Parser
	limit  int
	fed    int

	done bool
	name string
	data []byte
}

// NewFirst returns a First that gives up after limit bytes of stream.
func NewFirst(limit int) *First {
	f := &First{limit: limit}
	f.parser = NewParser(limit, f.event)
	f.parser.Keep(f.keep)
	return f
}

// Feed takes the next bytes of the stream and reports whether the matter is
// settled. If it is, name is the event's name or, if it has none, the type that
// its data states; data is its data when name is "error", at most limit bytes,
// and nil for any other event. A stream that has not settled the matter within
// limit bytes is done with an empty name, to be treated as a good one. Once done,
// Feed ignores b and repeats its answer.
//
// The data does not alias b and stays valid. At the end of a stream that is not
// done the caller may feed "\n\n", to have an event judged that lacks only its
// blank line.
func (f *First) Feed(b []byte) (done bool, name string, data []byte) {
	if f.done {
		return true, f.name, f.data
	}
	f.parser.Write(b)
	f.fed += len(b)
	if f.done || f.fed >= f.limit {
		f.done = true
		f.parser = nil // with all that it held
	}
	return f.done, f.name, f.data
}

// keep asks for the data of errors and, since they may be errors, of events
// whose name is not known at their first data line.
func (f *First) keep(name []byte) int {
	if f.done {
		return 0
	}
	switch string(name) {
	case "error", "":
		return f.limit
	default:
		return 0
	}
}

func (f *First) event(ev Event) {
	if f.done {
		return
	}
	name := string(kind(ev))
	if name == "ping" {
		return
	}
	f.done = true
	f.name = name
	if name == "error" {
		f.data = append([]byte{}, ev.Data...)
	}
}
