package ledger

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// recordVersion is the version of the records in storage.
const recordVersion = 1

// record is what a process stores of a day.
type record struct {
	Version int    `json:"version"`
	Day     string `json:"day"`
	Rows    []Row  `json:"rows"`
}

func compareKeys(a, b *Key) int {
	return cmp.Or(cmp.Compare(a.Person, b.Person), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Model, b.Model))
}

// Parse reads a record of the day.
func Parse(d Day, data []byte) ([]Row, error) {
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return nil, err
	}
	if rec.Version < 1 || rec.Version > recordVersion {
		return nil, fmt.Errorf("version %d is not known (this is version %d)", rec.Version, recordVersion)
	}
	if rec.Day != d.String() {
		return nil, fmt.Errorf("it is of %q; expected %s", rec.Day, d)
	}
	for i := range rec.Rows {
		rec.Rows[i].Day = d
		if err := rec.Rows[i].check(); err != nil {
			return nil, err
		}
	}
	return rec.Rows, nil
}

// mostCount bounds what a record may say, so that sums cannot overflow.
const mostCount = 1 << 55

func (r *Row) check() error {
	u := &r.Usage
	for _, n := range [...]int64{
		r.Requests, r.Served, r.Cancelled, r.Refused, r.Failed, r.Estimated, r.Unpriced, int64(r.Cost),
		u.InputTokens, u.OutputTokens, u.CacheReadTokens, u.CacheWriteTokens, u.CacheWrite1hTokens, u.WebSearches, u.WebFetches,
	} {
		if n < 0 || n > mostCount {
			return fmt.Errorf("a count of %d is none", n)
		}
	}
	if len(r.Person) > mostName || len(r.Account) > mostName || len(r.Model) > mostName {
		return errors.New("a name is too long")
	}
	return nil
}

func parseRows(d Day, data []byte) (*rows, error) {
	list, err := Parse(d, data)
	if err != nil {
		return nil, err
	}
	r := newRows()
	for i := range list {
		r.at(list[i].Key).Add(&list[i].Counts)
	}
	return r, nil
}

// Unsaved are the days with something that storage does not have.
func (l *Ledger) Unsaved() []Day {
	l.mu.Lock()
	defer l.mu.Unlock()
	var days []Day
	for d, p := range l.days {
		if p.changes != p.saved {
			days = append(days, d)
		}
	}
	slices.Sort(days)
	return days
}

// Record is what this process has counted on a day, as it is to be stored in the place
// of what it stored before, and the count of changes that it holds.
func (l *Ledger) Record(d Day) (data []byte, changes uint64, err error) {
	l.mu.Lock()
	p := l.page(d)
	rows, changes := p.own.list(d), p.changes
	l.mu.Unlock()
	data, err = json.Marshal(record{Version: recordVersion, Day: d.String(), Rows: rows})
	if err != nil {
		return nil, 0, fmt.Errorf("marshalling what was used on %s: %w", d, err)
	}
	return data, changes, nil
}

// Saved says that storage has the record with these changes.
func (l *Ledger) Saved(d Day, changes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.page(d).saved = changes
}

// Hear takes over what another process has stored of a day, in the place of what was
// heard before.
func (l *Ledger) Hear(name string, d Day, data []byte) error {
	heard, err := parseRows(d, data)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.page(d)
	p.others[name] = heard
	p.recount()
	return nil
}

// Forget drops the days before, but for what storage does not have.
func (l *Ledger) Forget(before Day) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.days, func(d Day, p *page) bool { return d < before && p.changes == p.saved })
}
