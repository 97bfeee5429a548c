package credential

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// loginLife is how long a login lasts whatever is refreshed: about four weeks, as
// refresh_token_expires_in of the token server says.
const loginLife = 28 * 24 * time.Hour

// LoginEnd is when the login itself ends. When nobody has told, it is guessed from
// when the login was imported, which is at best an hour or so after it was made;
// zero when even that is unknown, or there is no refresh token that could end.
func (r Record) LoginEnd() (end time.Time, guessed bool) {
	switch {
	case !r.LoginExpires.IsZero():
		return r.LoginExpires, false
	case r.ImportedAt.IsZero(), r.refresh.empty():
		return time.Time{}, false
	}
	return r.ImportedAt.Add(loginLife).Truncate(time.Minute), true
}

// LoginEnd is when the login in use ends; see [Record.LoginEnd].
func (o *OAuth) LoginEnd() (end time.Time, guessed bool) {
	if l := o.cur.Load(); l != nil {
		return l.rec.LoginEnd()
	}
	return time.Time{}, false
}

// Follows returns the credentials file that the login in use is read from, empty
// for a login that is refreshed here.
func (o *OAuth) Follows() string {
	if l := o.cur.Load(); l != nil {
		return l.rec.Follow
	}
	return ""
}

// Describe reads the record at key and tells of it what a source's Status would,
// without a source; and when the login ends. An error means that storage could not
// be read.
func Describe(ctx context.Context, st Storage, key string, now time.Time) (s Status, end time.Time, guessed bool, err error) {
	s = Status{Kind: KindOAuth}
	raw, err := load(ctx, st, key)
	if errors.Is(err, fs.ErrNotExist) {
		s.LoginRequired, s.LoginReason = true, "no login is stored at "+key
		return s, end, false, nil
	}
	if err != nil {
		return s, end, false, err
	}
	rec, perr := ParseRecord(raw)
	if perr != nil {
		s.LoginRequired, s.LoginReason = true, fmt.Sprintf("the record at %s cannot be used (%v)", key, perr)
		return s, end, false, nil
	}
	s.Login, s.Expires, s.LoginExpires, s.LastRefresh = rec.LoginID, rec.Expires, rec.LoginExpires, rec.RefreshedAt
	s.Email, s.Organization, s.AccountUUID = rec.Email, rec.Organization, rec.AccountUUID
	s.Subscription, s.RateLimitTier = rec.Subscription, rec.RateLimitTier
	s.Scopes, s.Follows = slices.Clone(rec.Scopes), rec.Follow
	ended := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case rec.Follow != "":
	case ended(rec.LoginExpires):
		s.LoginRequired, s.LoginReason = true, "the login has ended"
	case rec.refresh.empty() && ended(rec.Expires):
		s.LoginRequired, s.LoginReason = true, "the record at "+key+" has no refresh token, and its access token has ended"
	}
	end, guessed = rec.LoginEnd()
	return s, end, guessed, nil
}
