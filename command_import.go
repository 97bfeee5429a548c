package shunt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

func importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import <name> [--file <file>|-] [--read-only]",
		Short: "Puts a login into a pool",
		Long: `Puts a login that its owner made with Anthropic's own command line into a pool,
for an account that is configured with oauth. <name> is the account, or the
login's own name. A login that was there is replaced.

Without --file it is read from where Claude Code keeps it:
$CLAUDE_CONFIG_DIR/.credentials.json, or ~/.claude/.credentials.json. The file of
an SDK or ant profile is taken too. - reads standard input.

Only one may refresh a login: two refreshers log each other out. Make it in a
configuration folder of its own, and use it nowhere else. With --read-only shunt
does not refresh it but reads the file again whenever it changes; the login then
lives for as long as its owner uses it.

A Caddy that is running serves with the login at once, without a reload. When none
is running, the login is put into the storage that the configuration names; run
the command as the user that runs Caddy then.`,
		Example: `  CLAUDE_CONFIG_DIR=~/shunt-ann claude     # sign in, then leave
  caddy shunt import ann --file ~/shunt-ann/.credentials.json

  # macOS, where the login is in the Keychain
  security find-generic-password -s "Claude Code-credentials" -w | caddy shunt import ann --file -

  # read along with the login that is in daily use
  caddy shunt import ann --file ~/.claude/.credentials.json --read-only`,
		Args: cobra.ExactArgs(1),

		ValidArgsFunction: firstArg(runningNames(loginName)),
	}
	cmd.Flags().StringP("file", "f", "", "The credentials file; - for standard input (default: Claude Code's)")
	cmd.Flags().Bool("read-only", false, "Follow the file instead of refreshing the login")
	onSite(cmd, doImport)
	return cmd
}

func doImport(ctx context.Context, flags caddycmd.Flags) error {
	name := flags.Arg(0)
	if !nameSyntax.MatchString(name) {
		return fmt.Errorf("the name %q is not %s", name, nameRule)
	}
	if flags.String("file") == "-" && flags.String("config") == "-" {
		return errors.New("--file and --config cannot both be standard input")
	}
	file, err := readCredentialsFile(flags.String("file"), flags.Bool("read-only"))
	if err != nil {
		return err
	}
	s, err := findSite(ctx, flags)
	if err != nil {
		return err
	}
	ref, err := s.runningLogin(name)
	if err != nil {
		return err
	}
	if ref != nil {
		return s.importRunning(ctx, *ref, file)
	}
	return s.importStored(name, file)
}

// importRunning gives the login to the running Caddy.
func (s *site) importRunning(ctx context.Context, ref loginRef, file *credentialsFile) error {
	file.warn(ref.login)
	var done loginAnswer
	query := url.Values{"pool": {ref.pool}, "account": {ref.login}}
	if err := s.admin.call(ctx, http.MethodPost, "/shunt/login", query, file.body(), &done); err != nil {
		return err
	}
	say("The Caddy that runs at %s took it.", s.admin)
	done.print()
	if done.Problem != "" {
		return fmt.Errorf("the login is stored, but the running Caddy does not serve with it: %s", done.Problem)
	}
	fmt.Printf("Account %s of pool %s serves with it now.\n", ref.account, ref.pool)
	file.advise()
	return nil
}

// importStored puts the login into the storage of the configuration.
func (s *site) importStored(name string, file *credentialsFile) error {
	c, ref, err := s.storedLogin(name)
	if err != nil {
		return err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	storage, err := c.place.open(ctx)
	if err != nil {
		return err
	}
	file.warn(ref.login)
	key := credentialKey(ref.pool, ref.login)
	was, err := credential.Replace(ctx, storage, key, file.record)
	if err != nil {
		return err
	}
	say("%s, so the login was put into the storage of %s.", capital(s.stopped), s.storageOf())
	done := newLoginAnswer(ref, key, file.record, was)
	done.print()
	fmt.Println("A Caddy that uses this storage takes it up by itself: at its start, or else within half a minute if it was waiting for a login, within five minutes if the old one works.")
	file.advise()
	return nil
}

// print tells what was imported.
func (a *loginAnswer) print() {
	fmt.Printf("The login %s of pool %s is stored as %s.\n", a.Login, a.Pool, a.Record)
	if a.Replaced {
		whose := ""
		if a.ReplacedEmail != "" {
			whose = ", of " + printable(a.ReplacedEmail)
		}
		fmt.Printf("It replaced the one that was there%s.\n", whose)
	}
	if a.SetAside != "" {
		fmt.Printf("The record that was there could not be read; a copy is at %s.\n", a.SetAside)
	}
	if a.Follows != "" {
		fmt.Printf("It is read-only: shunt reads %s again whenever it changes, and never refreshes it.\n", a.Follows)
		return
	}
	if !a.TokenExpires.IsZero() {
		fmt.Printf("Its access token ends at %s; shunt refreshes it before.\n", a.TokenExpires.Local().Format(time.RFC1123))
	}
	if !a.LoginExpires.IsZero() {
		fmt.Printf("The login itself ends at %s; then a new one is needed.\n", a.LoginExpires.Local().Format(time.RFC1123))
	}
}
