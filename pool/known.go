package pool

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// CheckSnapshot returns an error if a record that Restore takes says more than this
// version knows: the next Snapshot would be without it.
func CheckSnapshot(data []byte) error {
	return checkKnown(data, func(s *snapshot) bool { return s.Version >= 1 && s.Version <= snapshotVersion })
}

// CheckFacts is CheckSnapshot for what Facts gives and Merge takes.
func CheckFacts(data []byte) error {
	return checkKnown(data, func(f *facts) bool { return f.Version >= 1 && f.Version <= factsVersion })
}

func checkKnown[T any](data []byte, readable func(*T) bool) error {
	strict := json.NewDecoder(bytes.NewReader(data))
	strict.DisallowUnknownFields()
	unknown := strict.Decode(new(T))
	lenient := new(T)
	// What cannot be read at all is another matter.
	if read := json.Unmarshal(data, lenient) == nil && readable(lenient); read && unknown != nil {
		return fmt.Errorf("a newer version wrote it: %w", unknown)
	}
	return nil
}
