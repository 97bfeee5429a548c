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
	if err := strict.Decode(new(T)); err != nil && readsAs(data, readable) {
		return fmt.Errorf("a newer version wrote it: %w", err)
	}
	return nil // or it cannot be read at all, which is another matter
}

func readsAs[T any](data []byte, readable func(*T) bool) bool {
	record := new(T)
	return json.Unmarshal(data, record) == nil && readable(record)
}
