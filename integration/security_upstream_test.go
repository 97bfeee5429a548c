package integration

import (
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

type seen = fakeclaude.Request

// canary is a server that nobody is to ask.
type canary struct {
	url  string
	hits atomic.Int64
}

func startCanary(t *testing.T) *canary {
	t.Helper()
	c := &canary{}
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { c.hits.Add(1) }))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// hostile is an upstream that answers as the header X-Evil of a request says, and passes
// all others on to the fake.
type hostile struct{ url string }

// zeros is how many bytes a bomb unpacks to.
const zeros = 1 << 30

func startHostile(t *testing.T, fake http.Handler, elsewhere string) *hostile {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		evil := r.Header.Get("X-Evil")
		if evil == "" {
			fake.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if kind, bomb := strings.CutPrefix(evil, "bomb "); bomb {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Encoding", "gzip")
			pack := gzip.NewWriter(w)
			if kind == "text/event-stream" {
				_, _ = io.WriteString(pack, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"")
			} else {
				_, _ = io.WriteString(pack, `{"id":"`)
			}
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = '0'
			}
			for range zeros / len(block) {
				if _, err := pack.Write(block); err != nil {
					return
				}
			}
			_ = pack.Close()
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		answer, err := strconv.Unquote(`"` + evil + `"`)
		if err != nil {
			answer = "HTTP/1.1 500 Bad test\r\n\r\n"
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(c, strings.ReplaceAll(answer, "%ELSEWHERE%", elsewhere))
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
			_, _ = io.Copy(io.Discard, tcp)
		}
	}))
	t.Cleanup(server.Close)
	return &hostile{url: server.URL}
}

// askEvil has the upstream answer with these bytes.
func (f *fort) askEvil(answer string) answer {
	f.t.Helper()
	// What an answer of before has done to the account is over.
	f.do(http.MethodPost, f.url+"/steer", `{"action":"unbench","account":"a"}`, "X-Api-Key", annKey)
	quoted := strconv.QuoteToASCII(answer)
	return f.ask(bobKey, hello, "X-Evil", quoted[1:len(quoted)-1])
}

const evilBody = `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":1,"output_tokens":1}}`

// fromUpstream: a header of upstream's is one header or none, and some are not for people.
func fromUpstream(f *fort) (tries []try) {
	headers := []string{
		"X-A: b\\rSet-Cookie: a=" + mark, "X-A: b\n Set-Cookie: a=" + mark, "X-A: b\r\n\tSet-Cookie: " + mark, "X-A\x00: " + mark, "Set-Cookie: a=" + mark, "Set-Cookie2: " + mark,
		"Anthropic-Organization-Id: " + mark, "Anthropic-Workspace-Id: " + mark, "Anthropic-Ratelimit-Requests-Limit: " + mark, "Anthropic-Ratelimit-Unified-Status: " + mark, "X-Shunt-Account: " + mark,
		"Clear-Site-Data: \"" + mark + "\"", "Refresh: 0; url=" + mark, "Service-Worker-Allowed: /" + mark, "Strict-Transport-Security: " + mark, "Alt-Svc: " + mark, "Content-Security-Policy: " + mark,
		"Server: " + mark, "Via: " + mark, "Connection: X-Hop\r\nX-Hop: " + mark, "Trailer: X-Mark", "Nel: " + mark, "Report-To: " + mark,
	}
	passed := 0
	for _, header := range headers {
		a := f.askEvil("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + header + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(evilBody), evilBody))
		t := try{way: header}
		if text := fmt.Sprint(a.header); strings.Contains(text, mark) && !strings.Contains(text, "X-A") || a.header.Get("Set-Cookie") != "" {
			t.through = text
		}
		if a.status == http.StatusOK {
			passed++
		}
		tries = append(tries, t)
	}
	if passed < len(tries)/2 {
		f.t.Errorf("only %d of %d answers came to the client at all", passed, len(tries))
	}
	return tries
}

func redirects(f *fort) (tries []try) {
	for _, status := range []int{300, 301, 302, 303, 304, 305, 307, 308, 201, 401, 503} {
		for _, header := range []string{"Location: %ELSEWHERE%/stolen", "Content-Location: %ELSEWHERE%", "Refresh: 0; url=%ELSEWHERE%"} {
			a := f.askEvil(fmt.Sprintf("HTTP/1.1 %d Elsewhere\r\nContent-Type: application/json\r\n%s\r\nContent-Length: 2\r\n\r\n{}", status, header))
			t := try{way: fmt.Sprint(status, " ", header)}
			if n := f.canary.hits.Load(); n > 0 || a.status >= 300 && a.status < 400 {
				t.through = fmt.Sprint(n, " requests elsewhere, ", a.status, " ", a.header)
			}
			tries = append(tries, t)
		}
	}
	return tries
}

// noAnswers end with an honest error, and Caddy goes on.
func noAnswers(f *fort) (tries []try) {
	long := strings.Repeat("x", 20_000)
	for _, answer := range []string{
		"\r\n", "nonsense", "HTTP/1.1 200", "HTTP/9.9 200 OK\r\n\r\n", "HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: odd\r\nConnection: Upgrade\r\n\r\n",
		"HTTP/1.1 600 High\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 999 Higher\r\n\r\n", "HTTP/1.1 204 None\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\nX-Long: " + long + long + "\r\n\r\n",
		"HTTP/1.1 500 Error\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 429 Slow\r\nRetry-After: 99999999999999999999\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 429 Slow\r\nRetry-After: -5\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: \r\n\r\n",
	} {
		a := f.askEvil(answer)
		t := try{way: answer[:min(len(answer), 60)]}
		if a.err == nil && (a.status < 400 || a.status > 599 || !strings.Contains(a.body, `"type":"error"`) && a.body != "{}") {
			t.through = fmt.Sprint(a.status, " ", a.header, " ", a.body)
		}
		tries = append(tries, t)
	}
	return tries
}

var rss = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB`)

// peak is the most memory that the process has had, in bytes; 0 where that is not told.
func (s *site) peak() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	m := rss.FindSubmatch(status)
	if m == nil {
		return 0
	}
	kB, _ := strconv.ParseInt(string(m[1]), 10, 64)
	return kB << 10
}

// bombs may be passed on, but are held nowhere.
func bombs(f *fort) (tries []try) {
	for _, kind := range []string{"application/json", "text/event-stream"} {
		f.do(http.MethodPost, f.url+"/steer", `{"action":"unbench","account":"a"}`, "X-Api-Key", annKey)
		before := f.peak()
		r, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.url+"/v1/messages", strings.NewReader(hello))
		if err != nil {
			f.t.Fatal(err)
		}
		r.Header = http.Header{"X-Api-Key": {bobKey}, "X-Evil": {"bomb " + kind}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			f.t.Fatal(err)
		}
		n, _ := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		t := try{way: kind}
		if grown := f.peak() - before; grown > 200<<20 {
			t.through = fmt.Sprintf("%d MB more after %d MB", grown>>20, n>>20)
		}
		tries = append(tries, t)
	}
	return tries
}

// intoBrowsers: what somebody uploaded is served at the site of the page.
func intoBrowsers(f *fort) (tries []try) {
	for _, kind := range []string{"text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "text/css", "application/pdf", ""} {
		const page = "<script>alert(1)</script>"
		f.do(http.MethodPost, f.url+"/steer", `{"action":"unbench","account":"a"}`, "X-Api-Key", annKey)
		quoted := strconv.QuoteToASCII(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", kind, len(page), page))
		a := f.do(http.MethodGet, f.url+"/v1/files/file_1/content", "", "X-Api-Key", bobKey, "X-Evil", quoted[1:len(quoted)-1])
		t := try{way: "a file of type " + kind}
		if !strings.Contains(a.body, "<script") {
			f.t.Errorf("a file of type %s does not arrive: %d %s", kind, a.status, a.body)
		}
		if a.header.Get("X-Content-Type-Options") != "nosniff" && strings.Contains(a.body, "<script") || strings.Contains(a.body, "<script") && !strings.Contains(a.header.Get("Content-Security-Policy"), "sandbox") {
			t.through = fmt.Sprint(a.status, a.header)
		}
		tries = append(tries, t)
	}
	for _, path := range []string{"/dashboard", "/dashboard/app.js", "/dashboard/style.css"} {
		a := f.do(http.MethodGet, f.url+path, "")
		policy := a.header.Get("Content-Security-Policy")
		t := try{way: "framing " + path}
		if a.status == http.StatusOK && (!strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") || a.header.Get("X-Content-Type-Options") != "nosniff") {
			t.through = fmt.Sprint(a.status, a.header)
		}
		tries = append(tries, t)
	}
	for _, path := range []string{"/status", "/usage", "/v1/nothing%3Cscript%3E", "/explain?request=%3Cscript%3E", "/history?range=%3Cscript%3E", "/usage?by=%3Cscript%3E"} {
		a := f.do(http.MethodGet, f.url+path, "", "X-Api-Key", annKey)
		t := try{way: "markup in " + path}
		if kind := a.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
			t.through = fmt.Sprint(a.status, a.header)
		}
		tries = append(tries, t)
	}
	return tries
}
