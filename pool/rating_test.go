package pool

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// TestRatingsFollowWhatHappens: what is remembered of an account's score is what
// it would be if it were looked at anew, whatever has happened to the account.
func TestRatingsFollowWhatHappens(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b", "c", "d")...)
	rnd := rand.New(rand.NewPCG(1, 2))
	var leases []*Lease
	for step := range 3000 {
		c.advance(time.Duration(rnd.IntN(3)) * 100 * time.Millisecond)
		what := "nothing"
		switch n := rnd.IntN(6); {
		case n < 2:
			if lease, _ := g.Pick(message(fmt.Sprint("s", rnd.IntN(5)))); lease != nil {
				what, leases = "a pick", append(leases, lease)
			}
		case n < 4 && len(leases) > 0:
			what = "an answer"
			l := leases[rnd.IntN(len(leases))]
			l.Report(&served, &anthropic.Limits{Windows: []anthropic.Window{
				{Name: "5h", Utilization: rnd.Float64(), Reset: c.now.Add(time.Hour)}, {Name: "7d", Utilization: rnd.Float64(), Reset: c.now.Add(100 * time.Hour)},
			}})
		case n == 4 && len(leases) > 0:
			what = "an end"
			leases[0].End(anthropic.Usage{OutputTokens: rnd.Int64N(100_000)})
			leases = leases[1:]
		case n == 5 && rnd.IntN(20) == 0:
			what = "a snapshot of another"
			if data, _, err := g.pool.Snapshot(); err != nil || g.pool.Restore(data) != nil {
				t.Fatal(err)
			}
		}
		second := c.now.Unix()
		for i, a := range g.states {
			_, kept := g.rate(i, Policies["balanced"], message(""), "opus", c.now, second)
			var fresh Candidate
			a.candidate(&fresh, g.members[i], "opus", g.pool.stamps, c.now)
			anew := balanced(&fresh)
			if anew < -1e5 && kept < -1e5 {
				anew, kept = anew+1e6, kept+1e6 // of those without room, how far
			}
			// Within a second rates of use and the rest of a window fade a little.
			if math.Abs(anew-kept) > 1e-2*max(1, math.Abs(anew)) {
				t.Fatalf("step %d: after %s %s is rated %v, and anew %v", step, what, a.name, kept, anew)
			}
		}
	}
	// Another family, another configuration and another policy are rated apart.
	for range 3 {
		for _, policy := range []string{"balanced", "least_used", "round_robin"} {
			for _, family := range []string{"opus", "haiku"} {
				other := g.pool.Group([]*Member{{Name: "a", Key: "a#1", Weight: 7}}, Policies[policy])
				candidate, score := other.rate(0, Policies[policy], message(""), family, c.now, c.now.Unix())
				if want := Policies[policy].Score(c.now, message(""), candidate); candidate.Weight != 7 || score != want {
					t.Errorf("%s for %s: %v of weight %v, want %v", policy, family, score, candidate.Weight, want)
				}
				g.rate(0, Policies["balanced"], message(""), "opus", c.now, c.now.Unix())
			}
		}
	}
}
