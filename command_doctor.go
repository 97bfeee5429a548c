package shunt

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-shunt/caddy-shunt/internal/doctor"
)

// exitProblems is the exit code of doctor when it has found a problem.
const exitProblems = 2

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [--json] [--offline]",
		Short: "Looks for what usually goes wrong, and says what to change",
		Long: `Looks at the configuration, the files, the way to upstream and each account for
what usually goes wrong, and says what to change: keys in logs, timeouts that cut
streams, compression, file modes, storage, clocks, certificates, credentials that
upstream refuses, logins that end, accounts that share one organisation's limits.

It asks the Caddy that is running, and judges the configuration that runs. When
none is running it judges the configuration file, and tries only API keys and setup
tokens; a login is described from storage. Accounts are tried with a call that
costs nothing (GET /v1/models). No login is refreshed by the command, nothing is
changed, and no secret is printed.

Exit codes: 0 when nothing is wrong or there are warnings only, 1 when doctor
itself could not do its work, 2 when there are problems.`,
		Example: `  caddy shunt doctor
  caddy shunt doctor --config /etc/caddy/Caddyfile --pool team
  caddy shunt doctor --offline --json | jq '.checks[] | select(.level != "ok")'`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().Bool("json", false, "Print the report as JSON")
	cmd.Flags().Bool("offline", false, "Ask no upstream")
	siteFlags(cmd)
	cmd.Flags().Lookup("pool").Usage = "Look at this pool only"
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(flags caddycmd.Flags) (int, error) {
		report, err := doDoctor(context.Background(), flags)
		if err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
		if report.Problems > 0 {
			cmd.SilenceErrors, cmd.SilenceUsage = true, true // the report has told
			return exitProblems, nil
		}
		return caddy.ExitCodeSuccess, nil
	})
	return cmd
}

func doDoctor(ctx context.Context, flags caddycmd.Flags) (*doctor.Report, error) {
	s, err := findSite(ctx, flags)
	if err != nil {
		return nil, err
	}
	p, err := s.examine(ctx, flags.Bool("offline"))
	if err != nil {
		return nil, err
	}
	inner, cancel := caddy.NewContext(caddy.Context{Context: ctx})
	defer cancel()
	p.caddy = inner
	report := p.report()
	report.Run(ctx, p.checks())
	if flags.Bool("json") {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = report.Print(os.Stdout, styleOf(os.Stdout))
	}
	if err != nil {
		return nil, fmt.Errorf("printing the report: %w", err)
	}
	return report, nil
}

// styleOf: signs are for terminals, and so are colours unless NO_COLOR asks for none.
func styleOf(out *os.File) doctor.Style {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&fs.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	return doctor.Style{Symbols: terminal, Colours: terminal && os.Getenv("NO_COLOR") == ""}
}

// patient is what doctor examines.
type patient struct {
	*site
	offline bool
	raw     []byte // the configuration that is judged
	parsed  *doctor.Config
	// accounts are the configuration's, of the pool that was named.
	accounts []configured
	// text is that of the file of the configuration, nil when there is none.
	text []byte
	// unloaded is true when the file that was named is not what runs.
	unloaded bool
	// caddy loads modules; loading is held meanwhile, since a context is not for several
	// goroutines.
	caddy   caddy.Context
	loading sync.Mutex
	// dataDir is where the running Caddy has its default storage; empty when it has
	// not said it. This process may have another environment.
	dataDir string
	// tried is what upstream says to each account's credential; nil before it was asked.
	tried []checkAnswer
}

// examine finds the configuration to judge: the one that runs, else the file's.
func (s *site) examine(ctx context.Context, offline bool) (*patient, error) {
	p := &patient{site: s, offline: offline, raw: s.config}
	if s.admin != nil {
		var active json.RawMessage
		if err := s.admin.call(ctx, "GET", "/config/", nil, nil, &active); err != nil {
			return nil, fmt.Errorf("reading the configuration that runs: %w", err)
		}
		p.raw = active
	}
	all, err := s.configured()
	if s.admin != nil {
		all, err = configuredAccounts(p.raw)
	}
	if err != nil {
		return nil, err
	}
	same := s.admin == nil || sameJSON(p.raw, s.config)
	p.unloaded = !same && s.explicit
	if p.parsed, err = doctor.Read(p.raw, s.pool); err != nil {
		return nil, err
	}
	if s.file != "" && same {
		if p.text, err = os.ReadFile(s.file); err == nil && !json.Valid(p.text) {
			p.parsed.Source = doctor.NewSource(s.file, p.text)
		}
	}
	var pools []string
	for i := range all {
		if s.pool == "" || s.pool == all[i].pool {
			p.accounts = append(p.accounts, all[i])
		}
		if !slices.Contains(pools, all[i].pool) {
			pools = append(pools, all[i].pool)
		}
	}
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("%s has no shunt with accounts", p.subject())
	case len(p.accounts) == 0:
		return nil, fmt.Errorf("there is no pool %q; there is %s", s.pool, strings.Join(pools, ", "))
	}
	return p, nil
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	a, errA := json.Marshal(x)
	b, errB := json.Marshal(y)
	return errA == nil && errB == nil && string(a) == string(b)
}

func (p *patient) subject() string {
	if p.admin != nil {
		return fmt.Sprintf("The Caddy that runs at %s", p.admin)
	}
	return fmt.Sprintf("%s. From %s", capital(p.stopped), p.storageOf())
}

func (p *patient) report() *doctor.Report {
	r := &doctor.Report{Subject: p.subject()}
	if p.admin != nil {
		r.Running = p.admin.String()
	}
	return r
}

// checks are all that doctor looks at, in the order in which it does.
func (p *patient) checks() []doctor.Check {
	upstreams := p.upstreams()
	return []doctor.Check{
		{Name: "versions", Looks: "the versions of shunt, Caddy and Go, here and in what runs", Run: p.versions},
		{Name: "config", Looks: "whether the configuration file is what runs, and its accounts are whole", Run: p.configuration},
		{Name: "exposure", Looks: "who can reach the admin API, and whether keys travel in clear", Run: p.parsed.Exposure},
		{Name: "logs", Looks: "whether logs get the keys of clients", Run: p.parsed.Logs},
		{Name: "timeouts", Looks: "limits of the server that cut answers or refuse large requests", Run: p.parsed.Timeouts},
		{Name: "encode", Looks: "compression of event streams", Run: p.parsed.Encode},
		{Name: "files", Looks: "who may read the files with secrets", Run: p.files},
		{Name: "storage", Looks: "whether the storage can be written and stays", Run: p.storages},
		{Name: "upstream", Looks: "name, connection and certificate of each upstream", Run: upstreams.Reach},
		{Name: "clock", Looks: "this machine's clock against the upstreams'", Run: upstreams.Clock},
		{Name: "accounts", Looks: "what upstream says to each account's credential, by a free call", Run: p.credentials},
		{Name: "logins", Looks: "logins and setup tokens that have ended or end soon", Run: p.logins},
		{Name: "owners", Looks: "who may use the logins", Run: p.owners},
		{Name: "organisations", Looks: "accounts that draw on the limits of one organisation", Run: p.organisations},
	}
}
