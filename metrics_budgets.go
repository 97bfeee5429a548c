package shunt

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-shunt/caddy-shunt/ledger"
	"github.com/caddy-shunt/caddy-shunt/people"
)

var (
	personBudget  = gauge("person_budget_used_ratio", "Share of a person's budget that is used in this period; 1 and more when it is reached.", "pool", "person", "period", "unit")
	accountBudget = gauge("account_budget_used_ratio", "Share of an account's budget that is used in this period; 1 and more when it is reached.", "pool", "account", "period", "unit")
)

// budgets tells how the budgets of the handler's people and accounts stand.
func (s *samples) budgets(h *Handler) {
	for _, a := range h.accounts {
		s.budgetsOf(h, accountBudget, ledger.OfAccount, a.member.Name, a.config.Budgets)
	}
	if !h.countsPeople() {
		return
	}
	roster := h.roster.Load()
	for i, name := range roster.known() {
		if i >= maxPeopleSeries {
			return
		}
		s.budgetsOf(h, personBudget, ledger.OfPerson, name, roster.limits(name).Budgets)
	}
}

func (s *samples) budgetsOf(h *Handler, d *prometheus.Desc, of ledger.Dimension, name string, budgets []people.Budget) {
	label := name
	if of == ledger.OfPerson {
		label = h.metrics.people.label(name)
	}
	if len(budgets) > 0 && label == otherPeople && name != otherPeople {
		return // several would share the series
	}
	for i := range budgets {
		standing, unit := h.standingOf(of, name, &budgets[i]), "tokens"
		if budgets[i].USD > 0 {
			unit = "usd"
		}
		s.put(d, standing.used(), label, budgets[i].Per, unit)
	}
}
