package pool

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// FuzzRestore: whatever the record says, the pool works, no policy is given
// nonsense, and what it saves can be restored.
func FuzzRestore(f *testing.F) {
	c := newClock()
	g := group(c, members("a")...)
	lease, _ := g.Pick(message("s"))
	lease.Report(windowSpent(c.now.Add(time.Hour)), &anthropic.Limits{
		Windows: []anthropic.Window{{Name: "7d", Utilization: 1}, {Name: "5h", Utilization: 0.4, Reset: c.now.Add(time.Hour)}, {Name: "7d_opus", Utilization: 0.4}},
		Buckets: []anthropic.Bucket{{Name: "tokens", Limit: 10, Remaining: 5, Reset: c.now.Add(time.Minute)}},
	})
	lease.Hold("file_1", ResourceLife)
	lease.End(anthropic.Usage{InputTokens: 1000})
	g.Pool().Finish(Record{ID: "r"}, "a#1", nil)
	data, _, _ := g.Pool().Snapshot()
	f.Add(data)
	f.Add([]byte(`{"version":1,"accounts":[{"key":"a#1","windows":{"5h":null}}],"people":{"x":null}}`))
	for _, account := range []string{
		`"burn":{"sum":1e308,"at":"2026-11-23T11:59:00Z"}`,
		`"burn":{"sum":-1e9,"at":"2026-11-23T11:59:00Z"}`,
		`"burn":{"sum":1e9,"at":"9999-01-01T00:00:00Z"}`,
		`"burn":{"sum":1e308}`,
		`"in_flight_limit":1e308`,
		`"in_flight_limit":-3`,
		`"in_flight_limit":1e-320`,
		`"strikes":9223372036854775807,"suspect":true`,
		`"strikes":-9223372036854775808`,
		`"windows":{"5h":{"utilization":1e308,"utilization_at":"2026-11-23T11:00:00Z"}}`,
		`"windows":{"5h":{"utilization":-1e308,"utilization_at":"2026-11-23T11:00:00Z","reset":"2026-11-23T12:00:01Z","reset_at":"2026-11-23T11:00:00Z"}}`,
		`"windows":{"7d":{"utilization":-1e308,"utilization_at":"2026-11-23T11:00:00Z","reset":"2026-11-23T12:00:01Z","reset_at":"2026-11-23T11:00:00Z"}}`,
		`"windows":{"7d_opus":{"utilization":-1e308,"utilization_at":"2026-11-23T11:00:00Z","reset":"9999-11-23T12:00:01Z","reset_at":"2026-11-23T11:00:00Z"}}`,
		`"windows":{"5h":{"capacity":{"cost":1e308,"growth":1e-320,"utilization":0}}}`,
		`"windows":{"5h":{"capacity":{"cost":1e308,"growth":2.99,"spent":1e308,"utilization":0}}}`,
		`"windows":{"5h":{"capacity":{"cost":1e308,"growth":0,"utilization":0}}}`,
		`"windows":{"5h":{"capacity":{"cost":1,"growth":1e-320,"utilization":0}}}`,
		`"windows":{"5h":{"capacity":{"cost":1,"growth":1e308,"utilization":-1e308}}}`,
		`"windows":{"5h":{"capacity":{"cost":1,"growth":-5,"utilization":0}}}`,
		`"buckets":{"tokens":{"limit":1,"remaining":-9223372036854775808,"at":"0001-01-01T00:00:00Z","reset":"9999-01-01T00:00:00Z"}}`,
		`"benches":[{"until":"2026-11-23T12:00:05Z","since":"9999-11-23T12:00:00Z","source":"default"}],"totals":{"requests":9223372036854775807}`,
	} {
		f.Add(fmt.Appendf(nil, `{"version":2,"accounts":[{"key":"a#1","last_used":"2026-11-23T11:59:00Z",%s}]}`, account))
	}
	f.Add([]byte(`{"version":2,"costs":{"opus":1e308,"haiku":-1}}`))
	f.Add([]byte(`{"version":2,"sessions":[{"session":"s","family":"opus","user":"ann","account":"a#1","until":"9999-01-01T00:00:00Z","tokens":9223372036854775807}]}`))

	f.Fuzz(func(t *testing.T, data []byte) {
		c := newClock()
		g := group(c, members("a", "b")...)
		if g.Pool().Restore(data) != nil {
			return
		}
		fit := func(what string, x float64) {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				t.Errorf("%s is %v", what, x)
			}
		}
		score := func() {
			for i, a := range g.states {
				var candidate Candidate
				a.candidate(&candidate, g.members[i], "opus", 1, c.now)
				for name, policy := range Policies {
					fit(name+"'s score", policy.Score(c.now, message("s"), &candidate))
				}
				fit("its capacity", candidate.FiveHour.Capacity+candidate.SevenDay.Capacity+candidate.Family.Capacity)
				fit("what is reserved", a.reserved)
				if candidate.Burn < 0 {
					t.Errorf("it burns %v", candidate.Burn)
				}
			}
		}
		score()
		g.View()
		g.Explain(message("s"), MaxStay)
		for step := range 40 {
			// Two at once, troubles in a row, then what goes well.
			first, refused := g.Pick(message("s"))
			second, _ := g.Pick(message(""))
			if first == nil && refused.Hopeless() {
				t.Errorf("hopeless: %s", refused.Words(c.now))
			}
			score()
			for _, lease := range []*Lease{first, second} {
				if lease == nil {
					continue
				}
				if step < 8 {
					lease.Report(&anthropic.Verdict{Name: "key_refused", Scope: anthropic.ScopeAccount, Until: c.now.Add(time.Minute), Source: "default"}, nil)
					lease.Blame(&anthropic.Unreachable)
				} else {
					reset := c.now.Truncate(5 * time.Hour).Add(5 * time.Hour)
					lease.Report(&served, &anthropic.Limits{Windows: []anthropic.Window{{Name: "5h", Utilization: float64(step) / 50, Reset: reset}, {Name: "7d", Utilization: float64(step) / 50}}})
				}
				lease.End(anthropic.Usage{InputTokens: 1 << 30, OutputTokens: 1 << 30})
				lease.End(anthropic.Usage{InputTokens: 1 << 30})
			}
			score()
			c.advance(10 * time.Minute)
		}
		for _, a := range g.pool.accounts {
			if a.inFlight != 0 || a.reserved != 0 {
				t.Errorf("%s has %d in flight and %v reserved", a.name, a.inFlight, a.reserved)
			}
		}
		out, _, err := g.Pool().Snapshot()
		if err != nil {
			t.Fatalf("no snapshot of a restored pool: %v", err)
		}
		again := group(c, members("a", "b")...)
		if err := again.Pool().Restore(out); err != nil {
			t.Fatalf("its snapshot cannot be restored: %v", err)
		}
		if twice, _, err := again.Pool().Snapshot(); err != nil || bytes.Equal(twice, nil) {
			t.Errorf("no snapshot of a pool that was restored twice: %v", err)
		}
	})
}

// FuzzScore: no candidate, however absurd, gets a score that is none, and to
// have used more never makes an account better.
func FuzzScore(f *testing.F) {
	f.Add(0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.1, 0.2, uint8(3), uint64(7), 0.1)
	f.Add(0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, uint8(0), uint64(0), 1.0)
	f.Add(1.3, 0.0, 1.3, 0.0, 1.3, 0.0, 9.0, 1.0, uint8(7), uint64(1<<63), 1e308)
	f.Add(-1e308, 1e-320, 1e308, 1e-320, -1e308, 1e-320, 1e308, 1e308, uint8(255), uint64(math.MaxUint64), 1e308)
	f.Add(1e308, -1e308, -1e308, -1e308, 1e308, -1e308, -1e308, -1e308, uint8(1), uint64(5), 1e-9)
	f.Add(0.5, 0.5, 0.5, 0.5, 2.0, 0.5, 0.1, 0.2, uint8('f'), uint64(7), 0.1)
	f.Add(0.94, 0.9, 0.7, 0.1, 0.99, 0.99, 0.05, 0.0, uint8(2), uint64(5), 0.01)
	f.Fuzz(func(t *testing.T, five, fiveLeft, seven, sevenLeft, family, familyLeft, burn, bucket float64, marks uint8, turn uint64, more float64) {
		numbers := []float64{five, fiveLeft, seven, sevenLeft, family, familyLeft, burn, bucket, more}
		if slices.ContainsFunc(numbers, func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) }) {
			return // nothing that a pool gives to a policy, see FuzzRestore
		}
		left := func(used, share float64, length time.Duration) Window {
			return Window{Used: used, Left: share, ResetIn: time.Duration(min(1, max(0, share)) * float64(length)), Capacity: 1e7}
		}
		c := Candidate{
			Name: "a", Weight: 1 + float64(marks>>3), FiveHour: left(five, fiveLeft, 5*time.Hour), SevenDay: left(seven, sevenLeft, 7*24*time.Hour),
			Family: left(family, familyLeft, 7*24*time.Hour), Burn: burn, Bucket: bucket, InFlight: int(turn >> 32),
			WarmPrefix: marks&1 != 0, Home: marks&2 != 0, Parent: marks&4 != 0, Turn: turn,
		}
		c.FiveHour.Idle, c.SevenDay.Idle = marks&8 != 0 && five == 0, marks&16 != 0 && seven == 0
		for name, policy := range Policies {
			score := policy.Score(time.Time{}, message("s"), &c)
			if math.IsNaN(score) {
				t.Fatalf("%s scores %+v as %v", name, c, score)
			}
			if again := policy.Score(time.Time{}, message("s"), &c); again != score {
				t.Errorf("%s scores the same as %v and %v", name, score, again)
			}
		}
		// From here on only what upstream may tell: a share, and one of time.
		share := func(x, most float64) bool { return x >= 0 && x <= most }
		if !share(five, 2) || !share(seven, 2) || !share(family, 2) || !share(burn, 2) || !share(bucket, 1) || !share(more, 2) ||
			!share(fiveLeft, 1) || !share(sevenLeft, 1) || !share(familyLeft, 1) {
			return
		}
		before := balanced(&c)
		for name, change := range map[string]func(c *Candidate){
			"five hours":    func(c *Candidate) { c.FiveHour.Used += more },
			"seven days":    func(c *Candidate) { c.SevenDay.Used += more },
			"family's week": func(c *Candidate) { c.Family.Used += more },
			"burn":          func(c *Candidate) { c.Burn += more },
			"bucket":        func(c *Candidate) { c.Bucket = min(1, c.Bucket+more) },
		} {
			worse := c
			change(&worse)
			if after := balanced(&worse); after > before+1e-9 {
				t.Errorf("with %v more of its %s used the account scores %v instead of %v: %+v", more, name, after, before, c)
			}
		}
	})
}
