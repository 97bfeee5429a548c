package shunt

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"

	"github.com/caddy-shunt/caddy-shunt/pool"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("shunt", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("shunt", httpcaddyfile.Before, "reverse_proxy")
}

func parseDirective(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h := new(Handler)
	if err := h.UnmarshalCaddyfile(helper.Dispenser); err != nil {
		return nil, err
	}
	return h, nil
}

// subdirectives are the words of the shunt block. Those in repeatable may come
// more than once.
var subdirectives = map[string]func(*Handler, *caddyfile.Dispenser) error{
	"account":             parseAccountInto,
	"audit":               parseAudit,
	"encrypt":             parseEncrypt,
	"expose_account":      parseExposeAccount,
	"first_event_timeout": parseFirstEventTimeout,
	"hold":                parseHold,
	"instances":           parseInstances,
	"keys":                parseKeysWord,
	"max_body":            parseMaxBody,
	"person":              parsePersonInto,
	"person_metrics":      parsePersonMetrics,
	"policy":              parsePolicy,
	"pool":                parsePool,
	"prices":              parsePrices,
	"remote_key":          parseRemoteKeyInto,
	"resource_account":    parseResourceAccount,
	"retries":             parseRetries,
	"stall_timeout":       parseStallTimeout,
	"storage":             parseStorage,
	"time_zone":           parseTimeZone,
	"transport":           parseTransport,
	"upstream":            parseUpstreamWord,
	"user":                parseUser,
}

var repeatable = map[string]bool{"account": true, "person": true, "remote_key": true}

// UnmarshalCaddyfile reads the directive:
//
//	shunt [<matcher>] {
//		pool <name>
//		remote_key [<name>] <secret|sha256:hex> {
//			admin
//			expires <date>
//			models <glob...>
//			max_concurrent <n>
//			rate <n>
//			budget <amount>usd|<n>tokens per day|week|month
//			weight <n>
//		}
//		person <name>|* {
//			admin
//			models, max_concurrent, rate, budget and weight as above
//		}
//		keys <file>
//		user <placeholder>
//		time_zone <name>
//		account <name> {
//			api_key <secret>
//			oauth [<storage name>] {
//				token_url <url>
//				client_id <id>
//			}
//			setup_token <secret> {
//				made <date>
//			}
//			federation {
//				rule            <federation rule id>
//				organization    <organization id>
//				service_account <service account id>
//				workspace       <workspace id>
//				token_file      <path>
//				token_env       <name>
//				token_url       <url>
//			}
//			owner <key name...> | *
//			weight <n>
//			priority <n>
//			models <glob...>
//			max_concurrent <n>
//			plan_only
//			budget <amount>usd|<n>tokens per day|week|month
//			upstream <url>
//		}
//		upstream <url>
//		policy <name> { ... }
//		hold <duration> | off {
//			queue <n>
//			keepalive
//		}
//		max_body <size>
//		stall_timeout <duration>
//		first_event_timeout <duration>
//		retries <n>
//		prices <file>
//		resource_account <name>
//		expose_account
//		person_metrics on | off
//		audit
//		instances {
//			interval <duration>
//			name <name>
//		}
//		transport <module> { ... }
//		storage <module> { ... }
//		encrypt <key> [<older key...>]
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("unexpected %q; expected shunt [<matcher>] { ... }", d.Val())
	}
	err := eachWord(d, "shunt", repeatable, wordsOf(subdirectives), func(word string) error {
		return subdirectives[word](h, d)
	})
	if err != nil {
		return err
	}
	if len(h.Accounts) == 0 {
		return d.Err("shunt: no account; expected at least one account <name> { ... }")
	}
	if h.ResourceAccount != "" && !h.hasAccount(h.ResourceAccount) {
		return d.Errf("resource_account: there is no account %q", h.ResourceAccount)
	}
	return nil
}

// eachWord walks the words of a block. Unknown words and words that come twice
// are errors that say what was expected.
func eachWord(d *caddyfile.Dispenser, block string, mayRepeat map[string]bool, known []string, each func(word string) error) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		if !containsWord(known, word) {
			return d.Errf("%s: unknown word %q; expected one of %s", block, word, strings.Join(known, ", "))
		}
		if seen[word] && !mayRepeat[word] {
			return d.Errf("%s: %s is already specified", block, word)
		}
		seen[word] = true
		if err := each(word); err != nil {
			return err
		}
	}
	return nil
}

// oneArg reads the only argument of a word.
func oneArg(d *caddyfile.Dispenser, word, expected string) (string, error) {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return "", d.Errf("%s: found %d arguments; expected %s %s", word, len(args), word, expected)
	}
	return args[0], nil
}

func noArg(d *caddyfile.Dispenser, word string) error {
	if d.NextArg() {
		return d.Errf("%s: unexpected %q; expected no argument", word, d.Val())
	}
	return nil
}

// number reads a word's only argument, an integer of at least least.
func number(d *caddyfile.Dispenser, word string, least int) (int, error) {
	arg, err := oneArg(d, word, "<n>")
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(arg)
	if err != nil || n < least {
		return 0, d.Errf("%s: %q; expected an integer of at least %d", word, arg, least)
	}
	return n, nil
}

func duration(d *caddyfile.Dispenser, word, arg string) (caddy.Duration, error) {
	t, err := caddy.ParseDuration(arg)
	if err != nil || t <= 0 {
		return 0, d.Errf("%s: %q; expected a duration such as 30s or 2m", word, arg)
	}
	return caddy.Duration(t), nil
}

// literalURL checks a URL that holds no placeholder.
func literalURL(d *caddyfile.Dispenser, word, arg string) error {
	if strings.Contains(arg, "{") {
		return nil
	}
	if _, err := parseUpstream(arg); err != nil {
		return d.Errf("%s: %v", word, err)
	}
	return nil
}

func parsePool(h *Handler, d *caddyfile.Dispenser) (err error) {
	if h.Pool, err = oneArg(d, "pool", "<name>"); err != nil {
		return err
	}
	if err := validPoolName(h.Pool); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func parseUpstreamWord(h *Handler, d *caddyfile.Dispenser) (err error) {
	if h.Upstream, err = oneArg(d, "upstream", "<url>"); err != nil {
		return err
	}
	return literalURL(d, "upstream", h.Upstream)
}

func parseHold(h *Handler, d *caddyfile.Dispenser) error {
	arg, err := oneArg(d, "hold", "<duration> or off")
	if err != nil {
		return err
	}
	h.Hold = new(Hold)
	if arg == "off" {
		h.Hold.Timeout = -1
	} else if h.Hold.Timeout, err = duration(d, "hold", arg); err != nil {
		return err
	}
	err = eachWord(d, "hold", nil, []string{"keepalive", "queue"}, func(word string) (err error) {
		if word == "keepalive" {
			h.Hold.KeepAlive = true
			return noArg(d, word)
		}
		h.Hold.Queue, err = number(d, word, 1)
		return err
	})
	if err != nil {
		return err
	}
	if err := h.Hold.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func parseMaxBody(h *Handler, d *caddyfile.Dispenser) error {
	arg, err := oneArg(d, "max_body", "<size>")
	if err != nil {
		return err
	}
	size, err := humanize.ParseBytes(arg)
	if err != nil || size == 0 || size > 1<<30 {
		return d.Errf("max_body: %q; expected a size such as 32MiB, at most 1GiB", arg)
	}
	h.MaxBody = int64(size)
	return nil
}

func parseStallTimeout(h *Handler, d *caddyfile.Dispenser) error {
	arg, err := oneArg(d, "stall_timeout", "<duration>")
	if err != nil {
		return err
	}
	h.StallTimeout, err = duration(d, "stall_timeout", arg)
	return err
}

func parseFirstEventTimeout(h *Handler, d *caddyfile.Dispenser) error {
	arg, err := oneArg(d, "first_event_timeout", "<duration>")
	if err != nil {
		return err
	}
	h.FirstEventTimeout, err = duration(d, "first_event_timeout", arg)
	return err
}

func parseRetries(h *Handler, d *caddyfile.Dispenser) (err error) {
	h.Retries, err = number(d, "retries", 1)
	return err
}

func parsePrices(h *Handler, d *caddyfile.Dispenser) (err error) {
	h.Prices, err = oneArg(d, "prices", "<file>")
	return nonEmpty(d, "prices", h.Prices, err)
}

func parseResourceAccount(h *Handler, d *caddyfile.Dispenser) (err error) {
	h.ResourceAccount, err = oneArg(d, "resource_account", "<account>")
	return err
}

func parseExposeAccount(h *Handler, d *caddyfile.Dispenser) error {
	h.ExposeAccount = true
	return noArg(d, "expose_account")
}

func parsePersonMetrics(h *Handler, d *caddyfile.Dispenser) error {
	arg, err := oneArg(d, "person_metrics", "on or off")
	if err != nil {
		return err
	}
	if arg != "on" && arg != "off" {
		return d.Errf("person_metrics: %q; expected on or off", arg)
	}
	on := arg == "on"
	h.PersonMetrics = &on
	return nil
}

func parseAudit(h *Handler, d *caddyfile.Dispenser) error {
	h.Audit = true
	return noArg(d, "audit")
}

func parsePolicy(h *Handler, d *caddyfile.Dispenser) (err error) {
	h.PolicyRaw, err = module(d, "policy", "http.handlers.shunt.policies", "policy", func(m any) bool {
		_, ok := m.(pool.Policy)
		return ok
	})
	return err
}

func parseTransport(h *Handler, d *caddyfile.Dispenser) (err error) {
	h.TransportRaw, err = module(d, "transport", "http.reverse_proxy.transport", "protocol", func(m any) bool {
		_, ok := m.(http.RoundTripper)
		return ok
	})
	return err
}

func parseStorage(h *Handler, d *caddyfile.Dispenser) (err error) {
	h.StorageRaw, err = module(d, "storage", "caddy.storage", "module", func(m any) bool {
		_, ok := m.(caddy.StorageConverter)
		return ok
	})
	return err
}

func parseEncrypt(h *Handler, d *caddyfile.Dispenser) error {
	h.Encrypt = d.RemainingArgs()
	if len(h.Encrypt) == 0 {
		return d.Err("encrypt: found no key; expected encrypt <key> [<older key...>]")
	}
	for i, place := range h.Encrypt {
		if err := checkKeyPlace(i+1, place); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

// module reads a guest module's segment. The module's own parser takes its
// arguments and its block.
func module(d *caddyfile.Dispenser, word, namespace, inlineKey string, fits func(any) bool) (json.RawMessage, error) {
	if !d.NextArg() {
		return nil, d.Errf("%s: found no module; expected %s <module>", word, word)
	}
	name := d.Val()
	if _, err := caddy.GetModule(namespace + "." + name); err != nil {
		return nil, d.Errf("%s: unknown module %q; expected one of %s", word, name, strings.Join(modulesOf(namespace), ", "))
	}
	unmarshaled, err := caddyfile.UnmarshalModule(d, namespace+"."+name)
	if err != nil {
		return nil, err
	}
	if !fits(unmarshaled) {
		return nil, d.Errf("%s: module %q cannot be used here", word, name)
	}
	return caddyconfig.JSONModuleObject(unmarshaled, inlineKey, name, nil), nil
}

func modulesOf(namespace string) []string {
	var names []string
	for _, info := range caddy.GetModules(namespace) {
		names = append(names, info.ID.Name())
	}
	return names
}

func containsWord(words []string, word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)

// holdDuration is how long a request may wait, none when holding is off.
func (h *Handler) holdDuration() time.Duration { return max(0, time.Duration(h.Hold.Timeout)) }
