package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

// using sets how an account stands: windows used, with their resets, and what was spent of
// it in the last ten minutes as a share of its five hours.
func using(g *Group, i int, five, seven float64, fiveReset, sevenReset time.Duration, burn float64) {
	p := g.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	l := g.states[i].limits
	l.learn(&anthropic.Limits{Windows: []anthropic.Window{
		{Name: "5h", Status: "allowed", Utilization: five, Reset: now.Add(fiveReset)}, {Name: "7d", Status: "allowed", Utilization: seven, Reset: now.Add(sevenReset)},
	}}, now)
	l.burn = decayed{Sum: burn * l.fiveHourCapacity(1), At: now}
}

func near(t *testing.T, what string, got, want time.Time) {
	t.Helper()
	if got.Sub(want).Abs() > time.Second {
		t.Errorf("%s: %v; want %v", what, got, want)
	}
}

func TestForecast(t *testing.T) {
	// Each of two accounts loses 10 % of its five hours in ten minutes.
	c, groups := instances(t, 1)
	g := groups[0]
	using(g, 0, 0.4, 0.1, 3*time.Hour, 100*time.Hour, 0.1)
	using(g, 1, 0.6, 0.1, 4*time.Hour, 100*time.Hour, 0.1)
	f := g.Forecast(func(*Member) bool { return false })
	// a has 60 % and b 40 %: together 100 %, at 20 % in ten minutes.
	near(t, "dry", f.Dry, c.now.Add(50*time.Minute))
	near(t, "reopens", f.Reopens, c.now.Add(3*time.Hour))
	if f.Open != 2 || f.Accounts != 2 || f.FiveHourLeft < 0.499 || f.FiveHourLeft > 0.501 || f.SevenDayLeft < 0.899 || f.SevenDayLeft > 0.901 || f.Idle {
		t.Errorf("%+v", f)
	}
	// Without b, a alone takes the pace of both.
	g.Pool().Drain(g.members[1].Key, "")
	f = g.Forecast(func(*Member) bool { return false })
	near(t, "dry without b", f.Dry, c.now.Add(30*time.Minute))
	if f.Open != 1 || f.FiveHourLeft < 0.299 || f.FiveHourLeft > 0.301 {
		t.Errorf("without b: %+v", f)
	}
	g.Pool().Undrain(g.members[1].Key)
	lacks := g.Forecast(func(m *Member) bool { return m.Name == "b" })
	if lacks.Open != 1 || !lacks.Dry.Equal(f.Dry) {
		t.Errorf("without a credential for b: %+v; want what a drain gives, %+v", lacks, f)
	}
	g.Pool().Drain(g.members[1].Key, "")
	// a's window starts anew before it is used up: 60 % lasts 60 min at this pace, and
	// again 100 min from the reset, all of its five hours.
	using(g, 0, 0.4, 0.1, 55*time.Minute, 100*time.Hour, 0.1)
	using(g, 1, 0.6, 0.1, 4*time.Hour, 100*time.Hour, 0)
	f = g.Forecast(func(*Member) bool { return false })
	near(t, "dry after the reset", f.Dry, c.now.Add(155*time.Minute))
	near(t, "reopens after the reset", f.Reopens, c.now.Add(55*time.Minute+5*time.Hour))
	// The week ends it earlier than the five hours: a week is seven of them here.
	using(g, 0, 0, 1-0.2/windowsOfWeek, 4*time.Hour, 100*time.Hour, 0.1)
	f = g.Forecast(func(*Member) bool { return false })
	near(t, "dry by the week", f.Dry, c.now.Add(20*time.Minute))
	near(t, "reopens by the week", f.Reopens, c.now.Add(100*time.Hour))
}

func TestForecastWords(t *testing.T) {
	c, groups := instances(t, 1)
	g := groups[0]
	says := func(want string) {
		t.Helper()
		f := g.Forecast(func(*Member) bool { return false })
		if got := f.Words(c.now); !strings.Contains(got, want) {
			t.Errorf("%q; want %q (%+v)", got, want, f)
		}
	}
	says("next to nothing")
	using(g, 0, 0.1, 0.1, 5*time.Hour, 160*time.Hour, 0.01)
	says("for a week and more")
	using(g, 0, 0.9, 0.1, 5*time.Hour, 160*time.Hour, 0.1)
	using(g, 1, 0.9, 0.1, 5*time.Hour, 160*time.Hour, 0.1)
	says("no account will be open from")
	for _, m := range g.members {
		g.Pool().Drain(m.Key, "")
	}
	says("no account is open; when it opens again is not known")
	g.Pool().BenchUntil(g.members[0].Key, c.now.Add(time.Hour), "")
	says("no account is open; the next account opens at " + timeWords(c.now.Add(time.Hour), c.now))
	for _, m := range g.members {
		g.Pool().Undrain(m.Key)
	}
	// An account that tells no windows never runs dry.
	l := g.states[1].limits
	l.windows, l.fiveHour, l.sevenDay = nil, nil, nil
	g.states[1].totals.Usage.InputTokens = 1
	says("for a week and more")
	if f := New(c, 1).Group(nil, Policies[DefaultPolicy]).Forecast(func(*Member) bool { return false }); f.Words(c.now) != "there is no account" || f.FiveHourLeft >= 0 {
		t.Errorf("of nothing: %+v", f)
	}
}

// TestForecastOfMany: however an account stands, a forecast comes to an end and to a time
// that lies ahead.
func TestForecastOfMany(t *testing.T) {
	c := newClock()
	var all []*Member
	for i := range 500 {
		name := string(rune('a'+i%26)) + string(rune('0'+i/26))
		all = append(all, &Member{Name: name, Key: name})
	}
	g := New(c, 1).Group(all, Policies[DefaultPolicy])
	for i := range all {
		using(g, i, float64(i%100)/100, float64(i%90)/100, time.Duration(1+i%300)*time.Minute, time.Duration(1+i%160)*time.Hour, 0.07)
	}
	f := g.Forecast(func(*Member) bool { return false })
	if f.Dry.Before(c.now) || f.Dry.After(c.now.Add(forecastFor)) || !f.Reopens.After(f.Dry) {
		t.Errorf("%+v", f)
	}
}

func BenchmarkForecast(b *testing.B) {
	c := newClock()
	var all []*Member
	for i := range 50 {
		name := string(rune('a'+i%26)) + string(rune('0'+i/26))
		all = append(all, &Member{Name: name, Key: name})
	}
	g := New(c, 1).Group(all, Policies[DefaultPolicy])
	for i := range all {
		using(g, i, float64(i%100)/100, float64(i%90)/100, time.Duration(1+i%300)*time.Minute, time.Duration(1+i%160)*time.Hour, 0.03)
	}
	for b.Loop() {
		g.Forecast(func(*Member) bool { return false })
	}
}
