package fakeclaude

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/tidwall/gjson"
)

const (
	pathFiles   = "/v1/files"
	pathBatches = "/v1/messages/batches"
)

// resource is a file, batch or container: it lives in one workspace, and for all
// others it does not exist.
type resource struct {
	ID        string `json:"id"`
	Type      string `json:"type"`
	CreatedAt string `json:"created_at"`
	workspace string
	content   []byte
}

// collection is a path under which resources live.
type collection struct{ path, prefix, kind string }

var collections = []collection{
	{pathFiles, "file_", "file"},
	{pathBatches, "msgbatch_", "message_batch"},
}

// resources serves the paths of files and batches; false means that the request
// is for something else.
func (ex *exchange) resources() bool {
	for _, c := range collections {
		rest, ok := strings.CutPrefix(ex.r.URL.Path, c.path)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		if ex.authenticate() && ex.versioned() && !ex.misbehaveEarly() {
			ex.inCollection(c, strings.TrimPrefix(rest, "/"))
		}
		return true
	}
	return false
}

func (ex *exchange) inCollection(c collection, rest string) {
	body, err := ex.readBody()
	if err != nil {
		ex.fail(http.StatusBadRequest, "invalid_request_error", "The request body could not be read.")
		return
	}
	if ex.misbehave() {
		return
	}
	id, action, _ := strings.Cut(rest, "/")
	switch {
	case id == "" && ex.r.Method == http.MethodPost:
		if missing := ex.missingResource(body); missing != "" {
			ex.fail(http.StatusNotFound, "not_found_error", "File not found: "+missing)
			return
		}
		ex.json(http.StatusOK, ex.create(c.prefix, c.kind, body))
	case id == "" && ex.r.Method == http.MethodGet:
		ex.json(http.StatusOK, map[string]any{"data": ex.listed(c.kind), "has_more": false})
	default:
		ex.one(c, id, action)
	}
}

func (ex *exchange) one(c collection, id, action string) {
	found, ok := ex.lookup(id)
	switch {
	case !ok || found.Type != c.kind:
		ex.fail(http.StatusNotFound, "not_found_error", fmt.Sprintf("Not found: %s", id))
	case action == "content" || action == "results":
		ex.w.Header().Set("Content-Type", "application/octet-stream")
		ex.open(http.StatusOK)
		ex.write(found.content)
	case ex.r.Method == http.MethodDelete:
		ex.s.mu.Lock()
		delete(ex.s.resources, id)
		ex.s.mu.Unlock()
		ex.json(http.StatusOK, map[string]string{"id": id, "type": found.Type + "_deleted"})
	default:
		ex.json(http.StatusOK, found)
	}
}

func (ex *exchange) create(prefix, kind string, content []byte) resource {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	r := resource{
		ID:   prefix + token(fmt.Sprintf("%s/%d/%d", kind, ex.s.opts.Seed, ex.seq), 22),
		Type: kind, CreatedAt: ex.s.opts.Clock().UTC().Format("2006-01-02T15:04:05Z"),
		workspace: ex.acct.Org + ex.acct.Workspace, content: content,
	}
	ex.s.resources[r.ID] = r
	return r
}

func (ex *exchange) lookup(id string) (resource, bool) {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	r, ok := ex.s.resources[id]
	return r, ok && r.workspace == ex.acct.Org+ex.acct.Workspace
}

func (ex *exchange) listed(kind string) []resource {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	list := []resource{}
	for _, r := range ex.s.resources {
		if r.Type == kind && r.workspace == ex.acct.Org+ex.acct.Workspace {
			list = append(list, r)
		}
	}
	return list
}

var fileID = regexp.MustCompile(`"file_id"\s*:\s*"([^"]*)"`)

// missingResource names a file that the body asks for and this workspace lacks.
func (ex *exchange) missingResource(body []byte) string {
	for _, m := range fileID.FindAllSubmatch(body, -1) {
		if _, ok := ex.lookup(string(m[1])); !ok {
			return string(m[1])
		}
	}
	return ""
}

// bindResources checks what a message asks for, and gives it a container when
// it runs code. False means that the answer is out.
func (ex *exchange) bindResources(r *reply) bool {
	body := ex.prompt.body
	if missing := ex.missingResource(body); missing != "" {
		ex.fail(http.StatusNotFound, "not_found_error", "File not found: "+missing)
		return false
	}
	if asked := gjson.GetBytes(body, "container"); asked.Type == gjson.String {
		if _, ok := ex.lookup(asked.Str); !ok {
			ex.fail(http.StatusNotFound, "not_found_error", "Container not found: "+asked.Str)
			return false
		}
		r.container = &container{ID: asked.Str}
		return true
	}
	if strings.HasPrefix(gjson.GetBytes(body, "tools.0.type").Str, "code_execution") {
		r.container = &container{ID: ex.create("container_", "container", nil).ID}
	}
	return true
}

// container is where an answer's code ran.
type container struct {
	ID string `json:"id"`
}
