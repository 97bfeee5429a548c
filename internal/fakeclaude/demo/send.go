package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// result is one request as its sender sees it.
type result struct {
	// status is zero when there was no answer.
	status  int
	err     error
	account string
	// text is the answer, or the message of an error.
	text                  string
	input, cached, output int64
	// complete says that the answer came to its end.
	complete bool
	// again says that trying again makes sense, not before after has passed.
	again bool
	after time.Duration
}

func (d *developer) send(ctx context.Context, t *talk) result {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+"/v1/messages?beta=true", bytes.NewReader(t.body()))
	if err != nil {
		return result{err: err}
	}
	request.Header = http.Header{
		"X-Api-Key":                {d.key},
		"Anthropic-Version":        {"2023-06-01"},
		"Content-Type":             {"application/json"},
		"User-Agent":               {"shunt-demo-developer"},
		"X-Claude-Code-Session-Id": {t.session},
	}
	response, err := d.client.Do(request)
	if err != nil {
		return result{err: err, again: true}
	}
	defer response.Body.Close()
	r := result{status: response.StatusCode, account: response.Header.Get("X-Shunt-Account")}
	if response.StatusCode == http.StatusOK {
		r.listen(response.Body)
		return r
	}
	r.refused(response)
	return r
}

// maxAnswer bounds what is read of an answer, and the length of one line.
const maxAnswer = 4 << 20

// listen reads the event stream to its end.
func (r *result) listen(body io.Reader) {
	lines := bufio.NewScanner(io.LimitReader(body, maxAnswer))
	lines.Buffer(nil, maxAnswer)
	var text strings.Builder
	for lines.Scan() {
		data, found := strings.CutPrefix(lines.Text(), "data:")
		if !found {
			continue
		}
		event := gjson.Parse(data)
		switch event.Get("type").String() {
		case "message_start":
			usage := event.Get("message.usage")
			r.cached = usage.Get("cache_read_input_tokens").Int()
			r.input = usage.Get("input_tokens").Int() + usage.Get("cache_creation_input_tokens").Int() + r.cached
		case "content_block_delta":
			text.WriteString(event.Get("delta.text").String())
		case "message_delta":
			r.output = event.Get("usage.output_tokens").Int()
		case "message_stop":
			r.complete = true
		case "error":
			r.err = errors.New(event.Get("error.message").String())
		}
	}
	r.text = text.String()
	if r.complete {
		return
	}
	r.again = true
	if r.err == nil {
		r.err = lines.Err()
	}
	if r.err == nil {
		r.err = io.ErrUnexpectedEOF
	}
}

// refused reads an error answer the way clients do: they wait as they are told
// up to a minute, and give up when it is longer or they are told to.
func (r *result) refused(response *http.Response) {
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	r.text = gjson.GetBytes(body, "error.message").String()
	if r.text == "" {
		r.text = strings.TrimSpace(http.StatusText(r.status))
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	r.after = time.Duration(seconds) * time.Second
	retryable := r.status == http.StatusTooManyRequests || r.status >= http.StatusInternalServerError
	r.again = retryable && r.after <= time.Minute && response.Header.Get("X-Should-Retry") != "false"
}
