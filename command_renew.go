package shunt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// renewCommand is the child of renew.go. It is not for people.
func renewCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "renew",
		Short:  "Refreshes one login, as a running Caddy orders it on standard input",
		Hidden: true,
		Args:   cobra.NoArgs,
	}
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(runRenew)
	return cmd
}

func runRenew(caddycmd.Flags) (int, error) {
	// Whoever stops Caddy must not stop this: it ends by itself, soon. A broken pipe
	// means that Caddy is gone, which changes nothing.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	var order renewOrder
	if err := json.NewDecoder(io.LimitReader(os.Stdin, maxRenewal)).Decode(&order); err != nil {
		return caddy.ExitCodeFailedStartup, errors.New("the order on standard input is not whole; a running Caddy gives it")
	}
	tell := func(r credential.Renewal) error { return json.NewEncoder(os.Stdout).Encode(r) }
	config, err := order.open()
	if err != nil {
		return caddy.ExitCodeFailedStartup, errors.Join(err, tell(credential.Renewal{Error: "making the process of its own ready: " + err.Error(), Storage: true}))
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepAtMost)
	defer cancel()
	if err := credential.Renew(ctx, *config, order.Job, tell); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	return caddy.ExitCodeSuccess, nil
}

// open makes the storage and the transport that the order names. They live as long
// as the process.
func (o *renewOrder) open() (*credential.Config, error) {
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:      &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: new(bool)}},
		StorageRaw: o.Storage,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the storage: %w", err)
	}
	modules := renewConfig{TransportRaw: o.Transport}
	module, err := ctx.LoadModule(&modules, "TransportRaw")
	if err != nil {
		return nil, fmt.Errorf("loading the transport: %w", err)
	}
	transport, ok := module.(http.RoundTripper)
	if !ok {
		return nil, fmt.Errorf("transport module %T is not an http.RoundTripper", module)
	}
	storage, _, err := credentialStorage(ctx.Storage(), o.Encrypt)
	if err != nil {
		return nil, err
	}
	return &credential.Config{
		Storage: storage, Key: o.Key, TokenURL: o.TokenURL, ClientID: o.ClientID, Transport: transport,
	}, nil
}
