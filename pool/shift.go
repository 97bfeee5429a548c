package pool

import "time"

// shift moves the facts into our past if the peer's clock is ahead of ours: what it
// learns would otherwise stand against all that is learned here.
func (f *facts) shift(now time.Time) {
	last := latest(f.PinAt, f.PolicyAt)
	for i := range f.Accounts {
		last = latest(last, f.Accounts[i].latest())
	}
	for i := range f.Sessions {
		last = latest(last, f.Sessions[i].HomeAt)
	}
	by := last.Sub(now)
	if last.IsZero() || by <= 0 {
		return
	}
	for _, t := range []*time.Time{&f.PinAt, &f.PolicyAt} {
		back(t, by)
	}
	for i := range f.Accounts {
		f.Accounts[i].shift(by)
	}
	for i := range f.Sessions {
		s := &f.Sessions[i]
		back(&s.HomeAt, by)
		back(&s.Until, by)
	}
}

func back(t *time.Time, by time.Duration) {
	if !t.IsZero() {
		*t = t.Add(-by)
	}
}

// latest is when something was learned last.
func (t *accountFacts) latest() time.Time {
	last := latest(t.IdentityAt, t.LastUsed, t.OverageAt, t.Limit.At, t.Burn.At, t.SuspectAt, t.Order.At)
	for _, w := range t.Windows {
		if w != nil {
			last = latest(last, w.UtilizationAt, w.StatusAt, w.ResetAt)
		}
	}
	for _, b := range t.Buckets {
		last = latest(last, b.At)
	}
	for _, b := range t.Benches {
		last = latest(last, b.Since)
	}
	for _, at := range t.Ended {
		last = latest(last, at)
	}
	return last
}

func (t *accountFacts) shift(by time.Duration) {
	for _, at := range []*time.Time{&t.IdentityAt, &t.LastUsed, &t.OverageAt, &t.Limit.At, &t.Burn.At, &t.SuspectAt, &t.Order.At, &t.Order.Until} {
		back(at, by)
	}
	for _, w := range t.Windows {
		if w != nil {
			back(&w.UtilizationAt, by)
			back(&w.StatusAt, by)
			back(&w.ResetAt, by)
		}
	}
	for name, b := range t.Buckets {
		back(&b.At, by)
		t.Buckets[name] = b
	}
	for i := range t.Benches {
		b := &t.Benches[i]
		back(&b.Since, by)
		if b.guessed() { // what upstream states is by no clock of the peer's
			back(&b.Until, by)
		}
	}
	for family, at := range t.Ended {
		t.Ended[family] = at.Add(-by)
	}
}
