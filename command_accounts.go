package shunt

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

func accountsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accounts [--json]",
		Short: "Shows the accounts of the pools and their logins",
		Long: `Shows the accounts of the pools: what credential each has, whether it can serve,
whose it is and when it ends. An end with ~ is a guess: four weeks after the login
was imported. Nothing secret is shown.

When no Caddy is running, it shows what configuration and storage tell.`,
		Example: `  caddy shunt accounts
  caddy shunt accounts --pool team --json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().Bool("json", false, "Print JSON, as the admin API's /shunt/accounts")
	onSite(cmd, doAccounts)
	return cmd
}

func doAccounts(ctx context.Context, flags caddycmd.Flags) error {
	s, err := findSite(ctx, flags)
	if err != nil {
		return err
	}
	lines, from := s.running, fmt.Sprintf("The Caddy that runs at %s:", s.admin)
	if s.admin == nil {
		from = fmt.Sprintf("%s. From the storage of %s:", capital(s.stopped), s.storageOf())
		if lines, err = s.storedAccounts(); err != nil {
			return err
		}
	}
	if s.pool != "" {
		pools := poolsOf(lines)
		lines = slices.DeleteFunc(lines, func(l accountLine) bool { return l.Pool != s.pool })
		if len(lines) == 0 {
			return fmt.Errorf("there is no pool %q; there is %s", s.pool, strings.Join(pools, ", "))
		}
	}
	say("%s", from)
	if flags.Bool("json") {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(accountsAnswer{lines})
	}
	return printAccounts(os.Stdout, lines, time.Now())
}

func poolsOf(lines []accountLine) (pools []string) {
	for i := range lines {
		if !slices.Contains(pools, lines[i].Pool) {
			pools = append(pools, lines[i].Pool)
		}
	}
	return pools
}

// storedAccounts is what configuration and storage tell of the accounts.
func (s *site) storedAccounts() ([]accountLine, error) {
	all, err := s.configured()
	if err != nil {
		return nil, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	lines := []accountLine{}
	for _, c := range all {
		line := newAccountLine(c.pool, c.config)
		line.State = stateConfigured
		if c.config.OAuth != nil {
			storage, err := c.place.open(ctx)
			if err != nil {
				return nil, fmt.Errorf("pool %s: %w", c.pool, err)
			}
			status, err := credential.Describe(ctx, storage, line.Record, time.Now())
			if err != nil {
				return nil, err
			}
			line.State = stateStored
			line.login(status)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// printAccounts prints the table, and below it what does not fit into one.
func printAccounts(w io.Writer, lines []accountLine, now time.Time) error {
	var text bytes.Buffer
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	rows := []string{"POOL\tACCOUNT\tKIND\tSTATE\tOWNER\tE-MAIL\tPLAN\tTOKEN ENDS\tLOGIN ENDS\tREFRESHED"}
	var notes []string
	for i := range lines {
		l := &lines[i]
		cells := []string{
			l.Pool, l.Account, l.Kind, l.words(now), strings.Join(l.Owners, " "), l.Email, l.Plan,
			clock(l.TokenExpires, now, false), clock(l.LoginExpires, now, l.LoginExpiresGuessed), clock(l.LastRefresh, now, false),
		}
		for i, c := range cells {
			if cells[i] = printable(c); cells[i] == "" {
				cells[i] = "-"
			}
		}
		rows = append(rows, strings.Join(cells, "\t"))
		if l.Reason != "" {
			notes = append(notes, printable(l.Pool+"/"+l.Account+": "+l.Reason))
		}
		if l.Follows != "" {
			notes = append(notes, printable(l.Pool+"/"+l.Account+" follows "+l.Follows))
		}
	}
	// Writes to memory do not fail.
	_, _ = io.WriteString(table, strings.Join(rows, "\n")+"\n")
	_ = table.Flush()
	if len(notes) > 0 {
		text.WriteString("\n" + strings.Join(notes, "\n") + "\n")
	}
	if _, err := text.WriteTo(w); err != nil {
		return fmt.Errorf("printing the accounts: %w", err)
	}
	return nil
}

// words is the state for people.
func (l *accountLine) words(now time.Time) string {
	text := strings.ReplaceAll(l.State, "_", " ")
	if l.State == stateBenched && !l.Until.IsZero() {
		text += " until " + clock(l.Until, now, false)
	}
	if l.ReadOnly {
		text += ", read-only"
	}
	return text
}

// clock is a time in the zone of who reads it; of today the hour is enough.
func clock(t, now time.Time, guessed bool) string {
	if t.IsZero() {
		return ""
	}
	t, now = t.Local(), now.Local()
	layout := "2006-01-02 15:04"
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		layout = "15:04"
	}
	text := t.Format(layout)
	if guessed {
		return "~" + text
	}
	return text
}

// printable takes out what would command a terminal: some texts come from files
// and from other servers.
func printable(s string) string { return terminal.Printable(s) }

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
