package doctor

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Source is the Caddyfile that a configuration was made from, to say where
// something stands in it. Files that it imports are not read.
type Source struct {
	name  string
	lines map[int][]string // words by line
}

// NewSource reads a Caddyfile. It is nil, which knows no lines, for what is none.
func NewSource(file string, text []byte) *Source {
	tokens, err := caddyfile.Tokenize(text, file)
	if err != nil {
		return nil
	}
	s := &Source{name: filepath.Base(file), lines: make(map[int][]string)}
	for _, t := range tokens {
		s.lines[t.Line] = append(s.lines[t.Line], t.Text)
	}
	return s
}

// mostLines bounds how many lines are named for one thing.
const mostLines = 3

// At names the line that begins with the words, as "Caddyfile:3", or "Caddyfile:3 or
// 7" when there are several; it is empty when there is none, or too many to be of
// help.
func (s *Source) At(words ...string) string {
	if s == nil || len(words) == 0 {
		return ""
	}
	var found []int
	for n, line := range s.lines {
		if len(line) >= len(words) && slices.Equal(line[:len(words)], words) {
			found = append(found, n)
		}
	}
	if len(found) == 0 || len(found) > mostLines {
		return ""
	}
	slices.Sort(found)
	places := make([]string, len(found))
	for i, n := range found {
		places[i] = strconv.Itoa(n)
	}
	return s.name + ":" + strings.Join(places, " or ")
}

// Lines are the lines that begin with the word, each with its words, by number.
func (s *Source) Lines(word string) map[int][]string {
	found := make(map[int][]string)
	if s != nil {
		for n, line := range s.lines {
			if line[0] == word {
				found[n] = line
			}
		}
	}
	return found
}

// Where names a thing by its line in the Caddyfile, else by its path in the JSON
// configuration.
func (s *Source) Where(path string, words ...string) string {
	if at := s.At(words...); at != "" {
		return at
	}
	return path
}
