package shunt

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "shunt",
		Short: "Manages the pools of Anthropic accounts",
		Long: `Shows how the pools of Anthropic accounts are doing, steers which account serves,
puts logins into the pools and takes them out.

The commands ask the Caddy that is running, through its admin API. What they change
holds at once, without a reload. When none is running, import, logout and accounts
work on the storage that the configuration names.`,
		CobraFunc: func(cmd *cobra.Command) {
			commandRuns.Store(true)
			cmd.AddCommand(statusCommand(), useCommand(), drainCommand(), benchCommand(), unbenchCommand(), refreshCommand(), explainCommand(), usageCommand())
			cmd.AddCommand(importCommand(), logoutCommand(), accountsCommand(), keyCommand(), connectCommand(), doctorCommand(), renewCommand())
		},
	})
}

// siteFlags are the flags by which all commands find the pools.
func siteFlags(cmd *cobra.Command) {
	cmd.Flags().StringP("config", "c", "", "Caddy's configuration file (default: the Caddyfile here)")
	cmd.Flags().StringP("adapter", "a", "", "The configuration's adapter")
	cmd.Flags().String("pool", "", "The pool, if several have such an account")
	cmd.Flags().String("address", "", "The address of the admin API (default: the configuration's, or localhost:2019)")
	completeWith(cmd, "pool", poolName)
	completeWith(cmd, "address", nothing)
}

// onSite makes the command do that, with the flags by which all commands find the
// pools.
func onSite(cmd *cobra.Command, do func(context.Context, caddycmd.Flags) error) {
	siteFlags(cmd)
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(flags caddycmd.Flags) (int, error) {
		if err := do(context.Background(), flags); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
		return caddy.ExitCodeSuccess, nil
	})
}
