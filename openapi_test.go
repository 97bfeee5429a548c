package shunt

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestOpenAPIRoutes: what the file describes is what is served, path by path. What each
// answers is checked in integration/api.
func TestOpenAPIRoutes(t *testing.T) {
	text, err := os.ReadFile("docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var described, served []string
	for _, found := range regexp.MustCompile(`(?m)^  (/\S*):$`).FindAllSubmatch(text, -1) {
		described = append(described, string(found[1]))
	}
	for _, r := range (adminAPI{}).Routes() {
		served = append(served, r.Pattern)
	}
	for path := range ownEndpoints {
		served = append(served, path)
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("docs/openapi.yaml describes\n%q\nand served are\n%q", described, served)
	}
}
