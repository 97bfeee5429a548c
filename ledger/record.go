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

// record is what an instance stores of a day.
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
		if len(p.pending.counts) > 0 || p.saving != nil {
			days = append(days, d)
		}
	}
	slices.Sort(days)
	return days
}

// Record is the day as it is to be stored in the place of what was loaded or saved
// before. Saved or Failed must follow before the next one of that day.
func (l *Ledger) Record(d Day) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.page(d)
	data, err := json.Marshal(record{Version: recordVersion, Day: d.String(), Rows: p.own().list(d)})
	if err != nil {
		return nil, fmt.Errorf("marshalling what was used on %s: %w", d, err)
	}
	if p.saving == nil {
		p.saving = newRows()
	}
	p.saving.addAll(p.pending)
	p.pending = newRows()
	return data, nil
}

// Saved says that storage has what Record gave last.
func (l *Ledger) Saved(d Day) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.page(d); p.saving != nil {
		p.stored.addAll(p.saving)
		p.saving = nil
	}
}

// Failed says that storage may not have it.
func (l *Ledger) Failed(d Day) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.page(d); p.saving != nil {
		p.pending.addAll(p.saving)
		p.saving = nil
	}
}

// Load takes over what storage has of a day under this instance's name. What was
// counted here and not stored stays.
func (l *Ledger) Load(d Day, data []byte) error {
	stored, err := parseRows(d, data)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.page(d)
	p.stored = stored
	p.recount()
	return nil
}

// Rename says what this instance is called from now on. What it stored under the name
// before belongs to that one, and is heard of as any other's; what is not stored goes
// to the new one, whose records are to be loaded.
func (l *Ledger) Rename(own string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.days {
		p.stored = newRows()
		delete(p.peers, own)
		p.recount()
	}
}

// Hear takes over what another instance has stored of a day, in the place of what was
// heard before.
func (l *Ledger) Hear(instance string, d Day, data []byte) error {
	heard, err := parseRows(d, data)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.page(d)
	p.peers[instance] = heard
	p.recount()
	return nil
}

// Forget drops the days before, but for what storage does not have.
func (l *Ledger) Forget(before Day) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.days, func(d Day, p *page) bool {
		return d < before && len(p.pending.counts) == 0 && p.saving == nil
	})
}
