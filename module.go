// Package shunt is a Caddy HTTP handler that serves a pool of Anthropic accounts
// as one endpoint: it picks an account for each request, tries another one when
// an account refuses, refreshes credentials, and says truly what happened.
//
// Importing the package is all that a Caddy needs to have it:
//
//	import _ "github.com/caddy-shunt/caddy-shunt"
//
// registers the directive shunt, the modules http.handlers.shunt,
// http.authentication.providers.shunt, admin.api.shunt and the policies in
// http.handlers.shunt.policies, the app shunt, which Caddy starts by itself, and the
// command caddy shunt. The fields of [Handler] are the settings; in a Caddyfile each
// is a word of the directive's block, as the example shows.
//
// What is decided without Caddy is in packages of its own: pool chooses an account,
// anthropic knows the wire, sse reads streams, credential keeps credentials good,
// ledger and history keep the books, people counts what each person may use.
// docs/architecture.md is the way through them.
package shunt

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Defaults of the handler's settings.
const (
	DefaultPool         = "default"
	DefaultUpstream     = "https://api.anthropic.com"
	DefaultHold         = 55 * time.Second
	DefaultQueue        = 1000
	DefaultMaxBody      = 32 << 20
	DefaultStallTimeout = 2 * time.Minute
	DefaultFirstEvent   = 10 * time.Second
	DefaultRetries      = 3
)

// Handler serves a pool of Anthropic accounts as one endpoint.
//
// It answers /v1/messages, /v1/messages/count_tokens, /v1/models, /v1/files and
// /v1/messages/batches from the pool. GET /health, /status, /explain, /usage, /history
// and /dashboard, and POST /use and /steer, it answers itself; every other request goes
// to the next handler.
//
// These placeholders are set on each request that the pool serves, just before the
// response head is written:
//
// Placeholder | Description
// ------------|-------------
// `{http.auth.user.id}` | The person, by the name of the key that was used
// `{http.shunt.account}` | The name of the account that answered
// `{http.shunt.attempts}` | How many times upstream was asked
// `{http.shunt.endpoint}` | The endpoint of the API
// `{http.shunt.model}` | The model that the client asked for
// `{http.shunt.pool}` | The name of the pool
// `{http.shunt.reason}` | Why that account: pinned, session, stay or policy
// `{http.shunt.request_id}` | The id that shunt gave the request
// `{http.shunt.session}` | The id of the conversation
// `{http.shunt.waited}` | The time spent in line, in seconds
//
// These are set when the request has ended, for logs (`log_append`):
//
// Placeholder | Description
// ------------|-------------
// `{http.shunt.cost_usd}` | What the tokens cost, in US dollars; not set for a model without a price
// `{http.shunt.error}` | Why the request was not served, empty if it was
// `{http.shunt.tokens_cache_read}` | Tokens of the prompt that were read from the cache
// `{http.shunt.tokens_cache_write}` | Tokens of the prompt that were written to the cache
// `{http.shunt.tokens_in}` | Tokens of the prompt that were neither
// `{http.shunt.tokens_out}` | Tokens of the answer
// `{http.shunt.verdict}` | What became of the request
type Handler struct {
	// The pool's name. Handlers that name the same pool share what is known of its
	// accounts, its sessions and its pin. Default: "default".
	Pool string `json:"pool,omitempty"`

	// The keys that clients may use. Without any, only a direct loopback client or
	// one that Caddy has authenticated before this handler is served.
	RemoteKeys []*RemoteKey `json:"remote_keys,omitempty"`

	// What people may use, whoever tells their names.
	People []*Person `json:"people,omitempty"`

	// A file of more keys and people: lines of remote_key and person, as in a
	// Caddyfile. It is read again when it changes, without a reload.
	KeysFile string `json:"keys_file,omitempty"`

	// The placeholder that tells the person's name when no key does: what other
	// authentication has found out before this handler. Default: {http.auth.user.id}.
	User string `json:"user,omitempty"`

	// The time zone in which days, weeks and months of budgets and usage begin, such
	// as Europe/Berlin. Default: UTC.
	TimeZone string `json:"time_zone,omitempty"`

	// The accounts. At least one is required.
	Accounts []*Account `json:"accounts,omitempty"`

	// The base URL of the API. Default: https://api.anthropic.com.
	Upstream string `json:"upstream,omitempty"`

	// How an account is chosen when neither a pin nor the session decides.
	// Default: balanced.
	PolicyRaw json.RawMessage `json:"policy,omitempty" caddy:"namespace=http.handlers.shunt.policies inline_key=policy"`

	// How long and with how many others a request waits when no account is open.
	Hold *Hold `json:"hold,omitempty"`

	// The largest request body in bytes. Default: 32 MiB, which is the API's own limit.
	MaxBody int64 `json:"max_body,omitempty"`

	// How long upstream may send nothing in the middle of an answer before the
	// transfer is aborted; also how long a streaming request waits for the answer's
	// head. Default: 2m.
	StallTimeout caddy.Duration `json:"stall_timeout,omitempty"`

	// How long a stream's first event may take before its head goes to the client
	// all the same, so that the client sees life. Until then an error that comes as
	// the first event is a failure that another account may make good. Default: 10s.
	FirstEventTimeout caddy.Duration `json:"first_event_timeout,omitempty"`

	// A file of prices, as JSON, that go before the built-in ones. It is read when the
	// configuration is loaded. Default: the list prices that this version knows.
	Prices string `json:"prices,omitempty"`

	// How many times upstream is asked for one request at most when it fails.
	// An account that says it is out does not count, since it is not asked again.
	// Default: 3.
	Retries int `json:"retries,omitempty"`

	// The account where files, batches and containers are looked for of which this
	// pool does not know who holds them, and where new ones are made. Default: what
	// was made through the pool is remembered, and anything else is refused.
	ResourceAccount string `json:"resource_account,omitempty"`

	// Show the account that answered to everybody, in X-Shunt-Account. By default
	// only people whose key is marked admin see it.
	ExposeAccount bool `json:"expose_account,omitempty"`

	// Whether metrics name people, with their requests, tokens and cost. Default: true.
	PersonMetrics *bool `json:"person_metrics,omitempty"`
	// Write an entry for each request of the pool to the logger
	// http.handlers.shunt.audit: who, what model, which account, tokens, cost, verdict;
	// never bodies or headers. Default: off.
	Audit bool `json:"audit,omitempty"`

	// The transport to upstream, as reverse_proxy's. Default: http.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// How the Caddy processes that share the storage share the pool's state.
	Instances *Instances `json:"instances,omitempty"`

	// Where credentials and state are kept. Default: Caddy's storage.
	StorageRaw json.RawMessage `json:"storage,omitempty" caddy:"namespace=caddy.storage inline_key=module"`

	// The keys that credentials in storage are encrypted with (AES-256-GCM), each as
	// {env.*} or {file.*}: 32 bytes as base64 or hexadecimal. The first encrypts, all
	// decrypt. Default: credentials are stored in clear.
	Encrypt []string `json:"encrypt,omitempty"`

	logger    *zap.Logger
	auditor   *zap.Logger // nil for no audit
	app       *App
	roster    *atomic.Pointer[roster]
	keysFile  *keysFile      // nil if there is none
	zone      *time.Location // of TimeZone
	prices    *anthropic.Prices
	now       func() time.Time
	policy    pool.Policy
	transport http.RoundTripper
	storage   certmagic.Storage
	// storageConfig and transportConfig are what those two were made from; the first
	// is nil when that is not known.
	storageConfig, transportConfig json.RawMessage

	// records is storage as credentials see it: sealed, if encrypt says so, with
	// the key of the ID sealedBy.
	records   credential.Storage
	sealedBy  string
	accounts  []*account // in the order of Accounts
	byKey     map[string]*account
	live      *livePool
	group     *pool.Group
	metrics   *metrics
	interval  time.Duration  // of Instances
	instance  string         // its name, empty for Caddy's instance id
	pingEvery time.Duration  // of requests that wait with keepalive
	cleanup   []func() error // gives back what Provision took, and nothing else
}

// Hold says how requests wait when no account is open.
type Hold struct {
	// How long a request waits at most. Default: 55s; -1 for not at all.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// How many requests of the pool may wait. Default: 1000.
	Queue int `json:"queue,omitempty"`
	// Open the event stream of a request that asked for one and has waited for 15 s,
	// with a ping, and send one every 15 s from then on. Whatever goes wrong after
	// that is told in an error event. Default: off.
	KeepAlive bool `json:"keepalive,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.shunt",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the handler up. It starts nothing and changes nothing outside:
// Caddy provisions a configuration also to validate it.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if h.Audit {
		h.auditor = h.logger.Named(auditLogger)
	}
	h.setDefaults()
	appModule, err := ctx.App("shunt")
	if err != nil {
		return fmt.Errorf("loading the shunt app: %w", err)
	}
	h.app = appModule.(*App)
	if h.metrics, err = registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	if h.zone, err = zoneOf(h.TimeZone); err != nil {
		return err
	}
	if h.prices, err = readPrices(h.Prices); err != nil {
		return err
	}
	if err := h.openRoster(); err != nil {
		return err
	}
	if h.interval, h.instance, err = h.Instances.resolved(); err != nil {
		return err
	}
	if err := h.loadModules(ctx); err != nil {
		return err
	}
	if h.records, h.sealedBy, err = credentialStorage(h.storage, h.Encrypt); err != nil {
		return err
	}
	if err := h.takePool(); err != nil {
		return err
	}
	if err := h.provisionAccounts(); err != nil {
		return err
	}
	members := make([]*pool.Member, len(h.accounts))
	for i, a := range h.accounts {
		members[i] = a.member
	}
	h.group = h.live.state.Group(members, h.policy)
	return h.app.register(h)
}

// defaultTransport is Caddy's, with as many connections kept for the next requests as a
// busy team has under way: its own default keeps 32 and dials the others anew each time. A
// larger buffer takes what a fast stream has ready in fewer reads and writes.
const defaultTransport = `{"protocol":"http","read_buffer_size":16384,"keep_alive":{"max_idle_conns_per_host":512}}`

func (h *Handler) loadModules(ctx caddy.Context) error {
	h.policy = pool.Policies[pool.DefaultPolicy]
	if h.PolicyRaw != nil {
		mod, err := ctx.LoadModule(h, "PolicyRaw")
		if err != nil {
			return fmt.Errorf("loading the policy: %w", err)
		}
		policy, ok := mod.(pool.Policy)
		if !ok {
			return fmt.Errorf("policy module %T is not a pool.Policy", mod)
		}
		h.policy = policy
	}

	if h.TransportRaw == nil {
		h.TransportRaw = json.RawMessage(defaultTransport)
	}
	h.transportConfig = h.TransportRaw
	mod, err := ctx.LoadModule(h, "TransportRaw")
	if err != nil {
		return fmt.Errorf("loading the transport: %w", err)
	}
	transport, ok := mod.(http.RoundTripper)
	if !ok {
		return fmt.Errorf("transport module %T is not an http.RoundTripper", mod)
	}
	h.transport = transport

	h.storage = ctx.Storage()
	h.storageConfig = h.StorageRaw
	if h.StorageRaw == nil {
		h.storageConfig = storageConfig(h.storage)
	} else {
		mod, err := ctx.LoadModule(h, "StorageRaw")
		if err != nil {
			return fmt.Errorf("loading the storage: %w", err)
		}
		converter, ok := mod.(caddy.StorageConverter)
		if !ok {
			return fmt.Errorf("storage module %T is not a storage", mod)
		}
		if h.storage, err = converter.CertMagicStorage(); err != nil {
			return fmt.Errorf("opening the storage: %w", err)
		}
	}
	return nil
}

// takePool takes a reference to the pool's state, which outlives this
// configuration.
func (h *Handler) takePool() error {
	value, _, err := livePools.LoadOrNew(h.Pool, func() (caddy.Destructor, error) {
		return newLivePool(h.Pool), nil
	})
	if err != nil {
		return fmt.Errorf("making pool %q: %w", h.Pool, err)
	}
	h.live = value.(*livePool)
	name := h.Pool
	h.cleanup = append(h.cleanup, func() error {
		_, err := livePools.Delete(name)
		return err
	})
	return nil
}

// Cleanup gives back the references that Provision took. Requests of this
// configuration may still be running: nothing that they use is closed.
func (h *Handler) Cleanup() error {
	var first error
	for _, give := range h.cleanup {
		if err := give(); err != nil && first == nil {
			first = err
		}
	}
	h.cleanup = nil
	return first
}

// account is what the handler knows of one configured account at run time.
type account struct {
	config *Account
	member *pool.Member
	source credential.Source
	login  *login  // nil unless the credential is an OAuth login
	keeper *keeper // nil if the source has nothing to do in the background
	base   upstreamBase
	// written is true when the credential stands in the configuration itself.
	written bool
	// organization is what upstream last said or the credential's record says; nil
	// while nobody has said it.
	organization atomic.Pointer[string]
}

var (
	_ caddy.Module                = (*Handler)(nil)
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
