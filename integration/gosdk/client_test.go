package gosdk

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
)

// try is one HTTP request of the SDK's and what came back.
type try struct {
	retryCount string // X-Stainless-Retry-Count
	begun      time.Time
	status     int // 0 when there was no answer
	header     http.Header
	body       *lockedBuffer // as much as the SDK has read
}

// tape records what one client does on the wire.
type tape struct {
	mu    sync.Mutex
	tries []*try
}

// record is a middleware of the SDK's. It sits below the SDK's retries: every
// try comes through.
func (tp *tape) record(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	this := &try{retryCount: r.Header.Get("X-Stainless-Retry-Count"), begun: time.Now(), body: new(lockedBuffer)}
	tp.mu.Lock()
	tp.tries = append(tp.tries, this)
	tp.mu.Unlock()
	resp, err := next(r)
	if resp != nil {
		this.status, this.header = resp.StatusCode, resp.Header.Clone()
		resp.Body = &tee{resp.Body, this.body}
	}
	return resp, err
}

type tee struct {
	io.ReadCloser
	copy io.Writer
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	_, _ = t.copy.Write(p[:n])
	return n, err
}

// rewind forgets what is on the tape and returns it.
func (tp *tape) rewind() []*try {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tries := tp.tries
	tp.tries = nil
	return tries
}

// only is the one try that the last call was allowed.
func (tp *tape) only(t testing.TB) *try {
	t.Helper()
	tries := tp.rewind()
	if len(tries) != 1 {
		t.Fatalf("the SDK made %d tries, expected 1", len(tries))
	}
	if tries[0].retryCount != "0" {
		t.Errorf("X-Stainless-Retry-Count is %s", tries[0].retryCount)
	}
	return tries[0]
}

// client is an SDK client with its tape. It has the SDK's own defaults,
// two retries among them.
type client struct {
	anthropic.Client
	tape *tape
}

func newClient(url string, pooled bool, opts ...option.RequestOption) *client {
	tp := new(tape)
	all := []option.RequestOption{option.WithoutEnvironmentDefaults(), option.WithBaseURL(url), option.WithMiddleware(tp.record)}
	if pooled {
		all = append(all, option.WithMiddleware(countCall))
	}
	return &client{anthropic.NewClient(append(all, opts...)...), tp}
}

// countCall counts calls, not tries: a retry belongs to its call.
func countCall(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	if r.Header.Get("X-Stainless-Retry-Count") == "0" {
		goCalls.Add(1)
	}
	return next(r)
}

// client is a client of the pool; opts must hold the key.
func (p *pool) client(opts ...option.RequestOption) *client { return newClient(p.url, true, opts...) }

// ann is a client of the pool with a good key.
func (p *pool) ann() *client { return p.client(option.WithAPIKey(annKey)) }

// reference is a client of upstream itself.
func (p *pool) reference(opts ...option.RequestOption) *client {
	return newClient(p.upstream, false, append([]option.RequestOption{option.WithAPIKey(referenceKey)}, opts...)...)
}

// told is a streamed message with all that was accumulated of it.
type told struct {
	message anthropic.Message
	events  int
	text    string
	err     error
}

// longestCall bounds a call with all its retries. The SDK itself would sleep for
// hours if it were told to.
const longestCall = 30 * time.Second

// bounded is the context of one call.
func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longestCall)
	t.Cleanup(cancel)
	return ctx
}

// stream reads a streamed message to its end.
func (c *client) stream(t testing.TB, params anthropic.MessageNewParams, opts ...option.RequestOption) told {
	t.Helper()
	s := c.Messages.NewStreaming(bounded(t), params, opts...)
	defer s.Close()
	var got told
	for s.Next() {
		event := s.Current()
		got.events++
		if err := got.message.Accumulate(event); err != nil {
			t.Errorf("accumulating event %d: %v", got.events, err)
		}
		if delta, ok := event.AsAny().(anthropic.ContentBlockDeltaEvent); ok {
			got.text += delta.Delta.Text
		}
	}
	got.err = s.Err()
	return got
}

func textOf(m *anthropic.Message) string {
	var b bytes.Buffer
	for _, block := range m.Content {
		b.WriteString(block.Text)
	}
	return b.String()
}

// hello is a small request. Its text makes the answer its own.
func hello(text string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model:     anthropic.ModelClaudeSonnet5,
		MaxTokens: 300,
		Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))},
	}
}
