package shunt

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/history"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// historyView is the answer of GET /history. Times are Unix milliseconds.
type historyView struct {
	Pool   string            `json:"pool"`
	Range  string            `json:"range"`
	StepS  int64             `json:"step_s"`
	Points []historyPoint    `json:"points"` // oldest first; the last one has not ended
	Levels []historyAccounts `json:"accounts"`
	// Incomplete says what could not be read.
	Incomplete string `json:"incomplete,omitempty"`
}

// historyPoint is what came to pass in a step. What people used is shown to admins.
type historyPoint struct {
	TimeMS   int64            `json:"t_ms"`
	Waiting  int              `json:"waiting"`
	Requests *int64           `json:"requests,omitempty"`
	Failed   *int64           `json:"failed,omitempty"`
	Retries  *int64           `json:"retries,omitempty"`
	Usage    *anthropic.Usage `json:"usage,omitempty"`
	CostUSD  *anthropic.Money `json:"cost_usd,omitempty"`
}

// historyAccounts are the utilizations of an account's main windows, one for each point;
// null where nobody knows.
type historyAccounts struct {
	Name     string     `json:"name"`
	FiveHour []*float64 `json:"five_hour"`
	SevenDay []*float64 `json:"seven_day"`
}

func (h *Handler) serveHistory(w http.ResponseWriter, r *http.Request) error {
	if !takes(w, r, http.MethodGet, http.MethodHead) {
		return nil
	}
	who, refusal := h.authenticate(r)
	setPerson(r, who)
	var answer *historyView
	if refusal == nil {
		answer, refusal = h.history(r.Context(), r.URL.Query().Get("range"), who)
	}
	if refusal != nil {
		refusal.Write(w)
		return nil
	}
	return writeJSON(w, http.StatusOK, answer)
}

func adminHistory(w http.ResponseWriter, r *http.Request) error {
	if err := adminTakes(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	h, err := poolNamed(r.URL.Query().Get("pool"))
	if err != nil {
		return err
	}
	answer, refusal := h.history(r.Context(), r.URL.Query().Get("range"), person{admin: true})
	if refusal != nil {
		return apiError(refusal)
	}
	return writeJSON(w, http.StatusOK, answer)
}

func (h *Handler) history(ctx context.Context, name string, who person) (*historyView, *anthropic.Error) {
	if name == "" {
		name = history.Spans[0].Name
	}
	span, ok := history.SpanNamed(name)
	if !ok {
		var known []string
		for _, s := range history.Spans {
			known = append(known, s.Name)
		}
		return nil, &anthropic.Error{Status: http.StatusBadRequest, NoRetry: true, Message: fmt.Sprintf("range: %q is not known; expected one of %s", truncate(name), strings.Join(known, ", "))}
	}
	h.live.history.look(h) // the last point is of now
	report, err := h.live.history.report(ctx, h.live.sharing.means.Load(), span)
	v := &historyView{Pool: h.Pool, Range: span.Name, StepS: int64(span.Step.Seconds()), Points: make([]historyPoint, len(report.Points)), Levels: []historyAccounts{}}
	if err != nil {
		v.Incomplete = "what other processes have seen is missing: " + err.Error()
	}
	for i := range report.Points {
		p := &report.Points[i]
		v.Points[i] = historyPoint{TimeMS: p.Begins.UnixMilli(), Waiting: p.Waiting}
		if who.admin {
			shown := &v.Points[i]
			shown.Requests, shown.Failed, shown.Retries, shown.Usage, shown.CostUSD = &p.Requests, &p.Failed, &p.Retries, &p.Usage, &p.Cost
		}
	}
	for _, a := range h.accounts {
		for _, s := range report.Accounts {
			if s.Account == a.member.Name {
				v.Levels = append(v.Levels, viewLevels(&s))
			}
		}
	}
	return v, nil
}

func viewLevels(s *history.Series) historyAccounts {
	v := historyAccounts{Name: s.Account}
	share := func(x float64) *float64 {
		if x < 0 {
			return nil
		}
		return &x
	}
	for _, l := range s.Levels {
		v.FiveHour, v.SevenDay = append(v.FiveHour, share(l.FiveHour)), append(v.SevenDay, share(l.SevenDay))
	}
	return v
}

// remember enters a request into the history.
func (h *Handler) remember(r *pool.Record) {
	c := history.Counts{Requests: 1, Usage: r.Usage, Retries: int64(max(0, r.Attempts-1))}
	if r.Verdict != anthropic.Served && r.Verdict != anthropic.ClientGone.Name {
		c.Failed = 1
	}
	if r.CostUSD != nil {
		c.Cost = *r.CostUSD
	}
	h.live.history.seen.Count(&c)
}
