package demo

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"
)

// developer is one session after another of one person: prompts that grow turn
// by turn under one session id, with cache marks, streamed.
type developer struct {
	name, key, url string
	pause          time.Duration
	client         *http.Client
	dice           *rand.Rand
	logger         *zap.Logger
}

func newDeveloper(t *Traffic, p Person, number int, logger *zap.Logger) *developer {
	seed := sha256.Sum256(fmt.Appendf(nil, "%s/%d", p.Name, number))
	return &developer{
		name: p.Name, key: p.Key, url: strings.TrimSuffix(t.URL, "/"), pause: time.Duration(t.Pause),
		// The transport is the developer's own, so that Stop leaves no idle
		// connection behind.
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second}},
		dice:   rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[:]), 0xdeed)),
		logger: logger,
	}
}

// models are asked in about these shares.
var models = []string{
	"claude-opus-5-5", "claude-opus-5-5", "claude-opus-5-5", "claude-opus-5-5",
	"claude-sonnet-5-5", "claude-sonnet-5-5", "claude-sonnet-5-5", "claude-sonnet-5-5", "claude-sonnet-5-5",
	"claude-haiku-5-5",
}

const (
	minTurns, moreTurns = 25, 30
	// maxPrompt is where a session is given up for a new one, in bytes.
	maxPrompt = 256 << 10
	patience  = 2 * time.Minute
)

// work goes on until the context ends. People do not all begin at once, and
// not before the site has had time to start.
func (d *developer) work(ctx context.Context) {
	defer d.client.CloseIdleConnections()
	if !wait(ctx, 500*time.Millisecond+d.around(d.pause)) {
		return
	}
	for ctx.Err() == nil {
		d.session(ctx)
		wait(ctx, d.around(2*d.pause))
	}
}

// around spreads a duration between half and one and a half times itself.
func (d *developer) around(mean time.Duration) time.Duration {
	return mean/2 + time.Duration(d.dice.Int64N(int64(mean)+1))
}

func wait(ctx context.Context, duration time.Duration) bool {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// session is one conversation; it ends after its turns or when it has grown
// too long.
func (d *developer) session(ctx context.Context) {
	t := newTalk(models[d.dice.IntN(len(models))], d.dice)
	for range minTurns + d.dice.IntN(moreTurns) {
		t.ask(d.dice)
		if !d.turn(ctx, t) {
			return
		}
		if t.size() > maxPrompt || !wait(ctx, d.around(d.pause)) {
			return
		}
	}
}

// attempts bounds how often one question is sent, like the clients do.
const attempts = 8

// turn sends the last question until it is answered; false ends the session.
func (d *developer) turn(ctx context.Context, t *talk) bool {
	for try := range attempts {
		began := time.Now()
		r := d.send(ctx, t)
		if ctx.Err() != nil {
			return false
		}
		d.tell(t, r, time.Since(began))
		if r.complete {
			t.hear(r.text)
			return true
		}
		if !r.again {
			break
		}
		if !wait(ctx, max(r.after, d.around(d.pause<<min(try, 4)))) {
			return false
		}
	}
	// Nobody asks the next question right after having been sent away.
	return wait(ctx, d.around(5*d.pause))
}

// tell writes one line a request, in words.
func (d *developer) tell(t *talk, r result, took time.Duration) {
	took = took.Round(10 * time.Millisecond)
	from := ""
	if r.account != "" {
		from = " from " + r.account
	}
	switch {
	case r.complete:
		d.logger.Info(fmt.Sprintf("%s asked %s: %d%s in %v, %d tokens in (%d from the cache), %d out",
			d.name, t.model, r.status, from, took, r.input, r.cached, r.output))
	case r.status == 0:
		d.logger.Info(fmt.Sprintf("%s asked %s: no answer after %v: %v", d.name, t.model, took, r.err))
	case r.status == http.StatusOK:
		d.logger.Info(fmt.Sprintf("%s asked %s: 200%s, but the stream broke off after %v: %v", d.name, t.model, from, took, r.err))
	default:
		d.logger.Info(fmt.Sprintf("%s asked %s: %d%s in %v: %s", d.name, t.model, r.status, from, took, r.text))
	}
}
