package faults

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

const messagesPath = "/v1/messages"

// The accounts' names, and the keys by which the fake upstream knows them.
// A direct call has an account of its own, which no proxy knows.
var (
	accountNames = []string{"a", "b"}
	accountKeys  = map[string]string{"a": "sk-ant-api03-faults-a", "b": "sk-ant-api03-faults-b", reference: "sk-ant-api03-faults-reference"}
)

const reference = "reference"

// boundless is a classic limit that no scene comes near.
const boundless = 1_000_000_000

// quiet takes what servers say about connections that this suite breaks.
var quiet = log.New(io.Discard, "", 0)

// scene is one run of a row: a fake upstream with two accounts, each of which
// has an address of its own, and the place at the proxy that pools them.
type scene struct {
	row      *row
	run      run
	kind     kind
	protocol string
	id       string // also the pool's name

	fake     *fakeclaude.Server
	recorder *recorder
	doors    map[string]*door
	url      string
	requests int
	// ill says which accounts have the row's sickness now.
	ill map[string]*script
}

func (s *scene) name() string {
	return strings.Join([]string{s.row.name, string(s.run), string(s.kind), s.protocol}, "/")
}

// open starts the scene's upstream. listen gives the address of each account.
func (s *scene) open(listen func(account string) string) error {
	accounts := []fakeclaude.Account{{Name: reference, APIKey: accountKeys[reference]}}
	for _, name := range accountNames {
		a := fakeclaude.Account{Name: name, APIKey: accountKeys[name]}
		if s.row.sick.login != nil {
			a = fakeclaude.Account{Name: name, AccessToken: "sk-ant-oat01-faults-" + s.id + name, RefreshToken: "sk-ant-ort01-faults-" + s.id + name, Plan: fakeclaude.Max5}
		}
		accounts = append(accounts, a)
	}
	for i := range accounts {
		// Large prompts in a row are no row's fault.
		accounts[i].RPM, accounts[i].ITPM, accounts[i].OTPM = boundless, boundless, boundless
	}
	s.fake = fakeclaude.New(fakeclaude.Options{Accounts: accounts, HangLimit: patience, OutputTokens: 150})
	s.recorder, s.doors, s.ill = &recorder{}, map[string]*door{}, map[string]*script{}
	for _, name := range accountNames {
		d, err := openDoor(listen(name), s.recorder.of(name, s.upstream(name)), s.row.sick.onTheWay())
		if err != nil {
			return err
		}
		s.doors[name] = d
	}
	return nil
}

// upstream is the fake upstream as one account meets it.
func (s *scene) upstream(account string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.recorder.mu.Lock()
		playing := s.ill[account]
		s.recorder.mu.Unlock()
		if playing != nil && strings.HasPrefix(r.URL.Path, messagesPath) {
			playing.play(w, r)
			return
		}
		s.fake.ServeHTTP(w, r)
	})
}

// base is the upstream URL of an account.
func (s *scene) base(account string) string {
	scheme := "http://"
	if s.row.sick.https && (s.run == allSick || account == "a") {
		scheme = "https://"
	}
	return scheme + s.doors[account].addr
}

func (s *scene) close() {
	if s.fake != nil {
		s.fake.Close()
	}
	for _, d := range s.doors {
		d.close()
	}
}

// fall makes accounts sick.
func (s *scene) fall(accounts ...string) error {
	sick := &s.row.sick
	for _, name := range accounts {
		switch {
		case sick.fault.Name != "":
			s.fake.SetFault(name, append([]fakeclaude.Fault{sick.fault}, sick.then...)...)
		case sick.script != nil:
			s.setScript(name, sick.script)
		case sick.login != nil:
			sick.login(s.fake, name)
		case !sick.static():
			if err := s.doors[name].fall(sick); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *scene) setScript(account string, playing *script) {
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	s.ill[account] = playing
}

// heal makes everybody well again.
func (s *scene) heal() error {
	s.fake.ClearFaults()
	sick := &s.row.sick
	var problems []error
	for _, name := range accountNames {
		s.setScript(name, nil)
		if !sick.static() {
			problems = append(problems, s.doors[name].heal(sick))
		}
	}
	return errors.Join(problems...)
}

// call makes a request of the row's kind that differs from all before.
func (s *scene) call(model, session string) *call {
	s.requests++
	q := &s.row.request
	prompt := fmt.Sprintf("Request %d of %s.%s", s.requests, s.name(), strings.Repeat(" More of it.", q.padding/12))
	body := fmt.Sprintf(`{"model":%q,"max_tokens":400,"stream":%t,"messages":[{"role":"user","content":%q}]%s}`,
		model, s.kind == stream, prompt, q.fields)
	return &call{url: s.url, body: []byte(body), session: session, header: q.header}
}

var requestIDs = regexp.MustCompile(`req_[0-9A-Za-z]+`)

// directly is what upstream says to the same body without a proxy, healthy or
// with the row's sickness.
func (s *scene) directly(c *call, sick bool) answer {
	if script := s.row.sick.script; sick && script != nil {
		return answer{status: script.status, body: script.body}
	}
	if sick && s.row.sick.fault.Name != "" {
		s.fake.SetFault(reference, s.row.sick.fault)
		defer s.fake.SetFault(reference)
	}
	r := httptest.NewRequest(http.MethodPost, messagesPath, bytes.NewReader(c.body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Anthropic-Version", "2023-06-01")
	r.Header.Set("X-Api-Key", accountKeys[reference])
	w := httptest.NewRecorder()
	s.fake.ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Header(), body: w.Body.String()}
}
