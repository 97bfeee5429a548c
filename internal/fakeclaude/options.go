package fakeclaude

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// Options say what world the fake upstream pretends to be. The zero value of
// every field but Accounts is usable.
type Options struct {
	// Accounts are the organisations and logins that exist.
	Accounts []Account

	// Clock gives the time for windows, buckets, token lives and caches.
	// Default: time.Now. Pauses and hangs always use real timers.
	Clock func() time.Time

	// Speed shortens the five-hour and seven-day windows, the life of access
	// tokens and the life of caches by this factor (default 1). Resets and
	// lives are told in true seconds of Clock, so that a client that believes
	// them is right. The minute of the classic limits stays a minute.
	Speed float64

	// CacheLife is the life of a five-minute cache entry; a one-hour entry lives
	// twelve times as long. Default: five minutes divided by Speed.
	CacheLife time.Duration

	// LoginLife is how long a login can be refreshed, in time of Clock. Default: 28
	// days divided by Speed.
	LoginLife time.Duration

	// CacheMinimum applies the published smallest cacheable prompt of each
	// model. Off by default: tests then need no long prompts.
	CacheMinimum bool

	// Seed changes content, ids and the dice of faults. Equal seeds and equal
	// requests in equal order give equal answers.
	Seed uint64

	// Pace is the pause before each event of a stream.
	Pace time.Duration

	// OutputTokens is the least number of text tokens an answer has. Default:
	// between about 15 and 200, by the request body.
	OutputTokens int

	// KeepBodies keeps the bytes of request bodies in Requests.
	KeepBodies bool

	// KeepRequests is how many of the latest requests are remembered
	// (default 10000, negative: none).
	KeepRequests int

	// HangLimit bounds every misbehaviour that waits for the client to leave
	// (default five minutes).
	HangLimit time.Duration
}

// Plan is the size of a subscription.
type Plan string

// The plans. A subscription without a plan has the size of Pro.
const (
	Pro   Plan = "pro"
	Max5  Plan = "max5"
	Max20 Plan = "max20"
)

// ProFiveHour is what a Pro subscription may spend in five hours, in cost units.
const ProFiveHour = 2e6

// planSizes gives the five-hour capacity as a multiple of Pro's, and the weekly
// capacity as a multiple of the five-hour one.
var planSizes = map[Plan]struct{ five, week float64 }{
	Pro:   {1, 9},
	Max5:  {5, 8},
	Max20: {20, 7},
}

// Account is one member of the world: either an API key (APIKey or
// ServiceAccount, classic limits) or a subscription (AccessToken, windows).
type Account struct {
	Name string

	APIKey string
	// ServiceAccount lets the account obtain bearer tokens by federation.
	ServiceAccount string

	// AccessToken with a RefreshToken is a login, alone a setup token.
	AccessToken  string
	RefreshToken string
	// ExpiresIn is the life of AccessToken from the start, in time of Clock.
	// Zero: the usual life for a login, for good without a RefreshToken.
	ExpiresIn time.Duration

	Plan Plan
	// Org and Workspace are told in response headers; caches and classic
	// buckets belong to them, so accounts with equal ones share. Default: an
	// organisation of its own.
	Org       string
	Workspace string

	// FiveHour and Week are capacities in cost units; zero means by Plan.
	FiveHour, Week float64
	// ModelWeek adds weekly windows for model families ("opus": units).
	ModelWeek map[string]float64
	// ExtraUsage is what may be spent in paid extra usage when a window is
	// full. Zero: extra usage is off.
	ExtraUsage float64
	// MaxInFlight refuses further requests at once with a burst 429. Zero: any.
	MaxInFlight int

	// RPM, ITPM and OTPM are the classic limits a minute and model class;
	// zero means those of the published Start tier.
	RPM, ITPM, OTPM int64

	// Models limits which models exist for this account. Empty: all.
	Models []string
}

func (a *Account) subscription() bool { return a.AccessToken != "" }

// The published Start tier.
const (
	startRPM  = 1000
	startITPM = 2_000_000
	startOTPM = 400_000
)

const (
	fiveHours   = 5 * time.Hour
	sevenDays   = 7 * 24 * time.Hour
	accessLife  = 8 * time.Hour
	refreshLife = 28 * 24 * time.Hour
)

// Validate says what is wrong with the options, naming the account.
func (o *Options) Validate() error {
	if o.Speed < 0 || o.Pace < 0 || o.CacheLife < 0 || o.OutputTokens < 0 {
		return errors.New("fakeclaude: speed, pace, cache life and output tokens cannot be negative")
	}
	names := map[string]bool{}
	secrets := map[string]string{}
	for i := range o.Accounts {
		a := &o.Accounts[i]
		switch {
		case a.Name == "" || a.Name == "*":
			return fmt.Errorf("fakeclaude: account %d needs a name other than %q", i+1, "*")
		case names[a.Name]:
			return fmt.Errorf("fakeclaude: account %s is there twice", a.Name)
		case a.APIKey == "" && a.AccessToken == "" && a.ServiceAccount == "":
			return fmt.Errorf("fakeclaude: account %s has no credential", a.Name)
		case a.AccessToken != "" && (a.APIKey != "" || a.ServiceAccount != ""):
			return fmt.Errorf("fakeclaude: account %s is both a subscription and an API account", a.Name)
		case a.RefreshToken != "" && a.AccessToken == "":
			return fmt.Errorf("fakeclaude: account %s has a refresh token but no access token", a.Name)
		}
		if _, known := planSizes[a.Plan]; a.Plan != "" && !known {
			return fmt.Errorf("fakeclaude: account %s has the unknown plan %q (pro, max5 or max20)", a.Name, a.Plan)
		}
		names[a.Name] = true
		for _, secret := range []string{a.APIKey, a.AccessToken, a.RefreshToken, a.ServiceAccount} {
			if secret == "" {
				continue
			}
			if other, taken := secrets[secret]; taken {
				return fmt.Errorf("fakeclaude: accounts %s and %s share a credential", other, a.Name)
			}
			secrets[secret] = a.Name
		}
	}
	return nil
}

// withDefaults returns a copy that is complete; the caller's slices stay its own.
func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Speed == 0 {
		o.Speed = 1
	}
	if o.CacheLife == 0 {
		o.CacheLife = faster(5*time.Minute, o.Speed)
	}
	if o.LoginLife == 0 {
		o.LoginLife = faster(refreshLife, o.Speed)
	}
	if o.KeepRequests == 0 {
		o.KeepRequests = 10_000
	}
	if o.HangLimit == 0 {
		o.HangLimit = 5 * time.Minute
	}
	o.Accounts = append([]Account(nil), o.Accounts...)
	for i := range o.Accounts {
		o.Accounts[i].complete(o.Seed)
	}
	return o
}

func (a *Account) complete(seed uint64) {
	if a.Org == "" {
		a.Org = uuidOf(fmt.Sprintf("org/%d/%s", seed, a.Name))
	}
	if a.Workspace == "" {
		a.Workspace = "wrkspc_01" + token(fmt.Sprintf("workspace/%d/%s", seed, a.Org), 20)
	}
	// Faults may tell the limits of either kind on any account, so both are set.
	a.RPM = orElse(a.RPM, startRPM)
	a.ITPM = orElse(a.ITPM, startITPM)
	a.OTPM = orElse(a.OTPM, startOTPM)
	size, planned := planSizes[a.Plan]
	if !planned {
		size = planSizes[Pro]
	}
	a.FiveHour = orElse(a.FiveHour, ProFiveHour*size.five)
	a.Week = orElse(a.Week, a.FiveHour*size.week)
}

func orElse[T int64 | float64](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

func faster(d time.Duration, speed float64) time.Duration {
	return time.Duration(float64(d) / speed)
}

// uuidOf derives a stable version-4-shaped UUID from a name.
func uuidOf(name string) string {
	h := sha256.Sum256([]byte(name))
	h[6] = h[6]&0x0f | 0x40
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// token derives a stable id of at most 32 characters from a name.
func token(name string, length int) string {
	h := sha256.Sum256([]byte(name))
	id := make([]byte, length)
	for i := range id {
		id[i] = base62[int(h[i])%len(base62)]
	}
	return string(id)
}
