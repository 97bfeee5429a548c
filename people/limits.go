package people

import (
	"fmt"
	"path"
	"reflect"
	"strings"
)

// Limits are what a person may use. The zero value limits nothing.
type Limits struct {
	// Globs of the model ids that the person may ask for. Default: all.
	Models []string `json:"models,omitempty"`
	// How many requests the person has under way at most; more wait. Default: no limit.
	MaxConcurrent int `json:"max_concurrent,omitempty"`
	// How many requests the person may make a minute. Default: no limit.
	Rate int `json:"rate,omitempty"`
	// What the person may use in a day, a week or a month. Default: no limit.
	Budgets []Budget `json:"budgets,omitempty"`
	// The person's part when accounts are short, relative to the others'. Default: 1.
	Weight int `json:"weight,omitempty"`
}

// MaxWeight bounds the weight of a person.
const MaxWeight = 1000

// IsZero reports whether nothing is limited.
func (l *Limits) IsZero() bool { return reflect.ValueOf(*l).IsZero() }

// Equal reports whether both limit the same.
func (l *Limits) Equal(other *Limits) bool { return reflect.DeepEqual(l, other) }

// Check finds what is wrong with the limits, naming the field.
func (l *Limits) Check() error {
	for _, glob := range l.Models {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("models: %q is not a glob", glob)
		}
	}
	for _, field := range []struct {
		name  string
		value int
	}{{"max_concurrent", l.MaxConcurrent}, {"rate", l.Rate}, {"weight", l.Weight}} {
		if field.value < 0 {
			return fmt.Errorf("%s: must not be negative", field.name)
		}
	}
	if l.Weight > MaxWeight {
		return fmt.Errorf("weight: %d; expected at most %d", l.Weight, MaxWeight)
	}
	for i := range l.Budgets {
		if err := l.Budgets[i].check(); err != nil {
			return fmt.Errorf("budget: %w", err)
		}
		for _, other := range l.Budgets[:i] {
			if other.Per == l.Budgets[i].Per && (other.USD > 0) == (l.Budgets[i].USD > 0) {
				return fmt.Errorf("budget: there are two in the same unit per %s", other.Per)
			}
		}
	}
	return nil
}

// Allows reports whether the person may ask for the model. A request without a
// model is allowed to everybody: upstream says what is wrong with it.
func (l *Limits) Allows(model string) bool {
	if len(l.Models) == 0 || model == "" {
		return true
	}
	for _, glob := range l.Models {
		if ok, err := path.Match(glob, model); err == nil && ok {
			return true
		}
	}
	return false
}

// NotAllowed tells the person what they may ask for in the place of the model.
func (l *Limits) NotAllowed(model string) string {
	return fmt.Sprintf("model: you may not use %s here; you may use %s", model, strings.Join(l.Models, ", "))
}
