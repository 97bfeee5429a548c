package shunt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

// exitCannotServe is the exit code of status --check when a pool cannot serve. 1 is for
// all else that went wrong.
const exitCannotServe = 2

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [--watch [--interval <duration>] | --json | --check] [--color auto|always|never]",
		Short: "Shows how the pools are: accounts, limits, people",
		Long: `Shows how the pools of the running Caddy are: each account with its windows, why it
is out and until when, what is under way, and who uses how much.

A bar is what is used of a window, and the mark in it is where an even use would be
by now: a bar beyond its mark is used up before its reset if that goes on. NEW IN is
the time to the reset. FLIGHT counts requests under way, CACHE is the share of the
prompts that upstream's cache had. All is counted since the pool was first used.

On a terminal it is drawn, with colours unless NO_COLOR is set. Into a file or
another program go plain lines, each with the name of whom it speaks of.

--watch shows it on the whole screen with the last requests, until q is pressed. It
goes on over reloads and restarts of Caddy.

--check prints one line for each pool and exits with 0 when all of them can serve,
with 2 when one cannot, and with 1 when there is nobody to ask.`,
		Example: `  caddy shunt status
  caddy shunt status --watch --interval 1s
  caddy shunt status | grep '^account ann:'
  caddy shunt status --json | jq '.pools[].accounts[] | {name, status}'
  caddy shunt status --check || mail -s 'the pool cannot serve' ops@example.com </dev/null`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().Bool("json", false, "Print JSON, as the admin API's /shunt/status")
	cmd.Flags().BoolP("watch", "w", false, "Show it on the whole screen, live")
	cmd.Flags().Duration("interval", 2*time.Second, "How often --watch asks")
	cmd.Flags().Bool("check", false, "Exit with 2 if a pool cannot serve")
	cmd.Flags().String("color", "auto", "When to use colours: auto, always or never")
	cmd.MarkFlagsMutuallyExclusive("json", "watch", "check")
	complete(cmd, "color", "auto", "always", "never")
	onSite(cmd, doStatus)
	plain := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if check, _ := cmd.Flags().GetBool("check"); check {
			// The exit code says it all: cobra must not add to it.
			cmd.SilenceErrors = true
			return caddycmd.WrapCommandFuncForCobra(checkStatus)(cmd, args)
		}
		return plain(cmd, args)
	}
	return cmd
}

func doStatus(ctx context.Context, flags caddycmd.Flags) error {
	colour := flags.String("color")
	if !slices.Contains([]string{"auto", "always", "never"}, colour) {
		return fmt.Errorf("--color: %q is not known; expected auto, always or never", colour)
	}
	if flags.Bool("watch") {
		return watchStatus(ctx, flags, colour)
	}
	s, err := findRunning(ctx, flags)
	if err != nil {
		return err
	}
	pools, raw, err := s.status(ctx)
	if err != nil {
		return err
	}
	if flags.Bool("json") {
		_, err := os.Stdout.Write(raw)
		return err
	}
	out := terminal.OutputOf(os.Stdout, colour, os.Getenv)
	if !out.Drawn {
		return writeLines(os.Stdout, plainStatus(pools, time.Now()), out.Look)
	}
	return writeLines(os.Stdout, drawing{look: out.Look, cells: out.Width, now: time.Now()}.status(pools), out.Look)
}

// checkStatus is status --check.
func checkStatus(flags caddycmd.Flags) (int, error) {
	ctx := context.Background()
	s, err := findRunning(ctx, flags)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	pools, _, err := s.status(ctx)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	code := caddy.ExitCodeSuccess
	var lines []terminal.Line
	for _, p := range pools {
		if p.Capacity.Open == 0 {
			code = exitCannotServe
		}
		lines = append(lines, terminal.Text("pool "+p.Pool+": "+openWords(p)+"; "+forecastWords(p, time.Now())))
	}
	return code, writeLines(os.Stdout, lines, terminal.OutputOf(os.Stdout, "never", os.Getenv).Look)
}

// status asks for the pools, or for the one that was named, and gives also the answer as
// it came.
func (s *site) status(ctx context.Context) ([]*statusView, []byte, error) {
	query := url.Values{}
	if s.pool != "" {
		query.Set("pool", s.pool)
	}
	raw, err := s.admin.fetch(ctx, http.MethodGet, "/shunt/status", query, nil)
	if err != nil {
		return nil, nil, err
	}
	var answer struct {
		Pools []*statusView `json:"pools"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, nil, fmt.Errorf("what answers at %s is not Caddy's admin API with this version of shunt: %w", s.admin, err)
	}
	if len(answer.Pools) == 0 {
		return nil, nil, errors.New("the Caddy that runs has no pool: its configuration has no shunt")
	}
	return answer.Pools, raw, nil
}

// noPool is the error of a pool that does not run.
func (s *site) noPool() error {
	pools := poolsOf(s.running)
	if len(pools) == 0 {
		return fmt.Errorf("there is no pool %q", s.pool)
	}
	return fmt.Errorf("there is no pool %q; there is %s", s.pool, strings.Join(pools, ", "))
}
