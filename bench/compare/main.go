package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type options struct {
	root, caddy, profiles string
	short                 bool
	pairs                 int
	caddyProcs, loadProcs int
	upstreamProcs         int
	only                  string
	parts                 []string
}

func main() {
	actRole()
	var o options
	flag.StringVar(&o.root, "root", ".", "the repository, whose benchmarks parts E and F run and whose docs/performance.md is written")
	flag.StringVar(&o.caddy, "caddy", "", "the Caddy with shunt that is measured")
	flag.BoolVar(&o.short, "short", false, "fewer and smaller runs; the page is not written")
	flag.IntVar(&o.pairs, "pairs", 0, "how many pairs of runs each load gets, instead of its own number; the page is not written")
	flag.StringVar(&o.only, "only", "", "only loads of parts A to D whose name contains this; the page is not written")
	flag.IntVar(&o.caddyProcs, "caddy-procs", 0, "GOMAXPROCS of Caddy, 0 for Go's default")
	flag.IntVar(&o.upstreamProcs, "upstream-procs", 0, "GOMAXPROCS of the upstream")
	flag.IntVar(&o.loadProcs, "load-procs", 0, "GOMAXPROCS of the load")
	flag.StringVar(&o.profiles, "profiles", "", "write CPU and memory profiles of Caddy into this folder; the page is not written")
	flag.Parse()
	o.parts = flag.Args()
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

var allParts = []string{"A", "B", "C", "D", "E", "F"}

func run(o *options) error {
	for _, part := range o.parts {
		if !slices.Contains(allParts, part) {
			return fmt.Errorf("there is no part %q; the parts are %s", part, strings.Join(allParts, " "))
		}
	}
	if o.caddy == "" {
		return errors.New("-caddy must name a Caddy with shunt; ./xcaddy.sh bench builds one")
	}
	// Caddy runs in a folder of its own.
	var err error
	if o.caddy, err = filepath.Abs(o.caddy); err != nil {
		return fmt.Errorf("finding Caddy: %w", err)
	}
	whole := len(o.parts) == 0 && !o.short && o.pairs == 0 && o.only == "" && o.profiles == ""
	if len(o.parts) == 0 {
		o.parts = allParts
	}
	m, err := thisMachine(o.caddy)
	if err != nil {
		return err
	}
	begun := time.Now()
	rows, err := measureAll(o)
	if err != nil {
		return err
	}
	rest, err := runSuites(o)
	if err != nil {
		return err
	}
	rows = append(rows, rest...)
	fmt.Printf("\n%s\n%d cores (%s), Linux %s, %s, Caddy %s; %d s\n", table(rows), m.Cores, m.CPU, m.Kernel, m.Go, m.Caddy, int(time.Since(begun).Seconds()))
	if !whole {
		return nil
	}
	m.Day, m.Command = begun.UTC().Format(time.DateOnly), "./xcaddy.sh bench"
	return writePage(filepath.Join(o.root, "docs", "performance.md"), m, rows)
}

// measureAll runs parts A to D.
func measureAll(o *options) ([]*row, error) {
	files, err := raiseFiles(2*mostStreams + 2000)
	if err != nil {
		return nil, err
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o750); err != nil {
			return nil, fmt.Errorf("making the folder for profiles: %w", err)
		}
	}
	up, err := startUpstream(o.upstreamProcs)
	if err != nil {
		return nil, err
	}
	defer up.kill()
	b := &bench{caddyBinary: o.caddy, caddyProcs: o.caddyProcs, loadProcs: o.loadProcs, upstream: up, profiles: o.profiles}
	var rows []*row
	for _, c := range cells(files) {
		pairs := c.Pairs
		switch {
		case o.short:
			pairs = c.Short
		case o.pairs > 0:
			pairs = o.pairs
		}
		if pairs == 0 || !slices.Contains(o.parts, c.Part) || !strings.Contains(c.Name, o.only) {
			continue
		}
		of, err := b.compare(c, pairs)
		if err != nil {
			return nil, err
		}
		rows = append(rows, of...)
	}
	return rows, up.stop()
}

// compare runs pairs of a load, in turn.
func (b *bench) compare(c *cell, pairs int) ([]*row, error) {
	fmt.Printf("%s  %s: ", c.Part, c.Name)
	values := map[string]map[string][]float64{withShunt: {}, reverseProxy: {}}
	for pair := range pairs {
		for _, which := range []string{reverseProxy, withShunt} {
			f, err := b.once(c, which, fmt.Sprintf("%s-%s-%d", c.Part, strings.Map(letters, c.Name), pair+1))
			if err != nil {
				return nil, err
			}
			for name, value := range f {
				values[which][name] = append(values[which][name], value)
			}
		}
		fmt.Print(".")
	}
	fmt.Println()
	var rows []*row
	for _, s := range c.Shows {
		ours, theirs := values[withShunt][s.Figure], values[reverseProxy][s.Figure]
		ratios, err := pairedRatios(ours, theirs)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", c.Name, s.Figure, err)
		}
		ratio := spreadOf(ratios)
		rows = append(rows, &row{
			Part: c.Part, Load: c.Name, Figure: s.Figure, Target: s.Target,
			Theirs: spreadOf(theirs).Median, Ours: spreadOf(ours).Median, Ratio: &ratio, Spread: spreadOf(ours),
		})
		fmt.Println("     ", rows[len(rows)-1])
	}
	return rows, nil
}

// letters keeps what may stand in the name of a file.
func letters(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '_'
}

// runSuites runs parts E and F.
func runSuites(o *options) ([]*row, error) {
	count := 3
	if o.short {
		count = 2
	}
	var rows []*row
	for i := range suites {
		s := &suites[i]
		if !slices.Contains(o.parts, s.Part) {
			continue
		}
		fmt.Printf("%s  %s\n", s.Part, s.Name)
		all, err := s.run(o.root, count)
		if err != nil {
			return nil, err
		}
		for _, b := range all {
			load := fmt.Sprintf("%s, %d cores", b.Name, b.Processors)
			if b.Processors == 1 {
				load = b.Name + ", 1 core"
			}
			for _, shown := range s.Shows(b) {
				spread := spreadOf(shown.Values)
				rows = append(rows, &row{
					Part: s.Part, Load: load, Figure: shown.Figure, Target: shown.Target,
					Ours: spread.Median, Spread: spread,
				})
				fmt.Println("     ", rows[len(rows)-1])
			}
		}
	}
	return rows, nil
}
