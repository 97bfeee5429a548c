package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// client is one connection of the load. It writes requests that were made before and
// reads answers with as little work as can be: its processor time is taken from what is
// measured.
type client struct {
	conn   net.Conn
	reader *bufio.Reader
	buffer []byte
	head   []byte // of its request
	body   []byte // shared by all
}

// perAddress is how many connections go out from one address: ports are scarce.
const perAddress = 5000

// connect opens the i-th connection.
func connect(j *job, i int, body []byte, buffer int) (*client, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i/perAddress))}, Timeout: 20 * time.Second}
	conn, err := dialer.DialContext(context.Background(), "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(j.Port)))
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return &client{conn: conn, reader: bufio.NewReaderSize(conn, buffer), buffer: make([]byte, buffer), head: requestHead(j, i, len(body)), body: body}, nil
}

// exchange is what became of one request.
type exchange struct {
	sent, first time.Time
	events      int // blank lines, which end an event
}

// do sends the request and reads the answer to its end. Each chunk of an event stream is
// given to watch, unless that is nil, with the events in the answer so far.
func (c *client) do(watch func(chunk []byte, events int)) (exchange, error) {
	e := exchange{sent: time.Now()}
	parts := net.Buffers{c.head, c.body}
	if _, err := parts.WriteTo(c.conn); err != nil {
		return e, fmt.Errorf("sending the request: %w", err)
	}
	if _, err := c.reader.Peek(1); err != nil {
		return e, fmt.Errorf("waiting for the answer: %w", err)
	}
	e.first = time.Now()
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return e, fmt.Errorf("reading the answer's head: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		return e, fmt.Errorf("status %d: %s", response.StatusCode, text)
	}
	size := 0
	var blank blankLines
	for {
		n, err := response.Body.Read(c.buffer)
		size += n
		e.events += blank.in(c.buffer[:n])
		if watch != nil && n > 0 {
			watch(c.buffer[:n], e.events)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return e, fmt.Errorf("reading the answer: %w", err)
		}
	}
	if e.events == 0 && size != len(answerJSON) {
		return e, fmt.Errorf("the answer has %d bytes, not %d", size, len(answerJSON))
	}
	return e, nil
}

// blankLines counts "\n\n" in a text that comes in pieces.
type blankLines struct{ open bool }

func (b *blankLines) in(piece []byte) int {
	if len(piece) == 0 {
		return 0
	}
	n := 0
	if b.open && piece[0] == '\n' {
		n, piece = 1, piece[1:]
	}
	n += bytes.Count(piece, []byte("\n\n"))
	b.open = len(piece) > 0 && piece[len(piece)-1] == '\n' && !bytes.HasSuffix(piece, []byte("\n\n"))
	return n
}

// stamps takes the times that are between two marks out of a text that comes in pieces.
type stamps struct {
	inside bool
	value  int64
}

func (s *stamps) in(piece []byte, found func(nanoseconds int64)) {
	for len(piece) > 0 {
		at := bytes.IndexByte(piece, stampMark)
		upTo := piece
		if at >= 0 {
			upTo = piece[:at]
		}
		if s.inside {
			for _, digit := range upTo {
				s.value = s.value*10 + int64(digit-'0')
			}
		}
		if at < 0 {
			return
		}
		if s.inside {
			found(s.value)
		}
		s.inside, s.value = !s.inside, 0
		piece = piece[at+1:]
	}
}
