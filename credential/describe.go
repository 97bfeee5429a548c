package credential

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// Describe reads the record at key and tells of it what a source's Status would,
// without a source. An error means that storage could not be read.
func Describe(ctx context.Context, st Storage, key string, now time.Time) (s Status, err error) {
	s = Status{Kind: KindOAuth}
	raw, err := load(ctx, st, key)
	if errors.Is(err, fs.ErrNotExist) {
		s.LoginRequired, s.LoginReason = true, "no login is stored at "+key
		return s, nil
	}
	if err != nil {
		return s, err
	}
	rec, perr := ParseRecord(raw)
	if perr != nil {
		s.LoginRequired, s.LoginReason = true, fmt.Sprintf("the record at %s cannot be used (%v)", key, perr)
		return s, nil
	}
	s.Login, s.Expires, s.LastRefresh = rec.LoginID, rec.Expires, rec.RefreshedAt
	s.LoginExpires, s.LoginExpiresGuessed = rec.loginEnd()
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
	return s, nil
}
