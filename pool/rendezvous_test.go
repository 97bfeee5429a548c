package pool

import (
	"fmt"
	"math"
	"testing"
)

// TestInstancesDrawTheSameAccount: two pools that know the same agree on every
// session's account, whatever their seeds, and the sessions spread by weight.
func TestInstancesDrawTheSameAccount(t *testing.T) {
	const sessions = 4000
	for name, weights := range map[string][]int{"alike": {0, 0, 0, 0}, "by weight": {1, 2, 1, 4}} {
		t.Run(name, func(t *testing.T) {
			group := func(seed uint64, order []int) *Group {
				var ms []*Member
				for _, i := range order {
					n := fmt.Sprintf("account-%d", i)
					ms = append(ms, &Member{Name: n, Key: n, Weight: weights[i]})
				}
				return New(newClock(), seed).Group(ms, Policies["least_used"])
			}
			one, other := group(1, []int{0, 1, 2, 3}), group(2, []int{3, 1, 0, 2})
			got := map[string]float64{}
			for i := range sessions {
				req := message(fmt.Sprint("session-", i))
				a, b := one.Explain(req, 0), other.Explain(req, 0)
				if a.Account != b.Account {
					t.Fatalf("session %d: %s here, %s there", i, a.Account, b.Account)
				}
				got[a.Account]++
			}
			total := 0.0
			for _, w := range weights {
				total += float64(max(1, w))
			}
			for i, w := range weights {
				n := fmt.Sprintf("account-%d", i)
				want := sessions * float64(max(1, w)) / total
				if off := math.Abs(got[n] - want); off > 4*math.Sqrt(want) {
					t.Errorf("%s got %v of %d sessions, want about %v", n, got[n], sessions, want)
				}
			}
		})
	}
}

// TestLotsStayTheSame: another version must not send sessions elsewhere.
func TestLotsStayTheSame(t *testing.T) {
	key := sessionKey{User: "ann", Session: "s", Family: "sonnet"}
	if got := lot(key.hash(), hashText(fnvOffset, "main")); got != 0x73a8780447dd1ae0 {
		t.Errorf("the lot is %#x", got)
	}
}

// TestOwnAccountFirst: a person's own account comes before all others, which are
// the overflow; to everybody else it is closed.
func TestOwnAccountFirst(t *testing.T) {
	c := newClock()
	g := New(c, 1).Group([]*Member{
		{Name: "shared", Key: "shared"},
		{Name: "everybodys", Key: "everybodys", Owners: []string{"*"}},
		{Name: "anns-second", Key: "anns-second", Owners: []string{"ann"}, Priority: 9},
		{Name: "anns", Key: "anns", Owners: []string{"bob", "ann"}, Priority: 5, MaxConcurrent: 1},
	}, Policies["least_used"])
	ask := func(user string) (*Lease, string) {
		req := message("")
		req.User = user
		words := ""
		if d := g.Explain(req, 0); d.Reason == ReasonPolicy {
			words = d.Words()
		}
		return pick(t, g, req), words
	}
	first, words := ask("ann")
	if first.Member.Name != "anns" || words != "anns is the person's own account, which comes before the others" {
		t.Errorf("the first went to %s: %s", first.Member.Name, words)
	}
	if second, _ := ask("ann"); second.Member.Name != "anns-second" {
		t.Errorf("with the own account full the request went to %s", second.Member.Name)
	}
	if bobs, _ := ask("bob"); bobs.Member.Name != "shared" && bobs.Member.Name != "everybodys" {
		t.Errorf("with the own account full Bob's request went to %s", bobs.Member.Name)
	}
	for _, user := range []string{"carol", ""} {
		if lease, _ := ask(user); lease.Member.Owned("ann") {
			t.Errorf("%q was given %s", user, lease.Member.Name)
		}
	}
}
