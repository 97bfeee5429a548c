package shunt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/internal/doctor"
)

// triesAtOnce bounds how many accounts are tried at once.
const triesAtOnce = 4

// transport makes the transport of a configuration that need not be running.
func (p *patient) transport(h *Handler) (_ http.RoundTripper, err error) {
	defer func() {
		if recover() != nil { // a context without a configuration has no apps
			err = doctor.ErrNotHere
		}
	}()
	config := struct {
		TransportRaw json.RawMessage `json:"transport" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`
	}{slices.Clone(h.TransportRaw)}
	if config.TransportRaw == nil {
		config.TransportRaw = json.RawMessage(defaultTransport)
	}
	p.loading.Lock()
	defer p.loading.Unlock()
	mod, err := p.caddy.LoadModule(&config, "TransportRaw")
	if err != nil && strings.Contains(err.Error(), caddy.ErrNotConfigured.Error()) { // Caddy does not wrap it
		return nil, doctor.ErrNotHere
	}
	if err != nil {
		return nil, fmt.Errorf("loading the transport: %w", err)
	}
	transport, ok := mod.(http.RoundTripper)
	if !ok {
		return nil, fmt.Errorf("transport module %T is not an http.RoundTripper", mod)
	}
	return transport, nil
}

// baseOf is where an account's requests go.
func baseOf(c *configured) (upstreamBase, error) {
	raw := c.config.Upstream
	if raw == "" {
		raw = c.handler.Upstream
	}
	if raw == "" {
		raw = DefaultUpstream
	}
	upstream, err := resolve("upstream", raw)
	if err != nil {
		return upstreamBase{}, err
	}
	return parseUpstream(upstream)
}

// upstreams are those of the accounts, each once for each transport.
func (p *patient) upstreams() *doctor.Upstreams {
	list := &doctor.Upstreams{Offline: p.offline}
	index := make(map[[2]string]int)
	for i := range p.accounts {
		c := &p.accounts[i]
		base, err := baseOf(c)
		if err != nil {
			continue // the check of the configuration tells
		}
		key := [2]string{base.String(), string(c.handler.TransportRaw)}
		n, ok := index[key]
		if !ok {
			n = len(list.List)
			index[key] = n
			u := doctor.Upstream{URL: base.String()}
			u.Transport, u.Err = p.transport(c.handler)
			list.List = append(list.List, u)
		}
		list.List[n].Accounts = append(list.List[n].Accounts, p.nameOf(c.pool, c.config.Name))
	}
	return list
}

// nameOf names an account for people: with its pool if there are several.
func (p *patient) nameOf(pool, account string) string {
	for i := range p.accounts {
		if p.accounts[i].pool != pool {
			return pool + "/" + account
		}
	}
	return account
}

// whereIs names an account and the line of the Caddyfile where it stands.
func (p *patient) whereIs(pool, account string) string {
	name := p.nameOf(pool, account)
	if at := p.parsed.Source.At("account", account); at != "" {
		return name + " (" + at + ")"
	}
	return name
}

// credentials tries each account's credential with a free call.
func (p *patient) credentials(ctx context.Context) []doctor.Finding {
	if p.offline {
		return []doctor.Finding{{Level: doctor.Skipped, Found: "--offline: no credential was tried"}}
	}
	p.tried = make([]checkAnswer, len(p.accounts))
	found := make([]doctor.Finding, len(p.accounts))
	slots := make(chan struct{}, triesAtOnce)
	var all sync.WaitGroup
	for i := range p.accounts {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			found[i] = p.try(ctx, &p.accounts[i], &p.tried[i])
		})
	}
	all.Wait()
	return found
}

// try tries one account, in the running Caddy if there is one.
func (p *patient) try(ctx context.Context, c *configured, answer *checkAnswer) doctor.Finding {
	where := p.whereIs(c.pool, c.config.Name)
	skipped := func(why string) doctor.Finding {
		return doctor.Finding{Level: doctor.Skipped, Where: where, Found: why}
	}
	if p.admin != nil {
		body := map[string]string{"pool": c.pool, "account": c.config.Name}
		err := p.admin.call(ctx, http.MethodPost, "/shunt/check", nil, body, answer)
		var refusal *adminError
		switch {
		case errors.As(err, &refusal) && refusal.status == http.StatusNotFound:
			return skipped("what runs cannot try credentials; it may be an older version")
		case err != nil:
			return skipped("it was not tried: " + err.Error())
		}
		f := answer.finding()
		f.Where = where
		return f
	}
	*answer = checkAnswer{Pool: c.pool, Account: c.config.Name, Kind: (&account{config: c.config}).kind()}
	kind, raw := credential.KindAPIKey, c.config.APIKey
	switch {
	case c.config.OAuth != nil:
		return skipped("Caddy does not run, and a login is not touched without it; see logins")
	case c.config.Federation != nil:
		return skipped("Caddy does not run, and no token is got without it")
	case c.config.SetupToken != "":
		kind, raw = credential.KindSetupToken, c.config.SetupToken
	}
	secret, err := resolve(string(kind), raw)
	if err != nil {
		return doctor.Finding{
			Level: doctor.Problem, Where: where, Found: err.Error(),
			Change: "Set the variable or write the file that is named, or run doctor with the environment of Caddy's service and as its user.",
		}
	}
	switch err := p.call(ctx, c, kind, secret, answer); {
	case errors.Is(err, doctor.ErrNotHere):
		return skipped(err.Error())
	case err != nil:
		return doctor.Finding{Level: doctor.Problem, Where: where, Found: err.Error(), Change: "Put the account right in the configuration."}
	}
	f := answer.finding()
	f.Where = where
	return f
}

func (p *patient) call(ctx context.Context, c *configured, kind credential.Kind, secret string, answer *checkAnswer) error {
	base, err := baseOf(c)
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	source, err := credential.Static(kind, secret)
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	cred, err := source.Get(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	transport, err := p.transport(c.handler)
	if err != nil {
		return err
	}
	answer.call(ctx, transport, base, cred, false)
	return nil
}

// finding judges what came of a free call.
func (c *checkAnswer) finding() doctor.Finding {
	f := doctor.Finding{Level: doctor.Problem, Found: c.Words}
	if c.Status != 0 {
		f.Found = fmt.Sprintf("%s (status %d, %d ms)", c.Words, c.Status, c.LatencyMS)
	}
	login := c.Kind == string(credential.KindOAuth) || c.Kind == string(credential.KindSetupToken)
	switch {
	case c.OK:
		f.Level = doctor.OK
	case c.Renews:
		f.Level, f.Found = doctor.Warning, f.Found+"; the next request gets another one"
		f.Change = "Run doctor again after a request. If it says the same: " + newCredential(c)
	case login && slices.Contains([]string{"scope", "permission", "caller"}, c.Verdict):
		f.Level, f.Found = doctor.Warning, f.Found+"; it may not list models, which need not keep it from serving"
	case c.Login:
		f.Change = newCredential(c)
	case c.Verdict == "no_credential":
		f.Change = "See what is said of it in logins, and Caddy's log."
	case c.Verdict == "spend_limit" || c.Verdict == "no_credit":
		f.Change = "Raise the limit or buy credit in the Console, or wait; until then other accounts serve."
	case c.Scope == "account" || c.Scope == "upstream" || c.Scope == "provider and model":
		f.Level, f.Change = doctor.Warning, "Wait; until then other accounts serve."
	case c.Scope == "network":
		f.Change = "See what is said of its upstream."
	default:
		f.Change = "Look in the Console at what the key's workspace may do."
	}
	return f
}

// newCredential says how an account of that kind gets another credential.
func newCredential(c *checkAnswer) string {
	switch credential.Kind(c.Kind) {
	case credential.KindOAuth:
		return "sign in again, with a folder of its own, and import the login:\ncaddy shunt import " + c.Account
	case credential.KindSetupToken:
		return "make another token with\nclaude setup-token\nand put it where setup_token reads it from."
	case credential.KindFederation:
		return "look at the federation's rule in the Console, and at the JWT that it is given."
	default:
		return "make another key in the Console, and put it where api_key reads it from."
	}
}

// logins tells of logins and tokens that are dead, unsaved, or near their end.
func (p *patient) logins(context.Context) []doctor.Finding {
	lines := p.running
	if p.admin == nil {
		var err error
		if lines, err = p.storedAccounts(); err != nil {
			return []doctor.Finding{{Level: doctor.Problem, Found: err.Error(), Change: "See what is said of the storage."}}
		}
	}
	var found []doctor.Finding
	alive, all := make(map[string]int), make(map[string]int)
	for i := range lines {
		l := &lines[i]
		if p.pool != "" && l.Pool != p.pool {
			continue
		}
		all[l.Pool]++
		f := l.loginFinding(time.Now())
		if l.State == stateOK || l.State == stateStored || l.State == stateConfigured || l.State == stateUnsaved {
			alive[l.Pool]++
		}
		if f != nil {
			f.Where = p.whereIs(l.Pool, l.Account)
			found = append(found, *f)
		}
	}
	for _, name := range poolsOf(lines) {
		if all[name] > 0 && alive[name] == 0 {
			found = append(found, doctor.Finding{
				Level: doctor.Problem, Where: "pool " + name, Found: "no account can serve now",
				Change: "See the accounts above; caddy shunt accounts shows them and how long they rest.",
			})
		}
	}
	if len(found) == 0 {
		return []doctor.Finding{{Level: doctor.OK, Found: "no login is needed, and none ends within a week"}}
	}
	return found
}

// loginFinding judges an account's credential by what is known of it; nil when
// there is nothing to say.
func (l *accountLine) loginFinding(now time.Time) *doctor.Finding {
	answer := checkAnswer{Account: l.Account, Kind: l.Kind}
	status := credential.Status{Kind: credential.Kind(l.Kind), LoginExpires: l.LoginExpires, LoginExpiresGuessed: l.LoginExpiresGuessed}
	switch ending := loginWarning(&status, now); {
	case l.State == stateLoginRequired:
		return &doctor.Finding{Level: doctor.Problem, Found: "a login is required: " + l.Reason, Change: capital(newCredential(&answer))}
	case l.State == stateUnsaved:
		return &doctor.Finding{Level: doctor.Problem, Found: l.Reason, Change: "Put the storage right before Caddy is stopped, or the login is lost."}
	case l.State == stateNoToken:
		return &doctor.Finding{Level: doctor.Warning, Found: "there is no token: " + l.Reason, Change: "It is tried again; see what is said of its upstream."}
	case ending != "" && !now.Before(l.LoginExpires):
		return &doctor.Finding{Level: doctor.Problem, Found: ending, Change: capital(newCredential(&answer))}
	case ending != "":
		return &doctor.Finding{Level: doctor.Warning, Found: ending, Change: capital(newCredential(&answer))}
	case l.State == stateBenched:
		return &doctor.Finding{Level: doctor.OK, Found: "it rests " + untilWords(l.Until, now) + ": " + l.Reason}
	}
	return nil
}

func untilWords(until, now time.Time) string {
	if until.IsZero() {
		return "for now"
	}
	return "until " + clock(until, now, false)
}
