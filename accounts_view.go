package shunt

import (
	"slices"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// The states of an account in an accountLine.
const (
	stateOK            = "ok"
	stateLoginRequired = "login_required"
	stateBenched       = "benched"
	stateUnsaved       = "unsaved"
	stateNoToken       = "no_token"
	// Of a configuration that is not running no more is known than that there is a
	// login, or another credential.
	stateStored     = "stored"
	stateConfigured = "configured"
)

// accountsAnswer is the answer of GET /shunt/accounts.
type accountsAnswer struct {
	Accounts []accountLine `json:"accounts"`
}

// accountLine is an account as GET /shunt/accounts and caddy shunt accounts tell
// it. It holds no secret. Times are left out when unknown.
type accountLine struct {
	Pool    string   `json:"pool"`
	Account string   `json:"account"`
	Kind    string   `json:"kind"`
	Owners  []string `json:"owners,omitempty"`

	// State is ok, login_required, benched or unsaved while it runs, else stored,
	// login_required or configured.
	State  string    `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Until  time.Time `json:"until,omitzero"`

	// The rest is of logins.
	Login               string    `json:"login,omitempty"`
	Record              string    `json:"record,omitempty"`
	ReadOnly            bool      `json:"read_only,omitempty"`
	Follows             string    `json:"follows,omitempty"`
	Email               string    `json:"email,omitempty"`
	Organization        string    `json:"organization,omitempty"`
	Plan                string    `json:"plan,omitempty"`
	TokenExpires        time.Time `json:"token_expires,omitzero"`
	LoginExpires        time.Time `json:"login_expires,omitzero"`
	LoginExpiresGuessed bool      `json:"login_expires_guessed,omitempty"`
	LastRefresh         time.Time `json:"last_refresh,omitzero"`
}

func newAccountLine(poolName string, c *Account) accountLine {
	l := accountLine{Pool: poolName, Account: c.Name, Kind: (&account{config: c}).kind(), Owners: c.Owners}
	if c.OAuth != nil {
		l.Login = c.storedName()
		l.Record = credentialKey(poolName, l.Login)
	}
	return l
}

// login fills in what the credential's status tells.
func (l *accountLine) login(s credential.Status) {
	l.Email, l.Organization, l.Plan = s.Email, s.Organization, s.Subscription
	l.TokenExpires, l.LastRefresh = s.Expires, s.LastRefresh
	l.LoginExpires, l.LoginExpiresGuessed = s.LoginExpires, s.LoginExpiresGuessed
	l.Follows, l.ReadOnly = s.Follows, s.Follows != ""
	if s.LoginRequired {
		l.State, l.Reason = stateLoginRequired, s.LoginReason
	}
}

// runningLine is an account of the configuration that serves.
func runningLine(h *Handler, a *account, v *pool.AccountView) accountLine {
	l := newAccountLine(h.Pool, a.config)
	status := a.source.Status()
	l.State = stateOK
	if status.Unsaved {
		l.State, l.Reason = stateUnsaved, "the newest token is in memory only: "+status.LastError
	}
	if b := v.Benched(); b != nil {
		l.State, l.Reason, l.Until = stateBenched, b.Reason, b.Until
		if b.Login {
			l.State, l.Until = stateLoginRequired, time.Time{}
		}
	}
	if lacksToken(&status, time.Now()) {
		l.State, l.Reason, l.Until = stateNoToken, status.LastError, status.NextTry
	}
	l.login(status)
	return l
}

// lacksToken reports whether there is nothing to send since getting a token has
// failed, which may pass.
func lacksToken(s *credential.Status, now time.Time) bool {
	none := s.Version == "" || !s.Expires.IsZero() && !now.Before(s.Expires)
	return s.LastError != "" && none && (s.Kind == credential.KindOAuth || s.Kind == credential.KindFederation)
}

// runningAccount is an account of the configuration that serves, as one of its
// handlers has it.
type runningAccount struct {
	h    *Handler
	a    *account
	view *pool.AccountView
}

// runningAccounts lists the accounts of all handlers by pool, each once; of one
// pool, if it is named.
func runningAccounts(poolName string) []runningAccount {
	var all []runningAccount
	seen := make(map[[2]string]bool)
	for _, h := range servingHandlers() {
		if poolName != "" && poolName != h.Pool {
			continue
		}
		v := h.group.View()
		for i, a := range h.accounts {
			id := [2]string{h.Pool, a.member.Key}
			if !seen[id] {
				seen[id] = true
				all = append(all, runningAccount{h, a, &v.Accounts[i]})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b runningAccount) int { return strings.Compare(a.h.Pool, b.h.Pool) })
	return all
}

// servingHandlers are all handlers of the configuration that serves.
func servingHandlers() []*Handler {
	running.Lock()
	defer running.Unlock()
	if len(running.apps) == 0 {
		return nil
	}
	app := running.apps[len(running.apps)-1]
	app.mu.Lock()
	defer app.mu.Unlock()
	return append([]*Handler(nil), app.handlers...)
}
