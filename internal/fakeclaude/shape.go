package fakeclaude

import "net/http"

// shape says how the delivery of an answer departs from the proper way.
type shape struct {
	// firstError makes an error event the first and last of the stream; nothing
	// is charged. errorKind and errorText are of this or of endError.
	firstError           bool
	errorKind, errorText string

	lead   leadKind
	cut    cutPoint
	ending ending
	// edit changes the events; JSON answers stay as they are.
	edit    func(*reply, []event) []event
	crlf    bool
	gzip    gzipKind
	hints   bool
	shortBy int
}

// leadKind is what fills the time before the first event.
type leadKind int

const (
	leadNone leadKind = iota
	leadSilence
	leadPings
	leadComments
)

// cutPoint is where the delivery stops. JSON answers stop half-way.
type cutPoint int

const (
	cutNothing cutPoint = iota
	cutAll
	cutAfterStart
	cutAfterText
	cutBeforeStop
)

// of returns how many of the events are delivered.
func (c cutPoint) of(events []event) int {
	switch c {
	case cutAll:
		return 0
	case cutAfterStart:
		return 1
	case cutBeforeStop:
		return len(events) - 1
	case cutAfterText:
		for i, e := range events {
			if e.text {
				return i + 1
			}
		}
		return len(events) / 2
	}
	return len(events)
}

// ending is what comes after the last event.
type ending int

const (
	endClean ending = iota
	endReset
	endClose
	endStall
	endError
	endPings
)

// gzipKind says whether the body is compressed: as the request allows, always,
// or always and without saying so.
type gzipKind int

const (
	gzipAsAsked gzipKind = iota
	gzipAlways
	gzipUnlabelled
)

// failFirst answers 200 and an error as first event, or for a request that does
// not stream the status that the error stands for.
func (ex *exchange) failFirst(sh *shape) {
	ex.countRefusal()
	if !ex.prompt.stream {
		ex.fail(statusOf(sh.errorKind), sh.errorKind, sh.errorText)
		return
	}
	ex.tellLimitsNow()
	ex.w.Header().Set("Cache-Control", "no-cache")
	k := ex.body(typeSSE, sh, 0)
	if k.send(errorEvent(sh.errorKind, sh.errorText)) == nil {
		k.close()
	}
}

func statusOf(errorKind string) int {
	switch errorKind {
	case "authentication_error":
		return http.StatusUnauthorized
	case "rate_limit_error":
		return http.StatusTooManyRequests
	case "overloaded_error":
		return statusOverloaded
	}
	return http.StatusInternalServerError
}

// statusOverloaded and statusUnknown are outside the registered codes.
const (
	statusUnknown    = 520
	statusOverloaded = 529
)
