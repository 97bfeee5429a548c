package shunt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/certmagic"
	"github.com/spf13/cobra"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "shunt",
		Short: "Manages the pools of Anthropic accounts",
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(importCommand())
		},
	})
}

func importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import <name> --file <.credentials.json>",
		Short: "Puts a login into the pool's storage",
		Long: `Puts a login that its owner made with Anthropic's own command line into the
pool's storage, for an account that is configured with oauth <name>.

Make the login in a configuration folder of its own, so that shunt is the only
one who refreshes it: two refreshers log each other out.

A Caddy that is running on the same storage takes the login up by itself.`,
		Example: `  CLAUDE_CONFIG_DIR=~/shunt-login claude   # sign in, then leave
  caddy shunt import ann --file ~/shunt-login/.credentials.json`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringP("file", "f", "", "The credentials file; - for standard input")
	cmd.Flags().StringP("config", "c", "", "Caddy's configuration file (default: the Caddyfile here)")
	cmd.Flags().StringP("adapter", "a", "", "The configuration's adapter")
	cmd.Flags().String("pool", "", "The pool, if the configuration has several with such an account")
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(runImport)
	return cmd
}

// maxCredentialsFile is far above what a credentials file holds.
const maxCredentialsFile = 1 << 20

func runImport(flags caddycmd.Flags) (int, error) {
	name := flags.Arg(0)
	if !nameSyntax.MatchString(name) {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("the name %q is not %s", name, nameRule)
	}
	record, err := readCredentials(flags.String("file"))
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	config, _, _, err := caddycmd.LoadConfig(flags.String("config"), flags.String("adapter"))
	if err != nil {
		return caddy.ExitCodeFailedStartup, fmt.Errorf("loading the configuration: %w", err)
	}
	place, err := findLogin(config, flags.String("pool"), name)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	storage, err := place.open(ctx)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	key := credentialKey(place.pool, place.name)
	if err := credential.Import(ctx, storage, key, record); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	fmt.Printf("The login %s is in the storage of pool %s, as %s.\n", place.name, place.pool, key)
	if !record.Expires.IsZero() {
		fmt.Printf("Its access token ends at %s; shunt refreshes it before.\n", record.Expires.Local().Format(time.RFC1123))
	}
	fmt.Println("Do not use the same login elsewhere: whoever refreshes it next logs the other one out.")
	return caddy.ExitCodeSuccess, nil
}

func readCredentials(file string) (credential.Record, error) {
	if file == "" {
		return credential.Record{}, errors.New("--file is required: the .credentials.json that Anthropic's own command line wrote")
	}
	in := io.Reader(os.Stdin)
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // the file that the operator names
		if err != nil {
			return credential.Record{}, fmt.Errorf("opening the credentials file: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxCredentialsFile))
	if err != nil {
		return credential.Record{}, fmt.Errorf("reading the credentials file: %w", err)
	}
	record, err := credential.ParseClaudeCode(data)
	if err != nil {
		return credential.Record{}, fmt.Errorf("reading %s: %w", file, err)
	}
	return record, nil
}

// loginPlace is where the configuration keeps a login.
type loginPlace struct {
	pool, name string
	encrypt    []string
	// StorageRaw is the storage module; nil for Caddy's default.
	StorageRaw json.RawMessage `json:"storage,omitempty" caddy:"namespace=caddy.storage inline_key=module"`
}

// findLogin looks up in a configuration which login an account's name, or the
// login's own, means.
func findLogin(config []byte, poolName, name string) (loginPlace, error) {
	var root struct {
		Storage json.RawMessage `json:"storage"`
		Apps    any             `json:"apps"`
	}
	if err := json.Unmarshal(config, &root); err != nil {
		return loginPlace{}, fmt.Errorf("reading the configuration: %w", err)
	}
	var found []loginPlace
	var known []string
	for _, h := range handlersIn(root.Apps) {
		if h.Pool == "" {
			h.Pool = DefaultPool
		}
		for _, a := range h.Accounts {
			if a.OAuth == nil {
				continue
			}
			stored := a.OAuth.Name
			if stored == "" {
				stored = a.Name
			}
			known = append(known, h.Pool+"/"+stored)
			if (a.Name != name && stored != name) || poolName != "" && poolName != h.Pool {
				continue
			}
			place := loginPlace{pool: h.Pool, name: stored, StorageRaw: h.StorageRaw, encrypt: h.Encrypt}
			if place.StorageRaw == nil {
				place.StorageRaw = root.Storage
			}
			if len(found) == 0 || found[0].pool != place.pool || found[0].name != place.name {
				found = append(found, place)
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return loginPlace{}, fmt.Errorf("several pools have a login %q; expected --pool and one of theirs: %s", name, strings.Join(known, ", "))
	case len(known) == 0:
		return loginPlace{}, errors.New("the configuration has no account with oauth; expected --config and a Caddyfile with shunt { account <name> { oauth } }")
	default:
		return loginPlace{}, fmt.Errorf("no account with oauth is called %q; the configuration has %s", name, strings.Join(known, ", "))
	}
}

// handlersIn finds the shunt handlers in a configuration's apps, however deep
// their routes are nested.
func handlersIn(node any) []Handler {
	var handlers []Handler
	switch v := node.(type) {
	case map[string]any:
		if v["handler"] == "shunt" {
			delete(v, "handler")
			var h Handler
			if raw, err := json.Marshal(v); err == nil && json.Unmarshal(raw, &h) == nil {
				return []Handler{h}
			}
		}
		for _, child := range v {
			handlers = append(handlers, handlersIn(child)...)
		}
	case []any:
		for _, child := range v {
			handlers = append(handlers, handlersIn(child)...)
		}
	}
	return handlers
}

// open opens the storage as the handler's logins use it.
func (p *loginPlace) open(ctx caddy.Context) (credential.Storage, error) {
	storage, err := p.openPlain(ctx)
	if err != nil {
		return nil, err
	}
	sealed, _, err := credentialStorage(storage, p.encrypt)
	return sealed, err
}

func (p *loginPlace) openPlain(ctx caddy.Context) (certmagic.Storage, error) {
	if p.StorageRaw == nil {
		return caddy.DefaultStorage, nil
	}
	mod, err := ctx.LoadModule(p, "StorageRaw")
	if err != nil {
		return nil, fmt.Errorf("loading the storage: %w", err)
	}
	converter, ok := mod.(caddy.StorageConverter)
	if !ok {
		return nil, fmt.Errorf("storage module %T is not a storage", mod)
	}
	storage, err := converter.CertMagicStorage()
	if err != nil {
		return nil, fmt.Errorf("opening the storage: %w", err)
	}
	return storage, nil
}
