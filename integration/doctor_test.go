package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// soundSite is a configuration in which nothing is wrong.
const soundSite = `{
	admin %ADMIN%
	storage file_system %HOME%/storage
	log default {
		format filter {
			request>headers>X-Api-Key delete
		}
	}
}
%SITE% {
	bind 127.0.0.1
	shunt {
		remote_key ann {env.ANN_KEY}
		upstream %UPSTREAM%
		account main {
			oauth stored-main {
				token_url %UPSTREAM%/v1/oauth/token
			}
			owner ann
		}
		account spare {
			api_key {env.KEY_A}
		}
	}
}
`

// diagnosis is what caddy shunt doctor said.
type diagnosis struct {
	code     int
	out, err string
	report   struct {
		Running            string
		Problems, Warnings int
		Checks             []struct {
			Name, Level string
			Findings    []struct{ Level, Where, Found, Change string }
		}
	}
}

func (s *site) doctor(args ...string) (d diagnosis) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, append([]string{"shunt", "doctor"}, args...)...)
	cmd.Env, cmd.Dir = s.environment(), s.home
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	d.code, d.out, d.err = cmd.ProcessState.ExitCode(), out.String(), errs.String()
	if len(args) > 0 && args[0] == "--json" {
		if err := json.Unmarshal(out.Bytes(), &d.report); err != nil {
			s.t.Fatalf("%v\n%s%s", err, d.out, d.err)
		}
	}
	return d
}

// finds fails the test unless the check has a finding of that level with that text.
func (d *diagnosis) finds(t *testing.T, check, level, text string) {
	t.Helper()
	for _, c := range d.report.Checks {
		for _, f := range c.Findings {
			if c.Name == check && f.Level == level && strings.Contains(f.Where+": "+f.Found, text) {
				return
			}
		}
	}
	t.Errorf("%s has no %s with %q:\n%s", check, level, text, d.out)
}

// TestDoctor examines a Caddy that runs: accounts are tried from the inside, and a
// login is not refreshed.
func TestDoctor(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	s := newSite(t, up, soundSite, secrets...)
	s.start()
	told := []diagnosis{s.doctor("--json")}
	if d := told[0]; d.code != 2 {
		t.Errorf("exit code %d:\n%s", d.code, d.out)
	} else {
		d.finds(t, "logins", "problem", "main (Caddyfile:15): a login is required")
		d.finds(t, "accounts", "problem", "no login is stored")
	}
	s.shunt(credentials(firstAccess, firstRefresh), "import", "main", "--file", "-").says(t, true)

	d := s.doctor("--json")
	told = append(told, d)
	if d.code != 0 || d.report.Problems != 0 || d.report.Running != s.admin {
		t.Fatalf("exit code %d:\n%s%s", d.code, d.out, d.err)
	}
	d.finds(t, "accounts", "ok", "main (Caddyfile:15): the credential is accepted (status 200")
	d.finds(t, "accounts", "ok", "spare (Caddyfile:21): the credential is accepted")
	d.finds(t, "versions", "ok", "Caddy v")
	d.finds(t, "config", "ok", "2 accounts, 1 site")
	d.finds(t, "exposure", "ok", "")
	d.finds(t, "logs", "ok", "")
	d.finds(t, "timeouts", "ok", "")
	d.finds(t, "encode", "ok", "")
	d.finds(t, "files", "ok", "")
	d.finds(t, "upstream", "ok", up.url+" (main, spare): ")
	d.finds(t, "clock", "ok", "agrees")
	d.finds(t, "organisations", "ok", "")
	if access, refresh := up.Tokens("main"); access != firstAccess || refresh != firstRefresh {
		t.Error("the login was refreshed")
	}

	up.SetFault("a", fakeclaude.Fault{Name: fakeclaude.InvalidKey, Path: "/v1/models"})
	d = s.doctor("--json", "--config", s.caddyfile())
	told = append(told, d)
	if d.code != 2 || d.report.Problems != 1 {
		t.Errorf("exit code %d, %d problems:\n%s", d.code, d.report.Problems, d.out)
	}
	d.finds(t, "accounts", "problem", "spare (Caddyfile:21): upstream refuses the credential (status 401")
	asked := len(up.Requests())
	if d = s.doctor("--json", "--offline"); d.code != 0 || len(up.Requests()) != asked {
		t.Errorf("exit code %d, %d requests more:\n%s", d.code, len(up.Requests())-asked, d.out)
	}
	d.finds(t, "accounts", "skipped", "--offline")

	// What runs is judged, not what the file says since.
	s.write(strings.Replace(s.config, "admin "+s.admin, "admin "+s.admin+"\nservers {\ntimeouts {\nwrite 5s\n}\n}", 1))
	d = s.doctor("--json", "--offline", "--config", s.caddyfile())
	d.finds(t, "config", "warning", "the file is not what runs")
	d.finds(t, "timeouts", "ok", "")
	if err := s.reload(string(mustRead(t, s.caddyfile()))); err != nil {
		t.Fatal(err)
	}
	d = s.doctor("--json", "--offline")
	d.finds(t, "timeouts", "problem", "Caddyfile:5: an answer that takes longer than 5s is cut")

	text := s.doctor()
	told = append(told, d, text)
	if text.code != 2 || !strings.HasPrefix(text.out, "The Caddy that runs at "+s.admin+":\n\n") || !strings.Contains(text.out, "\nPROBLEM timeouts       Caddyfile:5: ") {
		t.Errorf("exit code %d:\n%s", text.code, text.out)
	}
	if strings.Contains(text.out, "\x1b") || strings.Contains(text.err, "exiting with status") {
		t.Errorf("%s%s", text.out, text.err)
	}
	if d = s.doctor("--pool", "none"); d.code != 1 || !strings.Contains(d.err, "there is default") {
		t.Errorf("exit code %d: %s", d.code, d.err)
	}
	for _, d := range told {
		for _, secret := range []string{"planted", annKey, firstRefresh} {
			if strings.Contains(d.out+d.err, secret) {
				t.Errorf("a secret is told:\n%s%s", d.out, d.err)
			}
		}
	}
	s.ask(annKey, hello).mustServe(t)
}

// TestDoctorWithoutCaddy examines a configuration that does not run.
func TestDoctorWithoutCaddy(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	s := newSite(t, up, soundSite, secrets...)
	if d := s.doctor("--address", s.admin); d.code != 1 || d.out != "" {
		t.Errorf("without a configuration: exit code %d: %s", d.code, d.out)
	}
	s.write(s.config)
	s.shunt(credentials(firstAccess, firstRefresh), "import", "main", "--file", "-").says(t, true)
	d := s.doctor("--json")
	if d.code != 0 || d.report.Running != "" {
		t.Errorf("exit code %d:\n%s%s", d.code, d.out, d.err)
	}
	d.finds(t, "accounts", "ok", "spare (Caddyfile:21): the credential is accepted")
	d.finds(t, "accounts", "skipped", "main (Caddyfile:15): Caddy does not run")
	for _, r := range up.Requests() {
		if r.Method != "HEAD" && r.URI != "/v1/models?limit=1" {
			t.Errorf("%s %s was sent", r.Method, r.URI)
		}
	}

	others := strings.Replace(s.config, s.url, "http://claude.example.com"+s.url[strings.LastIndexByte(s.url, ':'):], 1)
	s.write(strings.Replace(others, "bind 127.0.0.1", "log\n\tencode", 1))
	if err := os.Chmod(s.caddyfile(), 0o666); err != nil {
		t.Fatal(err)
	}
	d = s.doctor("--json")
	if d.code != 2 {
		t.Errorf("exit code %d:\n%s", d.code, d.out)
	}
	d.finds(t, "exposure", "problem", "without TLS")
	d.finds(t, "encode", "warning", "Caddyfile:12")
	d.finds(t, "files", "warning", "others than its owner may write it")

	s.write("{\n\tadmin " + s.admin + "\n}\n:80 {\n\trespond hi\n}\n")
	if d := s.doctor(); d.code != 1 || !strings.Contains(d.err, "no shunt with accounts") {
		t.Errorf("exit code %d: %s%s", d.code, d.out, d.err)
	}
	s.write("shunt {")
	if d := s.doctor("--config", s.caddyfile()); d.code != 1 {
		t.Errorf("exit code %d: %s%s", d.code, d.out, d.err)
	}
	served.Add(1) // the free call went through
}

func mustRead(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestDoctorIsRight: what doctor says of logs and timeouts is what Caddy does.
func TestDoctorIsRight(t *testing.T) {
	const key = "a-key-that-nobody-knows"
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts(), Pace: 100 * time.Millisecond, OutputTokens: 120})
	site := func(options, inside string) string {
		return "{\nadmin %ADMIN%\nstorage file_system %HOME%/storage\n" + options + "\n}\n%SITE% {\nbind 127.0.0.1\n" + inside +
			"\nshunt {\nremote_key ann {env.ANN_KEY}\nupstream %UPSTREAM%\naccount spare {\napi_key {env.KEY_A}\n}\n}\n}\n"
	}
	const (
		sound = "log default {\nformat filter {\nrequest>headers>X-Api-Key delete\n}\n}"
		debug = "debug\n"
		small = "request_body {\nmax_size 10\n}"
	)
	for name, c := range map[string]struct {
		options, inside string
		leaks, cuts     bool
	}{
		"sound":                 {options: sound},
		"access log":            {options: sound, inside: "log {\noutput file %HOME%/access.log\n}", leaks: true},
		"filtered access log":   {options: sound, inside: "log {\noutput file %HOME%/access.log\nformat filter {\nrequest>headers>X-Api-Key hash\n}\n}"},
		"misspelled filter":     {options: sound, inside: "log {\noutput file %HOME%/access.log\nformat filter {\nrequest>headers>x-api-key delete\n}\n}", leaks: true},
		"errors at DEBUG":       {options: debug, inside: small, leaks: true},
		"errors with a filter":  {options: debug + sound, inside: small},
		"appended":              {options: sound, inside: "log\nlog_append who {header.X-Api-Key}", leaks: true},
		"write timeout":         {options: sound + "\nservers {\ntimeouts {\nwrite 1s\n}\n}", cuts: true},
		"rate":                  {options: sound + "\nservers {\ntimeouts {\nwrite_idle 1s 100000\n}\n}", cuts: true},
		"rate of the site":      {options: sound, inside: "timeouts {\nwrite_timeout 1s 100000\n}", cuts: true},
		"idle timeouts":         {options: sound + "\nservers {\ntimeouts {\nread_body_idle 1s\nwrite_idle 1s\nidle 1s\n}\n}"},
		"idle time of the site": {options: sound, inside: "timeouts {\nwrite_timeout 1s\n}"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, up, site(c.options, strings.ReplaceAll(c.inside, "%HOME%", "{$HOME}")), secrets...)
			s.start()
			d := s.doctor("--json", "--offline")
			worst := map[string]string{}
			for _, check := range d.report.Checks {
				worst[check.Name] = check.Level
			}
			a := s.ask(annKey, helloStream)
			s.ask(key, hello)
			cut := a.err != nil || !strings.Contains(a.body, "message_stop")
			if small := strings.Contains(c.inside, "request_body"); !small && cut != c.cuts {
				t.Errorf("cut: %v, %v", cut, a.err)
			}
			if (worst["timeouts"] == "problem") != c.cuts {
				t.Errorf("doctor says %s of timeouts:\n%s", worst["timeouts"], d.out)
			}
			s.stop()
			if leaked := len(filesWith(t, s.home, key)) > 0; leaked != c.leaks || (worst["logs"] == "problem") != c.leaks {
				t.Errorf("in the log: %v; doctor says %s:\n%s", leaked, worst["logs"], d.out)
			}
		})
	}
}

// TestDoctorOnOneOrganisation: what the free calls tell is used at once.
func TestDoctorOnOneOrganisation(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: []fakeclaude.Account{
		{Name: "a", APIKey: "sk-ant-api03-planted-a", Org: "one"}, {Name: "b", APIKey: "sk-ant-api03-planted-b", Org: "one"},
	}})
	s := newSite(t, up, "{\nadmin %ADMIN%\n}\n%SITE% {\nbind 127.0.0.1\nshunt {\nremote_key ann {env.ANN_KEY}\nupstream %UPSTREAM%\naccount a {\napi_key {env.KEY_A}\n}\naccount b {\napi_key {env.KEY_B}\n}\n}\n}\n", secrets...)
	s.start()
	d := s.doctor("--json")
	d.finds(t, "organisations", "warning", "a, b: they draw on the limits of one organisation")
	d.finds(t, "storage", "warning", s.home+"/data/caddy") // the default, as the running Caddy has it
	s.env = append(s.env, "XDG_DATA_HOME="+t.TempDir())
	d = s.doctor("--json")
	d.finds(t, "storage", "warning", s.home+"/data/caddy")
}
