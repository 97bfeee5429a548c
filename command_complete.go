package shunt

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

// completeWithin bounds how long a shell waits for the running Caddy's names.
const completeWithin = 2 * time.Second

// completion is what a shell asks for the words that could stand at a place.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// complete offers words for a flag.
func complete(cmd *cobra.Command, flag string, words ...string) {
	completeWith(cmd, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

func completeWith(cmd *cobra.Command, flag string, words completion) {
	if err := cmd.RegisterFlagCompletionFunc(flag, words); err != nil {
		panic(err) // a flag that the command does not have, or twice the same
	}
}

// nothing is what is offered where only the user knows.
func nothing(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// runningNames offers names of what the running Caddy has, and more behind them. When
// none runs there are none: a shell that completes has nowhere to put an error.
func runningNames(of func(accountLine) string, more ...string) completion {
	return func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
		defer cancel()
		var names []string
		if s, err := findRunning(ctx, caddycmd.Flags{FlagSet: cmd.Flags()}); err == nil {
			for i := range s.running {
				name := of(s.running[i])
				if name != "" && (s.pool == "" || s.pool == s.running[i].Pool) && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
			names = append(names, more...)
		}
		return matching(names, word), cobra.ShellCompDirectiveNoFileComp
	}
}

// firstArg offers words for the first argument, and none for others.
func firstArg(words completion) completion {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nothing(cmd, args, word)
		}
		return words(cmd, args, word)
	}
}

func matching(names []string, word string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, word) })
}

func accountName(l accountLine) string { return l.Account }

func loginName(l accountLine) string {
	if l.Login == "" {
		return ""
	}
	return l.Account
}

// poolName must not keep to the pool that is named: it is what is being typed.
func poolName(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if err := cmd.Flags().Set("pool", ""); err != nil {
		return nothing(cmd, args, word)
	}
	return runningNames(func(l accountLine) string { return l.Pool })(cmd, args, word)
}

// policyNames are the policies that can be chosen, as far as this binary knows them.
func policyNames() []string {
	return append(slices.Sorted(maps.Keys(pool.Policies)), useAuto)
}
