package shunt

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
	"github.com/caddy-shunt/caddy-shunt/ledger"
)

func usageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "usage [--by <dimensions>] [--from <day>] [--to <day>] [--person <name>] [--csv | --json]",
		Short: "Shows who used what",
		Long: `Shows who used what, with its price by the price list: by person and model unless
--by names others of person, account, model, day and month, apart by commas. Without
--from it is this month. All instances that share the pool are in it.`,
		Example: `  caddy shunt usage
  caddy shunt usage --by person --from 2026-11-01 --to 2026-11-30
  caddy shunt usage --by day,account --person ann
  caddy shunt usage --by month,person --from 2026-01-01 --csv >usage.csv`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: nothing,
	}
	cmd.Flags().String("by", "", "What the lines are told apart by (default: person,model)")
	cmd.Flags().String("from", "", "The first day, such as 2026-11-01 (default: the month's first)")
	cmd.Flags().String("to", "", "The last day (default: today)")
	cmd.Flags().String("person", "", "Only what this person used")
	cmd.Flags().Bool("csv", false, "Print CSV, as the admin API's /shunt/usage")
	cmd.Flags().Bool("json", false, "Print JSON, as the admin API's /shunt/usage")
	cmd.MarkFlagsMutuallyExclusive("csv", "json")
	completeWith(cmd, "by", dimensions)
	completeWith(cmd, "from", nothing)
	completeWith(cmd, "to", nothing)
	completeWith(cmd, "person", nothing)
	onSite(cmd, doUsage)
	return cmd
}

func doUsage(ctx context.Context, flags caddycmd.Flags) error {
	if by := flags.String("by"); by != "" {
		if _, err := ledger.ParseBy(by); err != nil {
			return fmt.Errorf("--by: %w", err)
		}
	}
	for _, name := range []string{"from", "to"} {
		if day := flags.String(name); day != "" {
			if _, err := ledger.ParseDay(day); err != nil {
				return fmt.Errorf("--%s: %w", name, err)
			}
		}
	}
	s, err := findRunning(ctx, flags)
	if err != nil {
		return err
	}
	pool, err := s.poolWith("")
	if err != nil {
		return err
	}
	query := url.Values{"pool": {pool}, "format": {"json"}}
	for _, name := range []string{"by", "from", "to", "person"} {
		if text := flags.String(name); text != "" {
			query.Set(name, text)
		}
	}
	if flags.Bool("csv") {
		query.Set("format", "csv")
	}
	raw, err := s.admin.fetch(ctx, http.MethodGet, "/shunt/usage", query, nil)
	if err != nil {
		return err
	}
	if flags.Bool("csv") || flags.Bool("json") {
		_, err := os.Stdout.Write(raw)
		return err
	}
	var answer usageAnswer
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("what answers at %s is not Caddy's admin API with this version of shunt: %w", s.admin, err)
	}
	out := terminal.OutputOf(os.Stdout, "auto", os.Getenv)
	if !out.Drawn {
		out.Width = noWidth
	}
	return writeLines(os.Stdout, drawing{look: out.Look, cells: out.Width}.usage(&answer), out.Look)
}

// dimensions completes the last word of a list.
func dimensions(_ *cobra.Command, _ []string, word string) (words []string, _ cobra.ShellCompDirective) {
	before := word[:strings.LastIndex(word, ",")+1]
	for _, by := range []ledger.By{ledger.ByPerson, ledger.ByAccount, ledger.ByModel, ledger.ByDay, ledger.ByMonth} {
		if !strings.Contains(","+before, ","+string(by)+",") {
			words = append(words, before+string(by))
		}
	}
	return matching(words, word), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
