package credential

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Source gives the credential of one account. Its methods are safe for
// concurrent use.
type Source interface {
	// Get returns a credential to send now. It fails with ErrLoginRequired when
	// only a person can help, with a *RetryError when trying later may, and with
	// ctx's error when ctx ends first.
	Get(ctx context.Context) (Credential, error)
	// Refresh returns a credential other than used, which the API has just
	// refused (401). When the current one already is another, it is returned
	// without a refresh, so any number of requests that failed together cost one.
	// Errors are those of Get, and ErrNotRefreshable.
	Refresh(ctx context.Context, used Credential) (Credential, error)
	// Proved tells that the API has just accepted the credential.
	Proved(used Credential)
	// Refreshable reports whether a 401 is worth a Refresh.
	Refreshable() bool
	// Status tells how the source is doing. It does not block and does no I/O.
	Status() Status
}

var (
	// ErrLoginRequired means that nothing but a new login helps: the refresh token
	// is spent, revoked or expired, or there is no readable record. It ends when
	// the stored record changes.
	ErrLoginRequired = errors.New("login required")
	// ErrNotRefreshable means that the credential is what it is: an API key or a
	// setup token.
	ErrNotRefreshable = errors.New("credential cannot be refreshed")
	// ErrClosed means that the source was closed and its access token has ended.
	ErrClosed = errors.New("credential source is closed")
)

// RetryError is a failure that may pass: the token server or the storage was
// out of order, and no usable access token is left meanwhile.
type RetryError struct {
	// Next is when the source itself will try again; asking before is no use.
	Next time.Time
	// Err says what went wrong.
	Err error
}

// Error tells what went wrong and when the next try is.
func (e *RetryError) Error() string {
	return fmt.Sprintf("%v; next try at %s", e.Err, e.Next.UTC().Format(time.RFC3339))
}

// Unwrap returns the cause.
func (e *RetryError) Unwrap() error { return e.Err }

// Status is a source's state for people and dashboards. It holds no secret. Times
// are zero when unknown.
type Status struct {
	Kind Kind `json:"kind"`
	// Version is the current credential's Version.
	Version string `json:"version,omitempty"`
	// Login names the login that the credential descends from: it stays the same
	// over refreshes and changes with a new import. It is the thing to tie
	// verdicts such as "dead" to.
	Login string `json:"login,omitempty"`
	// Expires is the end of the access token.
	Expires time.Time `json:"expires,omitzero"`
	// LoginExpires is the end of the whole chain of refreshes, about four weeks
	// after the login; no refresh moves it.
	// Of a setup token it is that token's own end.
	LoginExpires time.Time `json:"login_expires,omitzero"`
	// LoginExpiresGuessed says that nobody told LoginExpires: it is the usual life,
	// counted from when the login or token came here.
	LoginExpiresGuessed bool `json:"login_expires_guessed,omitempty"`
	// Imported is when the login was put into storage.
	Imported time.Time `json:"imported,omitzero"`
	// LastRefresh is when the access token was got by a refresh, here or by a peer.
	LastRefresh time.Time `json:"last_refresh,omitzero"`
	// NextTry is when a failed refresh is tried again.
	NextTry time.Time `json:"next_try,omitzero"`
	// LastError is what went wrong last, empty when all is well again.
	LastError string `json:"last_error,omitempty"`
	// LoginRequired says that no refresh can help, and LoginReason why. The access
	// token is served until it ends all the same.
	LoginRequired bool   `json:"login_required"`
	LoginReason   string `json:"login_reason,omitempty"`
	// Unsaved says that the newest token is in memory only, since storing it
	// failed: if the process ends now, the login is lost.
	Unsaved bool `json:"unsaved,omitempty"`
	// Follows is the file that the login is read from, for one that somebody else
	// refreshes.
	Follows       string   `json:"follows,omitempty"`
	Email         string   `json:"email,omitempty"`
	Organization  string   `json:"organization,omitempty"`
	AccountUUID   string   `json:"account_uuid,omitempty"`
	Subscription  string   `json:"subscription,omitempty"`
	RateLimitTier string   `json:"rate_limit_tier,omitempty"`
	Scopes        []string `json:"scopes,omitempty"`
}

// Renewed is when the credential was last new: by a refresh, or because somebody put
// the login in. It is zero when unknown.
func (s *Status) Renewed() time.Time {
	if s.Imported.After(s.LastRefresh) {
		return s.Imported
	}
	return s.LastRefresh
}

// EventType says what happened to a source.
type EventType string

// The types of events.
const (
	// EventRefreshed: a new access token was got and is in use.
	EventRefreshed EventType = "refreshed"
	// EventAdopted: a changed record was found in storage and is in use; a peer
	// refreshed, or somebody imported a login.
	EventAdopted EventType = "adopted"
	// EventRefreshFailed: a refresh failed in a way that may pass; Next is set.
	EventRefreshFailed EventType = "refresh_failed"
	// EventLoginRequired: nothing but a new login helps; Reason is set.
	EventLoginRequired EventType = "login_required"
	// EventStoreFailed: the new token could not be stored and is in memory only.
	EventStoreFailed EventType = "store_failed"
	// EventStored: a token that could not be stored at first now is.
	EventStored EventType = "stored"
)

// Event is something that an operator may want to know. It holds no secret.
type Event struct {
	Type EventType
	// Key is the storage key of the record, or the name that a source without a
	// record was given.
	Key string
	// Time is when it happened, by the source's clock.
	Time time.Time
	// Expires is the end of the access token in use, if there is one.
	Expires time.Time
	// Next is when the next try is, for failures.
	Next time.Time
	// Reason is why a login is required.
	Reason string
	// Err is what went wrong, for failures.
	Err error
}
