package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
)

func main() {
	if err := command(); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

// options are what the command line asks for.
type options struct {
	policies, only, dir string
	weeks, seeds        int
	ablation            bool
	unseen              int
	unseenSeed          uint64
	details, asJSON     bool
	profile             string
}

func command() error {
	var o options
	flag.StringVar(&o.policies, "policies", "", "rules to compare, by name, separated by commas; empty for all")
	flag.StringVar(&o.only, "only", "", "only scenarios whose name contains this")
	flag.StringVar(&o.dir, "scenarios", "", "directory of scenario files; empty for the built-in ones")
	flag.IntVar(&o.weeks, "weeks", 0, "weeks to play; 0 for what the scenarios say")
	flag.IntVar(&o.seeds, "seeds", 1, "how often each scenario is played, with other seeds")
	flag.BoolVar(&o.ablation, "ablation", false, "compare balanced with itself without each of its parts")
	flag.IntVar(&o.unseen, "unseen", 0, "play that many scenarios drawn at random in the place of the files")
	flag.Uint64Var(&o.unseenSeed, "unseen-seed", 1, "what they are drawn from")
	flag.BoolVar(&o.details, "v", false, "also print each scenario")
	flag.BoolVar(&o.asJSON, "json", false, "print JSON")
	flag.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile to this file")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	scenarios, err := o.scenarios()
	if err != nil {
		return err
	}
	compared, err := o.rules()
	if err != nil {
		return err
	}
	r := report{rules: compared, results: playAll(scenarios, compared)}
	if o.asJSON {
		return r.json(os.Stdout)
	}
	fmt.Print(r.markdown(o.details))
	return nil
}

// scenarios are those that are asked for, once for each seed.
func (o *options) scenarios() ([]*scenario, error) {
	var all []*scenario
	if o.unseen > 0 {
		all = drawScenarios(o.unseen, o.unseenSeed)
	} else {
		var err error
		if all, err = readScenarios(o.dir); err != nil {
			return nil, err
		}
	}
	var wanted []*scenario
	for _, s := range all {
		if !strings.Contains(s.Name, o.only) {
			continue
		}
		if o.weeks > 0 {
			s.Weeks = o.weeks
		}
		for i := range max(1, o.seeds) {
			again := *s
			again.Seed += uint64(1000 * i)
			wanted = append(wanted, &again)
		}
	}
	if len(wanted) == 0 {
		return nil, fmt.Errorf("no scenario's name contains %q", o.only)
	}
	return wanted, nil
}

func (o *options) rules() ([]rule, error) {
	all := rules()
	if o.ablation {
		all = append(all, ablations()...)
	}
	if o.policies == "" {
		if o.ablation {
			all = append(ruleNamed(all, "balanced"), ablations()...)
		}
		return all, nil
	}
	var wanted []rule
	for name := range strings.SplitSeq(o.policies, ",") {
		found := ruleNamed(all, strings.TrimSpace(name))
		if len(found) == 0 {
			return nil, errors.New("no rule named " + name + "; there are " + names(all))
		}
		wanted = append(wanted, found...)
	}
	return wanted, nil
}

func ruleNamed(all []rule, name string) []rule {
	for _, r := range all {
		if r.name == name {
			return []rule{r}
		}
	}
	return nil
}

func names(all []rule) string {
	list := make([]string, 0, len(all))
	for _, r := range all {
		list = append(list, r.name)
	}
	return strings.Join(list, ", ")
}
