package shunt

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/credential"
	"github.com/caddy-shunt/caddy-shunt/internal/doctor"
)

// organisations finds accounts that draw on the same limits.
func (p *patient) organisations(ctx context.Context) []doctor.Finding {
	groups, known := p.groupsThere(ctx)
	if p.admin == nil {
		groups, known = p.groupsHere(ctx)
	}
	var found []doctor.Finding
	for _, names := range groups {
		found = append(found, doctor.Finding{
			Level: doctor.Warning, Where: strings.Join(names, ", "),
			Found:  "they draw on the limits of one organisation: together they serve no more than one of them alone",
			Change: "Keep one of them, or make the others' keys in another organisation. Keys of several people or budgets need no second account: see budget and person.",
		})
	}
	switch {
	case len(found) > 0:
	case known < len(p.accounts):
		found = append(found, doctor.Finding{Level: doctor.Skipped, Found: "of some accounts upstream has not said yet which organisation they are of"})
	default:
		found = append(found, doctor.Finding{Level: doctor.OK, Found: "no two accounts are known to share limits"})
	}
	return found
}

// groupsThere are the accounts that share limits as the running Caddy knows them,
// and known how many accounts it knows the organisation of.
func (p *patient) groupsThere(ctx context.Context) (groups [][]string, known int) {
	if p.admin == nil {
		return nil, 0
	}
	var status struct {
		Pools []statusView `json:"pools"`
	}
	if err := p.admin.call(ctx, http.MethodGet, "/shunt/status", nil, nil, &status); err != nil {
		return nil, 0
	}
	for i := range status.Pools {
		pool := &status.Pools[i]
		if p.pool != "" && p.pool != pool.Pool {
			continue
		}
		for j := range pool.Accounts {
			a := &pool.Accounts[j]
			if a.Organization != nil {
				known++
			}
			if len(a.SharesLimits) == 0 {
				continue
			}
			names := []string{p.nameOf(pool.Pool, a.Name)}
			for _, other := range a.SharesLimits {
				names = append(names, p.nameOf(pool.Pool, other))
			}
			groups = addGroup(groups, names)
		}
	}
	return groups, known
}

// addGroup adds a group of names once, in whatever order they come.
func addGroup(groups [][]string, names []string) [][]string {
	slices.Sort(names)
	if slices.ContainsFunc(groups, func(g []string) bool { return slices.Equal(g, names) }) {
		return groups
	}
	return append(groups, names)
}

// groupsHere are those that the answers to free calls and the records of logins tell.
func (p *patient) groupsHere(ctx context.Context) (groups [][]string, known int) {
	facts := make([]identityFacts, len(p.accounts))
	for i := range p.accounts {
		c := &p.accounts[i]
		f := identityFacts{key: c.pool + "/" + c.config.Name, system: "api", upstream: c.handler.Upstream}
		if base, err := baseOf(c); err == nil {
			f.upstream = base.String()
		}
		if i < len(p.tried) {
			f.organization = p.tried[i].Organization
		}
		if c.config.personal() {
			f.system = "login"
		}
		if c.config.OAuth != nil {
			p.recordFacts(ctx, c, &f)
		}
		if f.organization != "" {
			known++
		}
		facts[i] = f
	}
	members := make(map[string][]string)
	var order []string
	for i, identity := range identitiesOf(facts) {
		if identity == "" {
			continue
		}
		if len(members[identity]) == 0 {
			order = append(order, identity)
		}
		members[identity] = append(members[identity], p.nameOf(p.accounts[i].pool, p.accounts[i].config.Name))
	}
	for _, identity := range order {
		if len(members[identity]) > 1 {
			groups = addGroup(groups, members[identity])
		}
	}
	return groups, known
}

// recordFacts adds what the record of a login tells.
func (p *patient) recordFacts(ctx context.Context, c *configured, f *identityFacts) {
	st, err := c.place.open(p.caddy)
	if err != nil {
		return
	}
	status, err := credential.Describe(ctx, st, credentialKey(c.pool, c.config.storedName()), time.Now())
	if err != nil {
		return
	}
	f.organization, f.person = recordedOrganization(status), status.AccountUUID
	f.seats = seatPlans[strings.ToLower(status.Subscription)]
}
