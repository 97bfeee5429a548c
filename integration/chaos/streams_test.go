package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// held is an upstream whose streams begin at once and end when it is told to.
type held struct {
	open    atomic.Int64
	release chan struct{}
	// size is how many bytes of text follow the release.
	size int
}

const (
	heldHead = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-opus-5-5\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n" +
		"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
	heldTail = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n" +
		"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9}}\n\n" +
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
)

func delta(text string) string {
	return fmt.Sprintf("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":%q}}\n\n", text)
}

// expected is what a client of this nonce must get, byte for byte.
func (u *held) expected(nonce string) string {
	var b strings.Builder
	b.WriteString(heldHead + delta("Nonce "+nonce+"."))
	for rest := u.size; rest > 0; rest -= 4000 {
		b.WriteString(delta(strings.Repeat("x", min(rest, 4000))))
	}
	b.WriteString(heldTail)
	return b.String()
}

func (u *held) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	m := nonceIn.FindSubmatch(body)
	if err != nil || m == nil {
		http.Error(w, "no nonce", http.StatusBadRequest)
		return
	}
	text := u.expected(string(m[1]))
	head := len(heldHead) + len(delta("Nonce "+string(m[1])+"."))
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	_, _ = io.WriteString(w, text[:head])
	_ = http.NewResponseController(w).Flush()
	if bytes.Contains(body, []byte("wait for the others")) {
		u.open.Add(1)
		defer u.open.Add(-1)
		select {
		case <-u.release:
		case <-r.Context().Done():
			return
		}
	}
	_, _ = io.WriteString(w, text[head:])
}

// needFiles makes sure that a process may have that many files open.
func needFiles(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Max < n {
		t.Fatalf("%d open files are needed and %d are allowed (ulimit -Hn): %v", n, limit.Max, err)
	}
}

// startHeld runs Caddy in front of one upstream.
func startHeld(t *testing.T, upstream http.Handler, settings string) *process {
	t.Helper()
	d := openDoor(t, upstream, false)
	p := newProcess(t, "KEY_ANN="+personKeys["ann"])
	config := fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n\tskip_install_trust\n\tauto_https off\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n}\n%s {\n\tshunt {\n\t\tpool load\n\t\tremote_key ann {env.KEY_ANN}\n\t\tupstream %s\n%s\n\t}\n}\n",
		strings.TrimPrefix(p.admin, "http://"), p.url, d.url, settings)
	if err := os.WriteFile(p.configFile(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	return p
}

const twoAccounts = "\t\taccount a {\n\t\t\tapi_key sk-ant-api03-load-a\n\t\t}\n\t\taccount b {\n\t\t\tapi_key sk-ant-api03-load-b\n\t\t}"

// stream is an answer of which the beginning has been read.
type stream struct {
	nonce string
	resp  *http.Response
	got   []byte
}

func (p *process) ask(ctx context.Context, client *http.Client, nonce int64, text string) (*http.Response, error) {
	body := fmt.Sprintf(`{"model":"claude-opus-5-5","max_tokens":400,"stream":true,"messages":[{"role":"user","content":"Nonce %d. %s"}]}`, nonce, text)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	r.Header.Set("X-Api-Key", personKeys["ann"])
	return client.Do(r)
}

// openStream asks and reads the beginning of the answer.
func (p *process) openStream(ctx context.Context, client *http.Client, text string) (*stream, error) {
	nonce := nonces.Add(1)
	resp, err := p.ask(ctx, client, nonce, text)
	if err != nil {
		return nil, err
	}
	s := &stream{nonce: strconv.FormatInt(nonce, 10), resp: resp}
	if resp.StatusCode != http.StatusOK {
		data, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		return nil, fmt.Errorf("status %d: %s", resp.StatusCode, data)
	}
	buffer := make([]byte, 4096)
	for !bytes.Contains(s.got, []byte("Nonce "+s.nonce)) {
		n, err := resp.Body.Read(buffer)
		s.got = append(s.got, buffer[:n]...)
		if err != nil && !bytes.Contains(s.got, []byte("Nonce "+s.nonce)) {
			resp.Body.Close()
			return nil, fmt.Errorf("reading the beginning: %w", err)
		}
	}
	return s, nil
}

// finish reads the rest and compares the whole.
func (s *stream) finish(u *held) error {
	defer s.resp.Body.Close()
	rest, err := io.ReadAll(s.resp.Body)
	if err != nil {
		return fmt.Errorf("reading the rest of %s: %w", s.nonce, err)
	}
	if string(s.got)+string(rest) != u.expected(s.nonce) {
		return fmt.Errorf("stream %s: other bytes than upstream sent", s.nonce)
	}
	return nil
}

func loadClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64, DisableCompression: true, ReadBufferSize: 2048, WriteBufferSize: 2048,
		DialContext: (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
	}}
}

// together runs n things, at most width at a time, and returns what went wrong.
func together(n, width int, do func(int) error) error {
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		problems []error
	)
	turn := make(chan struct{}, width)
	for i := range n {
		turn <- struct{}{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-turn }()
			if err := do(i); err != nil {
				mu.Lock()
				problems = append(problems, err)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d failed: %w", len(problems), n, errors.Join(problems[:min(len(problems), 5)]...))
}

// perStream bounds the memory of one open stream, all of Caddy's share of it included.
const perStream = 160 << 10

func TestManyOpenStreams(t *testing.T) {
	needFiles(t, uint64(*openStreams*3/2+500))
	u := &held{release: make(chan struct{})}
	p := startHeld(t, u, twoAccounts)
	// Upstream is asked over HTTP/1.1, a connection for each stream. Four in ten clients
	// do the same, the others share connections: 20,000 files are what many systems allow.
	client, sharing := loadClient(), loadClient()
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	sharing.Transport.(*http.Transport).Protocols = &h2c
	before := p.resident(t)
	n := *openStreams
	streams := make([]*stream, n)
	err := together(n, 64, func(i int) (err error) {
		by := sharing
		if i%10 < 4 {
			by = client
		}
		streams[i], err = p.openStream(t.Context(), by, "Now wait for the others.")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if open := u.open.Load(); open != int64(n) {
		t.Errorf("%d streams are open at upstream, expected %d", open, n)
	}
	full := p.resident(t)
	if most := before + n*perStream; full > most {
		t.Errorf("%d open streams take %d MB, expected at most %d", n, full>>20, most>>20)
	}
	err = together(100, 8, func(int) error {
		s, err := p.openStream(t.Context(), client, "Answer at once.")
		if err != nil {
			return err
		}
		return s.finish(u)
	})
	if err != nil {
		t.Errorf("while the others are open: %v", err)
	}
	close(u.release)
	if err := together(n, 64, func(i int) error { return streams[i].finish(u) }); err != nil {
		t.Error(err)
	}
	client.CloseIdleConnections()
	sharing.CloseIdleConnections()
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	fmt.Printf("streams: %d open at once, %d MB resident, %d kB each\n", n, full>>20, (full-before)/n>>10)
}

// resident is the process's resident memory in bytes.
func (p *process) resident(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		t.Fatal(err)
	}
	return n * os.Getpagesize()
}

// TestSlowReaders: who does not read holds up nobody else, and gets everything in the end.
func TestSlowReaders(t *testing.T) {
	u := &held{release: make(chan struct{}), size: 8 << 20}
	close(u.release)
	p := startHeld(t, u, twoAccounts)
	slow, quick := loadClient(), loadClient()
	const lazy = 30
	streams := make([]*stream, lazy)
	if err := together(lazy, lazy, func(i int) (err error) {
		streams[i], err = p.openStream(t.Context(), slow, "I read this later.")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := together(60, 4, func(int) error {
		s, err := p.openStream(ctx, quick, "I read this now.")
		if err != nil {
			return err
		}
		return s.finish(u)
	}); err != nil {
		t.Errorf("while others do not read: %v", err)
	}
	if got := p.resident(t); got > 500<<20 {
		t.Errorf("%d MB are held for %d clients that do not read", got>>20, lazy)
	}
	if err := together(lazy, 4, func(i int) error { return streams[i].finish(u) }); err != nil {
		t.Errorf("those who read late: %v", err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
}

// TestOverload asks for far more than the accounts take and the line holds.
func TestOverload(t *testing.T) {
	u := &held{release: make(chan struct{})}
	limited := strings.ReplaceAll(twoAccounts, "\n\t\t}", "\n\t\t\tmax_concurrent 5\n\t\t}")
	p := startHeld(t, u, limited+"\n\t\thold 20s {\n\t\t\tqueue 40\n\t\t}")
	client := loadClient()
	const crowd, most = 400, 10 + 40
	var served, shed atomic.Int64
	var done sync.WaitGroup
	for range crowd {
		done.Add(1)
		go func() {
			defer done.Done()
			resp, err := p.ask(t.Context(), client, nonces.Add(1), "Now wait for the others.")
			if err != nil {
				t.Errorf("no answer: %v", err)
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			switch {
			case err != nil:
				t.Errorf("an answer broke off: %v", err)
			case resp.StatusCode == http.StatusOK && bytes.HasSuffix(body, []byte(heldTail)):
				served.Add(1)
			default:
				shed.Add(1)
				if problem := honestlyBusy(resp, body); problem != "" {
					t.Error(problem)
				}
			}
		}()
	}
	deadline := time.Now().Add(time.Minute)
	for shed.Load() < crowd-most && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if shed.Load() != crowd-most || u.open.Load() != 10 {
		t.Errorf("%d were told to come back, %d are at upstream; expected %d and 10", shed.Load(), u.open.Load(), crowd-most)
	}
	close(u.release)
	done.Wait()
	if served.Load() != most {
		t.Errorf("%d served, expected %d", served.Load(), most)
	}
	if err := together(50, 5, func(int) error {
		s, err := p.openStream(t.Context(), client, "Answer at once.")
		if err != nil {
			return err
		}
		return s.finish(u)
	}); err != nil {
		t.Errorf("after the overload: %v", err)
	}
	fmt.Printf("overload: %d asked, %d served, %d told to come back\n", crowd, served.Load(), shed.Load())
	if err := p.stop(); err != nil {
		t.Error(err)
	}
}

// honestlyBusy says what is wrong with an answer that sends a client away for now.
func honestlyBusy(resp *http.Response, body []byte) string {
	var e struct {
		Type  string
		Error struct{ Type, Message string }
	}
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	switch {
	case resp.StatusCode != http.StatusTooManyRequests:
		return fmt.Sprintf("status %d: %s", resp.StatusCode, body)
	case json.Unmarshal(body, &e) != nil || e.Type != "error" || e.Error.Type != "rate_limit_error" || e.Error.Message == "":
		return fmt.Sprintf("not the API's envelope: %s", body)
	case err != nil || after < 1 || after > 60:
		return fmt.Sprintf("retry-after is %q", resp.Header.Get("Retry-After"))
	}
	return ""
}
