package shunt

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/ledger"
)

// usageQuery is what GET /usage is asked for.
type usageQuery struct {
	by       []ledger.By
	from, to ledger.Day
	csv      bool
	// person limits the answer to one; all says that it does not.
	person string
	all    bool
}

// usageAnswer is the answer of GET /usage.
type usageAnswer struct {
	Pool       string      `json:"pool"`
	From       string      `json:"from"`
	To         string      `json:"to"`
	TimeZone   string      `json:"time_zone"`
	By         []ledger.By `json:"by"`
	PricesAsOf string      `json:"prices_as_of"`
	Rows       []usageRow  `json:"rows"`
	Total      usageRow    `json:"total"`
}

// usageRow is one line. What it is told apart by is there, the rest is left out.
type usageRow struct {
	Day     *string `json:"day,omitempty"`
	Month   *string `json:"month,omitempty"`
	Person  *string `json:"person,omitempty"`
	Account *string `json:"account,omitempty"`
	Model   *string `json:"model,omitempty"`

	Requests  int64 `json:"requests"`
	Served    int64 `json:"served"`
	Failed    int64 `json:"failed"`
	Cancelled int64 `json:"cancelled"`
	Refused   int64 `json:"refused"`

	InputTokens        int64 `json:"input_tokens"`
	OutputTokens       int64 `json:"output_tokens"`
	CacheReadTokens    int64 `json:"cache_read_tokens"`
	CacheWrite5mTokens int64 `json:"cache_write_5m_tokens"`
	CacheWrite1hTokens int64 `json:"cache_write_1h_tokens"`
	TotalTokens        int64 `json:"total_tokens"`
	WebSearches        int64 `json:"web_searches"`
	WebFetches         int64 `json:"web_fetches"`

	// CostUSD is null when no price is known of anything in the line; otherwise it is
	// the cost of all but the UnpricedAnswers.
	CostUSD          *anthropic.Money `json:"cost_usd"`
	UnpricedAnswers  int64            `json:"unpriced_answers"`
	EstimatedAnswers int64            `json:"estimated_answers"`
}

func rowOfUsage(by []ledger.By, line *ledger.Line) usageRow {
	u := &line.Usage
	row := usageRow{
		Requests: line.Requests, Served: line.Served, Failed: line.Failed, Cancelled: line.Cancelled, Refused: line.Refused,
		InputTokens: u.InputTokens, OutputTokens: u.OutputTokens, CacheReadTokens: u.CacheReadTokens,
		CacheWrite5mTokens: max(0, u.CacheWriteTokens-u.CacheWrite1hTokens), CacheWrite1hTokens: u.CacheWrite1hTokens, TotalTokens: u.Total(),
		WebSearches: u.WebSearches, WebFetches: u.WebFetches, UnpricedAnswers: line.Unpriced, EstimatedAnswers: line.Estimated,
	}
	if line.Unpriced == 0 || line.Cost > 0 {
		row.CostUSD = &line.Cost
	}
	place := map[ledger.By]**string{ledger.ByDay: &row.Day, ledger.ByMonth: &row.Month, ledger.ByPerson: &row.Person, ledger.ByAccount: &row.Account, ledger.ByModel: &row.Model}
	for i, label := range line.Labels {
		*place[by[i]] = &label
	}
	return row
}

func (h *Handler) serveUsage(w http.ResponseWriter, r *http.Request) error {
	if !takes(w, r, http.MethodGet, http.MethodHead) {
		return nil
	}
	who, refusal := h.authenticate(r)
	if refusal == nil {
		setPerson(r, who)
		var q *usageQuery
		if q, refusal = h.readUsageQuery(r.URL.Query(), r.Header, who); refusal == nil {
			var answer *usageAnswer
			if answer, refusal = h.usage(r.Context(), q); refusal == nil {
				return answer.write(w, q)
			}
		}
	}
	refusal.Write(w)
	return nil
}

// mostUsageDays bounds how much is asked for at once: more is not kept.
const mostUsageDays = keepUsage + 1

// readUsageQuery reads the parameters. Who is no admin sees only their own use, and
// not which accounts there are.
func (h *Handler) readUsageQuery(values url.Values, header http.Header, who person) (*usageQuery, *anthropic.Error) {
	bad := func(parameter, format string, args ...any) (*usageQuery, *anthropic.Error) {
		return nil, &anthropic.Error{Status: http.StatusBadRequest, Message: parameter + ": " + fmt.Sprintf(format, args...), NoRetry: true}
	}
	for name, given := range values {
		if !slices.Contains([]string{"by", "from", "to", "format", "pool", "person"}, name) {
			return bad(name, "it is not known; expected by, from, to, person or format")
		}
		if len(given) > 1 {
			return bad(name, "it is there twice")
		}
	}
	today := h.live.ledger.Today()
	q := &usageQuery{by: []ledger.By{ledger.ByPerson, ledger.ByModel}, from: today.FirstOfMonth(), to: today, all: who.admin, person: who.name}
	var err error
	if by := values.Get("by"); by != "" {
		if q.by, err = ledger.ParseBy(by); err != nil {
			return bad("by", "%v", err)
		}
	}
	for name, day := range map[string]*ledger.Day{"from": &q.from, "to": &q.to} {
		if text := values.Get(name); text != "" {
			if *day, err = ledger.ParseDay(text); err != nil {
				return bad(name, "%v", err)
			}
		}
	}
	if q.from > q.to || q.to-q.from >= mostUsageDays {
		return bad("from", "%s to %s; expected a span of 1 to %d days", q.from, q.to, mostUsageDays)
	}
	if values.Has("person") {
		if name := values.Get("person"); who.admin || name == who.name {
			q.all, q.person = false, name
		} else {
			return bad("person", "your key shows your own use only")
		}
	}
	if !who.admin && !h.ExposeAccount && slices.Contains(q.by, ledger.ByAccount) {
		return bad("by", "account: only admins see the accounts")
	}
	switch format := values.Get("format"); format {
	case "csv":
		q.csv = true
	case "json":
	case "":
		q.csv = strings.HasPrefix(strings.TrimSpace(header.Get("Accept")), "text/csv")
	default:
		return bad("format", "%q is not known; expected csv or json", format)
	}
	return q, nil
}

// usage makes the report. What storage does not tell is an error, never a smaller sum.
func (h *Handler) usage(ctx context.Context, q *usageQuery) (*usageAnswer, *anthropic.Error) {
	rows, err := h.live.usage.rows(ctx, h.poolMeans(h.logger), q.from, q.to)
	if err != nil {
		h.logger.Error("the books cannot be read", logPool(h.Pool), logError(err))
		return nil, &anthropic.Error{Status: http.StatusServiceUnavailable, Message: "the storage of the books cannot be read just now, so the sums are not known"}
	}
	if !q.all {
		rows = slices.DeleteFunc(rows, func(r ledger.Row) bool { return r.Person != q.person })
	}
	lines, total := ledger.Report(rows, q.by)
	answer := &usageAnswer{
		Pool: h.Pool, From: q.from.String(), To: q.to.String(), TimeZone: h.zone.String(), By: q.by, PricesAsOf: h.prices.AsOf,
		Rows: make([]usageRow, len(lines)), Total: rowOfUsage(nil, &ledger.Line{Counts: total}),
	}
	for i := range lines {
		answer.Rows[i] = rowOfUsage(q.by, &lines[i])
	}
	return answer, nil
}

func (a *usageAnswer) write(w http.ResponseWriter, q *usageQuery) error {
	if !q.csv {
		return writeJSON(w, http.StatusOK, a)
	}
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", "usage-"+a.Pool+"-"+a.From+"-"+a.To+".csv"))
	w.WriteHeader(http.StatusOK)
	out := csv.NewWriter(w)
	out.UseCRLF = true
	_ = out.Write(append(labelsOf(q.by), usageColumns...))
	for i := range a.Rows {
		_ = out.Write(a.Rows[i].cells(q.by))
	}
	out.Flush()
	return nil
}

func labelsOf(by []ledger.By) []string {
	labels := make([]string, len(by))
	for i, b := range by {
		labels[i] = string(b)
	}
	return labels
}

var usageColumns = []string{
	"requests", "served", "failed", "cancelled", "refused", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens",
	"cache_write_1h_tokens", "total_tokens", "web_searches", "web_fetches", "cost_usd", "unpriced_answers", "estimated_answers",
}

// cells are the row in CSV, in the order of usageColumns behind its labels.
func (r *usageRow) cells(by []ledger.By) []string {
	labels := map[ledger.By]*string{ledger.ByDay: r.Day, ledger.ByMonth: r.Month, ledger.ByPerson: r.Person, ledger.ByAccount: r.Account, ledger.ByModel: r.Model}
	var cells []string
	for _, b := range by {
		cells = append(cells, harmless(*labels[b]))
	}
	for _, n := range []int64{
		r.Requests, r.Served, r.Failed, r.Cancelled, r.Refused, r.InputTokens, r.OutputTokens, r.CacheReadTokens, r.CacheWrite5mTokens,
		r.CacheWrite1hTokens, r.TotalTokens, r.WebSearches, r.WebFetches,
	} {
		cells = append(cells, strconv.FormatInt(n, 10))
	}
	cost := ""
	if r.CostUSD != nil {
		cost = r.CostUSD.Decimal()
	}
	return append(cells, cost, strconv.FormatInt(r.UnpricedAnswers, 10), strconv.FormatInt(r.EstimatedAnswers, 10))
}

// harmless keeps a client's word from being a formula where the table is opened in a
// spreadsheet.
func harmless(s string) string {
	if s != "" && strings.ContainsAny(s[:1], "=+-@\t\r") {
		return "'" + s
	}
	return s
}

// adminUsage answers for all people.
func adminUsage(w http.ResponseWriter, r *http.Request) error {
	if err := adminTakes(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	h, err := poolNamed(r.URL.Query().Get("pool"))
	if err != nil {
		return err
	}
	q, refusal := h.readUsageQuery(r.URL.Query(), r.Header, person{admin: true})
	if refusal != nil {
		return apiError(refusal)
	}
	answer, refusal := h.usage(r.Context(), q)
	if refusal != nil {
		return apiError(refusal)
	}
	return answer.write(w, q)
}
