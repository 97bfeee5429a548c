package shunt

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// loginCollector tells how the logins and tokens of the running configuration are
// doing, at the time of the scrape.
type loginCollector struct{}

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(metricsNamespace, metricsSubsystem, name), help, labels, nil)
}

var (
	loginExpires  = gauge("login_expires_timestamp_seconds", "When the login or setup token ends whatever is refreshed, where known or guessed.", "pool", "account", "kind")
	tokenExpires  = gauge("token_expires_timestamp_seconds", "When the access token in use ends, where known.", "pool", "account", "kind")
	loginRequired = gauge("login_required", "1 when only a new login helps, else 0.", "pool", "account")
	loginAge      = gauge("login_age_seconds", "Time since the token was last refreshed or the login put in, whichever was later, where known.", "pool", "account", "kind")
	loginUnsaved  = gauge("login_unsaved", "1 while the newest token is in memory only, else 0.", "pool", "account")
)

// Describe tells the names.
func (loginCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{loginExpires, tokenExpires, loginAge, loginRequired, loginUnsaved} {
		to <- d
	}
}

// Collect tells the values. An API key has none.
func (loginCollector) Collect(to chan<- prometheus.Metric) {
	app := newestApp()
	if app == nil {
		return
	}
	put := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	eachAccount(app.registered(), func(h *Handler, a *account) {
		s := a.source.Status()
		if s.Kind == credential.KindAPIKey {
			return
		}
		for d, at := range map[*prometheus.Desc]time.Time{loginExpires: s.LoginExpires, tokenExpires: s.Expires} {
			if !at.IsZero() {
				put(d, float64(at.Unix()), h.Pool, a.member.Name, string(s.Kind))
			}
		}
		if renewed := s.Renewed(); !renewed.IsZero() {
			put(loginAge, max(0, time.Since(renewed).Seconds()), h.Pool, a.member.Name, string(s.Kind))
		}
		put(loginRequired, oneIf(s.LoginRequired), h.Pool, a.member.Name)
		put(loginUnsaved, oneIf(s.Unsaved), h.Pool, a.member.Name)
	})
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var _ prometheus.Collector = loginCollector{}
