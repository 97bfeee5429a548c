// Package demo lets a Caddyfile start a fake upstream and a few simulated
// developers, so that shunt can be seen at work without any account. It is
// compiled into the development binary only.
package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App is a fake upstream on a loopback listener, with traffic and storms if they
// are asked for. Its credentials are made-up words, so they are plain
// configuration.
type App struct {
	// Listen is the loopback address of the fake upstream. Default: 127.0.0.1:8089.
	Listen string `json:"listen,omitempty"`
	// Speed shortens windows by this factor. Default: 300, which makes five
	// hours one minute and seven days 34 minutes.
	Speed float64 `json:"speed,omitempty"`
	// Capacity is what a Pro plan may spend in five hours, in cost units; the
	// larger plans have 5 and 20 times as much. Default: 80000.
	Capacity float64 `json:"capacity,omitempty"`
	// Pace is the pause between the events of a stream. Default: 20ms.
	Pace caddy.Duration `json:"pace,omitempty"`
	// Accounts are what the upstream knows. At least one is needed.
	Accounts []Account `json:"accounts,omitempty"`
	// Traffic is sent by simulated developers. Default: none.
	Traffic *Traffic `json:"traffic,omitempty"`
	// Storm is the time between troubles of single accounts. Default: never.
	Storm caddy.Duration `json:"storm,omitempty"`

	logger *zap.Logger
	fake   *fakeclaude.Server
	// worldKey is set while a reference to the fake is held.
	worldKey string
	port     *port
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// Account is an account of the fake upstream with exactly one kind of
// credential: an API key, a setup token or a login.
type Account struct {
	Name         string `json:"name"`
	Plan         string `json:"plan,omitempty"`
	APIKey       string `json:"api_key,omitempty"`
	SetupToken   string `json:"setup_token,omitempty"`
	AccessToken  string `json:"access_token,omitempty"`
	RefreshToken string `json:"refresh_token,omitempty"`
}

const (
	defaultListen   = "127.0.0.1:8089"
	defaultSpeed    = 300
	defaultCapacity = 80_000
	defaultPace     = 20 * time.Millisecond

	// weekly is the weekly capacity in five-hour ones: enough for about half an
	// hour of a demo, so that it is the short window that people see.
	weekly = 30
	// opusShare is how much of the largest plan's week may be of the largest models.
	opusShare = 0.6
)

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "fakeclaude", New: func() caddy.Module { return new(App) }}
}

// Provision completes the configuration and takes a reference to the fake: the
// one that runs when a reload leaves its world as it was, otherwise a new one.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	a.complete()
	if err := a.check(); err != nil {
		return err
	}
	return a.takeWorld()
}

func (a *App) complete() {
	if a.Listen == "" {
		a.Listen = defaultListen
	}
	if a.Speed == 0 {
		a.Speed = defaultSpeed
	}
	if a.Capacity == 0 {
		a.Capacity = defaultCapacity
	}
	if a.Pace == 0 {
		a.Pace = caddy.Duration(defaultPace)
	}
	if a.Traffic != nil {
		a.Traffic.complete()
	}
}

// check refuses what cannot work. It is part of Provision because a world is
// built from the options there.
func (a *App) check() error {
	host, _, err := net.SplitHostPort(a.Listen)
	if err != nil {
		return fmt.Errorf("fakeclaude: listen %q is not host:port: %w", a.Listen, err)
	}
	// The control endpoints ask for no credential.
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("fakeclaude: listen %q is not a loopback address", a.Listen)
	}
	if len(a.Accounts) == 0 {
		return errors.New("fakeclaude: at least one account is needed")
	}
	if a.Capacity < 0 || a.Storm < 0 {
		return errors.New("fakeclaude: capacity and storm cannot be negative")
	}
	options := a.options()
	if err := options.Validate(); err != nil {
		return err
	}
	if a.Traffic != nil {
		return a.Traffic.check()
	}
	return nil
}

func (a *App) options() fakeclaude.Options {
	options := fakeclaude.Options{
		Speed: a.Speed,
		Pace:  time.Duration(a.Pace),
		// A pool takes a cache for warm as long as the real one is; caches that
		// die with the speed of the windows would make a fool of it.
		CacheLife:    5 * time.Minute,
		KeepRequests: 1000,
	}
	for _, account := range a.Accounts {
		options.Accounts = append(options.Accounts, account.options(a.Capacity))
	}
	return options
}

func (c Account) options(capacity float64) fakeclaude.Account {
	account := fakeclaude.Account{
		Name: c.Name, APIKey: c.APIKey, AccessToken: c.SetupToken + c.AccessToken, RefreshToken: c.RefreshToken,
	}
	if !slices.Contains([]string{"", "api"}, c.Plan) {
		account.Plan = fakeclaude.Plan(c.Plan)
		account.FiveHour = capacity * planSize[c.Plan]
		account.Week = account.FiveHour * weekly
		if account.Plan == fakeclaude.Max20 {
			account.ModelWeek = map[string]float64{"opus": account.Week * opusShare}
		}
	}
	return account
}

var planSize = map[string]float64{"pro": 1, "max5": 5, "max20": 20}

// Start opens the port, or takes it over from the configuration that is being
// replaced, and sends people and storms out.
func (a *App) Start() error {
	p, err := takePort(a.Listen, a.fake)
	if err != nil {
		return err
	}
	a.port = p
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	a.logger.Info(fmt.Sprintf("a fake upstream with %d accounts listens on http://%s", len(a.Accounts), p.address()))
	if a.Traffic != nil {
		for _, person := range a.Traffic.People {
			for i := range person.Sessions {
				d := newDeveloper(a.Traffic, person, i, a.logger.Named("traffic"))
				a.running.Go(func() { d.work(ctx) })
			}
		}
	}
	if a.Storm > 0 {
		s := newStorm(a.fake, a.Accounts, time.Duration(a.Storm), a.logger.Named("storm"))
		a.running.Go(func() { s.blow(ctx) })
	}
	return nil
}

// Stop calls people and storms home and gives the port back.
func (a *App) Stop() error {
	if a.stop != nil {
		a.stop()
	}
	a.running.Wait()
	if a.port == nil {
		return nil
	}
	p := a.port
	a.port = nil
	return p.release(a.fake)
}

// Cleanup gives the fake back. It is called after a failed Provision too, when
// there may be nothing to give.
func (a *App) Cleanup() error {
	if a.worldKey == "" {
		return nil
	}
	key := a.worldKey
	a.worldKey = ""
	_, err := worlds.Delete(key)
	return err
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
