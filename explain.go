package shunt

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// explainView is the answer of GET /explain.
type explainView struct {
	Pool string `json:"pool"`
	// Request is the id of the request whose decisions these are, null when this is
	// what would be decided now.
	Request   *string        `json:"request"`
	User      string         `json:"user,omitempty"`
	Model     string         `json:"model,omitempty"`
	Decisions []decisionView `json:"decisions"`
	// Note says why there are no decisions.
	Note string `json:"note,omitempty"`
}

type decisionView struct {
	Time    time.Time `json:"time"`
	Policy  string    `json:"policy,omitempty"`
	Account *string   `json:"account"`
	// Reason is pinned, session, policy, stay or none.
	Reason   string         `json:"reason"`
	Words    string         `json:"words"`
	Until    *time.Time     `json:"until"`
	Accounts []standingView `json:"accounts"`
}

type standingView struct {
	Name     string       `json:"name"`
	Open     bool         `json:"open"`
	Closed   *closureView `json:"closed,omitempty"`
	Score    finite       `json:"score"`
	Priority int          `json:"priority"`
	Own      bool         `json:"own,omitempty"`
	Weight   finite       `json:"weight"`
	InFlight int          `json:"in_flight"`
	Words    string       `json:"words"`
	Parts    partsView    `json:"parts"`
}

type closureView struct {
	Kind   string     `json:"kind"`
	Reason string     `json:"reason"`
	Until  *time.Time `json:"until"`
}

// partsView is what a policy made the score of. A window is null when it is not
// running and nothing is known of it.
type partsView struct {
	FiveHour   *headView `json:"five_hour"`
	SevenDay   *headView `json:"seven_day"`
	Family     *headView `json:"family"`
	Burn       finite    `json:"burn"`
	Bucket     finite    `json:"bucket"`
	Room       finite    `json:"room"`
	Bonus      finite    `json:"bonus"`
	WarmPrefix bool      `json:"warm_prefix"`
	Home       bool      `json:"home"`
	Parent     bool      `json:"parent"`
}

type headView struct {
	Used     finite  `json:"used"`
	Left     finite  `json:"left"`
	ResetInS *int64  `json:"reset_in_s"`
	Head     finite  `json:"head"`
	Capacity *finite `json:"capacity"`
}

// finite is null in JSON when it is none: a policy may give any score.
type finite float64

// MarshalJSON implements json.Marshaler. The last digits of a float64 are noise.
func (n finite) MarshalJSON() ([]byte, error) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, f, 'g', 10, 64), nil
}

// UnmarshalJSON implements json.Unmarshaler: null is no number.
func (n *finite) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*n = finite(math.NaN())
		return nil
	}
	return json.Unmarshal(data, (*float64)(n))
}

// closureKinds are the words for what keeps an account from serving.
var closureKinds = map[pool.ClosureKind]string{
	pool.ClosedOwner: "owner",
	pool.ClosedModel: "model",
	pool.ClosedTried: "tried",
	pool.ClosedBench: "bench",
	pool.ClosedFull:  "full",
	pool.ClosedProbe: "probe",
	pool.ClosedLimit: "limit",
	pool.ClosedOrder: "order",
	pool.ClosedBound: "bound",
	pool.ClosedBrake: "brake",
}

func (h *Handler) serveExplain(w http.ResponseWriter, r *http.Request) error {
	if !takes(w, r, http.MethodGet, http.MethodHead) {
		return nil
	}
	who, refusal := h.authenticate(r)
	setPerson(r, who)
	var answer *explainView
	if refusal == nil {
		answer, refusal = h.explain(r.URL.Query(), who)
	}
	if refusal != nil {
		refusal.Write(w)
		return nil
	}
	return writeJSON(w, http.StatusOK, answer)
}

// explain tells how an account was chosen for a request that the person may see,
// or how it would be for one that the person might make.
func (h *Handler) explain(query url.Values, who person) (*explainView, *anthropic.Error) {
	id, user, session, model := query.Get("request"), query.Get("user"), query.Get("session"), query.Get("model")
	switch {
	case id != "" && (user != "" || session != "" || model != ""):
		return nil, &anthropic.Error{Status: http.StatusBadRequest, Message: "request: cannot be asked for together with user, session or model"}
	case id != "":
		return h.explainRequest(id, who)
	case model == "":
		return nil, &anthropic.Error{Status: http.StatusBadRequest, Message: "request, model: missing; expected ?request=<id of a recent request>, or ?model=<model> with &session=<id> for what would be decided now"}
	case user == "":
		user = who.name
	case user != who.name && !who.admin:
		return nil, &anthropic.Error{Status: http.StatusForbidden, Message: "user: asking for others takes a key that is marked admin", NoRetry: true}
	}
	d := h.group.Explain(&pool.Request{
		User: user, Session: session, Model: model, Endpoint: anthropic.EndpointMessages, CacheLife: anthropic.CacheLife, Home: h.ResourceAccount,
	}, min(pool.MaxStay, h.holdDuration()))
	return &explainView{Pool: h.Pool, User: user, Model: model, Decisions: []decisionView{viewDecision(&d)}}, nil
}

// explainRequest tells about a recent request. To others than admins, somebody
// else's is as one that is not known.
func (h *Handler) explainRequest(id string, who person) (*explainView, *anthropic.Error) {
	v := h.group.View()
	remembered := 0
	for i := range v.Recent {
		r := &v.Recent[i]
		if !who.admin && r.User != who.name {
			continue
		}
		remembered++
		if r.ID != id {
			continue
		}
		answer := &explainView{Pool: h.Pool, Request: &r.ID, User: r.User, Model: r.Model, Decisions: []decisionView{}}
		for _, d := range h.live.state.Decisions(id) {
			answer.Decisions = append(answer.Decisions, viewDecision(&d))
		}
		if len(answer.Decisions) == 0 {
			answer.Note = "no account was looked for, or it was before the last restart"
		}
		return answer, nil
	}
	whose := "of this pool"
	if !who.admin {
		whose = "of yours"
	}
	return nil, &anthropic.Error{Status: http.StatusNotFound, NoRetry: true, Message: fmt.Sprintf(
		"request: %q is not among the %d requests %s that are remembered; one is remembered when it has ended, and only the last ones are", truncate(id), remembered, whose)}
}

func viewDecision(d *pool.Decision) decisionView {
	v := decisionView{
		Time: d.Time.UTC(), Policy: d.Policy, Account: optional(d.Account), Reason: d.Reason, Words: d.Words(), Until: moment(d.Until),
		Accounts: make([]standingView, 0, len(d.Accounts)),
	}
	for i := range d.Accounts {
		v.Accounts = append(v.Accounts, viewStanding(&d.Accounts[i]))
	}
	return v
}

func viewStanding(s *pool.Standing) standingView {
	v := standingView{
		Name: s.Name, Open: s.Closed.Kind == pool.Open, Score: finite(s.Score), Priority: s.Priority, Own: s.Own, Weight: finite(s.Weight), InFlight: s.InFlight, Words: s.Words(),
		Parts: partsView{
			FiveHour: viewHead(&s.FiveHour, s.Burn), SevenDay: viewHead(&s.SevenDay, 0), Family: viewHead(&s.Family, 0),
			Burn: finite(s.Burn), Bucket: finite(s.Bucket), Room: finite(s.Room()), Bonus: finite(s.Bonus()),
			WarmPrefix: s.WarmPrefix, Home: s.Home, Parent: s.Parent,
		},
	}
	if !v.Open {
		v.Closed = &closureView{Kind: closureKinds[s.Closed.Kind], Reason: s.Closed.Reason, Until: moment(s.Closed.Until)}
	}
	return v
}

// viewHead tells of a window with its head as the policy sees it.
func viewHead(w *pool.Window, ahead float64) *headView {
	if *w == (pool.Window{}) {
		return nil
	}
	v := &headView{Used: finite(w.Used), Left: finite(w.Left), Head: finite(w.Head(ahead))}
	if w.ResetIn > 0 {
		seconds := int64(w.ResetIn.Seconds())
		v.ResetInS = &seconds
	}
	if w.Capacity > 0 {
		capacity := finite(w.Capacity)
		v.Capacity = &capacity
	}
	return v
}

// moment is a time in JSON, null for none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
