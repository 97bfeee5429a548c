package shunt

import (
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// Accounts of one organisation draw on the same limits. Which organisation an
// account is of is told by upstream with every answer, and by some credentials'
// records before the first. Resets that are equal say nothing: they are on the hour.

// organizationHeader names the account's organisation in every answer of the API.
const organizationHeader = "Anthropic-Organization-Id"

// maxOrganization bounds an organisation's id; upstream's are UUIDs.
const maxOrganization = 64

// sawOrganization takes note of the organisation that an answer names.
func (h *Handler) sawOrganization(a *account, header http.Header) {
	values := header[organizationHeader]
	if len(values) == 0 {
		return
	}
	if last := a.organization.Load(); last != nil && *last == values[0] {
		return
	}
	h.learnOrganization(a, values[0])
}

// sawRecord takes note of a new record of a credential: it may name another
// organisation, or another person's seat.
func (h *Handler) sawRecord(a *account) {
	if organization := recordedOrganization(a.source.Status()); organization != "" {
		h.learnOrganization(a, organization)
		return
	}
	h.live.organizations.Lock()
	defer h.live.organizations.Unlock()
	h.identify()
}

// recordedOrganization is the organisation that a credential's record names. By
// what it was made from, a record has the organisation's name or its id: only the
// id can be compared with upstream's.
func recordedOrganization(status credential.Status) string {
	if looksLikeUUID(status.Organization) {
		return status.Organization
	}
	return ""
}

func (h *Handler) learnOrganization(a *account, organization string) {
	if organization == "" || len(organization) > maxOrganization || strings.ContainsAny(organization, " \t") {
		return
	}
	h.live.organizations.Lock()
	defer h.live.organizations.Unlock()
	a.organization.Store(&organization)
	h.identify()
}

// identify tells the pool whose limits the handler's accounts draw on, and reports
// those that turn out to share. organizations must be held.
func (h *Handler) identify() {
	known := make(map[string]string) // identities, by Member.Key
	for _, v := range h.group.View().Accounts {
		known[v.Member.Key] = v.Identity
	}
	facts := make([]identityFacts, len(h.accounts))
	for i, a := range h.accounts {
		facts[i] = a.identityFacts(known[a.member.Key])
	}
	identities := identitiesOf(facts)
	for i, a := range h.accounts {
		if identities[i] != "" && identities[i] != known[a.member.Key] {
			h.live.state.Identify(a.member.Key, identities[i])
		}
	}
	for i, a := range h.accounts {
		for j, b := range h.accounts[:i] {
			if identities[i] != "" && identities[i] == identities[j] {
				h.reportSharing(b.config.Name, a.config.Name)
			}
		}
	}
}

// reportSharing reports a pair once. organizations must be held.
func (h *Handler) reportSharing(a, b string) {
	if h.live.oneOrganization == nil {
		h.live.oneOrganization = make(map[[2]string]bool)
	}
	if pair := [2]string{a, b}; !h.live.oneOrganization[pair] {
		h.live.oneOrganization[pair] = true
		h.sameOrganization(a, b)
	}
}

// sameOrganization is called once for each two accounts that are found to draw on
// one organisation's limits.
func (h *Handler) sameOrganization(a, b string) {
	h.logger.Warn("accounts "+a+" and "+b+" draw on the same organisation's limits; the second adds no capacity",
		logPool(h.Pool), zap.Strings("accounts", []string{a, b}))
	h.emit(eventSameOrganization, map[string]any{"accounts": []string{a, b}})
}

// organizationNow is the organisation as it was last heard of, by this handler or
// by the pool before it, or as its credential's record has it; empty when nobody has said it.
func (a *account) organizationNow(identity string) string {
	if last := a.organization.Load(); last != nil {
		return *last
	}
	if parts := strings.Fields(identity); len(parts) >= 3 {
		return parts[2]
	}
	return recordedOrganization(a.source.Status())
}

func (a *account) identityFacts(identity string) identityFacts {
	status := a.source.Status()
	f := identityFacts{key: a.member.Key, system: "api", upstream: a.base.String(), organization: a.organizationNow(identity)}
	if status.Kind == credential.KindOAuth || status.Kind == credential.KindSetupToken {
		f.system, f.person = "login", status.AccountUUID
		f.seats = seatPlans[strings.ToLower(status.Subscription)]
	}
	return f
}

// seatPlans are the plans whose organisation has many seats, each with windows of
// its own. That of any other is one person's.
var seatPlans = map[string]bool{"team": true, "enterprise": true}

// identityFacts are what tells whose limits an account draws on.
type identityFacts struct {
	key string
	// system is "api" for keys, "login" for logins and setup tokens: what is used with
	// one kind is not counted for the other.
	system, upstream, organization string
	// person is the account's uuid, empty when not known.
	person string
	seats  bool
}

// base is the identity as far as the organisation goes, empty when it is not known.
func (f *identityFacts) base() string {
	if f.organization == "" {
		return ""
	}
	return f.system + " " + f.upstream + " " + f.organization
}

// identitiesOf gives accounts that draw on the same limits the same identity, and
// an empty one to those whose organisation is not known. Two logins of one
// organisation are one unless they are known to be two people's, or may be: a seat
// of which it is not known whose it is shares with nobody.
func identitiesOf(facts []identityFacts) []string {
	many := make(map[string]bool)     // organisations with more than one person, by base
	person := make(map[string]string) // the one that is known, by base
	for i := range facts {
		f := &facts[i]
		base := f.base()
		switch other := person[base]; {
		case f.seats, f.person != "" && other != "" && other != f.person:
			many[base] = true
		case f.person != "":
			person[base] = f.person
		}
	}
	identities := make([]string, len(facts))
	for i := range facts {
		f := &facts[i]
		base := f.base()
		switch {
		case base == "" || !many[base]:
			identities[i] = base
		case f.person != "":
			identities[i] = base + " " + f.person
		case f.seats:
			identities[i] = base + " " + f.key
		default:
			identities[i] = base
		}
	}
	return identities
}

// looksLikeUUID reports whether s has the form of a UUID.
func looksLikeUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		if dash != (c == '-') || !dash && !hex {
			return false
		}
	}
	return true
}
