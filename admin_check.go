package shunt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// maxCheckBody bounds the body of POST /shunt/check.
const maxCheckBody = 16 << 10

// programAnswer is the answer of GET /shunt/check: what runs.
type programAnswer struct {
	Shunt string    `json:"shunt"`
	Caddy string    `json:"caddy"`
	Go    string    `json:"go"`
	Now   time.Time `json:"now"`
	// DataDir is the folder of Caddy's default storage, as the process has it.
	DataDir string `json:"data_dir"`
}

// thisProgram is what this process runs.
func thisProgram() programAnswer {
	caddyVersion, _ := caddy.Version()
	return programAnswer{Shunt: version(), Caddy: caddyVersion, Go: runtime.Version(), Now: time.Now(), DataDir: caddy.AppDataDir()}
}

// adminCheck tells what runs, or makes a free call with an account's credential.
func adminCheck(w http.ResponseWriter, r *http.Request) error {
	if err := adminTakes(w, r, http.MethodGet, http.MethodHead, http.MethodPost); err != nil {
		return err
	}
	if r.Method != http.MethodPost {
		return writeJSON(w, http.StatusOK, thisProgram())
	}
	const help = `expected {"account": "<name>"} and, if several pools have such an account, "pool"`
	var body struct {
		Pool    string `json:"pool"`
		Account string `json:"account"`
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCheckBody))
	if err != nil {
		return badLogin("the body could not be read, or is too large")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&body) != nil || body.Account == "" {
		return badLogin(help)
	}
	var found []runningAccount
	for _, a := range runningAccounts(body.Pool) {
		if a.a.config.Name == body.Account {
			found = append(found, a)
		}
	}
	switch {
	case len(found) == 0:
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("account: there is no %q", truncate(body.Account))}
	case len(found) > 1:
		return badLogin(fmt.Sprintf("account: several pools have a %q; %s", truncate(body.Account), help))
	}
	return writeJSON(w, http.StatusOK, found[0].check(r.Context()))
}
