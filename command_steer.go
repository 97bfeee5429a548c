package shunt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func useCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "use [<account>|auto] [--policy <name>|auto]",
		Short: "Pins an account, or changes the policy",
		Long: `Pins an account: it is chosen before all others, as long as it can serve. auto ends
that. With --policy another policy chooses among the accounts until it is given back
with auto, or the configuration names another one.

A pin and a policy stay over reloads and restarts.`,
		Example: `  caddy shunt use ann
  caddy shunt use auto
  caddy shunt use --policy least_used
  caddy shunt use auto --policy auto`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: firstArg(runningNames(accountName, useAuto)),
	}
	cmd.Flags().String("policy", "", "The policy that is to choose; auto for that of the configuration")
	complete(cmd, "policy", policyNames()...)
	onSite(cmd, doUse)
	return cmd
}

func doUse(ctx context.Context, flags caddycmd.Flags) error {
	account, policy := flags.Arg(0), flags.String("policy")
	if account == "" && policy == "" {
		return errors.New("expected an account, auto, or --policy with a policy's name")
	}
	s, err := findRunning(ctx, flags)
	if err != nil {
		return err
	}
	named := account
	if named == useAuto {
		named = ""
	}
	pool, err := s.poolWith(named)
	if err != nil {
		return err
	}
	body := map[string]string{}
	if account != "" {
		body["account"] = account
	}
	if policy != "" {
		body["policy"] = policy
	}
	var done useAnswer
	if err := s.admin.call(ctx, http.MethodPost, "/shunt/use", url.Values{"pool": {pool}}, body, &done); err != nil {
		return err
	}
	if done.Pinned != nil {
		fmt.Printf("Pool %s: %s is pinned, and serves as long as it can.\n", pool, printable(*done.Pinned))
	} else {
		fmt.Printf("Pool %s: no account is pinned.\n", pool)
	}
	if done.Policy != done.Configured {
		fmt.Printf("Pool %s: the policy %s chooses, instead of the configured %s.\n", pool, printable(done.Policy), printable(done.Configured))
	} else {
		fmt.Printf("Pool %s: the configured policy %s chooses.\n", pool, printable(done.Policy))
	}
	return nil
}

func drainCommand() *cobra.Command {
	cmd := steerCommand("drain", "[--undo | --reason <text>]", "Takes an account out of the choice until it is undrained",
		`Takes an account out of the choice until --undo puts it back. What it serves now goes
on; conversations that live there move to others, which write their prompt cache
anew. It stays drained over reloads and restarts.`,
		`  caddy shunt drain ann --reason 'ann needs it today'
  caddy shunt drain ann --undo`)
	cmd.Flags().Bool("undo", false, "Put the account back")
	cmd.Flags().String("reason", "", "Why, for those who look at the status")
	cmd.MarkFlagsMutuallyExclusive("undo", "reason")
	completeWith(cmd, "reason", nothing)
	onSite(cmd, func(ctx context.Context, flags caddycmd.Flags) error {
		action := "drain"
		if flags.Bool("undo") {
			action = "undrain"
		}
		return steerAccount(ctx, flags, steering{Action: action, Reason: flags.String("reason")})
	})
	return cmd
}

func benchCommand() *cobra.Command {
	cmd := steerCommand("bench", "[--for <duration>] [--reason <text>]", "Takes an account out of the choice for a while",
		`Takes an account out of the choice for a while. What it serves now goes on.`,
		`  caddy shunt bench ann --for 30m
  caddy shunt bench ann --for 2d --reason 'ann is on a deadline'`)
	cmd.Flags().String("for", "", "How long, such as 30m, 4h or 2d (default: 1h)")
	cmd.Flags().String("reason", "", "Why, for those who look at the status")
	complete(cmd, "for", "10m", "30m", "1h", "4h", "1d", "7d")
	completeWith(cmd, "reason", nothing)
	onSite(cmd, func(ctx context.Context, flags caddycmd.Flags) error {
		long := flags.String("for")
		if long != "" {
			if d, err := caddy.ParseDuration(long); err != nil || d < time.Second {
				return fmt.Errorf("--for: %q is not a duration such as 30m or 2d", long)
			}
		}
		return steerAccount(ctx, flags, steering{Action: "bench", For: long, Reason: flags.String("reason")})
	})
	return cmd
}

func unbenchCommand() *cobra.Command {
	cmd := steerCommand("unbench", "", "Puts an account that is out back into the choice",
		`Ends what keeps an account out: a bench by hand, or a rest after a refusal of
upstream. The next request finds out whether it serves again. A drain is ended with
"drain --undo", a login that is needed with "import".`,
		`  caddy shunt unbench ann`)
	onSite(cmd, func(ctx context.Context, flags caddycmd.Flags) error {
		return steerAccount(ctx, flags, steering{Action: "unbench"})
	})
	return cmd
}

func refreshCommand() *cobra.Command {
	cmd := steerCommand("refresh", "", "Gets a new token for an account with a login",
		`Gets a new access token for an account with a login or a federation now, instead of
shortly before the old one ends. Fails for accounts with API keys and setup tokens,
which have nothing to refresh.`,
		`  caddy shunt refresh ann`)
	onSite(cmd, func(ctx context.Context, flags caddycmd.Flags) error {
		return steerAccount(ctx, flags, steering{Action: "refresh"})
	})
	return cmd
}

// steerCommand is what the commands that steer one account have in common.
func steerCommand(name, usage, short, long, example string) *cobra.Command {
	return &cobra.Command{
		Use: strings.TrimSpace(name + " <account> " + usage), Short: short, Long: long, Example: example,
		Args: cobra.ExactArgs(1), ValidArgsFunction: firstArg(runningNames(accountName)),
	}
}

// steerAccount asks the running Caddy to steer the account that is named.
func steerAccount(ctx context.Context, flags caddycmd.Flags, order steering) error {
	order.Account = flags.Arg(0)
	if order.Account == "" {
		return errors.New("expected the name of an account")
	}
	s, err := findRunning(ctx, flags)
	if err != nil {
		return err
	}
	pool, err := s.poolWith(order.Account)
	if err != nil {
		return err
	}
	var done steered
	if err := s.admin.call(ctx, http.MethodPost, "/shunt/steer", url.Values{"pool": {pool}}, &order, &done); err != nil {
		return err
	}
	fmt.Printf("Account %s of pool %s: %s.\n", printable(done.Account), pool, printable(done.Words))
	return nil
}

// poolWith finds the pool of an account, or without an account the only one.
func (s *site) poolWith(account string) (string, error) {
	pools := poolsOf(s.running)
	if s.pool != "" && !slices.Contains(pools, s.pool) {
		return "", s.noPool()
	}
	var found, known []string
	for i := range s.running {
		l := &s.running[i]
		if s.pool != "" && l.Pool != s.pool {
			continue
		}
		if !slices.Contains(known, l.Account) {
			known = append(known, l.Account)
		}
		if (account == "" || l.Account == account) && !slices.Contains(found, l.Pool) {
			found = append(found, l.Pool)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1 && account == "":
		return "", fmt.Errorf("several pools are running; say which with --pool: %s", strings.Join(found, ", "))
	case len(found) > 1:
		return "", fmt.Errorf("several pools have an account %q; say which with --pool: %s", account, strings.Join(found, ", "))
	case account == "" || len(known) == 0:
		return "", errors.New("the Caddy that runs has no pool with accounts")
	default:
		return "", fmt.Errorf("there is no account %q; there is %s", account, strings.Join(known, ", "))
	}
}
