package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Exposure looks at who can reach what: the admin API, the pool without TLS, and a
// pool that serves nobody.
func (c *Config) Exposure(context.Context) []Finding {
	found := c.adminExposed()
	for _, s := range c.servers {
		open := slices.DeleteFunc(slices.Clone(s.Listen), loopback)
		for _, site := range s.sites {
			if f := c.siteExposed(s, site, open); f != nil {
				found = append(found, *f)
			}
		}
	}
	return orOK(found, "the admin API is of this machine only, and keys do not travel in clear")
}

func (c *Config) adminExposed() []Finding {
	listen := c.Admin.Listen
	if listen == "" {
		listen = caddy.DefaultAdminListen
	}
	if c.Admin.Disabled || loopback(listen) {
		return nil
	}
	return []Finding{{
		Level: Problem, Where: c.Source.Where("admin.listen", "admin"),
		Found:  fmt.Sprintf("the admin API listens at %s and asks for no key: who reaches it controls Caddy and reads its configuration", listen),
		Change: "Among the global options, with a socket that only Caddy's user may open:\nadmin unix//run/caddy/admin.sock\nor, where every user of the machine may control Caddy:\nadmin localhost:2019",
	}}
}

// siteExposed judges a site by the addresses of its server that others can reach.
func (c *Config) siteExposed(s *Server, site *Site, open []string) *Finding {
	if len(open) == 0 || site.local() {
		return nil
	}
	at := strings.Join(open, ", ")
	switch {
	case !site.hasKeys() && !site.asksBefore():
		return &Finding{
			Level: Warning, Where: c.Source.Where(site.path, "shunt"),
			Found:  fmt.Sprintf("pool %s is reached at %s and has no remote_key: whoever does not come straight from this machine gets 401", site.Pool, at),
			Change: "caddy shunt key <name>\nand put the line that it prints into the block shunt. Or let Caddy listen on this machine only:\nbind 127.0.0.1",
		}
	case s.secure(c, site):
		return nil
	}
	f := &Finding{
		Level: Problem, Where: c.Source.Where(site.path, "shunt"),
		Found:  fmt.Sprintf("the keys of clients of pool %s come to %s without TLS, for everybody on the way to read", site.Pool, at),
		Change: "Name the site by its host name, for which Caddy gets a certificate:\nclaude.example.com {\n\t...\n}\nor let it listen on this machine only:\nbind 127.0.0.1",
	}
	if len(s.TrustedProxies) > 0 {
		f.Level = Warning
		f.Found += "; unless only the proxies in trusted_proxies reach it, and they end TLS"
	}
	return f
}

// local reports whether the site has names of this machine only: clients elsewhere have
// no reason to use them.
func (s *Site) local() bool {
	return len(s.hosts) > 0 && !slices.ContainsFunc(s.hosts, func(host string) bool {
		ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
		return host != "localhost" && !strings.HasSuffix(host, ".localhost") && (err != nil || !ip.IsLoopback())
	})
}

// asksBefore reports whether something before the site may tell who a client is.
func (s *Site) asksBefore() bool {
	return slices.ContainsFunc(s.before, func(b step) bool {
		return b.Handler == "authentication" || b.Handler == "reverse_proxy"
	}) || s.User != ""
}

// secure reports whether clients of the site come over TLS, as automatic HTTPS
// decides it.
func (s *Server) secure(c *Config, site *Site) bool {
	if len(s.TLSPolicies) > 0 {
		return true
	}
	http, https := c.Apps.HTTP.HTTPPort, c.Apps.HTTP.HTTPSPort
	if http == 0 {
		http = 80
	}
	if https == 0 {
		https = 443
	}
	if s.AutoHTTPS != nil && s.AutoHTTPS.Disabled || s.onlyPort(http) {
		return false
	}
	if s.onlyPort(https) {
		return true
	}
	return slices.ContainsFunc(site.hosts, func(host string) bool {
		return s.AutoHTTPS == nil || !slices.Contains(s.AutoHTTPS.Skip, host)
	})
}

func (s *Server) onlyPort(port int) bool {
	for _, listen := range s.Listen {
		address, err := caddy.ParseNetworkAddress(listen)
		if err != nil || strconv.Itoa(int(address.StartPort)) != strconv.Itoa(port) {
			return false
		}
	}
	return len(s.Listen) > 0
}

// loopback reports whether an address is of this machine only. What is not known
// before Caddy runs is taken to be.
func loopback(listen string) bool {
	if strings.Contains(listen, "{") {
		return true
	}
	address, err := caddy.ParseNetworkAddress(listen)
	if err != nil || address.IsUnixNetwork() || address.IsFdNetwork() || address.Host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(address.Host, "[]"))
	return err == nil && ip.IsLoopback()
}
