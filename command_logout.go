package shunt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

func logoutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logout <name> [--no-revoke]",
		Short: "Takes a login out of a pool",
		Long: `Asks the token server to revoke a login and removes it from storage. <name> is the
account, or the login's own name. The account stays configured and needs a login
from then on; requests go to the other accounts.

That the token server cannot be reached does not keep the login from being
removed. A read-only login is never revoked: it is somebody else's.`,
		Example: `  caddy shunt logout ann
  caddy shunt logout ann --no-revoke   # to go on with the login elsewhere`,
		Args: cobra.ExactArgs(1),

		ValidArgsFunction: firstArg(runningNames(loginName)),
	}
	cmd.Flags().Bool("no-revoke", false, "Do not tell the token server")
	onSite(cmd, doLogout)
	return cmd
}

func doLogout(ctx context.Context, flags caddycmd.Flags) error {
	name := flags.Arg(0)
	if !nameSyntax.MatchString(name) {
		return fmt.Errorf("the name %q is not %s", name, nameRule)
	}
	s, err := findSite(ctx, flags)
	if err != nil {
		return err
	}
	ref, err := s.runningLogin(name)
	if err != nil {
		return err
	}
	revoke := !flags.Bool("no-revoke")
	if ref == nil {
		return s.logoutStored(name, revoke)
	}
	var done logoutAnswer
	query := url.Values{"pool": {ref.pool}, "account": {ref.login}, "revoke": {strconv.FormatBool(revoke)}}
	if err := s.admin.call(ctx, http.MethodDelete, "/shunt/login", query, nil, &done); err != nil {
		return err
	}
	say("The Caddy that runs at %s did it.", s.admin)
	done.print()
	fmt.Printf("Account %s of pool %s needs a login now; requests go to the others.\n", ref.account, ref.pool)
	return nil
}

// logoutStored removes a login from the storage of the configuration.
func (s *site) logoutStored(name string, revoke bool) error {
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
	key := credentialKey(ref.pool, ref.login)
	var end func(context.Context, credential.Record) error
	if revoke {
		tokenURL := c.config.OAuth.TokenURL
		if tokenURL != "" {
			if tokenURL, err = resolve("token_url", tokenURL); err != nil {
				return fmt.Errorf("%w; with --no-revoke it is not needed", err)
			}
		}
		end = credential.Revoker{TokenURL: tokenURL, ClientID: c.config.OAuth.ClientID}.Revoke
	}
	gone, err := credential.Remove(ctx, storage, key, end)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s, and the storage of %s has no login at %s", s.stopped, s.storageOf(), key)
	}
	if err != nil {
		return err
	}
	say("%s, so the login was removed from the storage of %s.", capital(s.stopped), s.storageOf())
	done := newLogoutAnswer(ref, key, gone)
	done.print()
	fmt.Println("A Caddy elsewhere that uses this storage serves with what it has in memory until its access token ends, unless that is revoked.")
	return nil
}

// print tells what was removed.
func (a *logoutAnswer) print() {
	whose := ""
	if a.Email != "" {
		whose = " of " + printable(a.Email)
	}
	fmt.Printf("The login %s of pool %s%s is removed (%s).\n", a.Login, a.Pool, whose, a.Record)
	if a.SetAside != "" {
		fmt.Printf("It could not be read; a copy is at %s.\n", a.SetAside)
	}
	switch {
	case a.Revoked:
		fmt.Println("The token server has revoked it.")
	case a.RevokeError != "":
		fmt.Printf("It is not revoked (%s): whoever has a copy of it can still use it.\n", a.RevokeError)
	case a.Follows != "":
		fmt.Printf("It was read-only and is not revoked: %s is as it was.\n", a.Follows)
	default:
		fmt.Println("It is not revoked: whoever has a copy of it can still use it.")
	}
}
