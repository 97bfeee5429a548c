package shunt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// site is what a command works on: the running Caddy, or a configuration and its
// storage.
type site struct {
	// admin is nil when no Caddy is running, or it cannot be asked.
	admin *adminClient
	// running are its accounts.
	running []accountLine
	// config is the configuration that was given or found, file its name, and
	// explicit says that it was given. err is why one that was found cannot be used.
	config   []byte
	file     string
	explicit bool
	err      error
	// stopped says why storage is worked on, for people.
	stopped string
	pool    string
}

// findSite looks for the running Caddy at the address that is given, else that of
// the configuration, else the default one.
func findSite(ctx context.Context, flags caddycmd.Flags) (*site, error) {
	s := &site{explicit: flags.String("config") != "", pool: flags.String("pool")}
	s.config, s.file, _, s.err = caddycmd.LoadConfig(flags.String("config"), flags.String("adapter"))
	if s.err != nil && (s.explicit || flags.String("adapter") != "") {
		return nil, fmt.Errorf("loading the configuration: %w", s.err)
	}
	var settings struct {
		Admin caddy.AdminConfig `json:"admin"`
	}
	if len(s.config) > 0 && json.Unmarshal(s.config, &settings) == nil && settings.Admin.Disabled && flags.String("address") == "" {
		s.stopped = "the configuration turns the admin API off, so a running Caddy cannot be told"
		return s, nil
	}
	address, err := caddycmd.DetermineAdminAPIAddress(flags.String("address"), s.config, s.file, flags.String("adapter"))
	if err != nil {
		return nil, fmt.Errorf("looking for the admin address: %w", err)
	}
	if err := s.askAt(ctx, address); err != nil {
		return nil, err
	}
	return s, nil
}

// findRunning finds the running Caddy. That none runs is an error.
func findRunning(ctx context.Context, flags caddycmd.Flags) (*site, error) {
	var s *site
	var err error
	if address := flags.String("address"); address != "" && flags.String("config") == "" {
		// A configuration that lies here need not be looked at.
		s = &site{pool: flags.String("pool")}
		err = s.askAt(ctx, address)
	} else {
		s, err = findSite(ctx, flags)
	}
	if err != nil {
		return nil, err
	}
	if s.admin == nil {
		return nil, fmt.Errorf("%s; this command asks the Caddy that is running. Start it, or say where it is with --address or --config", s.stopped)
	}
	return s, nil
}

// askAt asks who listens at the address for its accounts. When nobody does, stopped says
// so.
func (s *site) askAt(ctx context.Context, address string) error {
	admin, err := newAdminClient(address)
	if err != nil {
		return err
	}
	var answer accountsAnswer
	err = admin.call(ctx, http.MethodGet, "/shunt/accounts", nil, nil, &answer)
	var refusal *adminError
	switch {
	case errors.Is(err, errNotRunning):
		s.stopped = fmt.Sprintf("no Caddy answers at %s", admin)
		return nil
	case errors.As(err, &refusal) && refusal.status == http.StatusNotFound && s.explicit:
		s.stopped = fmt.Sprintf("what runs at %s is not a Caddy with this version of shunt", admin)
		return nil
	case errors.As(err, &refusal) && refusal.status == http.StatusNotFound:
		return fmt.Errorf("what runs at %s is not a Caddy with this version of shunt; give the --address of the one that is, or name the --config whose storage is meant", admin)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w; run this as the user that runs Caddy", err)
	case err != nil:
		return err
	}
	s.admin, s.running = admin, answer.Accounts
	return nil
}

// runningLogin finds a login of the running Caddy. It is nil when the command is
// to work on storage: nothing is running, or what is running has no such login and
// another configuration was named.
func (s *site) runningLogin(name string) (*loginRef, error) {
	if s.admin == nil {
		return nil, nil
	}
	var refs []loginRef
	for i := range s.running {
		if l := &s.running[i]; l.Login != "" {
			refs = append(refs, loginRef{l.Pool, l.Account, l.Login})
		}
	}
	r, err := pickLogin(refs, fmt.Sprintf("the Caddy that runs at %s", s.admin), s.pool, name)
	if err == nil {
		return &r, nil
	}
	var named *loginError
	if errors.As(err, &named) && named.several {
		return nil, fmt.Errorf("%w (--pool)", err)
	}
	if s.explicit {
		s.stopped = fmt.Sprintf("the Caddy that runs at %s has no such login", s.admin)
		return nil, nil
	}
	return nil, fmt.Errorf("%w. To work on the storage of another configuration, name it with --config", err)
}

// storedLogin finds a login of the configuration.
func (s *site) storedLogin(name string) (configured, loginRef, error) {
	all, err := s.configured()
	if err != nil {
		return configured{}, loginRef{}, err
	}
	c, r, err := findLogin(all, s.pool, name)
	var named *loginError
	if errors.As(err, &named) && named.several {
		err = fmt.Errorf("%w (--pool)", err)
	}
	return c, r, err
}

// configured lists the accounts of the configuration.
func (s *site) configured() ([]configured, error) {
	if s.err != nil {
		return nil, fmt.Errorf("%s, and the configuration here cannot be loaded: %w", s.stopped, s.err)
	}
	if len(s.config) == 0 {
		return nil, fmt.Errorf("%s, and there is no configuration here; name it with --config, or the running Caddy with --address", s.stopped)
	}
	return configuredAccounts(s.config)
}

// storageOf says on which configuration's storage a command works.
func (s *site) storageOf() string {
	if s.file == "" {
		return "the configuration"
	}
	return s.file
}

// say writes a note for people, where it does not mix with the result.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
