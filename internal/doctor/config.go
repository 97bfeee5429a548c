package doctor

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
)

// Config is a configuration of Caddy as far as it concerns its shunt handlers.
type Config struct {
	Admin struct {
		Disabled bool   `json:"disabled"`
		Listen   string `json:"listen"`
	} `json:"admin"`
	Logging struct {
		Logs map[string]*Log `json:"logs"`
	} `json:"logging"`
	Apps struct {
		HTTP struct {
			HTTPPort    int                `json:"http_port"`
			HTTPSPort   int                `json:"https_port"`
			GracePeriod caddy.Duration     `json:"grace_period"`
			Servers     map[string]*Server `json:"servers"`
		} `json:"http"`
	} `json:"apps"`

	// Source is the Caddyfile that it was made from; nil when that is not known.
	Source *Source `json:"-"`

	servers []*Server // those with a shunt handler, by name
}

// Server is an HTTP server of a configuration.
type Server struct {
	Listen       []string       `json:"listen"`
	ReadTimeout  caddy.Duration `json:"read_timeout"`
	WriteTimeout caddy.Duration `json:"write_timeout"`
	WriteMinRate int64          `json:"write_min_rate"`
	Routes       []*route       `json:"routes"`
	NamedRoutes  map[string]*route
	TLSPolicies  []json.RawMessage `json:"tls_connection_policies"`
	AutoHTTPS    *struct {
		Disabled bool     `json:"disable"`
		Skip     []string `json:"skip"`
	} `json:"automatic_https"`
	TrustedProxies json.RawMessage `json:"trusted_proxies"`
	Logs           *ServerLogs     `json:"logs"`

	name  string
	path  string
	sites []*Site
}

// UnmarshalJSON also reads the named routes, which share their form with others.
func (s *Server) UnmarshalJSON(raw []byte) error {
	type plain Server
	if err := json.Unmarshal(raw, (*plain)(s)); err != nil {
		return err
	}
	var named struct {
		Routes map[string]*route `json:"named_routes"`
	}
	err := json.Unmarshal(raw, &named)
	s.NamedRoutes = named.Routes
	return err
}

// Site is a shunt handler and the way to it.
type Site struct {
	Pool       string            `json:"pool"`
	RemoteKeys []json.RawMessage `json:"remote_keys"`
	KeysFile   string            `json:"keys_file"`
	User       string            `json:"user"`
	MaxBody    int64             `json:"max_body"`

	path  string
	hosts []string // of the matchers on the way; none for any host
	// before are the handlers that a request to the pool may pass first, in their
	// order.
	before []step
}

// hasKeys reports whether people come with keys of this site's own.
func (s *Site) hasKeys() bool { return len(s.RemoteKeys) > 0 || s.KeysFile != "" }

// Read reads a configuration. Only handlers of the pool are looked at if one is
// named.
func Read(raw []byte, pool string) (*Config, error) {
	c := new(Config)
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Apps.HTTP.Servers)) {
		s := c.Apps.HTTP.Servers[name]
		if s == nil {
			continue
		}
		s.name, s.path = name, "apps.http.servers."+name
		w := walker{server: s, pool: pool}
		w.routes(s.Routes, s.path+".routes", nil, nil)
		if len(s.sites) > 0 {
			c.servers = append(c.servers, s)
		}
	}
	return c, nil
}

// Sites counts the shunt handlers.
func (c *Config) Sites() (n int) {
	for _, s := range c.servers {
		n += len(s.sites)
	}
	return n
}

// eachStep calls do for each handler before a site, each once however many sites
// come after it.
func (c *Config) eachStep(handler string, do func(*Server, *Site, step)) {
	seen := make(map[string]bool)
	for _, s := range c.servers {
		for _, site := range s.sites {
			for _, b := range site.before {
				if b.Handler == handler && !seen[b.path] {
					seen[b.path] = true
					do(s, site, b)
				}
			}
		}
	}
}
