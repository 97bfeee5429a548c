package pool

import (
	"math"
	"time"
)

// rating is what an account last was to a policy. Of hundreds of accounts all but
// a few are as they were when the last request was placed, so they are rated anew
// once a second at most while nothing happens to them.
type rating struct {
	second    int64 // of the clock, 0 once something has happened to the account
	score     float64
	member    *Member
	policy    string
	family    string
	candidate Candidate
}

// rate gives the account's score with what it was made of. The candidate is good
// until the next call.
func (g *Group) rate(i int, policy Policy, req *Request, family string, now time.Time, second int64) (*Candidate, float64) {
	p, m, a := g.pool, g.members[i], g.states[i]
	stamp := p.stamps
	own, simple := policy.(builtin)
	if !simple || a.prefixStamp == stamp || a.homeStamp == stamp || a.parentStamp == stamp {
		// What depends on the request is good for no other.
		a.candidate(&p.candidate, m, family, stamp, now)
		score := policy.Score(now, req, &p.candidate)
		if math.IsNaN(score) {
			score = math.Inf(-1)
		}
		return &p.candidate, score
	}
	r := &a.rating
	if r.second != second || r.member != m || r.family != family || r.policy != own.name {
		a.candidate(&r.candidate, m, family, stamp, now)
		r.score, r.member, r.policy, r.family, r.second = own.score(&r.candidate), m, own.name, family, second
	}
	return &r.candidate, r.score
}
