package shunt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// maxLoginBody bounds the body of POST /shunt/login: a credentials file as a JSON
// text, where a character may take six.
const maxLoginBody = 6*maxCredentialsFile + 64<<10

// loginBody is the body of POST /shunt/login: one of Credentials and Follow.
type loginBody struct {
	// Credentials is the text of a credentials file.
	Credentials string `json:"credentials,omitempty"`
	// ClientID is the OAuth client of the login, if the file does not say.
	ClientID string `json:"client_id,omitempty"`
	// Follow is the absolute path of a file that somebody else refreshes.
	Follow string `json:"follow,omitempty"`
}

// loginAnswer says what was imported.
type loginAnswer struct {
	Pool          string    `json:"pool"`
	Login         string    `json:"login"`
	Record        string    `json:"record"`
	Replaced      bool      `json:"replaced"`
	ReplacedEmail string    `json:"replaced_email,omitempty"`
	SetAside      string    `json:"set_aside,omitempty"`
	Follows       string    `json:"follows,omitempty"`
	TokenExpires  time.Time `json:"token_expires,omitzero"`
	LoginExpires  time.Time `json:"login_expires,omitzero"`
	// Problem is why the account does not serve with the login all the same.
	Problem string `json:"problem,omitempty"`
}

func newLoginAnswer(ref loginRef, key string, rec credential.Record, was credential.Replaced) *loginAnswer {
	return &loginAnswer{
		Pool: ref.pool, Login: ref.login, Record: key, Replaced: was.Found, ReplacedEmail: was.Email, SetAside: was.Aside,
		Follows: rec.Follow, TokenExpires: rec.Expires, LoginExpires: rec.LoginExpires,
	}
}

// logoutAnswer says what was removed.
type logoutAnswer struct {
	Pool        string `json:"pool"`
	Login       string `json:"login"`
	Record      string `json:"record"`
	Email       string `json:"email,omitempty"`
	SetAside    string `json:"set_aside,omitempty"`
	Follows     string `json:"follows,omitempty"`
	Revoked     bool   `json:"revoked"`
	RevokeError string `json:"revoke_error,omitempty"`
}

func newLogoutAnswer(ref loginRef, key string, gone credential.Removed) *logoutAnswer {
	a := &logoutAnswer{
		Pool: ref.pool, Login: ref.login, Record: key, Email: gone.Email, SetAside: gone.Aside, Follows: gone.Follow, Revoked: gone.Revoked,
	}
	if gone.RevokeError != nil {
		a.RevokeError = gone.RevokeError.Error()
	}
	return a
}

// adminAccounts answers with the accounts of every pool, or of the one that ?pool=
// names.
func adminAccounts(w http.ResponseWriter, r *http.Request) error {
	if err := adminTakes(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	name := r.URL.Query().Get("pool")
	if name != "" {
		if _, err := poolNamed(name); err != nil {
			return err
		}
	}
	answer := accountsAnswer{[]accountLine{}}
	for _, a := range runningAccounts(name) {
		answer.Accounts = append(answer.Accounts, runningLine(a.h, a.a, a.view))
	}
	return writeJSON(w, http.StatusOK, answer)
}

// adminLogin puts a login in, or takes it out.
func adminLogin(w http.ResponseWriter, r *http.Request) error {
	if err := adminTakes(w, r, http.MethodPost, http.MethodDelete); err != nil {
		return err
	}
	if r.Method == http.MethodDelete {
		return adminLogout(w, r)
	}
	return adminImport(w, r)
}

func adminImport(w http.ResponseWriter, r *http.Request) error {
	l, err := loginNamed(r)
	if err != nil {
		return err
	}
	rec, err := readLogin(w, r)
	if err != nil {
		return err
	}
	was, err := credential.Replace(r.Context(), l.storage(), l.key, rec)
	switch {
	case errors.Is(err, credential.ErrSpent):
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	case err != nil:
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: err}
	}
	l.logger().Info("login imported", logPool(l.ref.pool), zap.String("record", l.key), zap.Bool("read_only", rec.Follow != ""), zap.Bool("replaced", was.Found))
	answer := newLoginAnswer(l.ref, l.key, rec, was)
	if err := l.each(r.Context(), (*credential.OAuth).Reload); err != nil {
		answer.Problem = err.Error()
	} else {
		l.revive()
	}
	return writeJSON(w, http.StatusOK, answer)
}

func adminLogout(w http.ResponseWriter, r *http.Request) error {
	l, err := loginNamed(r)
	if err != nil {
		return err
	}
	revoke := true
	if text := r.URL.Query().Get("revoke"); text != "" {
		if revoke, err = strconv.ParseBool(text); err != nil {
			return badLogin("revoke: expected true or false")
		}
	}
	var end func(context.Context, credential.Record) error
	if revoke {
		end = l.revoker().Revoke
	}
	gone, err := credential.Remove(r.Context(), l.storage(), l.key, end)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: err}
	}
	// Also when storage has none: the sources may have one that could not be stored.
	forgotten := l.each(r.Context(), (*credential.OAuth).Forget)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("account: no login is stored at %s", l.key)}
	}
	if forgotten == nil {
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: fmt.Errorf("a login was stored at %s again meanwhile; repeat the request to remove that one too", l.key)}
	}
	if !errors.Is(forgotten, credential.ErrLoginRequired) {
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: fmt.Errorf("the login is removed from storage, but may be in use until its access token ends: %w", forgotten)}
	}
	l.logger().Info("login removed", logPool(l.ref.pool), zap.String("record", l.key), zap.Bool("revoked", gone.Revoked))
	return writeJSON(w, http.StatusOK, newLogoutAnswer(l.ref, l.key, gone))
}

func badLogin(message string) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New(message)}
}

// readLogin reads the body of POST /shunt/login.
func readLogin(w http.ResponseWriter, r *http.Request) (rec credential.Record, err error) {
	const help = `expected {"credentials": "<text of the file>"} or {"follow": "<absolute path>"}`
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLoginBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return rec, caddy.APIError{HTTPStatus: http.StatusRequestEntityTooLarge, Err: errors.New("the body is too large for a credentials file")}
	}
	if err != nil {
		return rec, badLogin("the body could not be read")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return rec, badLogin("the body is not a JSON object; " + help)
	}
	var body loginBody
	for _, f := range []struct {
		name  string
		value *string
	}{{"credentials", &body.Credentials}, {"client_id", &body.ClientID}, {"follow", &body.Follow}} {
		value, ok := fields[f.name]
		delete(fields, f.name)
		// What does not fit is not quoted: it may hold a token.
		if ok && (bytes.Equal(value, []byte("null")) || json.Unmarshal(value, f.value) != nil || *f.value == "") {
			return rec, badLogin(f.name + ": not a text, or empty; " + help)
		}
	}
	switch {
	case len(fields) > 0:
		return rec, badLogin("the body has a field that is not known; " + help)
	case (body.Credentials == "") == (body.Follow == ""):
		return rec, badLogin("credentials, follow: just one is needed; " + help)
	case body.Follow != "":
		rec, err = credential.Following(body.Follow)
		err = named("follow", err)
	default:
		rec, err = credential.ParseFile([]byte(body.Credentials), body.ClientID)
		err = named("credentials", err)
	}
	return rec, err
}

func named(field string, err error) error {
	if err == nil {
		return nil
	}
	return badLogin(field + ": " + err.Error())
}

// runningLogin is a login of the configuration that serves, with all accounts that
// use it.
type runningLogin struct {
	ref  loginRef
	key  string
	uses []runningAccount
}

// loginNamed finds the login that ?pool= and ?account= name.
func loginNamed(r *http.Request) (*runningLogin, error) {
	q := r.URL.Query()
	name := q.Get("account")
	if name == "" {
		return nil, badLogin("account: missing; expected ?account= and the name of an account with oauth, or of its login")
	}
	all := runningAccounts("")
	var refs []loginRef
	for _, a := range all {
		if a.a.login != nil {
			refs = append(refs, loginRef{a.h.Pool, a.a.config.Name, a.a.config.storedName()})
		}
	}
	ref, err := pickLogin(refs, "the configuration", q.Get("pool"), name)
	if err != nil {
		status := http.StatusNotFound
		var which *loginError
		if errors.As(err, &which) && which.several {
			status = http.StatusBadRequest
		}
		return nil, caddy.APIError{HTTPStatus: status, Err: fmt.Errorf("account: %w", err)}
	}
	l := &runningLogin{ref: ref, key: credentialKey(ref.pool, ref.login)}
	for _, a := range all {
		if a.a.login != nil && a.a.login.key == l.key {
			l.uses = append(l.uses, a)
		}
	}
	return l, nil
}

func (l *runningLogin) storage() credential.Storage { return loginStorage{&l.uses[0].a.login.keeper} }

func (l *runningLogin) logger() *zap.Logger { return l.uses[0].h.logger }

func (l *runningLogin) revoker() credential.Revoker {
	a := l.uses[0].a
	return credential.Revoker{TokenURL: a.login.tokenURL, ClientID: a.config.OAuth.ClientID, Transport: loginTransport{&a.login.keeper}}
}

// each does something with every source of the login once.
func (l *runningLogin) each(ctx context.Context, do func(*credential.OAuth, context.Context) error) error {
	var failed []error
	done := make(map[*login]bool)
	for _, u := range l.uses {
		if !done[u.a.login] {
			done[u.a.login] = true
			if err := do(u.a.login.source, ctx); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}

// revive ends what the accounts were benched for with the login before.
func (l *runningLogin) revive() {
	for _, u := range l.uses {
		u.h.live.state.Revive(u.a.member.Key)
	}
}
