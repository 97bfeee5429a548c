package shunt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain <request-id> | --model <model> [--session <id>] [--user <name>]",
		Short: "Tells why a request went to its account, or where one would go",
		Long: `Tells how the account was chosen for a recent request, each decision as it was taken,
or with --model how it would be chosen now: every account in its place, with the
parts of its score and the reason in words. A decision that would be taken now
changes nothing.

The id of a request is in the header X-Shunt-Request-Id of its answer and in the
access log. Only the last requests are remembered.

SCORE counts among open accounts of one PRIORITY. "53% of 80%" of a window means that
53% are used, and that an even use would be at 80% by now. MODEL is the week of the
model's own, BURN the share of the five hours that is about to be used, BUCKET what is
used of the fullest classic limit, ROOM how much of what it takes at once is free, and
BONUS what a warm prompt cache or a home is worth.`,
		Example: `  caddy shunt explain shunt_7c23348558d74cd68e6e41b471038ae5
  caddy shunt explain --model claude-opus-5-5 --user ann
  caddy shunt explain --model claude-opus-5-5 --json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: firstArg(recentIDs),
	}
	cmd.Flags().String("model", "", "The model that would be asked for")
	cmd.Flags().String("session", "", "The session that would ask")
	cmd.Flags().String("user", "", "The person who would ask (default: nobody in particular)")
	cmd.Flags().Bool("json", false, "Print JSON, as the admin API's /shunt/explain")
	completeWith(cmd, "model", nothing)
	completeWith(cmd, "session", nothing)
	completeWith(cmd, "user", nothing)
	onSite(cmd, doExplain)
	return cmd
}

func doExplain(ctx context.Context, flags caddycmd.Flags) error {
	id, query := flags.Arg(0), url.Values{}
	for _, name := range []string{"model", "session", "user"} {
		if text := flags.String(name); text != "" {
			query.Set(name, text)
		}
	}
	switch {
	case id != "" && len(query) > 0:
		return errors.New("expected the id of a request or --model, not both")
	case id == "" && !query.Has("model"):
		return errors.New("expected the id of a recent request, or --model with the model that would be asked for")
	case id != "":
		query.Set("request", id)
	}
	s, err := findRunning(ctx, flags)
	if err != nil {
		return err
	}
	raw, err := s.explain(ctx, query)
	if err != nil {
		return err
	}
	if flags.Bool("json") {
		_, err := os.Stdout.Write(raw)
		return err
	}
	var answer explainView
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("what answers at %s is not Caddy's admin API with this version of shunt: %w", s.admin, err)
	}
	out := terminal.OutputOf(os.Stdout, "auto", os.Getenv)
	if !out.Drawn {
		out.Width = noWidth
	}
	d := drawing{look: out.Look, cells: out.Width, now: time.Now()}
	return writeLines(os.Stdout, d.explanation(&answer), out.Look)
}

// explain asks the pool. A request's id is looked for in all of them: it is in one at
// most.
func (s *site) explain(ctx context.Context, query url.Values) ([]byte, error) {
	pools := poolsOf(s.running)
	if !query.Has("request") || s.pool != "" {
		pool, err := s.poolWith("")
		if err != nil {
			return nil, err
		}
		pools = []string{pool}
	}
	err := errors.New("the Caddy that runs has no pool with accounts")
	for _, pool := range pools {
		var raw []byte
		query.Set("pool", pool)
		raw, err = s.admin.fetch(ctx, http.MethodGet, "/shunt/explain", query, nil)
		var refusal *adminError
		if !errors.As(err, &refusal) || refusal.status != http.StatusNotFound {
			return raw, err
		}
	}
	return nil, err
}

// recentIDs offers the last requests, the newest first, with what they were.
func recentIDs(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	const most = 20
	ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
	defer cancel()
	s, err := findRunning(ctx, caddycmd.Flags{FlagSet: cmd.Flags()})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	pools, _, err := s.status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, p := range pools {
		for i := range min(most, len(p.Recent)) {
			r := &p.Recent[i]
			about := fmt.Sprintf("%s %s %s", time.UnixMilli(r.TS).Local().Format(time.TimeOnly), orDash(r.User), orDash(r.Model))
			ids = append(ids, cobra.CompletionWithDesc(r.ID, printable(about)))
		}
	}
	return matching(ids, word), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
