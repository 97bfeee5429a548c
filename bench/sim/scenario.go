package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
)

// scenario is one team with its pool. Fields that a file leaves out have the
// model's defaults.
type scenario struct {
	Name string `json:"name"`
	Seed uint64 `json:"seed"`
	// Load is the ideal cost demanded over the weekly capacity of the pool.
	Load float64 `json:"load"`
	// Devs is the number of people.
	Devs int `json:"devs"`
	// Stagger: the weekly windows already run at the start, and their resets are spread.
	Stagger bool       `json:"stagger"`
	Pool    []accounts `json:"pool"`
	Weeks   int        `json:"weeks"`
	// Batch is the share of the sessions that are overnight batch agents.
	Batch float64 `json:"batch"`
	// SubProb is the share of the user prompts that start sub-agents.
	SubProb float64 `json:"sub_prob"`
	// ThinkMed (seconds) and ThinkSigma are of the user's thinking.
	ThinkMed   float64 `json:"think_med_s"`
	ThinkSigma float64 `json:"think_sigma"`
	// Patience is the median, in minutes, of how long a turn is waited for.
	Patience float64 `json:"patience_min"`
	// TZ is over how many hours the people's time zones are spread.
	TZ float64 `json:"tz_h"`
	// TTL is the prompt cache's life after the last use, in minutes.
	TTL float64 `json:"ttl_min"`
	// Bursts is the number of windowless burst episodes a day and account, Overloads
	// that of overload episodes a week.
	Bursts    float64 `json:"burst_per_day"`
	Overloads float64 `json:"overload_per_w"`
}

// accounts are N accounts alike.
type accounts struct {
	// Plan is the size: 1, 5 or 20.
	Plan int `json:"plan"`
	N    int `json:"n"`
	// DeadAt is the hour at which the login is revoked, 0 for never.
	DeadAt float64 `json:"dead_at_h"`
	// External is the share of the weekly window that somebody outside takes.
	External float64 `json:"external"`
	// OpusWeek is the size of the weekly Opus window as a share of the weekly one;
	// 0 for no such window.
	OpusWeek float64 `json:"opus_week"`
	// HidePlan: nobody tells the size. No rule here is ever told one, so it changes
	// nothing.
	HidePlan bool `json:"hide_plan"`
	// WeekRatio is how many five-hour windows a weekly one holds; 0 for the plan's own.
	WeekRatio float64 `json:"week_ratio"`
}

//go:embed scenarios/*.json
var embedded embed.FS

func newScenario() scenario {
	return scenario{
		Load: 0.9, Devs: 1, Weeks: 4, Batch: 0.15, SubProb: 0.05, ThinkMed: 75, ThinkSigma: 1.4, Patience: 12,
		TTL: 5, Bursts: 2, Overloads: 3,
	}
}

// readScenario reads one file.
func readScenario(file string, data []byte) (*scenario, error) {
	s := newScenario()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", file, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("scenario %s: something follows the object", file)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", file, err)
	}
	return &s, nil
}

func (s *scenario) check() error {
	switch {
	case s.Name == "":
		return errors.New(`"name" is missing`)
	case len(s.Pool) == 0:
		return errors.New(`"pool" has no account`)
	case s.Load <= 0:
		return errors.New(`"load" must be above 0`)
	case s.Devs < 1:
		return errors.New(`"devs" must be at least 1`)
	case s.Weeks < 1:
		return errors.New(`"weeks" must be at least 1`)
	case s.Patience <= 0:
		return errors.New(`"patience_min" must be above 0`)
	case s.TTL <= 0:
		return errors.New(`"ttl_min" must be above 0`)
	}
	n := 0
	for _, a := range s.Pool {
		n += a.N
		switch {
		case n > mostAccounts:
			return fmt.Errorf(`"pool" has more than %d accounts`, mostAccounts)
		case !slices.Contains([]int{1, 5, 20}, a.Plan):
			return fmt.Errorf(`"plan" is %d, not 1, 5 or 20`, a.Plan)
		case a.N < 1:
			return errors.New(`"n" must be at least 1`)
		case a.External < 0 || a.External >= 1:
			return errors.New(`"external" must be a share below 1`)
		}
	}
	return nil
}

// readScenarios reads every .json file of a directory, the built-in ones for an
// empty name.
func readScenarios(dir string) ([]*scenario, error) {
	var files fs.FS
	if dir == "" {
		files, dir = embedded, "scenarios"
	} else {
		files, dir = os.DirFS(dir), "."
	}
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return nil, err
	}
	var all []*scenario
	for _, e := range entries {
		if path.Ext(e.Name()) != ".json" {
			continue
		}
		data, err := fs.ReadFile(files, path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		s, err := readScenario(e.Name(), data)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no scenario in %s", dir)
	}
	return all, nil
}
