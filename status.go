package shunt

import (
	"runtime/debug"
	"slices"
	"sort"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/ledger"
	"github.com/caddy-shunt/caddy-shunt/people"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// statusView is the answer of GET /status. Times in fields that end in _ms are
// Unix milliseconds, null when unknown.
type statusView struct {
	Pool       string          `json:"pool"`
	Version    string          `json:"version"`
	StartedMS  int64           `json:"started_ms"`
	Policy     string          `json:"policy"` // that decides now
	Configured string          `json:"policy_configured"`
	Waiting    int             `json:"waiting"`
	Capacity   capacityStatus  `json:"capacity"`
	Forecast   forecastStatus  `json:"forecast"`
	Sessions   int             `json:"sessions"`
	Accounts   []accountStatus `json:"accounts"`
	Pinned     *string         `json:"pinned"`
	LastUsed   *string         `json:"last_used"`
	PinnedName *string         `json:"pinned_account"`
	LastName   *string         `json:"last_used_account"`
	PricesAsOf string          `json:"prices_as_of"`
	Today      string          `json:"today"` // in the pool's time zone
	Recent     []recentRequest `json:"recent_requests"`
	People     []personStatus  `json:"people"`
	// Instances are the Caddy processes that share the pool, this one first.
	Instances []instanceStatus `json:"instances"`
}

// capacityStatus is what the pool has left: of all windows together, the share that can
// be used now, null when no account tells of windows.
type capacityStatus struct {
	Accounts     int      `json:"accounts"`
	Open         int      `json:"open"`
	FiveHourLeft *float64 `json:"five_hour_left"`
	SevenDayLeft *float64 `json:"seven_day_left"`
}

// forecastStatus is an estimate of when no account will be open at the present pace, and
// when one opens again after that; null when that is not to be seen.
type forecastStatus struct {
	DryMS     *int64 `json:"dry_ms"`
	ReopensMS *int64 `json:"reopens_ms"`
	Words     string `json:"words"`
}

func (s *statusView) forecast(f *pool.Forecast, now time.Time) {
	s.Capacity = capacityStatus{Accounts: f.Accounts, Open: f.Open}
	if f.FiveHourLeft >= 0 {
		s.Capacity.FiveHourLeft, s.Capacity.SevenDayLeft = &f.FiveHourLeft, &f.SevenDayLeft
	}
	s.Forecast = forecastStatus{DryMS: millis(f.Dry), ReopensMS: millis(f.Reopens), Words: f.Words(now)}
}

type accountStatus struct {
	Name          string   `json:"name"`
	Email         *string  `json:"email"`
	Kind          string   `json:"kind"`
	Organization  *string  `json:"organization_id,omitempty"`
	SharesLimits  []string `json:"shares_limits_with,omitempty"`
	Plan          *string  `json:"plan"`
	PlanType      *string  `json:"plan_type"`
	Owners        []string `json:"owners,omitempty"`
	Weight        int      `json:"weight"`
	Priority      int      `json:"priority"`
	Models        []string `json:"models,omitempty"`
	MaxConcurrent int      `json:"max_concurrent,omitempty"`
	PlanOnly      bool     `json:"plan_only,omitempty"`
	// Budgets are shown to admins.
	Budgets []budgetStatus `json:"budgets,omitempty"`

	// Status is reauth_required, drained, cooling or available, in that precedence.
	Status          string        `json:"status"`
	Available       bool          `json:"available"`
	Disabled        bool          `json:"disabled"`
	AuthFailed      bool          `json:"auth_failed"`
	Reason          string        `json:"reason,omitempty"`
	CooldownUntilMS *int64        `json:"cooldown_until_ms"`
	Benches         []benchStatus `json:"benches"`
	Drained         bool          `json:"drained"`
	InFlight        int           `json:"in_flight"`
	LastUsedMS      *int64        `json:"last_used_ms"`

	Utilization5h   float64               `json:"utilization_5h"`
	Reset5h         *int64                `json:"reset_5h"`
	RateLimit       *rateLimit            `json:"rate_limit"`
	Windows         map[string]windowView `json:"windows"`
	Limits          map[string]limitView  `json:"limits,omitempty"`
	OverageStatus   string                `json:"overage_status,omitempty"`
	OverageReason   string                `json:"overage_disabled_reason,omitempty"`
	TotalTokens     int64                 `json:"total_tokens"`
	WindowExpiresMS *int64                `json:"window_expires_ms"`
	TokensUsed      tokensUsed            `json:"tokens_used"`
	Requests        int64                 `json:"requests"`
	Attempts        int64                 `json:"attempts"`
	Usage           anthropic.Usage       `json:"usage"`
	// CacheHitRatio is the share of the prompts' tokens that upstream's cache had; null
	// before the first.
	CacheHitRatio *float64 `json:"cache_hit_ratio"`

	TokenExpiresMS *int64 `json:"token_expires_ms"`
	LoginExpiresMS *int64 `json:"login_expires_ms"`
	// LoginGuessed says that the login may end before LoginExpiresMS.
	LoginGuessed  bool   `json:"login_expires_guessed,omitempty"`
	LoginWarning  string `json:"login_warning,omitempty"`
	LastRefreshMS *int64 `json:"last_refresh_ms"`
	RefreshError  string `json:"refresh_error,omitempty"`
}

type benchStatus struct {
	Family  string `json:"family,omitempty"`
	UntilMS *int64 `json:"until_ms"` // null for a drain, which has no end
	SinceMS int64  `json:"since_ms"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	Source  string `json:"source"`
	Window  string `json:"window,omitempty"`
}

type windowView struct {
	Utilization *float64 `json:"utilization"`
	Status      string   `json:"status,omitempty"`
	ResetMS     *int64   `json:"reset_ms"`
	UpdatedMS   *int64   `json:"updated_ms"`
	// Pace is the share of the window's time that has passed, LengthS its length in
	// seconds: where Utilization would be by now if it were used evenly. Null when the
	// window is not running.
	Pace    *float64 `json:"pace"`
	LengthS int64    `json:"length_s"`
}

type limitView struct {
	Limit     int64  `json:"limit"`
	Remaining int64  `json:"remaining"`
	ResetMS   *int64 `json:"reset_ms"`
	UpdatedMS *int64 `json:"updated_ms"`
}

// rateLimit has the two main windows under the names that monitors know.
type rateLimit struct {
	Utilization5h *float64 `json:"utilization_5h"`
	Reset5h       *int64   `json:"reset_5h"`
	Status5h      string   `json:"status_5h,omitempty"`
	Utilization7d *float64 `json:"utilization_7d"`
	Reset7d       *int64   `json:"reset_7d"`
	Status7d      string   `json:"status_7d,omitempty"`
	Claim         string   `json:"representative_claim,omitempty"`
	UpdatedMS     *int64   `json:"updated_ms"`
}

type tokensUsed struct {
	Input  int64 `json:"input"`
	Output int64 `json:"output"`
	Total  int64 `json:"total"`
}

type recentRequest struct {
	pool.Record
	TS     int64 `json:"ts"`
	Input  int64 `json:"input"`
	Output int64 `json:"output"`
}

type personStatus struct {
	Name     string          `json:"name"`
	Requests int64           `json:"requests"`
	Usage    anthropic.Usage `json:"usage"`
	// InFlight counts requests under way of a person with max_concurrent.
	InFlight      int            `json:"in_flight,omitempty"`
	Models        []string       `json:"models,omitempty"`
	MaxConcurrent int            `json:"max_concurrent,omitempty"`
	Rate          int            `json:"rate,omitempty"`
	Weight        int            `json:"weight,omitempty"`
	Budgets       []budgetStatus `json:"budgets,omitempty"`
}

// budgetStatus is how a budget of a person or an account stands: what is set of usd and
// tokens is its unit.
type budgetStatus struct {
	Per        string           `json:"per"`
	USD        *anthropic.Money `json:"usd,omitempty"`
	UsedUSD    *anthropic.Money `json:"used_usd,omitempty"`
	Tokens     *int64           `json:"tokens,omitempty"`
	UsedTokens *int64           `json:"used_tokens,omitempty"`
	Reached    bool             `json:"reached"`
	EndsMS     int64            `json:"ends_ms"`
}

func (h *Handler) budgetsStatus(of ledger.Dimension, name string, budgets []people.Budget) (list []budgetStatus) {
	for i := range budgets {
		s := h.standingOf(of, name, &budgets[i])
		b := budgetStatus{Per: s.budget.Per, Reached: s.reached(), EndsMS: s.ends.UnixMilli()}
		if s.budget.USD > 0 {
			b.USD, b.UsedUSD = &s.budget.USD, &s.spent.Cost
		} else {
			b.Tokens, b.UsedTokens = &s.budget.Tokens, &s.spent.Tokens
		}
		list = append(list, b)
	}
	return list
}

// person is what is shown of a person.
func (h *Handler) person(name string, t *pool.Totals) personStatus {
	l := h.roster.Load().limits(name)
	return personStatus{
		Name: name, Requests: t.Requests, Usage: t.Usage, InFlight: h.live.gate.Inside(name),
		Models: l.Models, MaxConcurrent: l.MaxConcurrent, Rate: l.Rate, Weight: l.Weight, Budgets: h.budgetsStatus(ledger.OfPerson, name, l.Budgets),
	}
}

// status is what the person may see of the pool: everything for an admin; for
// others no e-mail but of accounts of their own, and no usage but their own.
func (h *Handler) status(who person) *statusView {
	v := h.group.View()
	s := &statusView{
		Pool: h.Pool, Version: version(), StartedMS: v.Started.UnixMilli(), Policy: v.Policy, Configured: v.Configured,
		Waiting: v.Waiting, Sessions: v.Sessions, PricesAsOf: h.prices.AsOf, Today: h.live.ledger.Today().String(),
		Pinned: optional(v.Pinned), PinnedName: optional(v.Pinned), LastUsed: optional(v.LastUsed), LastName: optional(v.LastUsed),
		Accounts: []accountStatus{}, Recent: []recentRequest{}, People: []personStatus{},
		Instances: h.live.sharing.instances(),
	}
	forecast := h.group.Forecast(func(m *pool.Member) bool {
		status := h.byKey[m.Key].source.Status()
		return status.LoginRequired || lacksToken(&status, v.Now)
	})
	s.forecast(&forecast, v.Now)
	for i := range v.Accounts {
		account := h.accounts[i].status(&v.Accounts[i], who)
		if who.admin {
			account.Budgets = h.budgetsStatus(ledger.OfAccount, account.Name, h.accounts[i].config.Budgets)
		}
		s.Accounts = append(s.Accounts, account)
	}
	for _, r := range v.Recent {
		if who.admin || r.User == who.name {
			s.Recent = append(s.Recent, recentRequest{Record: r, TS: r.Time.UnixMilli(), Input: r.Usage.PromptTokens(), Output: r.Usage.OutputTokens})
		}
	}
	for _, name := range h.roster.Load().known() {
		if _, seen := v.People[name]; !seen {
			v.People[name] = pool.Totals{}
		}
	}
	for name, t := range v.People {
		if who.admin || name == who.name {
			s.People = append(s.People, h.person(name, &t))
		}
	}
	sort.Slice(s.People, func(i, j int) bool { return s.People[i].Name < s.People[j].Name })
	return s
}

func (a *account) status(v *pool.AccountView, who person) accountStatus {
	c := a.config
	s := accountStatus{
		Name: c.Name, Kind: a.kind(), Weight: max(1, c.Weight), Priority: c.Priority, Models: c.Models, MaxConcurrent: c.MaxConcurrent, PlanOnly: c.PlanOnly,
		InFlight: v.InFlight, LastUsedMS: millis(v.LastUsed), Benches: []benchStatus{},
		SharesLimits: v.Shares, OverageStatus: v.OverageStatus, OverageReason: v.OverageReason,
		Requests: v.Totals.Requests, Attempts: v.Totals.Attempts, Usage: v.Totals.Usage,
		TotalTokens: v.Totals.Usage.Total(), WindowExpiresMS: millis(v.LocalEnds),
		TokensUsed: tokensUsed{Input: v.Local.PromptTokens(), Output: v.Local.OutputTokens, Total: v.Local.Total()},
	}
	if prompt := v.Totals.Usage.PromptTokens(); prompt > 0 {
		hits := float64(v.Totals.Usage.CacheReadTokens) / float64(prompt)
		s.CacheHitRatio = &hits
	}
	own := slices.Contains(c.Owners, who.name)
	if who.admin || own {
		s.Owners = c.Owners
		s.Organization = optional(a.organizationNow(v.Identity))
	}
	a.loginStatus(&s, who.admin || own)
	s.standing(v)
	s.limits(v)
	return s
}

func (a *account) kind() string {
	switch {
	case a.config.OAuth != nil:
		return "oauth"
	case a.config.SetupToken != "":
		return "setup_token"
	case a.config.Federation != nil:
		return "federation"
	default:
		return "api_key"
	}
}

// loginStatus tells about the credential; whose it is only to those who may know.
func (a *account) loginStatus(s *accountStatus, mayKnow bool) {
	c := a.source.Status()
	s.AuthFailed = c.LoginRequired
	if c.LoginRequired {
		s.Reason = c.LoginReason
	}
	s.TokenExpiresMS, s.LoginExpiresMS, s.LastRefreshMS = millis(c.Expires), millis(c.LoginExpires), millis(c.LastRefresh)
	s.LoginGuessed, s.LoginWarning = c.LoginExpiresGuessed, loginWarning(&c, time.Now())
	s.Plan, s.PlanType = optional(c.Subscription), optional(c.Subscription)
	if mayKnow {
		s.Email, s.RefreshError = optional(c.Email), c.LastError // which may name a file of the server
	}
}

// standing says whether the account can serve, and if not, why and until when.
func (s *accountStatus) standing(v *pool.AccountView) {
	for _, b := range v.Benches {
		s.Benches = append(s.Benches, benchStatus{
			Family: b.Family, UntilMS: millis(b.Until), SinceMS: b.Since.UnixMilli(), Verdict: b.Verdict, Reason: b.Reason, Source: b.Source, Window: b.Window,
		})
	}
	s.Status, s.Available = "available", true
	if b := v.Benched(); b != nil {
		s.Status, s.Available = "cooling", false
		s.CooldownUntilMS = millis(b.Until)
		if s.Reason == "" {
			s.Reason = b.Reason
		}
		s.AuthFailed = s.AuthFailed || b.Login
	}
	if s.Drained = v.Drained(); s.Drained {
		s.Status = "drained"
	}
	if s.AuthFailed {
		s.Status, s.Available, s.Disabled = "reauth_required", false, true
	}
}

func (s *accountStatus) limits(v *pool.AccountView) {
	s.Windows = make(map[string]windowView, len(v.Windows))
	for _, w := range v.Windows {
		view := windowView{Status: w.Status, ResetMS: millis(w.Reset), UpdatedMS: millis(w.Updated), LengthS: int64(w.Length.Seconds())}
		if w.Pace >= 0 {
			view.Pace = &w.Pace
		}
		if w.Known {
			view.Utilization = &w.Utilization
		}
		s.Windows[w.Name] = view
	}
	for _, b := range v.Buckets {
		if s.Limits == nil {
			s.Limits = make(map[string]limitView, len(v.Buckets))
		}
		s.Limits[b.Name] = limitView{Limit: b.Limit, Remaining: b.Remaining, ResetMS: millis(b.Reset), UpdatedMS: millis(b.Updated)}
	}
	if len(v.Windows) == 0 {
		return
	}
	five, seven := s.Windows["5h"], s.Windows["7d"]
	if five.Utilization != nil {
		s.Utilization5h = *five.Utilization
	}
	s.Reset5h = five.ResetMS
	s.RateLimit = &rateLimit{
		Utilization5h: five.Utilization, Reset5h: five.ResetMS, Status5h: five.Status,
		Utilization7d: seven.Utilization, Reset7d: seven.ResetMS, Status7d: seven.Status, UpdatedMS: five.UpdatedMS,
	}
	if b := v.Benched(); b != nil {
		s.RateLimit.Claim = claims[b.Window]
	}
}

func millis(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := t.UnixMilli()
	return &ms
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// version is this module's version in the running binary.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	const path = "github.com/caddy-shunt/caddy-shunt"
	if info.Main.Path == path {
		return info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == path {
			return dep.Version
		}
	}
	return "unknown"
}
