package shunt

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// TestFilesAndBatchesStayWithTheirAccount: what lives in one account is found
// again through the pool, although any account may have made it.
func TestFilesAndBatchesStayWithTheirAccount(t *testing.T) {
	b := newFour(t, "")
	made := b.do(http.MethodPost, "/v1/files", "\x1f\x8bnot really gzip", "Content-Type", "application/octet-stream")
	file := gjson.Get(made.body, "id").Str
	if made.status != http.StatusOK || !strings.HasPrefix(file, "file_") {
		t.Fatalf("%d %s", made.status, made.body)
	}
	withFile := `{"model":"claude-sonnet-5","max_tokens":50,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"` + file + `"}},{"type":"text","text":"read it"}]}]}`
	batch := b.do(http.MethodPost, "/v1/messages/batches", `{"requests":[{"custom_id":"1","params":`+withFile+`}]}`)
	id := gjson.Get(batch.body, "id").Str
	if batch.status != http.StatusOK || !strings.HasPrefix(id, "msgbatch_") {
		t.Fatalf("%d %s", batch.status, batch.body)
	}
	for range 6 {
		b.ask(withFile).mustServe(t, "a message with the file")
		for _, path := range []string{"/v1/files/" + file, "/v1/files/" + file + "/content", "/v1/messages/batches/" + id, "/v1/messages/batches/" + id + "/results"} {
			if r := b.do(http.MethodGet, path, ""); r.status != http.StatusOK {
				t.Errorf("%s: %d %s", path, r.status, r.body)
			} else if strings.HasSuffix(path, "/content") && r.body != "\x1f\x8bnot really gzip" {
				t.Errorf("the file came back as %q", r.body)
			}
		}
		if r := b.do(http.MethodGet, "/v1/files", ""); !strings.Contains(r.body, file) {
			t.Errorf("the list lacks the file: %d %s", r.status, r.body)
		}
	}
	if r := b.do(http.MethodPost, "/v1/messages/batches/"+id+"/cancel", ""); r.status != http.StatusOK {
		t.Errorf("cancel: %d %s", r.status, r.body)
	}
	if r := b.do(http.MethodDelete, "/v1/files/"+file, ""); r.status != http.StatusOK {
		t.Errorf("delete: %d %s", r.status, r.body)
	}
	if r := b.do(http.MethodPut, "/v1/files", ""); r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != "POST, GET" {
		t.Errorf("PUT: %d %v", r.status, r.header)
	}
}

func TestWhatNobodyHolds(t *testing.T) {
	b := newFour(t, "")
	for _, r := range []reply{
		b.do(http.MethodGet, "/v1/files/file_unknown", ""),
		b.do(http.MethodGet, "/v1/messages/batches", ""),
		b.ask(`{"model":"claude-sonnet-5","max_tokens":50,"container":"container_unknown","messages":[{"role":"user","content":"x"}]}`),
	} {
		if r.status != http.StatusBadRequest || !strings.Contains(r.body, "resource_account") || r.header.Get("X-Should-Retry") != "false" {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	if n := len(b.fake.Requests()); n != 0 {
		t.Errorf("upstream was asked %d times in vain", n)
	}
	b = newFour(t, "resource_account b\n")
	if r := b.do(http.MethodGet, "/v1/files/file_unknown", ""); r.status != http.StatusNotFound || b.fake.Requests()[0].Account != "b" {
		t.Errorf("with an account to look at: %d %s", r.status, r.body)
	}
}

func TestContainersStayWithTheirAccount(t *testing.T) {
	for name, stream := range map[string]string{"stream": `"stream":true,`, "json": ""} {
		b := newFour(t, "")
		first := b.ask(`{` + stream + `"model":"claude-sonnet-5","max_tokens":50,"tools":[{"type":"code_execution_20250825","name":"code_execution"}],"messages":[{"role":"user","content":"run"}]}`)
		first.mustServe(t, name)
		_, rest, _ := strings.Cut(first.body, `"container":{"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		if id == "" {
			t.Fatalf("%s: no container in %s", name, first.body)
		}
		for range 6 {
			b.ask(`{"model":"claude-sonnet-5","max_tokens":50,"container":"`+id+`","messages":[{"role":"user","content":"again"}]}`).mustServe(t, "in the container")
		}
	}
}

// TestNothingIsMadeTwice: a batch whose making ended in a fault may exist.
func TestNothingIsMadeTwice(t *testing.T) {
	b := newFour(t, "")
	b.fake.SetFault("*", fakeclaude.Fault{Name: fakeclaude.Internal, Path: "*", Times: -1})
	if r := b.do(http.MethodPost, "/v1/messages/batches", `{"requests":[]}`); r.status != http.StatusInternalServerError || len(b.fake.Requests()) != 1 {
		t.Errorf("%d after %d tries", r.status, len(b.fake.Requests()))
	}
}

// TestBoundThinkingKeepsTheConversation: where only one account can read the
// thinking, the conversation's place outlives its prompt cache.
func TestBoundThinkingKeepsTheConversation(t *testing.T) {
	for thinking, want := range map[string]time.Duration{`"thinking":{"type":"adaptive"},`: pool.BoundLife, "": 5 * time.Minute} {
		b := newFour(t, "")
		b.ask(`{"model":"claude-sonnet-5-5","max_tokens":50,`+thinking+`"messages":[{"role":"user","content":"x"}]}`, "X-Claude-Code-Session-Id", "s").mustServe(t, thinking)
		data, _, err := b.h.live.state.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		left := time.Until(gjson.GetBytes(data, "sessions.0.until").Time())
		if left > want || left < want-time.Minute {
			t.Errorf("with %q the conversation stays for %v, want %v", thinking, left, want)
		}
	}
}

// TestAnswersThatAreNone: a 200 that is empty, or a page of something in between,
// is no answer, and another account may have one.
func TestAnswersThatAreNone(t *testing.T) {
	for kind, page := range map[string]string{"text/html": "<html>Please sign in to this network</html>", "application/json": ""} {
		b := newFour(t, "")
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write([]byte(page))
		}))
		b.h.live.state.Pin("a")
		b.h.accounts[0].base.host = strings.TrimPrefix(other.URL, "http://")
		r := b.ask(hello)
		r.mustServe(t, kind)
		if r.header.Get("X-Shunt-Attempts") != "2" {
			t.Errorf("%s: served after %s attempts", kind, r.header.Get("X-Shunt-Attempts"))
		}
		other.Close()
	}
}
