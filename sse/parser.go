// Package sse reads event streams as they pass by: an incremental parser for
// text/event-stream, a tap that learns from an answer what it consumed and how
// it ended, and a look at the first event of a stream.
//
// Nothing here does I/O, starts a goroutine, returns an error or holds more
// memory than its stated bound, whatever the bytes are: the relay that feeds it
// must not be slowed down or ended by what an upstream sends.
package sse

import "bytes"

// maxName bounds an event's name, in bytes; longer names are cut. It is far
// above every name of the Messages API, so a cut name equals none of them.
const maxName = 128

// Event is one dispatched event. Its slices are valid only during the call that
// delivers it and must not be modified: they may point into the chunk that was
// written.
type Event struct {
	// Name is the value of the last event line, at most 128 bytes, empty if the
	// event had none.
	Name []byte
	// Data is what was kept of the event's data: all of it, or a prefix when
	// Truncated is set.
	Data []byte
	// Size is the length of the whole data in bytes, kept or not, with the line
	// feeds that join several data lines.
	Size int
	// Truncated reports that Data is shorter than Size, because of the parser's
	// bound or because of [Parser.Keep].
	Truncated bool
}

// Parser is an incremental parser for text/event-stream as the WHATWG HTML
// standard defines it, with three deliberate differences: id and retry mean
// nothing here, text is not decoded, and an event without a name stays without
// one instead of becoming "message".
//
// An event is delivered at its blank line, and only if it has at least one data
// line; what follows the last blank line of a stream is never delivered. The
// events do not depend on how the stream is cut into writes.
//
// Use [NewParser]; the zero value cannot be used. A Parser is not safe for
// concurrent use.
type Parser struct {
	emit     func(Event)
	keep     func(name []byte) int
	maxEvent int

	part    part // where in its line the next byte stands
	bom     int  // bytes of a leading byte order mark seen, len(byteOrderMark) once settled
	afterCR bool // a line feed that comes next belongs to the line end already taken

	field  [len("event")]byte
	nField int
	name   [maxName]byte
	nName  int

	// data is what is kept of the current event. It aliases the chunk being
	// written until a second piece or the end of that Write moves it to buf,
	// which is empty until then.
	data  []byte
	buf   []byte
	size  int
	lines int // data lines of the current event
	limit int // bytes to keep of the current event, settled at its first data line
}

// part is a position inside a line.
type part uint8

const (
	inField   part = iota // the field's name, or nothing of the line yet
	atName                // just behind "event:"
	inName                // in the value of an event line
	atData                // just behind "data:"
	inData                // in the value of a data line
	inIgnored             // in a comment or in a field that means nothing here
)

const byteOrderMark = "\xEF\xBB\xBF"

// newline joins data lines. It is shared by all parsers and never written to.
var newline = []byte{'\n'}

// NewParser returns a parser that calls emit for each event, during the Write
// that completes it. At most maxEvent bytes of an event's data are kept, none
// if maxEvent is not positive; a parser's memory is bounded by that and a few
// hundred bytes. emit must not call Write.
func NewParser(maxEvent int, emit func(Event)) *Parser {
	return &Parser{emit: emit, maxEvent: max(maxEvent, 0)}
}

// Keep sets a filter: limit tells how many bytes of data are wanted of events
// with that name, 0 or less for none. Bytes beyond are counted in [Event.Size]
// and neither copied nor looked at, so an unwanted event costs only the search
// for its line ends. The filter is asked once per event, at its first data
// line, with the name known by then, which is empty when no event line came
// before. name is valid only during the call. Keep must precede the first
// Write.
func (p *Parser) Keep(limit func(name []byte) int) { p.keep = limit }

// Write takes the next bytes of the stream. The caller may reuse b afterwards.
func (p *Parser) Write(b []byte) {
	if p.bom < len(byteOrderMark) {
		b = p.skipMark(b)
	}
	if p.afterCR && len(b) > 0 {
		p.afterCR = false
		if b[0] == '\n' {
			b = b[1:]
		}
	}
	// The next line feed and carriage return at or behind i. Both are remembered
	// across lines: looked up afresh for each line, a chunk with only one of the
	// two would be searched to its end for the other one every time.
	lf, cr := -1, -1
	for i := 0; i < len(b); {
		if cr < i {
			cr = next(b, i, '\r')
		}
		if p.between() {
			if n := p.usual(b[i:cr]); n > 0 {
				i += n
				continue
			}
		}
		if lf < i {
			lf = next(b, i, '\n')
		}
		end := min(lf, cr)
		p.piece(b[i:end])
		if end == len(b) {
			break
		}
		p.endLine()
		i = end + 1
		if b[end] == '\r' {
			if i == len(b) {
				p.afterCR = true
			} else if b[i] == '\n' {
				i++
			}
		}
	}
	p.detach()
}

// between reports whether nothing of an event has been read yet.
func (p *Parser) between() bool {
	return p.part == inField && p.nField == 0 && p.nName == 0 && p.lines == 0
}

var (
	eventField = []byte("event: ")
	dataField  = []byte("data: ")
)

// usual takes a whole event that b begins with if it is written as the API does: a name,
// one line of data, a blank line. It returns the event's length in b, 0 for any other
// layout. There is no carriage return in b.
func (p *Parser) usual(b []byte) int {
	rest, ok := bytes.CutPrefix(b, eventField)
	if !ok {
		return 0
	}
	end := bytes.IndexByte(rest, '\n')
	if end < 0 || end > maxName {
		return 0
	}
	name, rest := rest[:end], rest[end+1:]
	if rest, ok = bytes.CutPrefix(rest, dataField); !ok {
		return 0
	}
	end = bytes.IndexByte(rest, '\n')
	if end < 0 || end+1 >= len(rest) || rest[end+1] != '\n' {
		return 0
	}
	limit := p.maxEvent
	if p.keep != nil {
		limit = max(min(p.keep(name), limit), 0)
	}
	data := rest[:min(end, limit)]
	p.emit(Event{Name: name, Data: data, Size: end, Truncated: end > len(data)})
	return len(b) - len(rest) + end + 2
}

// next returns where c first stands in b at or behind i, len(b) if nowhere.
func next(b []byte, i int, c byte) int {
	if n := bytes.IndexByte(b[i:], c); n >= 0 {
		return i + n
	}
	return len(b)
}

// skipMark takes a byte order mark off the beginning of the stream, which may
// come byte by byte.
func (p *Parser) skipMark(b []byte) []byte {
	for len(b) > 0 && p.bom < len(byteOrderMark) {
		if b[0] != byteOrderMark[p.bom] {
			if p.bom > 0 {
				// Half a mark is the beginning of a field name, and of none
				// that means anything.
				p.part = inIgnored
			}
			p.bom = len(byteOrderMark)
			break
		}
		p.bom++
		b = b[1:]
	}
	return b
}

// piece takes bytes of one line, without its end.
func (p *Parser) piece(b []byte) {
	if p.part == inField {
		b = p.fieldName(b)
	}
	if len(b) == 0 {
		return
	}
	if p.part == atName || p.part == atData {
		if b[0] == ' ' {
			b = b[1:]
		}
		p.part++
	}
	switch p.part {
	case inName:
		p.nName += copy(p.name[p.nName:], b)
	case inData:
		p.appendData(b)
	}
}

// fieldName takes bytes up to the colon and returns what follows it.
func (p *Parser) fieldName(b []byte) []byte {
	for i, c := range b {
		if c == ':' {
			p.startValue()
			return b[i+1:]
		}
		if p.nField == len(p.field) {
			p.part = inIgnored
			return nil
		}
		p.field[p.nField] = c
		p.nField++
	}
	return nil
}

// startValue is called once the field's name is complete. A comment has the
// empty name.
func (p *Parser) startValue() {
	switch string(p.field[:p.nField]) {
	case "data":
		p.part = atData
		p.startData()
	case "event":
		p.part = atName
		p.nName = 0
	default:
		p.part = inIgnored
	}
}

func (p *Parser) startData() {
	p.lines++
	if p.lines > 1 {
		p.appendData(newline)
		return
	}
	p.limit = p.maxEvent
	if p.keep != nil {
		p.limit = min(p.keep(p.name[:p.nName]), p.maxEvent)
	}
}

// appendData adds b to the event's data as far as the limit allows.
func (p *Parser) appendData(b []byte) {
	p.size += len(b)
	room := p.limit - len(p.data)
	if room <= 0 || len(b) == 0 {
		return
	}
	if len(b) > room {
		b = b[:room]
	}
	if len(p.data) == 0 {
		p.data = b
		return
	}
	p.detach()
	p.buf = appendWithin(p.buf, b, p.limit)
	p.data = p.buf
}

// detach moves data that lies in the caller's chunk to the parser's own buffer.
func (p *Parser) detach() {
	if len(p.buf) == len(p.data) {
		return // nothing is kept, or it is there already
	}
	p.buf = appendWithin(p.buf, p.data, p.limit)
	p.data = p.buf
}

// endLine is called at each line end.
func (p *Parser) endLine() {
	if p.part == inField {
		if p.nField == 0 {
			p.dispatch()
		} else {
			p.startValue() // a line without a colon is a field with an empty value
		}
	}
	p.part = inField
	p.nField = 0
}

func (p *Parser) dispatch() {
	if p.lines > 0 {
		p.emit(Event{
			Name:      p.name[:p.nName],
			Data:      p.data,
			Size:      p.size,
			Truncated: p.size > len(p.data),
		})
	}
	p.nName, p.size, p.lines = 0, 0, 0
	p.data, p.buf = nil, p.buf[:0]
}

// appendWithin appends src to buf without ever giving it a capacity above
// limit, which plain append would overshoot. len(buf)+len(src) must not exceed
// limit.
func appendWithin(buf, src []byte, limit int) []byte {
	if need := len(buf) + len(src); need > cap(buf) {
		grown := make([]byte, len(buf), min(max(need, 2*cap(buf), 512), limit))
		copy(grown, buf)
		buf = grown
	}
	return append(buf, src...)
}
