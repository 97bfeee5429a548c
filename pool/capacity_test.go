package pool

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// plan is an account as upstream keeps it: it knows how much it holds and tells
// only rounded shares.
type plan struct {
	holds  float64
	spent  float64
	reset  time.Time
	jitter time.Duration
	rnd    *rand.Rand
}

// tell is what an answer says of the window now.
func (p *plan) tell() anthropic.Window {
	w := anthropic.Window{Name: "5h", Utilization: math.Round(100*p.spent/p.holds) / 100, Reset: p.reset}
	if p.jitter > 0 {
		w.Reset = w.Reset.Add(time.Duration(p.rnd.Int64N(int64(2*p.jitter)) - int64(p.jitter)))
	}
	return w
}

func TestCapacityIsLearned(t *testing.T) {
	for _, test := range []struct {
		name    string
		holds   float64
		windows int
		fill    float64 // how far each window is used
		jitter  time.Duration
		outside float64 // share of all use that does not come through here
		overlap int     // requests in flight, whose answers come in any order
		want    float64 // of what it holds
	}{
		{name: "the guess is right", holds: firstCapacity, windows: 3, fill: 0.95, want: 1},
		{name: "a plan of a fifth", holds: firstCapacity / 5, windows: 4, fill: 0.95, want: 1},
		{name: "a plan of four times", holds: firstCapacity * 4, windows: 4, fill: 0.95, want: 1},
		{name: "windows that are hardly used", holds: firstCapacity, windows: 12, fill: 0.3, want: 1},
		{name: "resets that jitter", holds: firstCapacity, windows: 4, fill: 0.95, jitter: 5 * time.Second, want: 1},
		{name: "answers out of order", holds: firstCapacity, windows: 4, fill: 0.95, overlap: 4, jitter: time.Second, want: 1},
		{name: "a little use outside", holds: firstCapacity, windows: 4, fill: 0.95, outside: 0.05, want: 1},
		// What others take of it is not there for us.
		{name: "much use outside", holds: firstCapacity, windows: 4, fill: 0.95, outside: 0.3, want: 0.7},
		{name: "all at once", holds: firstCapacity, windows: 6, fill: 0.8, outside: 0.05, overlap: 4, jitter: 3 * time.Second, want: 0.95},
	} {
		t.Run(test.name, func(t *testing.T) {
			for seed := range uint64(5) {
				rnd := rand.New(rand.NewPCG(seed, 3))
				c := newClock()
				g, policy := spied(c, "a")
				up := &plan{holds: test.holds, jitter: test.jitter, rnd: rnd}
				type flight struct {
					lease *Lease
					used  anthropic.Usage
					told  anthropic.Window
				}
				// A head is overtaken by three others at most, an end by any.
				var heads, flights []flight
				overtaken := 0
				head := func() {
					i := rnd.IntN(min(2, len(heads)))
					if overtaken += i; i == 0 || overtaken > 3 {
						i, overtaken = 0, 0
					}
					f := heads[i]
					heads = slices.Delete(heads, i, i+1)
					f.lease.Report(&served, &anthropic.Limits{Windows: []anthropic.Window{f.told}})
					flights = append(flights, f)
				}
				land := func() {
					i := rnd.IntN(len(flights))
					f := flights[i]
					flights = slices.Delete(flights, i, i+1)
					f.lease.End(f.used)
				}
				for range test.windows {
					up.spent, up.reset = 0, c.now.Add(5*time.Hour)
					for up.spent < test.fill*up.holds {
						c.advance(20 * time.Second)
						used := anthropic.Usage{InputTokens: 100 + rnd.Int64N(2000), CacheReadTokens: rnd.Int64N(100_000), OutputTokens: rnd.Int64N(4000)}
						heads = append(heads, flight{pick(t, g, message("")), used, up.tell()})
						cost := anthropic.Load("claude-opus-5", used)
						up.spent += cost / (1 - test.outside)
						if len(heads) > min(1, test.overlap) {
							head()
						}
						if len(flights) > test.overlap {
							land()
						}
					}
					for len(heads) > 0 {
						head()
					}
					for len(flights) > 0 {
						land()
					}
					if c.advance(up.reset.Sub(c.now)); up.reset.After(c.now) {
						t.Fatal("the window was used for longer than it lasts")
					}
				}
				placedBy(t, g, message(""))
				got, want := policy.seen["a"].FiveHour.Capacity, test.want*test.holds
				if math.Abs(got-want) > 0.1*want {
					t.Errorf("seed %d: learned %.4g, want %.4g", seed, got, want)
				}
				// The guess that it began with outweighs little of that.
				if got := g.pool.accounts["a#1"].limits.fiveHourCapacity(1); math.Abs(got-want) > 0.15*want {
					t.Errorf("seed %d: reckons with %.4g, want %.4g", seed, got, want)
				}
			}
		})
	}
}

func TestCapacityOfAnotherPlanIsLearnedAnew(t *testing.T) {
	var c capacity
	now := newClock().now
	use := func(holds float64, windows int) {
		for range windows {
			now = now.Add(5 * time.Hour)
			for u := range 91 {
				c.told(float64(u)/100, now)
				c.Spent += holds / 100
			}
		}
	}
	use(1e6, 20)
	if got := c.units(); math.Abs(got-1e6) > 1e4 {
		t.Errorf("learned %v", got)
	}
	use(5e6, 10)
	if got := c.units(); math.Abs(got-5e6) > 5e5 {
		t.Errorf("after a change of plan it is taken for %v", got)
	}
}

func TestNothingIsLearnedFromAWindowThatBeginsUsed(t *testing.T) {
	c := newClock()
	g, policy := spied(c, "a")
	for range 3 {
		// Whoever used it, it was not we.
		lease := pick(t, g, message(""))
		lease.Report(&served, &anthropic.Limits{Windows: []anthropic.Window{{Name: "5h", Utilization: 0.6, Reset: c.now.Add(4 * time.Hour)}}})
		lease.End(anthropic.Usage{OutputTokens: 100})
		placedBy(t, g, message(""))
		if got := policy.seen["a"].FiveHour; got.Capacity != 0 || got.Used != 0.6 {
			t.Errorf("after %+v", got)
		}
		c.advance(6 * time.Hour)
	}
}

// TestAFamilysWindowLearnsFromItsFamily: what another model costs is not spent there.
func TestAFamilysWindowLearnsFromItsFamily(t *testing.T) {
	c := newClock()
	g, policy := spied(c, "a")
	for i := range 90 {
		for _, model := range []string{"claude-opus-5", "claude-sonnet-5"} {
			req := message("")
			req.Model = model
			lease := pick(t, g, req)
			lease.Report(&served, &anthropic.Limits{Windows: []anthropic.Window{
				{Name: "7d_opus", Utilization: float64(i) / 100, Reset: c.now.Add(50 * time.Hour)}, {Name: "7d", Utilization: float64(i) / 200, Reset: c.now.Add(50 * time.Hour)},
			}})
			lease.End(anthropic.Usage{OutputTokens: 4000}) // 100e3 units of opus, 40e3 of sonnet
		}
	}
	placedBy(t, g, message(""))
	if got := policy.seen["a"].Family.Capacity; math.Abs(got-100*100e3) > 1e5 {
		t.Errorf("the model's week holds %v", got)
	}
	if got := policy.seen["a"].SevenDay.Capacity; math.Abs(got-200*140e3) > 1e6 {
		t.Errorf("the week holds %v", got)
	}
}

func TestLateAnswersTeachNothing(t *testing.T) {
	var c capacity
	reset := newClock().now.Add(time.Hour)
	for _, step := range []struct {
		told, spent float64
	}{{0.50, 0}, {0.51, 1e5}, {0.50, 1e5}, {0.50, 0}, {0.52, 0}, {0.50, 0}, {0.51, 0}, {0.53, 1e5}} {
		c.Spent += step.spent
		c.told(step.told, reset.Add(time.Duration(100*step.told)*time.Second))
	}
	if c.Cost != 3e5 || math.Abs(c.Growth-0.03) > 1e-9 {
		t.Errorf("learned %v from a growth of %v", c.Cost, c.Growth)
	}
}

// TestBurnIsWhatWillBeUsedSoon: what sessions cost lately and what is in flight,
// as a share of what the window was found to hold.
func TestBurnIsWhatWillBeUsedSoon(t *testing.T) {
	c := newClock()
	g, policy := spied(c, "a")
	burn := func() float64 {
		placedBy(t, g, message(""))
		return policy.seen["a"].Burn
	}
	if got := burn(); got != 0 {
		t.Errorf("an idle account burns %v", got)
	}
	for range 100 {
		c.advance(time.Minute)
		lease := pick(t, g, message(""))
		lease.End(anthropic.Usage{InputTokens: 20_000}) // 100e3 units
	}
	// A steady rate of 1e5 a minute for ten minutes.
	if got, want := burn(), 10*1e5/firstCapacity; math.Abs(got-want) > 0.25*want {
		t.Errorf("burns %v, want about %v", got, want)
	}
	before := burn()
	lease := pick(t, g, message(""))
	if got := burn(); got <= before {
		t.Errorf("a request in flight does not count: %v, then %v", before, got)
	}
	lease.End(anthropic.Usage{})
	if got := burn(); got != before {
		t.Errorf("%v is left of a request that cost nothing, want %v", got, before)
	}
	for last := before; last > 0; last = burn() {
		c.advance(5 * time.Minute)
		if got := burn(); got >= last {
			t.Fatalf("%v did not fade from %v", got, last)
		}
	}
	if passed := c.now.Sub(newClock().now); passed > 4*time.Hour {
		t.Errorf("it took %v to fade", passed)
	}
}

func TestTheInFlightLimitIsLearned(t *testing.T) {
	c := newClock()
	g := group(c, members("a")...)
	fill := func() (n int, leases []*Lease) {
		for {
			lease, refused := g.Pick(message(""))
			if lease == nil {
				if !refused.Busy {
					t.Fatalf("%s", refused.Words(c.now))
				}
				return len(leases), leases
			}
			if leases = append(leases, lease); len(leases) > 2*mostInFlight {
				return len(leases), leases
			}
		}
	}
	empty := func(leases []*Lease) {
		for _, l := range leases {
			l.End(anthropic.Usage{})
		}
	}
	// rest waits out a burst and shows that the account serves again.
	rest := func() {
		c.advance(2 * time.Second)
		lease := pick(t, g, message(""))
		lease.state.clear(lease.family, lease.begun, c.now)
		lease.End(anthropic.Usage{})
	}
	bursts := func(inFlight int) {
		var leases []*Lease
		for range inFlight {
			leases = append(leases, pick(t, g, message("")))
		}
		leases[0].Report(&anthropic.Verdict{Name: verdictBurst, Scope: anthropic.ScopeAccount, Until: c.now.Add(2 * time.Second), Source: "retry-after"}, nil)
		empty(leases)
		rest()
	}
	n, leases := fill()
	empty(leases)
	if n <= mostInFlight {
		t.Fatalf("an account that never complained is closed at %d", n)
	}
	for _, step := range []struct{ inFlight, want int }{{16, 8}, {8, 4}, {4, 2}, {2, 1}, {1, 1}} {
		bursts(step.inFlight)
		n, leases := fill()
		empty(leases)
		if n != step.want {
			t.Errorf("after a burst with %d in flight it takes %d, want %d", step.inFlight, n, step.want)
		}
	}
	// Counting tokens has limits of its own.
	_, leases = fill()
	free := pick(t, g, &Request{User: "ann", Model: "claude-opus-5", Endpoint: anthropic.EndpointCountTokens})
	free.End(anthropic.Usage{})
	empty(leases)
	// It rises again by about one each time that all it takes have been served.
	last := 1
	for range 6 {
		for range last {
			serve(t, g, message(""))
		}
		n, leases := fill()
		empty(leases)
		if n < last || n > last+2 {
			t.Errorf("from %d it went to %d", last, n)
		}
		last = n
	}
	if last < 5 {
		t.Errorf("it recovered to %d only", last)
	}
	for range mostInFlight * mostInFlight {
		serve(t, g, message(""))
	}
	if g.pool.accounts["a#1"].limit.Most != 0 {
		t.Error("the limit never goes away")
	}
}

func TestClassicLimitsRefillWithTime(t *testing.T) {
	c := newClock()
	now := c.now
	for _, test := range []struct {
		name string
		b    bucket
		at   time.Duration
		want float64
	}{
		{"just told", bucket{Limit: 100, Remaining: 20, Reset: now.Add(time.Minute), At: now}, 0, 0.8},
		{"half way", bucket{Limit: 100, Remaining: 20, Reset: now.Add(time.Minute), At: now}, 30 * time.Second, 0.4},
		{"full again", bucket{Limit: 100, Remaining: 20, Reset: now.Add(time.Minute), At: now}, time.Minute, 0},
		{"long ago", bucket{Limit: 100, Remaining: 0, Reset: now.Add(time.Minute), At: now}, time.Hour, 0},
		{"no reset told", bucket{Limit: 100, Remaining: 20, At: now}, 59 * time.Second, 0.8},
		{"no reset told, a minute ago", bucket{Limit: 100, Remaining: 20, At: now}, time.Minute, 0},
		{"no limit told", bucket{Limit: -1, Remaining: 20, At: now}, 0, 0},
		{"no remaining told", bucket{Limit: 100, Remaining: -1, At: now}, 0, 0},
		{"more than its limit", bucket{Limit: 100, Remaining: 120, At: now}, 0, 0},
		{"told before the clock went back", bucket{Limit: 100, Remaining: 20, Reset: now.Add(time.Minute), At: now}, -time.Minute, 0.8},
	} {
		if got := test.b.used(now.Add(test.at)); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	// The fullest counts, and the policy is told.
	g, policy := spied(c, "a")
	lease := pick(t, g, message(""))
	lease.Report(&served, &anthropic.Limits{Buckets: []anthropic.Bucket{
		{Name: "requests", Limit: 50, Remaining: 45, Reset: now.Add(time.Minute)}, {Name: "tokens", Limit: 1000, Remaining: 300, Reset: now.Add(time.Minute)},
		{Name: "input-tokens", Limit: -1, Remaining: -1},
	}})
	lease.End(anthropic.Usage{})
	placedBy(t, g, message(""))
	if got := policy.seen["a"].Bucket; math.Abs(got-0.7) > 1e-9 {
		t.Errorf("the fullest limit is %v", got)
	}
}

func TestAFamilysWindowLimitsThatFamily(t *testing.T) {
	c := newClock()
	g, policy := spied(c, "a")
	family := func(model string) Window {
		req := message("")
		req.Model = model
		placedBy(t, g, req)
		return policy.seen["a"].Family
	}
	free := Window{}
	if got := family("claude-opus-5"); got != free || got.Head(0) < 100 {
		t.Errorf("a window that nobody told of limits by %v", got.Head(0))
	}
	lease := pick(t, g, message(""))
	lease.Report(&served, &anthropic.Limits{Windows: []anthropic.Window{
		{Name: "5h", Utilization: 0.1, Reset: c.now.Add(time.Hour)}, {Name: "7d", Utilization: 0.2, Reset: c.now.Add(100 * time.Hour)},
		{Name: "7d_opus", Utilization: 0.9, Reset: c.now.Add(84 * time.Hour)}, {Name: "5h_opus", Utilization: 0.1, Reset: c.now.Add(time.Hour)},
		{Name: "7d_sonnet", Utilization: 0.3, Reset: c.now.Add(84 * time.Hour)}, {Name: "7d_oi", Utilization: 0.4, Reset: c.now.Add(84 * time.Hour)},
	}})
	lease.End(anthropic.Usage{})
	for model, used := range map[string]float64{"claude-opus-5": 0.9, "claude-sonnet-5": 0.3, "claude-fable-5": 0.4, "claude-mythos-5": 0.4} {
		if got := family(model); got.Used != used || got.Left != 0.5 {
			t.Errorf("%s is limited by %+v", model, got)
		}
	}
	if got := family("claude-haiku-4-5"); got != free {
		t.Errorf("haiku is limited by %+v", got)
	}
	if policy.seen["a"].FiveHour.Used != 0.1 || policy.seen["a"].SevenDay.Used != 0.2 {
		t.Errorf("%+v", policy.seen["a"])
	}
	c.advance(85 * time.Hour)
	if got := family("claude-opus-5"); got.Used != 0 || got.Left != 1 {
		t.Errorf("after its reset: %+v", got)
	}
}

// TestBalancedOrder: the facts that the default policy must keep, whatever its
// numbers are.
func TestBalancedOrder(t *testing.T) {
	window := func(used float64, left float64, length time.Duration) Window {
		return Window{Used: used, Left: left, ResetIn: time.Duration(left * float64(length))}
	}
	week := func(used, left float64) Window { return window(used, left, 7*24*time.Hour) }
	five := func(used, left float64) Window { return window(used, left, 5*time.Hour) }
	onPace := Candidate{Weight: 1, FiveHour: five(0.3, 0.7), SevenDay: week(0.5, 0.5)}
	with := func(change func(c *Candidate)) Candidate {
		c := onPace
		change(&c)
		return c
	}
	full := with(func(c *Candidate) { c.FiveHour = five(1, 0.5) })
	for _, test := range []struct {
		name          string
		better, worse Candidate
	}{
		{"what is lost at the next reset is used first", with(func(c *Candidate) { c.SevenDay = week(0.6, 0.02) }), onPace},
		{"a week ahead of its time is spared", onPace, with(func(c *Candidate) { c.SevenDay = week(0.8, 0.5) })},
		{"the model's own week counts", onPace, with(func(c *Candidate) { c.Family = week(0.95, 0.5) })},
		{"a model's week that is far from used holds nothing back", with(func(c *Candidate) { c.Family = week(0.01, 0.01) }), with(func(c *Candidate) { c.Family = week(0.9, 0.5) })},
		{"five hours that are nearly full are avoided", onPace, with(func(c *Candidate) { c.FiveHour = five(0.95, 0.7) })},
		{"five hours that will be full in ten minutes are avoided", onPace, with(func(c *Candidate) { c.Burn = 0.65 })},
		{"five hours that are about to start anew are not", with(func(c *Candidate) { c.FiveHour = five(0.95, 0.01) }), with(func(c *Candidate) { c.FiveHour = five(0.95, 0.7) })},
		{"a full classic limit is avoided", onPace, with(func(c *Candidate) { c.Bucket = 0.95 })},
		{"a warm prefix is worth something", with(func(c *Candidate) { c.WarmPrefix = true }), onPace},
		{"home is worth something", with(func(c *Candidate) { c.Home = true }), onPace},
		{"both are worth more", with(func(c *Candidate) { c.Home, c.WarmPrefix = true, true }), with(func(c *Candidate) { c.Home = true })},
		{"its parent decides among equals", with(func(c *Candidate) { c.Parent = true }), onPace},
		{"home is not worth a full account", onPace, with(func(c *Candidate) { c.Home, c.WarmPrefix, c.FiveHour = true, true, five(0.99, 0.7) })},
		{"no room comes last, whatever the week", with(func(c *Candidate) { c.SevenDay = week(0.99, 0.9) }), with(func(c *Candidate) { c.FiveHour, c.SevenDay = five(1, 0.5), week(0, 0.001) })},
		{"of those without room the less overdrawn", full, with(func(c *Candidate) { c.FiveHour = five(1.1, 0.5) })},
		{"and the one whose room comes back", full, with(func(c *Candidate) { c.Burn = 0.9 })},
	} {
		better, worse := Policies["balanced"].Score(time.Time{}, message(""), &test.better), Policies["balanced"].Score(time.Time{}, message(""), &test.worse)
		if better < worse+Equal {
			t.Errorf("%s: %v against %v", test.name, better, worse)
		}
	}
	// An account that does not tell of windows is as good as one on pace.
	unknown := Candidate{Weight: 1, FiveHour: Window{Left: 1}, SevenDay: Window{Left: 1}}
	on := Candidate{Weight: 1, FiveHour: five(0, 0.5), SevenDay: week(0.5, 0.5)}
	if a, b := balanced(&unknown), balanced(&on); math.Abs(a-b) > Equal {
		t.Errorf("unknown %v, on pace %v", a, b)
	}
	// Size does not count by itself: capacity is learned.
	for _, weight := range []float64{1, 5, 20} {
		c := onPace
		c.Weight = weight
		if got := balanced(&c); got != balanced(&onPace) {
			t.Errorf("weight %v: %v", weight, fmt.Sprint(got))
		}
	}
}
