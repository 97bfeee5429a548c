package anthropic

import "strings"

// Model families. Limits and capacity are counted per family, so a bench that
// speaks of one family leaves the others alone.
const (
	FamilyOpus   = "opus"
	FamilySonnet = "sonnet"
	FamilyHaiku  = "haiku"
	FamilyFable  = "fable"
	FamilyMythos = "mythos"
	FamilyOther  = "other"
)

var families = []string{FamilyOpus, FamilySonnet, FamilyHaiku, FamilyFable, FamilyMythos}

// Family names the model family of a model id, [FamilyOther] for an id it does
// not know. It serves as a bounded metric label.
func Family(model string) string {
	for _, f := range families {
		if strings.Contains(model, f) {
			return f
		}
	}
	return FamilyOther
}

// windowFamilies maps the scope in a window's name (7d_opus) to the model
// families it limits. "oi" ("overage included") is the bucket of the largest
// models.
var windowFamilies = map[string][]string{
	"opus":   {FamilyOpus},
	"sonnet": {FamilySonnet},
	"haiku":  {FamilyHaiku},
	"oi":     {FamilyFable, FamilyMythos},
}

// FamiliesOf are the model families that a window with a scope limits; none for one
// that limits every family.
func FamiliesOf(window string) []string {
	_, scope, scoped := strings.Cut(window, "_")
	if !scoped {
		return nil
	}
	if known, ok := windowFamilies[scope]; ok {
		return known
	}
	return []string{scope}
}

// WindowLimits reports whether the window limits requests for the family.
// Windows without a scope (5h, 7d) limit every family; a scope that is not
// known is taken as the family's own name.
func WindowLimits(window, family string) bool {
	_, scope, scoped := strings.Cut(window, "_")
	if !scoped {
		return true
	}
	known, ok := windowFamilies[scope]
	if !ok {
		return scope == family
	}
	for _, f := range known {
		if f == family {
			return true
		}
	}
	return false
}
