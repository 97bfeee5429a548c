package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// raw sends bytes and returns all that comes until the connection is closed, or time is up.
func (s *site) raw(request string, limit time.Duration) string {
	s.t.Helper()
	return s.rawAt(strings.TrimPrefix(s.url, "http://"), request, limit)
}

func (s *site) rawAt(address, request string, limit time.Duration) string {
	s.t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	_, _ = io.WriteString(c, request)
	var answer bytes.Buffer
	_, _ = io.Copy(&answer, c)
	return answer.String()
}

// smuggling: what comes behind the body, or what a sloppy reader would take for that, must
// not become a request of its own with the first one's key, nor reach upstream at all.
func smuggling(f *fort) (tries []try) {
	host := strings.TrimPrefix(f.url, "http://")
	hidden := "POST /v1/messages HTTP/1.1\r\nHost: " + host + "\r\nX-Mark: " + mark + "\r\nContent-Length: 0\r\n\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hello), hello)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(hello))
	const chunked = "Transfer-Encoding: chunked\r\n"
	for way, framing := range map[string][2]string{
		"length and chunked":           {length + chunked, "0\r\n\r\n" + hidden},
		"chunked and length":           {chunked + "Content-Length: 5\r\n", chunk + hidden},
		"two lengths":                  {length + "Content-Length: 5\r\n", hello + hidden},
		"a list of lengths":            {"Content-Length: 5, 5\r\n", "{}   " + hidden},
		"a signed length":              {"Content-Length: +5\r\n", "{}   " + hidden},
		"a negative length":            {"Content-Length: -5\r\n", hidden},
		"a length in hexadecimal":      {"Content-Length: 0x5\r\n", "{}   " + hidden},
		"a length too large":           {"Content-Length: 99999999999999999999\r\n", hidden},
		"chunked twice":                {chunked + chunked, chunk + hidden},
		"xchunked":                     {"Transfer-Encoding: xchunked\r\n", chunk + hidden},
		"chunked, identity":            {"Transfer-Encoding: chunked, identity\r\n", chunk + hidden},
		"a blank before the colon":     {"Transfer-Encoding : chunked\r\n", "0\r\n\r\n" + hidden},
		"a tab before the value":       {length + "Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n" + hidden},
		"a folded header":              {length + "X-Fold: a\r\n Transfer-Encoding: chunked\r\n", hello + hidden},
		"a bare carriage return":       {length + "X-Bare: a\rTransfer-Encoding: chunked\r\n", hello + hidden},
		"a bare line feed":             {length + "X-Bare: a\nX-Mark: " + mark + "\r\n", ""},
		"a zero byte":                  {length + "X-Zero: a\x00b\r\n", hello + hidden},
		"a chunk size with a sign":     {chunked, "+5\r\n{}   \r\n0\r\n\r\n" + hidden},
		"a chunk size too large":       {chunked, "fffffffffffffffff\r\n{}\r\n0\r\n\r\n" + hidden},
		"a chunk extension with a CR":  {chunked, "2;a=\rb\r\n{}\r\n0\r\n\r\n" + hidden},
		"a chunk without its line end": {chunked, "2\r\n{}0\r\n\r\n" + hidden},
		"a trailer":                    {chunked + "Trailer: X-Mark\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\nX-Mark: %s\r\n\r\n", len(hello), hello, mark)},
		"a second request line":        {length, hello + strings.Replace(hidden, "POST", "  POST", 1)},
		"HTTP/0.9 behind it":           {length, hello + "GET /v1/models?" + mark + "\r\n"},
	} {
		before := len(f.up.Requests())
		answer := f.raw("POST /v1/messages HTTP/1.1\r\nHost: "+host+"\r\nX-Api-Key: "+bobKey+"\r\nAnthropic-Version: 2023-06-01\r\nContent-Type: application/json\r\n"+framing[0]+"\r\n"+framing[1], 4*time.Second)
		t := try{way: way, through: f.smuggled()}
		if n := len(f.up.Requests()) - before; n > 1 {
			t.through = fmt.Sprintf("%d requests at upstream", n)
		}
		if strings.Count(answer, "HTTP/1.1 200 ") > 1 {
			t.through = answer
		}
		tries = append(tries, t)
	}
	return tries
}

// pathTricks must reach nothing without a key, and with one only the endpoints that there
// are. The admin endpoint is never reached through the site.
func pathTricks(f *fort) (tries []try) {
	targets := []string{
		"//v1/messages", "/v1//messages", "/v1/./messages", "/v1/x/../messages", "/../v1/messages", "/v1/%2e%2e/v1/messages", "/v1/messages/..;/models", "/v1/messages%00", "/v1/messages%0d%0aX-Mark:%20" + mark,
		"/v1/messages/", "/V1/MESSAGES", "/%761/messages", "/v1/files/..%2f..%2fv1/messages", "/v1/files/%2e%2e", "/v1/files/..", "/v1/files/a/../../messages", "/v1/models/..%2fmessages", "/v1/messages/batches/../../files",
		"//status", "/status/", "/%73tatus", "/status;a=b", "/./status", "/dashboard/../status", "/dashboard/%2e%2e/status", "/dashboard//..//status",
		"/shunt/status", "/shunt/accounts", "/config/", "/load", "/stop", "/debug/pprof/", "/metrics",
		"http://" + f.admin + "/shunt/status", "http://elsewhere.example/status", f.canary.url + "/v1/messages", "*", "elsewhere.example:443",
	}
	endpoint := func(uri string) bool {
		path, _, _ := strings.Cut(uri, "?")
		for _, known := range []string{"/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches", "/v1/models", "/v1/files"} {
			rest, ok := strings.CutPrefix(path, known)
			if ok && (rest == "" || strings.HasPrefix(rest, "/") && !strings.ContainsAny(rest, "%;\\") && !strings.Contains(rest, "..") && !strings.Contains(rest, "//")) {
				return true
			}
		}
		return false
	}
	for _, target := range targets {
		for _, method := range []string{"GET", "POST", "OPTIONS", "CONNECT", "TRACE"} {
			for _, key := range []string{"", bobKey} {
				before := len(f.up.Requests())
				request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nAnthropic-Version: 2023-06-01\r\n", method, target, strings.TrimPrefix(f.url, "http://"))
				if key != "" {
					request += "X-Api-Key: " + key + "\r\n"
				}
				answer := f.raw(request+"Content-Length: 2\r\n\r\n{}", 3*time.Second)
				t := try{way: fmt.Sprintf("%s %s, key %t", method, target, key != "")}
				asked := f.up.Requests()[before:]
				if key == "" && (len(asked) > 0 || strings.Contains(answer, `"accounts"`) || strings.Contains(answer, `"apps"`)) {
					t.through = fmt.Sprint(asked, answer)
				}
				if i := slices.IndexFunc(asked, func(r seen) bool { return !endpoint(r.URI) || strings.Contains(fmt.Sprint(r.Header), mark) }); i >= 0 {
					t.through = fmt.Sprint(asked[i].URI, asked[i].Header)
				}
				if strings.Contains(answer, `"apps"`) || strings.Contains(answer, "goroutine") {
					t.through = answer
				}
				tries = append(tries, t)
			}
		}
	}
	if n := f.canary.hits.Load(); n > 0 {
		tries = append(tries, try{"another server", fmt.Sprintf("%d requests", n)})
	}
	return tries
}

// tooLarge is refused without holding it, and with a status that says so.
func tooLarge(f *fort) (tries []try) {
	host := strings.TrimPrefix(f.url, "http://")
	const large = 3 << 20
	head := "POST /v1/messages HTTP/1.1\r\nHost: " + host + "\r\nX-Api-Key: " + bobKey + "\r\nContent-Type: application/json\r\n"
	for way, request := range map[string]string{
		"one header":                    head + "X-Large: " + strings.Repeat("x", large) + "\r\n\r\n",
		"many headers":                  head + strings.Repeat("X-Many: "+strings.Repeat("x", 100)+"\r\n", large/100) + "\r\n",
		"the request line":              "GET /v1/models?" + strings.Repeat("x", large) + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"a declared body":               head + fmt.Sprintf("Content-Length: %d\r\n\r\n", int64(1)<<40),
		"a body beyond max_body":        head + fmt.Sprintf("Content-Length: %d\r\n\r\n", large) + strings.Repeat("x", large),
		"chunks beyond max_body":        head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10000\r\n"+strings.Repeat("x", 0x10000)+"\r\n", large/0x10000) + "0\r\n\r\n",
		"a trailer beyond any":          head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Large: " + strings.Repeat("x", large) + "\r\n\r\n",
		"an extension beyond any":       head + "Transfer-Encoding: chunked\r\n\r\n2;" + strings.Repeat("x", large) + "\r\n{}\r\n0\r\n\r\n",
		"a key as long as a book":       "GET /v1/models HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\nX-Api-Key: " + strings.Repeat("k", 60<<10) + "\r\n\r\n",
		"a session as long as a header": head + "Connection: close\r\nX-Session-Id: " + strings.Repeat("s", 50<<10) + "\r\nContent-Length: 2\r\n\r\n{}",
	} {
		before := len(f.up.Requests())
		answer := f.raw(request, 5*time.Second)
		t := try{way: way}
		status, _, _ := strings.Cut(answer, "\r\n")
		if strings.Contains(status, " 200 ") || len(f.up.Requests())-before > 1 || strings.HasPrefix(way, "a body") && len(f.up.Requests()) > before {
			t.through = status
		}
		tries = append(tries, t)
	}
	return tries
}

// slowly: the limits of time of the server end connections that say nothing, and none of
// them holds up anybody.
func slowly(f *fort) (tries []try) {
	const each, patience = 20, 12 * time.Second
	host := strings.TrimPrefix(f.url, "http://")
	ways := map[string]string{
		"nothing":        "",
		"half a line":    "POST /v1/mess",
		"half a head":    "POST /v1/messages HTTP/1.1\r\nHost: " + host + "\r\nX-Api-Key: " + bobKey + "\r\n",
		"half a body":    "POST /v1/messages HTTP/1.1\r\nHost: " + host + "\r\nX-Api-Key: " + bobKey + "\r\nContent-Length: 1000\r\n\r\n{",
		"half a chunk":   "POST /v1/messages HTTP/1.1\r\nHost: " + host + "\r\nX-Api-Key: " + bobKey + "\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n{",
		"half of HTTP/2": http2.ClientPreface[:10],
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for way, sent := range ways {
		for i := range each {
			all.Go(func() {
				begun := time.Now()
				f.raw(sent, patience)
				t := try{way: fmt.Sprint(way, " ", i)}
				if took := time.Since(begun); took >= patience {
					t.through = fmt.Sprintf("the connection is open after %v", took)
				}
				mu.Lock()
				tries = append(tries, t)
				mu.Unlock()
			})
		}
	}
	time.Sleep(500 * time.Millisecond)
	f.ask(bobKey, hello).mustServe(f.t)
	all.Wait()
	return tries
}

// intoUpstream is sent by HTTP/1.1 and, with what only HTTP/2 can carry, frame by frame.
func intoUpstream(f *fort) (tries []try) {
	evil := func(way string, before int) try {
		t := try{way: way}
		for _, r := range f.up.Requests()[before:] {
			text := fmt.Sprint(r.Header)
			switch {
			case strings.Contains(text, mark) || strings.Contains(r.URI, mark):
				t.through = r.URI + " " + text
			case strings.Contains(text, bobKey) || strings.ContainsAny(r.URI, " \r\n\x00") || r.Proto != "HTTP/1.1":
				t.through = r.Proto + " " + r.URI + " " + text
			}
		}
		return t
	}
	first := len(f.up.Requests())
	for _, header := range []string{
		"Connection: x-mark\r\nX-Mark: " + mark, "Proxy-Authorization: " + mark, "Te: " + mark, "Upgrade: " + mark, "X-Forwarded-For: " + mark, "X-Forwarded-Host: " + mark, "Forwarded: for=" + mark, "Cookie: a=" + mark,
		"X-Shunt-Account: " + mark, "Authorization: Bearer " + mark, "Authorization: Basic " + mark, "Referer: https://" + mark + ".example", "Origin: https://" + mark + ".example", "Traceparent: " + mark, "Keep-Alive: " + mark,
	} {
		if !strings.HasPrefix(header, "Connection") {
			header += "\r\nConnection: close"
		}
		before := len(f.up.Requests())
		f.raw(fmt.Sprintf("POST /v1/messages HTTP/1.1\r\nHost: %s\r\nX-Api-Key: %s\r\nAnthropic-Version: 2023-06-01\r\nContent-Type: application/json\r\n%s\r\nContent-Length: %d\r\n\r\n%s",
			strings.TrimPrefix(f.url, "http://"), bobKey, header, len(hello), hello), 2*time.Second)
		tries = append(tries, evil(header, before))
	}
	for way, fields := range map[string][]string{
		"a line in a value":         {":path", "/v1/messages", "x-a", "b\r\nx-mark: " + mark},
		"a line in a name":          {":path", "/v1/messages", "x-a: b\r\nx-mark", mark},
		"a line in the path":        {":path", "/v1/messages?a HTTP/1.1\r\nX-Mark: " + mark + "\r\n\r\n"},
		"a blank in the query":      {":path", "/v1/messages?a HTTP/1.1"},
		"a blank in the path":       {":path", "/v1/messages a"},
		"a zero byte in the path":   {":path", "/v1/messages?\x00"},
		"a length of its own":       {":path", "/v1/messages", "content-length", "5"},
		"transfer-encoding":         {":path", "/v1/messages", "transfer-encoding", "chunked"},
		"connection":                {":path", "/v1/messages", "connection", "x-mark", "x-mark", mark},
		"a pseudo header behind":    {":path", "/v1/messages", "x-a", "b", ":path", "/" + mark},
		"two paths":                 {":path", "/v1/messages", ":path", "/v1/models?" + mark},
		"an authority of its own":   {":path", "/v1/messages", ":authority", mark + ".example"},
		"an authority with a path":  {":path", "/v1/messages", ":authority", "a/" + mark},
		"an authority with a user":  {":path", "/v1/messages", ":authority", mark + "@a"},
		"a host beside the other":   {":path", "/v1/messages", "host", mark + ".example"},
		"a name in capital letters": {":path", "/v1/messages", "X-Mark", mark},
		"a scheme of its own":       {":path", "/v1/messages", ":scheme", "file"},
	} {
		before := len(f.up.Requests())
		f.frames(fields)
		tries = append(tries, evil("HTTP/2: "+way, before))
	}
	if n := len(f.up.Requests()) - first; n < len(tries)/2 {
		f.t.Errorf("only %d of %d came upstream at all", n, len(tries))
	}
	return tries
}

// frames sends a request by HTTP/2 with header fields as they are, in this order.
func (f *fort) frames(fields []string) {
	c, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.WriteString(c, http2.ClientPreface)
	framer := http2.NewFramer(c, bufio.NewReader(c))
	_ = framer.WriteSettings()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	write := func(name, value string) { _ = encoder.WriteField(hpack.HeaderField{Name: name, Value: value}) }
	for _, pseudo := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", strings.TrimPrefix(f.url, "http://")}} {
		if !slices.Contains(fields, pseudo[0]) {
			write(pseudo[0], pseudo[1])
		}
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if strings.HasPrefix(fields[i], ":") && (i == 0 || strings.HasPrefix(fields[i-2], ":")) {
			write(fields[i], fields[i+1])
		}
	}
	write("x-api-key", bobKey)
	write("anthropic-version", "2023-06-01")
	write("content-type", "application/json")
	for i := 0; i+1 < len(fields); i += 2 {
		if !strings.HasPrefix(fields[i], ":") || i > 0 && !strings.HasPrefix(fields[i-2], ":") {
			write(fields[i], fields[i+1])
		}
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = framer.WriteData(1, true, []byte(hello))
	for {
		frame, err := framer.ReadFrame()
		if err != nil || frame.Header().StreamID == 1 && frame.Header().Flags.Has(http2.FlagDataEndStream) || frame.Header().Type == http2.FrameRSTStream || frame.Header().Type == http2.FrameGoAway {
			return
		}
	}
}

// intoLogs looks at every field that shunt writes.
func intoLogs(f *fort) (tries []try) {
	from := len(f.logs())
	evil := map[string]string{"line feeds": "a\nb\r\nc", "ESC": "a\x1b[2Jb", "C1": "a\u009b2Jb", "the reading direction": "a\u202eb", "a forged line": "x\"}\n{\"level\":\"error\",\"msg\":\"" + mark + "\"}", "zero": "a\x00b", "no UTF-8": "a\xff\xfeb"}
	for way, text := range evil {
		model, err := json.Marshal(text)
		if err != nil {
			f.t.Fatal(err)
		}
		if way == "no UTF-8" {
			model = []byte(`"` + text + `"`)
		}
		session := strings.NewReplacer("\n", "", "\r", "", "\x00", "").Replace(text)
		f.ask(bobKey, strings.Replace(hello, `"claude-sonnet-5"`, string(model), 1), "X-Session-Id", strings.TrimFunc(session, func(r rune) bool { return r < ' ' }), "X-Claude-Code-Session-Id", strings.Map(func(r rune) rune {
			if r < ' ' {
				return -1
			}
			return r
		}, session))
		f.do(http.MethodPost, f.url+"/use", `{"account":`+string(model)+`}`, "X-Api-Key", annKey)
		f.do(http.MethodPost, f.url+"/steer", `{"account":`+string(model)+`,"action":`+string(model)+`}`, "X-Api-Key", annKey)
		tries = append(tries, try{way: way})
	}
	time.Sleep(200 * time.Millisecond)
	for line := range strings.Lines(f.logs()[from:]) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			tries = append(tries, try{"the log", "a line is no JSON: " + line})
			continue
		}
		own := strings.Contains(fmt.Sprint(fields["logger"]), "shunt")
		for name, value := range fields {
			text, isText := value.(string)
			if isText && (own || strings.HasPrefix(name, "shunt_")) && strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				tries = append(tries, try{"field " + name, fmt.Sprintf("%q", text)})
			}
		}
		if fields["msg"] == mark {
			tries = append(tries, try{"a forged line", line})
		}
	}
	return tries
}
