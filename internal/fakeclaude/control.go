package fakeclaude

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// duration reads "1.5s" from JSON.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

// command is the body of the POST endpoints of the control.
type command struct {
	Account     string   `json:"account"`
	Fault       string   `json:"fault"`
	Times       int      `json:"times"`
	Model       string   `json:"model"`
	Path        string   `json:"path"`
	Chance      float64  `json:"chance"`
	For         duration `json:"for"`
	Delay       duration `json:"delay"`
	Every       duration `json:"every"`
	RetryAfter  duration `json:"retry_after"`
	Window      string   `json:"window"`
	Utilization float64  `json:"utilization"`
}

// control answers what is under /_fake/. It has no credentials: the fake is for
// loopback. Pages of other sites that a browser shows are kept out.
func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Origin") != "" {
		http.Error(w, "not for browsers", http.StatusForbidden)
		return
	}
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, "/_fake/") {
	case "GET faults":
		tell(w, FaultNames())
	case "GET books":
		tell(w, s.Books())
	case "GET log":
		tell(w, s.log())
	case "GET violations":
		tell(w, append([]string{}, s.Violations()...))
	case "GET accounts":
		tell(w, s.standing())
	case "POST reset":
		s.Reset()
		tell(w, "reset")
	case "POST fault":
		s.obey(w, r, func(c command) error {
			if c.Fault == "" || c.Fault == "none" {
				return s.setFaults(c.Account, nil)
			}
			return s.setFaults(c.Account, []Fault{c.toFault()})
		})
	case "POST spend":
		s.obey(w, r, s.obeySpend)
	case "POST expire":
		s.obey(w, r, func(c command) error { return s.ifThere(c.Account, func() { s.Expire(c.Account) }) })
	case "POST revoke":
		s.obey(w, r, func(c command) error { return s.ifThere(c.Account, func() { s.Revoke(c.Account) }) })
	default:
		http.Error(w, "GET faults, books, log, accounts, violations; POST fault, spend, expire, revoke, reset", http.StatusNotFound)
	}
}

func tell(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	// A failed write means that nobody is reading.
	_ = encoder.Encode(v)
}

func (s *Server) obey(w http.ResponseWriter, r *http.Request, do func(command) error) {
	var c command
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&c)
	if err == nil {
		err = do(c)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	tell(w, "done")
}

func (c command) toFault() Fault {
	return Fault{
		Name: c.Fault, Times: c.Times, Model: c.Model, Path: c.Path, Chance: c.Chance,
		For: time.Duration(c.For), Delay: time.Duration(c.Delay), Every: time.Duration(c.Every),
		RetryAfter: time.Duration(c.RetryAfter),
	}
}

func (s *Server) ifThere(name string, do func()) error {
	s.mu.Lock()
	known := s.find(name) != nil
	s.mu.Unlock()
	if !known {
		return fmt.Errorf("there is no account %q", name)
	}
	do()
	return nil
}

func (s *Server) obeySpend(c command) error {
	s.mu.Lock()
	a := s.find(c.Account)
	known := a != nil && a.windowNamed(c.Window) != nil
	s.mu.Unlock()
	if !known {
		return fmt.Errorf("there is no window %q of an account %q", c.Window, c.Account)
	}
	s.Spend(c.Account, c.Window, c.Utilization)
	return nil
}

// logged is one line of the control's log.
type logged struct {
	Number     uint64            `json:"number"`
	At         time.Time         `json:"at"`
	RequestID  string            `json:"request_id"`
	Account    string            `json:"account"`
	Method     string            `json:"method"`
	URI        string            `json:"uri"`
	Headers    map[string]string `json:"headers"`
	BodySHA256 string            `json:"body_sha256"`
	BodyBytes  int64             `json:"body_bytes"`
	Model      string            `json:"model,omitempty"`
	Fault      string            `json:"fault,omitempty"`
	Status     int               `json:"status"`
	Cancelled  bool              `json:"cancelled,omitempty"`
	Usage      Usage             `json:"usage"`
}

// logLines is how many of the latest requests the log shows.
const logLines = 100

func (s *Server) log() []logged {
	requests := s.Requests()
	requests = requests[max(0, len(requests)-logLines):]
	lines := []logged{}
	for i := range requests {
		r := &requests[i]
		lines = append(lines, logged{
			Number: r.Number, At: r.At, RequestID: r.ID, Account: r.Account, Method: r.Method, URI: r.URI,
			Headers: selected(r.Header), BodySHA256: r.BodySHA256, BodyBytes: r.BodyBytes, Model: r.Model,
			Fault: r.Fault, Status: r.Status, Cancelled: r.Cancelled, Usage: r.Usage,
		})
	}
	return lines
}

var loggedHeaders = []string{
	"User-Agent", "Accept-Encoding", "Content-Type", "Content-Encoding", "Via", "Cookie", "Origin",
	"X-App", "X-Claude-Code-Session-Id", "X-Claude-Code-Agent-Id", "X-Forwarded-For", "X-Stainless-Retry-Count",
}

var credentialHeaders = []string{"Authorization", "X-Api-Key"}

func selected(h http.Header) map[string]string {
	told := map[string]string{}
	for name, values := range h {
		value := strings.Join(values, ", ")
		switch {
		case slices.Contains(credentialHeaders, name):
			told[name] = "…" + value[max(0, len(value)-4):]
		case strings.HasPrefix(name, "Anthropic-") || slices.Contains(loggedHeaders, name):
			told[name] = value
		}
	}
	return told
}

// standing is what the control tells of an account.
type standing struct {
	Name    string            `json:"name"`
	Plan    Plan              `json:"plan,omitempty"`
	Org     string            `json:"org"`
	Windows map[string]string `json:"windows,omitempty"`
	Faults  []string          `json:"faults"`
}

func (s *Server) standing() []standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Clock()
	var all []standing
	for _, a := range s.accounts {
		line := standing{Name: a.Name, Plan: a.Plan, Org: a.Org, Windows: map[string]string{}, Faults: []string{}}
		if a.subscription() {
			line.Windows["5h"], line.Windows["7d"] = a.fiveHour.words(now), a.week.words(now)
		}
		for family, w := range a.modelWeek {
			suffix, _ := modelWindowNames(family)
			line.Windows[suffix] = w.words(now)
		}
		for _, name := range []string{a.Name, "*"} {
			for _, f := range s.faults[name] {
				line.Faults = append(line.Faults, f.Name)
			}
		}
		all = append(all, line)
	}
	return all
}

func (w *window) words(now time.Time) string {
	used := w.utilization(now) * 100
	if w.reset.IsZero() {
		return "not running"
	}
	return fmt.Sprintf("%.0f %% used, resets in %s", used, w.reset.Sub(now).Round(time.Second))
}
