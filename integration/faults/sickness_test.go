package faults

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// sickness is what is wrong with an account. One of the fields is set.
type sickness struct {
	// fault is one of the fake upstream's.
	fault fakeclaude.Fault
	// then are the faults that follow when that one is used up.
	then []fakeclaude.Fault
	// script is an answer that the fake upstream does not have.
	script *script
	// toxics sit on the way from the proxy to upstream.
	toxics []toxic
	// door is how the account's address behaves before HTTP begins.
	door doorState
	// cut stops the toxic proxy on the way, so that nobody listens.
	cut bool
	// https makes the account's upstream an https URL whose port speaks plain http.
	https bool
	// login makes the accounts logins and does this to them at the fake upstream.
	login func(fake *fakeclaude.Server, account string)
}

// onTheWay says that a toxic proxy belongs before upstream.
func (s *sickness) onTheWay() bool { return len(s.toxics) > 0 || s.cut }

// static sicknesses are there from the start and cannot be cured.
func (s *sickness) static() bool { return s.https }

// ours says that only a proxy which this suite has configured can have it.
func (s *sickness) ours() bool { return s.https || s.login != nil }

func fault(name string) sickness { return sickness{fault: fakeclaude.Always(name)} }

// slow is a fault with a delay, for those that take one.
func slow(name string, delay, every time.Duration) sickness {
	return sickness{fault: fakeclaude.Fault{Name: name, Times: -1, Delay: delay, Every: every}}
}

// refuses is a refusal that tells this retry-after.
func refuses(name string, after time.Duration) sickness {
	return sickness{fault: fakeclaude.Fault{Name: name, Times: -1, RetryAfter: after}}
}

func scripted(s script) sickness { return sickness{script: &s} }

func poisoned(t ...toxic) sickness { return sickness{toxics: t} }

// script is an answer as it is written on the wire.
type script struct {
	// raw, when not empty, is written in place of an HTTP answer.
	raw string

	status int
	header map[string]string
	body   string
	// promise is added to the length that Content-Length states.
	promise int
	// pause is kept after the body, before the end.
	pause time.Duration
	// reset ends the connection with a TCP reset, and not properly.
	reset bool
}

func event(name, data string) string { return "event: " + name + "\ndata: " + data + "\n\n" }

func errorEvent(kind, text string) string {
	return event("error", fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%q}}`, kind, text))
}

func envelope(kind, text string) string {
	return fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%q}}`, kind, text)
}

var jsonType = map[string]string{"Content-Type": "application/json"}

// says is an error of the API's with an envelope.
func says(status int, kind, text string) sickness {
	return scripted(script{status: status, header: jsonType, body: envelope(kind, text)})
}

var pageType = map[string]string{"Content-Type": "text/html; charset=UTF-8", "Server": "cloudflare"}

func page(status int, title string) sickness {
	return scripted(script{status: status, header: pageType, body: "<!DOCTYPE html>\n<html><head><title>" + title + "</title></head></html>\n"})
}

// streams answers 200 and these bytes as event stream.
func streams(body string) script {
	return script{status: http.StatusOK, header: map[string]string{"Content-Type": "text/event-stream; charset=utf-8"}, body: body}
}

// play answers a request by the script; the body has not been read.
func (s *script) play(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if s.raw != "" {
		hangUp(w, s.raw, s.reset)
		return
	}
	for name, value := range s.header {
		w.Header().Set(name, value)
	}
	if s.promise > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(s.body)+s.promise))
	}
	w.WriteHeader(s.status)
	_, _ = io.WriteString(w, s.body)
	_ = http.NewResponseController(w).Flush()
	if s.pause > 0 {
		select {
		case <-time.After(s.pause):
		case <-r.Context().Done():
		}
	}
	if s.reset {
		hangUp(w, "", true)
	}
}

// hangUp writes what there is to write and closes the connection.
func hangUp(w http.ResponseWriter, raw string, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, raw)
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
}
