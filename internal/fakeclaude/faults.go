package fakeclaude

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fault is a misbehaviour on command. Only Name is needed.
type Fault struct {
	// Name is one of the constants of this package.
	Name string
	// Times is how many requests it hits: zero means once, negative for ever.
	Times int
	// Model restricts it to models whose id contains this text.
	Model string
	// Path is the path it hits, "*" for all. Default: that of messages, or of
	// the token endpoint for the refresh faults.
	Path string
	// Chance hits only that share of the requests, by seeded dice. Zero: all.
	Chance float64
	// For ends the fault after this time of Clock.
	For time.Duration

	// Delay and Every are durations of slow faults, RetryAfter is what refusals
	// tell. Zero means the fault's own default.
	Delay      time.Duration
	Every      time.Duration
	RetryAfter time.Duration

	row   *misbehaviour
	until time.Time
}

// Once is the fault for the next request only.
func Once(name string) Fault { return Fault{Name: name} }

// Times is the fault for the next n requests.
func Times(name string, n int) Fault { return Fault{Name: name, Times: n} }

// Always is the fault until it is replaced.
func Always(name string) Fault { return Fault{Name: name, Times: -1} }

// FaultInfo explains one fault.
type FaultInfo struct {
	Name string `json:"name"`
	// Doc says what the client meets.
	Doc string `json:"doc"`
	// Fact says what this stands for in the real world.
	Fact string `json:"fact"`
}

// FaultNames explains all faults, in the order of the table.
func FaultNames() []FaultInfo {
	var all []FaultInfo
	for _, table := range faultTables {
		for _, row := range table {
			all = append(all, FaultInfo{row.name, row.doc, row.fact})
		}
	}
	return all
}

// misbehaviour is a row of the tables. At most one of refusal, shape and act is
// there.
type misbehaviour struct {
	name, doc, fact string
	// path is what it hits by default; empty means messages.
	path string
	// early means before the body has been read.
	early bool
	// delay and every are the defaults of a slow fault.
	delay, every time.Duration

	refusal *refusal
	shape   *shape
	// act does the misbehaviour; true means that the request is over.
	act func(*exchange) bool
}

func rowOf(name string) *misbehaviour {
	for _, table := range faultTables {
		for i := range table {
			if table[i].name == name {
				return &table[i]
			}
		}
	}
	return nil
}

// prepared completes the fault from its row, or says why it makes no sense.
func (f Fault) prepared(now time.Time) (*Fault, error) {
	f.row = rowOf(f.Name)
	if f.row == nil {
		return nil, fmt.Errorf("there is no fault %q", f.Name)
	}
	if f.Times == 0 {
		f.Times = 1
	}
	if f.Path == "" {
		if f.Path = f.row.path; f.Path == "" {
			f.Path = pathMessages
		}
	}
	if f.row.shape != nil && f.Path != pathMessages && f.Path != "*" {
		return nil, fmt.Errorf("fault %q shapes answers of %s only", f.Name, pathMessages)
	}
	if f.Chance < 0 || f.Chance > 1 {
		return nil, fmt.Errorf("fault %q: chance %v is not between 0 and 1", f.Name, f.Chance)
	}
	if f.Delay == 0 {
		f.Delay = f.row.delay
	}
	if f.Every <= 0 {
		f.Every = f.row.every
	}
	if f.For > 0 {
		f.until = now.Add(f.For)
	}
	return &f, nil
}

// SetFault replaces the faults of an account by a sequence: each request takes
// the first one that concerns it. "*" means all accounts, none clears. A fault
// or account that does not exist is a programming error and panics.
func (s *Server) SetFault(accountName string, faults ...Fault) {
	if err := s.setFaults(accountName, faults); err != nil {
		panic("fakeclaude: " + err.Error())
	}
}

func (s *Server) setFaults(accountName string, faults []Fault) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if accountName == "" {
		accountName = "*"
	}
	if accountName != "*" && s.find(accountName) == nil {
		return fmt.Errorf("there is no account %q", accountName)
	}
	queue := make([]*Fault, 0, len(faults))
	for _, f := range faults {
		ready, err := f.prepared(s.opts.Clock())
		if err != nil {
			return err
		}
		queue = append(queue, ready)
	}
	s.faults[accountName] = queue
	return nil
}

// Faults names the faults that are set for an account, or for "*".
func (s *Server) Faults(accountName string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, f := range s.faults[accountName] {
		if !f.over(s.opts.Clock()) {
			names = append(names, f.Name)
		}
	}
	return names
}

// ClearFaults removes all faults.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
}

// takeFault returns the fault that hits this request and uses it up once. In
// the early stage the model is not known: only a fault that is first in line,
// acts early and asks for no model can hit then.
func (ex *exchange) takeFault(early bool) *Fault {
	s := ex.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Clock()
	for _, name := range []string{ex.acct.Name, "*"} {
		s.faults[name] = slices.DeleteFunc(s.faults[name], func(f *Fault) bool {
			return f.over(now)
		})
		for i, f := range s.faults[name] {
			if f == ex.missed || !f.concerns(ex.r.URL.Path) {
				continue
			}
			if early && (!f.row.early || f.Model != "") {
				return nil
			}
			if !strings.Contains(ex.prompt.model, f.Model) {
				continue
			}
			if f.Chance > 0 && s.dice.Float64() >= f.Chance {
				ex.missed = f
				continue
			}
			if f.Times > 0 {
				if f.Times--; f.Times == 0 {
					s.faults[name] = slices.Delete(s.faults[name], i, i+1)
				}
			}
			taken := *f
			ex.rec.Fault = f.Name
			return &taken
		}
	}
	return nil
}

func (f *Fault) over(now time.Time) bool { return !f.until.IsZero() && !now.Before(f.until) }

func (f *Fault) concerns(path string) bool {
	if f.row.shape != nil && path != pathMessages {
		return false
	}
	return f.Path == "*" || f.Path == path
}

// misbehaveEarly applies a fault that comes before the body is read; true means
// that the request is over.
func (ex *exchange) misbehaveEarly() bool {
	if f := ex.takeFault(true); f != nil {
		ex.fault = f
		return ex.apply()
	}
	return false
}

// misbehave applies any other fault, or notes it for the delivery.
func (ex *exchange) misbehave() bool {
	if f := ex.takeFault(false); f != nil {
		ex.fault = f
		return ex.apply()
	}
	return false
}

func (ex *exchange) apply() bool {
	row := ex.fault.row
	switch {
	case row.refusal != nil:
		ex.refuse(row.refusal)
		return true
	case row.act != nil:
		return row.act(ex)
	case row.shape != nil && row.shape.firstError:
		ex.failFirst(row.shape)
		return true
	}
	return false
}

// shape is how the answer is to be delivered; without a fault, properly.
func (ex *exchange) shape() *shape {
	if ex.fault != nil && ex.fault.row.shape != nil {
		return ex.fault.row.shape
	}
	return &shape{}
}
