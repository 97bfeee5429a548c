package fakeclaude

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// model is one entry of the catalogue, newest first.
type model struct {
	Type        string `json:"type"`
	ID          string `json:"id"`
	DisplayName string `json:"display_name"`
	CreatedAt   string `json:"created_at"`
	// minimum is the smallest prompt that is cached, in tokens.
	minimum int64
}

var catalogue = []model{
	{"model", "claude-fable-5-2", "Claude Fable 5.2", "2026-11-09T00:00:00Z", 512},
	{"model", "claude-haiku-5-5", "Claude Haiku 5.5", "2026-10-07T00:00:00Z", 1024},
	{"model", "claude-sonnet-5-5", "Claude Sonnet 5.5", "2026-09-22T00:00:00Z", 1024},
	{"model", "claude-opus-5-5", "Claude Opus 5.5", "2026-09-08T00:00:00Z", 512},
	{"model", "claude-fable-5-1", "Claude Fable 5.1", "2026-08-04T00:00:00Z", 512},
	{"model", "claude-fable-5", "Claude Fable 5", "2026-06-16T00:00:00Z", 512},
	{"model", "claude-sonnet-5", "Claude Sonnet 5", "2026-05-19T00:00:00Z", 1024},
	{"model", "claude-opus-5", "Claude Opus 5", "2026-04-28T00:00:00Z", 512},
	{"model", "claude-opus-4-8", "Claude Opus 4.8", "2026-03-31T00:00:00Z", 1024},
	{"model", "claude-opus-4-7", "Claude Opus 4.7", "2026-03-03T00:00:00Z", 2048},
	{"model", "claude-sonnet-4-6", "Claude Sonnet 4.6", "2026-02-17T00:00:00Z", 1024},
	{"model", "claude-opus-4-6", "Claude Opus 4.6", "2026-02-05T00:00:00Z", 4096},
	{"model", "claude-opus-4-5-20251101", "Claude Opus 4.5", "2025-11-24T00:00:00Z", 4096},
	{"model", "claude-haiku-4-5-20251001", "Claude Haiku 4.5", "2025-10-15T00:00:00Z", 4096},
	{"model", "claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", "2025-09-29T00:00:00Z", 1024},
	{"model", "claude-sonnet-4-20250514", "Claude Sonnet 4", "2025-05-22T00:00:00Z", 1024},
}

var dateSuffix = regexp.MustCompile(`-\d{8}$`)

// resolve finds a model by id or by alias, which is the id without its date.
func resolve(id string) (model, bool) {
	for _, m := range catalogue {
		if m.ID == id || dateSuffix.ReplaceAllString(m.ID, "") == id {
			return m, true
		}
	}
	return model{}, false
}

// serves says whether the account may use the model.
func (a *account) serves(id string) bool {
	m, known := resolve(id)
	if !known {
		return false
	}
	return len(a.Models) == 0 || slices.ContainsFunc(a.Models, func(allowed string) bool {
		other, _ := resolve(allowed)
		return other.ID == m.ID
	})
}

// family is opus, sonnet, haiku and so on: what windows and weights go by.
func family(modelID string) string {
	for _, f := range []string{"opus", "sonnet", "haiku", "fable", "mythos"} {
		if strings.Contains(modelID, f) {
			return f
		}
	}
	return "other"
}

var majorVersion = regexp.MustCompile(`-(\d)(?:-|$)`)

// class is what classic limits go by: all Opus 4.x are one class, Opus 5 another.
func class(modelID string) string {
	major := ""
	if match := majorVersion.FindStringSubmatch(modelID); match != nil {
		major = "-" + match[1]
	}
	return family(modelID) + major
}

type modelPage struct {
	Data    []model `json:"data"`
	HasMore bool    `json:"has_more"`
	FirstID *string `json:"first_id"`
	LastID  *string `json:"last_id"`
}

func (ex *exchange) listModels() {
	if !ex.authenticate() || !ex.versioned() || ex.misbehaveEarly() {
		return
	}
	ex.drain()
	if ex.misbehave() {
		return
	}
	query := ex.r.URL.Query()
	limit := 20
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > 1000 {
			ex.fail(http.StatusBadRequest, "invalid_request_error", "limit: must be between 1 and 1000")
			return
		}
	}
	mine := slices.DeleteFunc(slices.Clone(catalogue), func(m model) bool { return !ex.acct.serves(m.ID) })
	page, ok := cutPage(mine, limit, query.Get("after_id"), query.Get("before_id"))
	if !ok {
		ex.fail(http.StatusBadRequest, "invalid_request_error", "after_id or before_id names no model")
		return
	}
	ex.json(http.StatusOK, page)
}

// cutPage takes the part after one id, or the part that ends before another.
func cutPage(all []model, limit int, after, before string) (modelPage, bool) {
	index := func(id string) int {
		return slices.IndexFunc(all, func(m model) bool { return m.ID == id })
	}
	from, to := 0, len(all)
	if after != "" {
		if from = index(after) + 1; from == 0 {
			return modelPage{}, false
		}
	}
	if before != "" {
		if to = index(before); to < 0 {
			return modelPage{}, false
		}
	}
	part := all[from:max(from, to)]
	page := modelPage{HasMore: len(part) > limit}
	if page.HasMore {
		if before != "" && after == "" {
			part = part[len(part)-limit:]
		} else {
			part = part[:limit]
		}
	}
	page.Data = append([]model{}, part...)
	if len(part) > 0 {
		page.FirstID, page.LastID = &part[0].ID, &part[len(part)-1].ID
	}
	return page, true
}

func (ex *exchange) oneModel(id string) {
	if !ex.authenticate() || !ex.versioned() || ex.misbehaveEarly() {
		return
	}
	ex.drain()
	if ex.misbehave() {
		return
	}
	m, _ := resolve(id)
	if !ex.acct.serves(id) {
		ex.fail(http.StatusNotFound, "not_found_error", "model: "+id)
		return
	}
	ex.json(http.StatusOK, m)
}
