package shunt

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/ledger"
	"github.com/caddy-shunt/caddy-shunt/people"
)

// standing is how a budget stands.
type standing struct {
	budget *people.Budget
	spent  ledger.Sum
	ends   time.Time
}

// standingOf looks a budget of a person or an account up in the books.
func (h *Handler) standingOf(of ledger.Dimension, name string, b *people.Budget) standing {
	period := ledger.Periods[b.Per]
	return standing{budget: b, spent: h.live.ledger.Spent(of, name, period), ends: h.live.ledger.Ends(period)}
}

// used is the part of the budget that is used; 1 and more when it is reached.
func (s *standing) used() float64 {
	if s.budget.USD > 0 {
		return float64(s.spent.Cost) / float64(s.budget.USD)
	}
	return float64(s.spent.Tokens) / float64(s.budget.Tokens)
}

func (s *standing) reached() bool {
	if s.budget.USD > 0 {
		return s.spent.Cost >= s.budget.USD
	}
	return s.spent.Tokens >= s.budget.Tokens
}

// amount is what was used, in the budget's unit, for people.
func (s *standing) amount() string {
	if s.budget.USD > 0 {
		return s.spent.Cost.String()
	}
	return humanize.Comma(s.spent.Tokens) + " tokens"
}

// reachedOf is the budget that is reached and ends last; nil when there is room in all.
func (h *Handler) reachedOf(of ledger.Dimension, name string, budgets []people.Budget) (last *standing) {
	for i := range budgets {
		s := h.standingOf(of, name, &budgets[i])
		if !s.reached() {
			continue
		}
		h.tellReached(of, name, &s)
		if last == nil || s.ends.After(last.ends) {
			last = &s
		}
	}
	return last
}

// overBudget is the answer to a request of a person whose budget is reached; nil when
// there is room.
func (h *Handler) overBudget(name string, l *people.Limits) *anthropic.Error {
	if len(l.Budgets) == 0 {
		return nil
	}
	s := h.reachedOf(ledger.OfPerson, name, l.Budgets)
	if s == nil {
		return nil
	}
	left := max(time.Second, s.ends.Sub(h.now()))
	return &anthropic.Error{
		Status: http.StatusTooManyRequests, Type: anthropic.TypeBilling,
		Message: fmt.Sprintf("your budget of %s is used up: %s were used; it begins anew on %s", s.budget, s.amount(), h.when(s.ends)),
		// A client that waits by itself must not do so for hours.
		RetryAfter: left, NoRetry: left > longestWait,
	}
}

// unpricedRefused is the answer to a request whose cost cannot be counted against the
// person's budget.
func (x *exchange) unpricedRefused(l *people.Limits) *anthropic.Error {
	for i := range l.Budgets {
		if l.Budgets[i].USD == 0 {
			continue
		}
		if _, priced := x.h.prices.PriceOf(x.facts.Model, x.h.now()); !priced {
			if x.facts.Model == "" {
				return &anthropic.Error{Status: http.StatusBadRequest, NoRetry: true, Message: "model: it cannot be read from this request, and you have a budget in US dollars here; send a JSON body that is not compressed"}
			}
			return &anthropic.Error{Status: http.StatusBadRequest, NoRetry: true, Message: fmt.Sprintf(
				"model: you have a budget in US dollars here, and the price of %s is not known to this endpoint; its operator can add it to prices", truncate(x.facts.Model))}
		}
	}
	return nil
}

// closeAccounts keeps accounts shut whose budget is reached, on this instance or all
// together.
func (h *Handler) closeAccounts() {
	for _, a := range h.accounts {
		h.closeAccount(a)
	}
}

func (h *Handler) closeAccount(a *account) {
	if len(a.config.Budgets) == 0 {
		h.live.state.CloseFor(a.member.Key, time.Time{}, "")
		return
	}
	if s := h.reachedOf(ledger.OfAccount, a.member.Name, a.config.Budgets); s != nil {
		h.live.state.CloseFor(a.member.Key, s.ends, fmt.Sprintf("its budget of %s is used up", s.budget))
	} else {
		h.live.state.CloseFor(a.member.Key, time.Time{}, "")
	}
}

// when is a time for the people of the handler's time zone.
func (h *Handler) when(t time.Time) string { return t.In(h.zone).Format("Mon 2 Jan 2006, 15:04 MST") }

// budgetRef names a budget of one pool.
type budgetRef struct {
	pool, name string
	of         ledger.Dimension
	budget     people.Budget
}

// budgetsTold is up to when it was told that a budget is reached.
var budgetsTold struct {
	sync.Mutex
	until map[budgetRef]time.Time
}

// tellReached tells that a budget is reached, once for each period.
func (h *Handler) tellReached(of ledger.Dimension, name string, s *standing) {
	ref := budgetRef{h.Pool, name, of, *s.budget}
	budgetsTold.Lock()
	told := budgetsTold.until[ref].Equal(s.ends)
	if !told {
		if budgetsTold.until == nil {
			budgetsTold.until = make(map[budgetRef]time.Time)
		}
		for other, until := range budgetsTold.until {
			if until.Before(h.now()) {
				delete(budgetsTold.until, other)
			}
		}
		budgetsTold.until[ref] = s.ends
	}
	budgetsTold.Unlock()
	if told {
		return
	}
	data := map[string]any{
		"person": "", "account": "", "limit": s.budget.String(), "period": s.budget.Per, "used": s.amount(), "until": rfc3339(s.ends),
	}
	kind := "person"
	if of == ledger.OfAccount {
		kind = "account"
	}
	data[kind] = name
	h.emit(eventBudgetReached, data)
	h.logger.Info("a budget is used up", logPool(h.Pool), zap.String(kind, name), zap.String("budget", s.budget.String()), zap.String("used", s.amount()), zap.Time("until", s.ends))
}

// watchBudgets sees what the exchange has used up of an account: it tells of it, and
// shuts the account.
func (x *exchange) watchBudgets(a *account) {
	if len(x.limits.Budgets) > 0 {
		x.h.reachedOf(ledger.OfPerson, x.who.name, x.limits.Budgets)
	}
	if len(a.config.Budgets) > 0 {
		x.h.closeAccount(a)
	}
}
