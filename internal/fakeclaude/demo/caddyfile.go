package demo

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("fakeclaude", parseGlobal)
}

func parseGlobal(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		return nil, d.Err("fakeclaude is already there")
	}
	a := new(App)
	if err := a.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "fakeclaude", Value: caddyconfig.JSON(a, nil)}, nil
}

// UnmarshalCaddyfile reads the global option. Syntax:
//
//	fakeclaude {
//		listen   <host:port>
//		speed    <factor>
//		capacity <units>
//		pace     <duration>
//		storm    <interval>
//		account  <name> pro|max5|max20 setup_token <token>
//		account  <name> pro|max5|max20 login <access token> <refresh token>
//		account  <name> api api_key <key>
//		traffic  <url> {
//			pause  <duration>
//			person <name> <key> [<sessions>]
//		}
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if option != "account" && seen[option] {
			return d.Errf("%s is already there", option)
		}
		seen[option] = true
		if err := a.readOption(d, option); err != nil {
			return err
		}
	}
	if len(a.Accounts) == 0 {
		return d.Err("fakeclaude needs at least one account")
	}
	return nil
}

func (a *App) readOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "listen":
		return oneArg(d, &a.Listen)
	case "speed":
		return positiveNumber(d, &a.Speed)
	case "capacity":
		return positiveNumber(d, &a.Capacity)
	case "pace":
		return positiveDuration(d, &a.Pace)
	case "storm":
		return positiveDuration(d, &a.Storm)
	case "account":
		return a.readAccount(d)
	case "traffic":
		a.Traffic = new(Traffic)
		return a.Traffic.read(d)
	}
	return d.Errf("unknown option %q: listen, speed, capacity, pace, storm, account or traffic", option)
}

func oneArg(d *caddyfile.Dispenser, target *string) error {
	if !d.AllArgs(target) {
		return d.ArgErr()
	}
	return nil
}

func positiveNumber(d *caddyfile.Dispenser, target *float64) error {
	var text string
	if err := oneArg(d, &text); err != nil {
		return err
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || !(number > 0) {
		return d.Errf("%q is not a number above zero", text)
	}
	*target = number
	return nil
}

func positiveDuration(d *caddyfile.Dispenser, target *caddy.Duration) error {
	var text string
	if err := oneArg(d, &text); err != nil {
		return err
	}
	duration, err := caddy.ParseDuration(text)
	if err != nil || duration <= 0 {
		return d.Errf("%q is not a duration above zero, like 30s", text)
	}
	*target = caddy.Duration(duration)
	return nil
}

func (a *App) readAccount(d *caddyfile.Dispenser) error {
	words := d.RemainingArgs()
	if len(words) < 4 {
		return d.Err("expected: account <name> pro|max5|max20|api setup_token|login|api_key <credential...>")
	}
	account := Account{Name: words[0], Plan: words[1]}
	for _, other := range a.Accounts {
		if other.Name == account.Name {
			return d.Errf("account %s is already there", account.Name)
		}
	}
	if _, sized := planSize[account.Plan]; !sized && account.Plan != "api" {
		return d.Errf("unknown plan %q: pro, max5, max20 or api", account.Plan)
	}
	kind, secrets := words[2], words[3:]
	if (kind == "api_key") != (account.Plan == "api") {
		return d.Errf("account %s: an api_key goes with the plan api, and only with it", account.Name)
	}
	switch {
	case kind == "api_key" && len(secrets) == 1:
		account.APIKey = secrets[0]
	case kind == "setup_token" && len(secrets) == 1:
		account.SetupToken = secrets[0]
	case kind == "login" && len(secrets) == 2:
		account.AccessToken, account.RefreshToken = secrets[0], secrets[1]
	default:
		return d.Errf("account %s: expected api_key <key>, setup_token <token> or login <access token> <refresh token>", account.Name)
	}
	a.Accounts = append(a.Accounts, account)
	return nil
}

func (t *Traffic) read(d *caddyfile.Dispenser) error {
	if err := oneArg(d, &t.URL); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		switch option := d.Val(); option {
		case "pause":
			if t.Pause != 0 {
				return d.Err("pause is already there")
			}
			if err := positiveDuration(d, &t.Pause); err != nil {
				return err
			}
		case "person":
			if err := t.readPerson(d); err != nil {
				return err
			}
		default:
			return d.Errf("unknown option %q: pause or person", option)
		}
	}
	if len(t.People) == 0 {
		return d.Err("traffic needs at least one person")
	}
	return nil
}

func (t *Traffic) readPerson(d *caddyfile.Dispenser) error {
	words := d.RemainingArgs()
	if len(words) < 2 || len(words) > 3 {
		return d.Err("expected: person <name> <key> [<sessions>]")
	}
	person := Person{Name: words[0], Key: words[1]}
	if len(words) == 3 {
		sessions, err := strconv.Atoi(words[2])
		if err != nil || sessions < 1 || sessions > maxSessions {
			return d.Errf("%q is not a number of sessions from 1 to %d", words[2], maxSessions)
		}
		person.Sessions = sessions
	}
	t.People = append(t.People, person)
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*App)(nil)
