package ledger

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// BenchmarkMillion is a million rows of use: 1,000 people, 7 accounts and 4 models over 36
// days. Requests of the same person, account, model and day are one row, however many.
func BenchmarkMillion(b *testing.B) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	first := now.AddDate(0, 0, -35)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := New(func() time.Time { return now }, time.UTC)
	for now = first; !now.After(first.AddDate(0, 0, 35)); now = now.AddDate(0, 0, 1) {
		for person := range 1000 {
			for n := range 28 {
				l.Add(Key{fmt.Sprint("person-", person), fmt.Sprint("account-", n%7), fmt.Sprint("claude-model-", n/7)}, tokens(5))
			}
		}
	}
	now = first.AddDate(0, 0, 35)
	runtime.GC()
	runtime.ReadMemStats(&after)
	from, today := DayOf(first, time.UTC), l.Today()
	b.Run("Record", func(b *testing.B) { // of one day
		size := 0
		for b.Loop() {
			data, _, err := l.Record(today)
			if err != nil {
				b.Fatal(err)
			}
			size = len(data)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "held-MB")
		b.ReportMetric(float64(size)/1e6, "written-MB")
	})
	b.Run("Spent", func(b *testing.B) {
		for b.Loop() {
			l.Spent(OfPerson, "person-500", PerMonth)
		}
	})
	b.Run("Report", func(b *testing.B) { // of all days
		for b.Loop() {
			Report(l.OwnBetween(from, today), nil)
		}
	})
}
