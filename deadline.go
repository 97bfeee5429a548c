package shunt

import (
	"fmt"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

const day = 24 * time.Hour

// warnBefore are the times before the end of a login at which the operator is
// told, and the end itself.
var warnBefore = []time.Duration{7 * day, 2 * day, 0}

// endNear is how many of warnBefore have come.
func endNear(expires, now time.Time) (stage int) {
	if expires.IsZero() {
		return 0
	}
	for stage < len(warnBefore) && expires.Sub(now) <= warnBefore[stage] {
		stage++
	}
	return stage
}

// daysLeft counts begun days until the end; 0 when it has passed.
func daysLeft(expires, now time.Time) int {
	return max(0, int(math.Ceil(float64(expires.Sub(now))/float64(day))))
}

// loginWarning says in words that a login's own end is near or has passed, whatever
// is refreshed; empty while it is far.
func loginWarning(s *credential.Status, now time.Time) string {
	if endNear(s.LoginExpires, now) == 0 {
		return ""
	}
	what, help := "the login", "sign in again and import the login"
	if s.Kind == credential.KindSetupToken {
		what, help = "the setup token", "make a new one with claude setup-token"
	}
	if s.LoginExpiresGuessed {
		what += " probably"
	}
	date := s.LoginExpires.UTC().Format(time.DateOnly)
	switch days := daysLeft(s.LoginExpires, now); days {
	case 0:
		return fmt.Sprintf("%s ended on %s: %s", what, date, help)
	case 1:
		return fmt.Sprintf("%s ends within a day, on %s: %s", what, date, help)
	default:
		return fmt.Sprintf("%s ends in %d days, on %s: %s", what, days, date, help)
	}
}

// accountRef names an account of a pool.
type accountRef struct{ pool, account string }

// deadlines remembers of which ends the operator was told, over reloads, so that
// each is told once. It is written by the newest app only.
type deadlines struct {
	mu   sync.Mutex
	told map[accountRef]warned
}

type warned struct {
	login   string
	expires time.Time
	stage   int
}

var loginDeadlines deadlines

// news reports whether the account's login has come to a stage of warnBefore that
// was not told of yet, and takes note of it.
func (d *deadlines) news(ref accountRef, s *credential.Status, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := d.told[ref]
	// An end that refreshes move by seconds is the same one.
	if last.login != s.Login || s.LoginExpires.Sub(last.expires) > day {
		last = warned{login: s.Login, expires: s.LoginExpires}
	}
	stage := endNear(s.LoginExpires, now)
	fresh := stage > last.stage
	last.stage = max(stage, last.stage)
	if d.told == nil {
		d.told = make(map[accountRef]warned)
	}
	d.told[ref] = last
	return fresh
}

// watchLogin tells once for each stage that the end of an account's login is near.
func (h *Handler) watchLogin(a *account, now time.Time) {
	s := a.source.Status()
	if s.LoginExpires.IsZero() || !loginDeadlines.news(accountRef{h.Pool, a.member.Name}, &s, now) {
		return
	}
	days := daysLeft(s.LoginExpires, now)
	log := h.logger.Warn
	if days == 0 {
		log = h.logger.Error
	}
	log(loginWarning(&s, now), logPool(h.Pool), logAccount(a), zap.Time("expires", s.LoginExpires), zap.Int("days", days), zap.Bool("guessed", s.LoginExpiresGuessed))
	h.emit(eventLoginExpiring, map[string]any{
		"account": a.member.Name, "kind": string(s.Kind), "expires": rfc3339(s.LoginExpires), "days": days, "guessed": s.LoginExpiresGuessed,
	})
}
