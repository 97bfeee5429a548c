package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
)

var models = []string{"claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"}

// worker is one client with a connection pool of its own.
type worker struct {
	w         *world
	dice      *rand.Rand
	judge     *judge
	transport *http.Transport
	client    *http.Client
	sdk       anthropic.Client
	session   string
}

var nonces atomic.Int64

func newWorker(w *world, n int) *worker {
	person := people[n%len(people)]
	transport := &http.Transport{
		DisableCompression: true,
		DialContext:        (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}
	k := &worker{w: w, dice: rand.New(rand.NewPCG(*chaosSeed, uint64(n)+100)), transport: transport,
		session: fmt.Sprintf("00000000-0000-4000-9000-%012d", n)}
	k.judge = &judge{base: transport, person: person, key: personKeys[person], w: w}
	k.client = &http.Client{Transport: k.judge}
	k.sdk = anthropic.NewClient(option.WithoutEnvironmentDefaults(), option.WithBaseURL(w.caddy.url), option.WithAPIKey(k.judge.key),
		option.WithHTTPClient(k.client), option.WithMaxRetries(4), option.WithHeader("X-Claude-Code-Session-Id", k.session))
	return k
}

// patience bounds a request, whatever happens.
const patience = 60 * time.Second

// run asks one thing after the other until stop is closed.
func (k *worker) run(stop <-chan struct{}, done *sync.WaitGroup) {
	defer done.Done()
	defer k.transport.CloseIdleConnections()
	for {
		select {
		case <-stop:
			return
		default:
		}
		switch n := k.dice.IntN(100); {
		case n < 30:
			k.raw(true, 0, false)
		case n < 45:
			k.raw(false, 0, false)
		case n < 50:
			k.raw(k.dice.IntN(2) == 0, 200_000+k.dice.IntN(2_000_000), false)
		case n < 58:
			k.raw(true, 0, true)
		case n < 66:
			k.countTokens()
		case n < 86:
			k.sdkStream()
		default:
			k.sdkMessage()
		}
		time.Sleep(time.Duration(k.dice.IntN(20)) * time.Millisecond)
	}
}

func (k *worker) prompt(padding int) string {
	text := fmt.Sprintf("Nonce %d. What does the pool do now?", nonces.Add(1))
	return text + strings.Repeat(" and more of it", padding/15)
}

// raw posts a message by hand; one that leaves goes away in the middle of the answer.
func (k *worker) raw(stream bool, padding int, leaves bool) {
	body := fmt.Sprintf(`{"model":%q,"max_tokens":400,"stream":%t,"messages":[{"role":"user","content":%q}]}`,
		models[k.dice.IntN(len(models))], stream, k.prompt(padding))
	k.insist("/v1/messages", body, leaves)
}

// insist sends again what Caddy's end or reload has cut, as clients do.
func (k *worker) insist(path, body string, leaves bool) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		from := time.Now()
		err := k.once(path, body, leaves)
		if err == nil || leaves || !k.w.excused(err, from, time.Now()) {
			return
		}
		k.transport.CloseIdleConnections()
	}
}

func (k *worker) once(path, body string, leaves bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, k.w.caddy.url+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	r.Header.Set("X-Api-Key", k.judge.key)
	if k.dice.IntN(2) == 0 {
		r.Header.Set("X-Claude-Code-Session-Id", k.session)
	}
	if leaves {
		timer := time.AfterFunc(time.Duration(k.dice.IntN(60))*time.Millisecond, cancel)
		defer timer.Stop()
	}
	resp, err := k.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (k *worker) countTokens() {
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}]}`, models[0], k.prompt(0))
	k.insist("/v1/messages/count_tokens", body, false)
}

func (k *worker) params() anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: models[k.dice.IntN(len(models))], MaxTokens: 400,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(k.prompt(0)))},
	}
}

func (k *worker) sdkMessage() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// What failed has been judged on the wire, try by try.
	if m, err := k.sdk.Messages.New(ctx, k.params()); err == nil && m.StopReason == "" {
		k.w.truth.wrong(time.Now(), time.Now(), "the SDK read a message without an end")
	}
}

func (k *worker) sdkStream() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream := k.sdk.Messages.NewStreaming(ctx, k.params())
	defer stream.Close()
	var m anthropic.Message
	for stream.Next() {
		if err := m.Accumulate(stream.Current()); err != nil {
			k.w.truth.wrong(time.Now(), time.Now(), "the SDK could not read a stream: %v", err)
			return
		}
	}
	if stream.Err() == nil && m.StopReason == "" {
		k.w.truth.wrong(time.Now(), time.Now(), "the SDK read a stream without an end")
	}
}
