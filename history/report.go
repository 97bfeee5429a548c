package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Past is the stored history of another process, or of one before this.
type Past struct{ spans [][]point }

// Parse reads what Record has written.
func Parse(data []byte) (*Past, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("reading a history: %w", err)
	}
	if r.Version != version {
		return nil, fmt.Errorf("reading a history: version %d is not known (this is version %d)", r.Version, version)
	}
	if len(r.Spans) != len(Spans) {
		return nil, errors.New("reading a history: it has other spans")
	}
	for i, points := range r.Spans {
		if len(points) > Spans[i].Steps {
			return nil, fmt.Errorf("reading a history: more than %d steps of the %s", Spans[i].Steps, Spans[i].Name)
		}
		for j := range points {
			if len(points[j].Levels) > maxAccounts {
				return nil, fmt.Errorf("reading a history: more than %d accounts", maxAccounts)
			}
		}
	}
	return &Past{r.Spans}, nil
}

// Point is a step of a report.
type Point struct {
	Begins time.Time
	Counts
}

// Series are the levels of one account, one for each point.
type Series struct {
	Account string
	Levels  []Level
}

// Report is a span up to now, with all of its steps.
type Report struct {
	Span     Span
	Points   []Point // oldest first; the last one has not ended
	Accounts []Series
}

// Report sums up what this process and others have seen. Of levels, which all of them
// know, this process's come first.
func (h *History) Report(span Span, others []*Past) *Report {
	i := slices.IndexFunc(Spans, func(s Span) bool { return s.Name == span.Name })
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.clock().UnixNano() / int64(span.Step)
	first := last - int64(span.Steps) + 1
	r := &Report{Span: span, Points: make([]Point, span.Steps)}
	for j := range r.Points {
		r.Points[j].Begins = time.Unix(0, (first+int64(j))*int64(span.Step)).UTC()
	}
	series := make(map[string]int)
	take := func(points []point) {
		for k := range points {
			p := &points[k]
			if p.Step < first || p.Step > last {
				continue
			}
			j := int(p.Step - first)
			r.Points[j].add(&p.Counts)
			for name, level := range p.Levels {
				n, known := series[name]
				if !known {
					n = len(r.Accounts)
					series[name] = n
					r.Accounts = append(r.Accounts, Series{name, slices.Repeat([]Level{Unknown}, span.Steps)})
				}
				if r.Accounts[n].Levels[j] == Unknown {
					r.Accounts[n].Levels[j] = level.level()
				}
			}
		}
	}
	take(h.spans[i])
	for _, past := range others {
		take(past.spans[i])
	}
	slices.SortFunc(r.Accounts, func(a, b Series) int {
		if a.Account < b.Account {
			return -1
		}
		return 1
	})
	return r
}
