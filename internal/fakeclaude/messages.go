package fakeclaude

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
)

func (ex *exchange) messages() {
	if !ex.authenticate() || !ex.versioned() || ex.misbehaveEarly() || !ex.receive(false) || ex.misbehave() {
		return
	}
	dropped, ok := ex.checkThinking()
	if !ok {
		return
	}
	used, ok := ex.admit()
	if !ok {
		return
	}
	defer ex.leave()
	r := ex.compose(used)
	r.dropped = dropped
	if !ex.bindResources(r) {
		return
	}
	ex.tellLimitsNow()
	if ex.prompt.stream {
		ex.stream(r)
	} else {
		ex.unary(r)
	}
}

func (ex *exchange) countTokens() {
	if !ex.authenticate() || !ex.versioned() || ex.misbehaveEarly() || !ex.receive(true) || ex.misbehave() {
		return
	}
	ex.json(http.StatusOK, map[string]int64{"input_tokens": ex.prompt.tokens()})
}

// receive reads and understands the body; false means that the answer is out.
func (ex *exchange) receive(counting bool) bool {
	body, err := ex.readBody()
	if err == nil {
		body, err = decoded(body, ex.r.Header.Get("Content-Encoding"))
	}
	switch {
	case errors.Is(err, errTooLarge):
		ex.edgePage(http.StatusRequestEntityTooLarge, "413 Request Entity Too Large")
		return false
	case err != nil:
		ex.fail(http.StatusBadRequest, "invalid_request_error", "The request body could not be read.")
		return false
	}
	if !strings.HasPrefix(ex.r.Header.Get("Content-Type"), "application/json") {
		ex.fail(http.StatusBadRequest, "invalid_request_error", "content-type: must be application/json")
		return false
	}
	if ex.prompt, err = parsePrompt(body, counting); err != nil {
		ex.fail(http.StatusBadRequest, "invalid_request_error", err.Error())
		return false
	}
	ex.update(func(rec *Request) { rec.Model, rec.Stream = ex.prompt.model, ex.prompt.stream })
	if !ex.acct.serves(ex.prompt.model) {
		ex.fail(http.StatusNotFound, "not_found_error", "model: "+ex.prompt.model)
		return false
	}
	return true
}

func decoded(body []byte, encoding string) ([]byte, error) {
	if encoding != "gzip" {
		return body, nil
	}
	reader, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(reader, maxBody+1))
	if err == nil && len(plain) > maxBody {
		err = errTooLarge
	}
	return plain, err
}

// edgePage answers as the network edge does: HTML, no envelope, no request id.
func (ex *exchange) edgePage(status int, title string) {
	ex.w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	ex.openEdge(status)
	ex.write([]byte("<!DOCTYPE html>\n<html>\n<head><title>" + title + "</title></head>\n<body>\n<center><h1>" +
		title + "</h1></center>\n<hr><center>cloudflare</center>\n</body>\n</html>\n"))
}
