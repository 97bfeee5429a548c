package shunt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const (
	// connectModel is the model whose tokens are counted unless another is named.
	connectModel = "claude-sonnet-5-5"
	// exitNoConnection is the exit code of caddy shunt connect when the connection
	// does not work; 1 is for a command line that cannot be understood.
	exitNoConnection = 2
	// maxKeyFile bounds a file with a key, in bytes.
	maxKeyFile = 4 << 10
)

// keyVariables are where connect looks for the key, the first that is set.
var keyVariables = []string{"SHUNT_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"}

func connectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "connect <url> [--key-file <file>] [--model <model>] [--shell bash|fish|powershell] [--show-key] [--json]",
		Short: "Tests the way to a pool, and prints what clients need",
		Long: `Tests the way to a pool step by step (address, name, certificate, pool, key) and
says in words what is wrong. When it works, it prints the lines for Claude Code,
the SDKs and curl. It runs where the clients run, needs no configuration, and costs
nothing: the key is tested by counting the tokens of one word.

The key is read from --key-file, else from the environment (SHUNT_KEY,
ANTHROPIC_AUTH_TOKEN, ANTHROPIC_API_KEY), else asked for on the terminal. It is sent
only to what has shown itself to be shunt, and not printed without --show-key.

The exit code is 0 when the connection works, and 2 when it does not.`,
		Example: `  caddy shunt connect https://claude.example.com
  SHUNT_KEY=... caddy shunt connect https://claude.example.com --shell fish
  caddy shunt connect https://claude.example.com --key-file ~/.shunt-key --json`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().String("key-file", "", "The file with your key, - for the standard input")
	cmd.Flags().String("model", connectModel, "The model to ask for")
	cmd.Flags().String("shell", "", "For which shell the lines are: bash, fish or powershell (default: yours)")
	cmd.Flags().Bool("show-key", false, "Print the lines with your key in them")
	cmd.Flags().Bool("json", false, "Print JSON")
	// The flag is there: this cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("shell", cobra.FixedCompletions(shells, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(flags caddycmd.Flags) (int, error) {
		code, err := connect(context.Background(), flags)
		// Everything has been said when it is only the code that tells.
		cmd.SilenceErrors = err == nil
		return code, err
	})
	return cmd
}

// connectAnswer is what caddy shunt connect --json prints.
type connectAnswer struct {
	// URL is the base URL for clients, empty when what was given is none.
	URL string `json:"url"`
	// Works says that a request with the key would be served.
	Works  bool           `json:"works"`
	Checks []connectCheck `json:"checks"`
	// Lines are what to paste, by client; none unless the key is right.
	Lines map[string]string `json:"lines,omitempty"`
}

func connect(ctx context.Context, flags caddycmd.Flags) (int, error) {
	shell := flags.String("shell")
	if shell == "" {
		shell = shellHere(runtime.GOOS, os.Getenv("SHELL"))
	}
	if !slices.Contains(shells, shell) {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("--shell: %q is not known; expected one of %s", shell, strings.Join(shells, ", "))
	}
	key, err := findKey(flags.String("key-file"))
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	asJSON := flags.Bool("json")
	c := &connection{key: key, model: flags.String("model"), extraCAs: os.Getenv(extraCAsVariable), ended: func(*connectCheck) {}}
	if !asJSON {
		c.ended = func(check *connectCheck) { fmt.Println(check) }
	}
	c.test(ctx, flags.Arg(0))
	answer := connectAnswer{URL: c.base, Works: c.works, Checks: c.checks}
	var paste []snippet
	if c.keyRight {
		paste = snippets(shell, &c.client, flags.Bool("show-key"))
	}
	if asJSON {
		answer.Lines = linesOf(paste)
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(answer); err != nil {
			return caddy.ExitCodeFailedStartup, fmt.Errorf("printing the answer: %w", err)
		}
	} else if err := printSnippets(os.Stdout, paste); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if !c.works {
		return exitNoConnection, nil
	}
	return caddy.ExitCodeSuccess, nil
}

// shellHere is the shell that the user most likely has.
func shellHere(system, shell string) string {
	switch {
	case system == "windows":
		return shellPowershell
	case filepath.Base(shell) == shellFish:
		return shellFish
	}
	return shellBash
}

// clientKey is a person's key, and where it was found. An empty one is none.
type clientKey struct {
	secret, from string
}

// findKey finds the key; there need not be one.
func findKey(file string) (clientKey, error) {
	if file != "" {
		return keyFromFile(file)
	}
	for _, name := range keyVariables {
		// A credential of Anthropic's is there for something else.
		if value := strings.TrimSpace(os.Getenv(name)); value != "" && !ofAnthropic(value) {
			return checkedKey(value, name)
		}
	}
	if stdin := int(os.Stdin.Fd()); term.IsTerminal(stdin) {
		fmt.Fprint(os.Stderr, "Your key (it is not shown; empty for none): ")
		raw, err := term.ReadPassword(stdin)
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return clientKey{}, fmt.Errorf("reading the key from the terminal: %w", err)
		}
		return checkedKey(string(raw), "the terminal")
	}
	return clientKey{}, nil
}

func keyFromFile(file string) (clientKey, error) {
	var in io.Reader = os.Stdin
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // the file that the user names
		if err != nil {
			return clientKey{}, fmt.Errorf("--key-file: %w", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(bufio.NewReader(io.LimitReader(in, maxKeyFile+1)))
	switch {
	case err != nil:
		return clientKey{}, fmt.Errorf("--key-file: reading %s: %w", file, err)
	case len(raw) > maxKeyFile:
		return clientKey{}, fmt.Errorf("--key-file: %s is too large for a key", file)
	case strings.TrimSpace(string(raw)) == "":
		return clientKey{}, fmt.Errorf("--key-file: %s is empty", file)
	}
	return checkedKey(string(raw), file)
}

// checkedKey refuses what cannot be a key. It does not quote it.
func checkedKey(text, from string) (clientKey, error) {
	text = strings.TrimSpace(text)
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return clientKey{}, fmt.Errorf("the key from %s has a space or another character in it that no key has", from)
	}
	if ofAnthropic(text) {
		return clientKey{}, errors.New("the key from " + from + " is a credential of Anthropic's and was not sent; expected the key that the operator of the endpoint gave you")
	}
	return clientKey{secret: text, from: from}, nil
}

func ofAnthropic(key string) bool { return strings.HasPrefix(key, "sk-ant-") }
