package shunt

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

func init() {
	for name := range pool.Policies {
		caddy.RegisterModule(builtinPolicy{name: name})
	}
}

// builtinPolicy makes a policy of package pool a guest module in
// http.handlers.shunt.policies. Other modules of that namespace need only be a
// pool.Policy.
type builtinPolicy struct {
	pool.Policy `json:"-"`
	name        string
}

// CaddyModule returns the Caddy module information.
func (p builtinPolicy) CaddyModule() caddy.ModuleInfo {
	name := p.name
	return caddy.ModuleInfo{
		ID:  caddy.ModuleID("http.handlers.shunt.policies." + name),
		New: func() caddy.Module { return &builtinPolicy{Policy: pool.Policies[name], name: name} },
	}
}

// UnmarshalCaddyfile takes no arguments.
func (p *builtinPolicy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		if d.NextArg() {
			return d.ArgErr()
		}
		if d.NextBlock(d.Nesting()) {
			return d.Errf("policy %s takes no settings, found %q", p.name, d.Val())
		}
	}
	return nil
}

var _ caddyfile.Unmarshaler = (*builtinPolicy)(nil)
