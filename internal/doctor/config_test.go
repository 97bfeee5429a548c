package doctor_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-shunt/caddy-shunt"
	"github.com/caddy-shunt/caddy-shunt/internal/doctor"
)

// shunt is a block that is well; %S stands for it in the Caddyfiles below.
const shunt = `shunt {
		remote_key ann {env.ANN}
		account main {
			api_key {env.K}
		}
	}`

// read adapts a Caddyfile.
func read(t *testing.T, text, pool string) *doctor.Config {
	t.Helper()
	text = strings.ReplaceAll(text, "%S", shunt)
	raw, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	c, err := doctor.Read(raw, pool)
	if err != nil {
		t.Fatal(err)
	}
	c.Source = doctor.NewSource("/etc/caddy/Caddyfile", []byte(text))
	return c
}

// told are the findings, a line each.
func told(found []doctor.Finding) string {
	var lines []string
	for _, f := range found {
		if f.Level != doctor.OK && f.Level != doctor.Skipped && f.Change == "" {
			lines = append(lines, "NO ADVICE")
		}
		lines = append(lines, string(f.Level)+" "+f.Where+": "+f.Found)
	}
	return strings.Join(lines, "\n")
}

// checkCase is a configuration and what a check finds in it: a line has these parts.
// No wants stand for a single ok.
type checkCase struct {
	name, caddyfile string
	want            [][]string
}

func runCases(t *testing.T, check func(*doctor.Config) func(context.Context) []doctor.Finding, cases []checkCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Helper()
			r := new(doctor.Report)
			r.Run(t.Context(), []doctor.Check{{Name: "x", Run: check(read(t, c.caddyfile, ""))}})
			found := r.Checks[0].Findings
			want := c.want
			if want == nil {
				want = [][]string{{"ok "}}
			}
			lines := strings.Split(told(found), "\n")
			if len(lines) != len(want) {
				t.Fatalf("%d findings, not %d:\n%s", len(lines), len(want), told(found))
			}
			for i, parts := range want {
				for _, part := range parts {
					if !strings.Contains(lines[i], part) {
						t.Errorf("%q is not in %q", part, lines[i])
					}
				}
			}
		})
	}
}

const filter = "format filter {\nrequest>headers>X-Api-Key delete\n}"

func TestLogs(t *testing.T) {
	errorsToo := "{\nlog default {\n" + filter + "\n}\n"
	runCases(t, func(c *doctor.Config) func(context.Context) []doctor.Finding { return c.Logs }, []checkCase{
		{"filtered", errorsToo + "}\na.example.com {\nlog {\n" + filter + "\n}\n%S\n}", nil},
		{"no access log", errorsToo + "}\na.example.com {\n%S\n}", nil},
		{"nothing is filtered", "a.example.com {\n%S\n}", [][]string{{"warning logging.logs.default: the log of errors gets X-Api-Key"}}},
		{"no filter of errors", "a.example.com {\nlog {\n" + filter + "\n}\n%S\n}", [][]string{{"warning", "log of errors"}}},
		{"access log", errorsToo + "}\na.example.com {\nlog\n%S\n}", nil}, // to the default log
		{"access log of its own", errorsToo + "}\na.example.com {\nlog {\noutput file /tmp/x\n}\n%S\n}", [][]string{{"problem Caddyfile:9: the access log gets X-Api-Key"}}},
		{"access log to the default", "a.example.com {\nlog\n%S\n}", [][]string{{"problem logging.logs.default", "the access log"}}},
		{"discarded", errorsToo + "}\na.example.com {\nlog {\noutput discard\n}\n%S\n}", nil},
		{"of another site", errorsToo + "}\nb.example.com {\nlog {\noutput file /tmp/x\n}\nrespond hi\n}\na.example.com {\n%S\n}", nil},
		{"by hash, in console", errorsToo + "}\na.example.com {\nlog {\nformat filter {\nwrap console\nrequest>headers>X-Api-Key hash\n}\n}\n%S\n}", nil},
		{"all headers", errorsToo + "}\na.example.com {\nlog {\nformat filter {\nrequest>headers delete\n}\n}\n%S\n}", nil},
		{"behind append", errorsToo + "}\na.example.com {\nlog {\nformat append {\nfields {\na b\n}\nwrap filter {\nrequest>headers>X-Api-Key delete\n}\n}\n}\n%S\n}", nil},
		{"misspelled", errorsToo + "}\na.example.com {\nlog {\nformat filter {\nrequest>headers>x-api-key delete\n}\n}\n%S\n}", [][]string{{"problem", "must be spelled X-Api-Key"}}},
		{"by expression", errorsToo + "}\na.example.com {\nlog {\nformat filter {\nrequest>headers>X-Api-Key regexp a b\n}\n}\n%S\n}", [][]string{{"warning", `"regexp"`}}},
		{"debug", "{\ndebug\nlog default {\n" + filter + "\n}\n}\na.example.com {\n%S\n}", [][]string{{"warning Caddyfile:3: level DEBUG"}}},
		{"debug, unfiltered", "{\ndebug\n}\na.example.com {\n%S\n}", [][]string{{"problem", "at level DEBUG this log gets X-Api-Key"}}},
		{"credentials and trace", errorsToo + "servers {\nlog_credentials\ntrace\n}\n}\na.example.com {\nlog {\n" + filter + "\n}\n%S\n}", [][]string{
			{"problem Caddyfile:8: logs get Authorization"}, {"warning Caddyfile:9: at level DEBUG each handler's settings"},
		}},
		{"appended key", errorsToo + "}\na.example.com {\nlog_append who {header.x-api-key}\n%S\n}", [][]string{{"problem Caddyfile:9: log_append puts the key"}}},
		{"appended token", errorsToo + "}\na.example.com {\nlog_append who {http.request.header.Authorization}\n%S\n}", [][]string{{"problem", "the key of each client"}}},
		{"appended body", errorsToo + "}\na.example.com {\nlog_append in {http.request.body}\nlog_append out {http.response.body}\n%S\n}", [][]string{{"warning", "conversations"}, {"problem", "holds each answer back"}}},
		{"appended tokens", errorsToo + "}\na.example.com {\nlog_append out {http.shunt.tokens_out}\n%S\n}", nil},
		{"appended elsewhere", errorsToo + "}\na.example.com {\nhandle /web/* {\nlog_append who {header.x-api-key}\n}\nhandle {\n%S\n}\n}", nil},
		{"key in the URL", errorsToo + "}\na.example.com {\nrequest_header X-Api-Key {query.key}\n%S\n}", [][]string{{"problem Caddyfile:9: keys come in the URL"}}},
	})
}

func TestTimeouts(t *testing.T) {
	with := func(options string) string { return "{\n" + options + "\n}\na.example.com {\n%S\n}" }
	server := func(options string) string { return with("servers {\ntimeouts {\n" + options + "\n}\n}") }
	runCases(t, func(c *doctor.Config) func(context.Context) []doctor.Finding { return c.Timeouts }, []checkCase{
		{"none", "a.example.com {\n%S\n}", nil},
		{"idle", server("write_idle 30s\nread_body_idle 30s\nidle 1m\nread_header 5s\nread_body 1m"), nil},
		{"write", server("write 30s"), [][]string{{"problem Caddyfile:4: an answer that takes longer than 30s is cut"}}},
		{"long write", server("write 30m"), [][]string{{"warning", "30m0s is cut"}}},
		{"rate", server("write_idle 1m 500"), [][]string{{"problem Caddyfile:4", "less than 500 bytes a second"}}},
		{"read", server("read_body 5s"), [][]string{{"warning Caddyfile:4", "5s to arrive"}}},
		{"rate of the site", "a.example.com {\ntimeouts {\nwrite_timeout 30s 100\n}\n%S\n}", [][]string{{"problem Caddyfile:3", "100 bytes a second"}}},
		{"idle of the site", "a.example.com {\ntimeouts {\nwrite_timeout 30s\n}\n%S\n}", nil},
		{"small bodies", "a.example.com {\nrequest_body {\nmax_size 10MB\n}\n%S\n}", [][]string{{"warning Caddyfile:3", "over 10 MB", "up to 32 MiB"}}},
		{"large bodies", "a.example.com {\nrequest_body {\nmax_size 40MB\n}\n%S\n}", nil},
		{"as large as the pool's", "a.example.com {\nrequest_body {\nmax_size 10MB\n}\nshunt {\nmax_body 10MB\nremote_key ann {env.A}\naccount a {\napi_key {env.K}\n}\n}\n}", nil},
		{"small bodies elsewhere", "a.example.com {\nrequest_body /upload {\nmax_size 1MB\n}\n%S\n}", nil},
		{"grace", with("grace_period 5s"), [][]string{{"warning Caddyfile:2", "longer than 5s"}}},
		{"long grace", with("grace_period 10m"), nil},
		{"another server", "{\nservers :8080 {\ntimeouts {\nwrite 1s\n}\n}\n}\nhttp://b.example.com:8080 {\nrespond hi\n}\na.example.com {\n%S\n}", nil},
	})
}

func TestEncode(t *testing.T) {
	runCases(t, func(c *doctor.Config) func(context.Context) []doctor.Finding { return c.Encode }, []checkCase{
		{"none", "a.example.com {\n%S\n}", nil},
		{"default", "a.example.com {\nencode\n%S\n}", [][]string{{"warning Caddyfile:2: encode compresses event streams"}}},
		{"what the advice says", "a.example.com {\n@others not path /v1/*\nencode @others\n%S\n}", nil},
		{"other paths", "a.example.com {\nencode /web/*\n%S\n}", nil},
		{"our path", "a.example.com {\nencode /v1/* gzip\n%S\n}", [][]string{{"warning"}}},
		{"other methods", "a.example.com {\n@m method POST\nencode @m\n%S\n}", [][]string{{"warning"}}},
		{"JSON only", "a.example.com {\nencode {\nmatch {\nheader Content-Type application/json*\n}\n}\n%S\n}", nil},
		{"streams by name", "a.example.com {\nencode {\nmatch {\nheader Content-Type text/event-stream*\n}\n}\n%S\n}", [][]string{{"warning"}}},
		{"errors only", "a.example.com {\nencode {\nmatch {\nstatus 404\n}\n}\n%S\n}", nil},
		{"in another handle", "a.example.com {\nhandle /v1/* {\n%S\n}\nhandle {\nencode\nrespond hi\n}\n}", nil},
		{"in the same handle", "a.example.com {\nhandle /v1/* {\nencode\n%S\n}\n}", [][]string{{"warning"}}},
		{"of another site", "b.example.com {\nencode\nrespond hi\n}\na.example.com {\n%S\n}", nil},
		{"in a route before", "a.example.com {\nroute {\nencode\n}\n%S\n}", [][]string{{"warning"}}}, // its handlers come first
		{"by a named route", "&(api) {\nroute {\nencode\n%S\n}\n}\na.example.com {\ninvoke api\n}", [][]string{{"warning"}}},
	})
}

func TestExposure(t *testing.T) {
	noKeys := "shunt {\naccount main {\napi_key {env.K}\n}\n}"
	runCases(t, func(c *doctor.Config) func(context.Context) []doctor.Finding { return c.Exposure }, []checkCase{
		{"TLS", "a.example.com {\n%S\n}", nil},
		{"loopback", "http://127.0.0.1:8080 {\nbind 127.0.0.1\n%S\n}", nil},
		{"in clear, by name", "http://a.example.com {\n%S\n}", [][]string{{"problem Caddyfile:2", ":80 without TLS"}}},
		{"in clear, by port", ":8080 {\n%S\n}", [][]string{{"problem", ":8080 without TLS"}}},
		{"behind a proxy", "{\nservers {\ntrusted_proxies static 10.0.0.0/8\n}\n}\n:8080 {\n%S\n}", [][]string{{"warning", "they end TLS"}}},
		{"own certificate", "https://a.example.com:8443 {\ntls internal\n%S\n}", nil},
		{"no TLS at all", "{\nauto_https off\n}\na.example.com {\n%S\n}", nil}, // the adapter makes a policy for the HTTPS port
		{"no keys", "a.example.com {\n" + noKeys + "\n}", [][]string{{"warning", "has no remote_key"}}},
		{"a name of this machine", "http://localhost:8080, http://shunt.localhost, http://127.0.0.1 {\n%S\n}", nil},
		{"a name of this machine, and another", "http://localhost:8080, http://a.example.com:8080 {\n%S\n}", [][]string{{"problem Caddyfile:2"}}},
		{"no keys, loopback", "http://localhost:8080 {\nbind 127.0.0.1 ::1\n" + noKeys + "\n}", nil},
		{"keys in a file", "a.example.com {\nshunt {\nkeys /etc/keys\naccount main {\napi_key {env.K}\n}\n}\n}", nil},
		{"no keys, other authentication", "a.example.com {\nbasic_auth {\nann $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n}\n" + noKeys + "\n}", nil},
		{"admin for all", "{\nadmin 0.0.0.0:2019\n}\na.example.com {\n%S\n}", [][]string{{"problem Caddyfile:2: the admin API listens at 0.0.0.0:2019"}}},
		{"admin on every address", "{\nadmin :2019\n}\na.example.com {\n%S\n}", [][]string{{"problem Caddyfile:2"}}},
		{"admin by socket", "{\nadmin unix//run/a.sock\n}\na.example.com {\n%S\n}", nil},
		{"admin off", "{\nadmin off\n}\na.example.com {\n%S\n}", nil},
		{"admin here", "{\nadmin [::1]:2020\n}\na.example.com {\n%S\n}", nil},
	})
}

// TestOnePool: the handlers of other pools are not looked at.
func TestOnePool(t *testing.T) {
	text := "a.example.com {\nencode\nshunt {\npool other\nremote_key ann {env.A}\naccount a {\napi_key {env.K}\n}\n}\n}\nb.example.com {\n%S\n}"
	for pool, want := range map[string]doctor.Level{"": doctor.Warning, "other": doctor.Warning, "default": doctor.OK} {
		c := read(t, text, pool)
		if found := c.Encode(t.Context()); found[0].Level != want {
			t.Errorf("%q: %s", pool, told(found))
		}
		if n := map[string]int{"": 2}[pool]; n == 2 && c.Sites() != 2 || n == 0 && c.Sites() != 1 {
			t.Errorf("%q: %d sites", pool, c.Sites())
		}
	}
}

// TestNamedRouteOfItself: a configuration that cannot be followed to its end ends.
func TestNamedRouteOfItself(t *testing.T) {
	const text = `{"apps": {"http": {"servers": {"s": {
		"routes": [{"handle": [{"handler": "invoke", "name": "r"}]}],
		"named_routes": {"r": {"handle": [{"handler": "invoke", "name": "r"}, {"handler": "shunt"}]}}
	}, "none": null}}}}`
	c, err := doctor.Read([]byte(text), "")
	if err != nil || c.Sites() == 0 {
		t.Errorf("%v, %d sites", err, c.Sites())
	}
	if _, err := doctor.Read([]byte(`{"apps": 1}`), ""); err == nil {
		t.Error("a broken configuration was read")
	}
}

func TestSource(t *testing.T) {
	s := doctor.NewSource("/a/Caddyfile", []byte("encode\nshunt {\n\taccount a {\n\t}\n\taccount b {\n\t}\n}\nencode gzip\n"))
	for words, want := range map[string]string{"account a": "Caddyfile:3", "account b": "Caddyfile:5", "encode": "Caddyfile:1 or 8", "account c": "", "": ""} {
		if got := s.At(strings.Fields(words)...); got != want {
			t.Errorf("%s: %q", words, got)
		}
	}
	if got := s.Where("apps.x", "nothing"); got != "apps.x" {
		t.Error(got)
	}
	if got := (*doctor.Source)(nil).Where("apps.x", "encode"); got != "apps.x" {
		t.Error(got)
	}
}

func TestReport(t *testing.T) {
	r := &doctor.Report{Subject: "The Caddy"}
	same := doctor.Finding{Level: doctor.Problem, Where: "a\x1b[31m", Found: "it is\nbroken", Change: "one {\n\ttwo\n}"}
	r.Run(t.Context(), []doctor.Check{
		{Name: "first", Looks: "at the first", Run: func(context.Context) []doctor.Finding {
			return []doctor.Finding{same, {Level: doctor.Warning, Found: "w"}, same}
		}},
		{Name: "second", Run: func(context.Context) []doctor.Finding { return []doctor.Finding{{Level: doctor.Skipped, Found: "s"}} }},
		{Name: "third", Run: func(context.Context) []doctor.Finding { return []doctor.Finding{{Level: doctor.OK, Found: "fine"}} }},
	})
	var out strings.Builder
	if err := r.Print(&out, doctor.Style{}); err != nil {
		t.Fatal(err)
	}
	const want = `
The Caddy:

PROBLEM first   a[31m: it isbroken
    one {
        two
    }
warning first   w
skipped second  s
ok      third   fine

1 problem, 1 warning.
`
	if got := "\n" + out.String(); got != want {
		t.Errorf("got%s\nwant%s", got, want)
	}
	out.Reset()
	_ = r.Print(&out, doctor.Style{Symbols: true, Colours: true})
	if !strings.Contains(out.String(), "\x1b[31m✗ \x1b[0mfirst") {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	_ = r.Print(&out, doctor.Style{Symbols: true})
	if !strings.Contains(out.String(), "✓ third") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%q", out.String())
	}
	raw, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(raw), `"name":"first","looks_at":"at the first","level":"problem"`) || !strings.Contains(string(raw), `"problems":1,"warnings":1`) {
		t.Errorf("%v %s", err, raw)
	}
}
