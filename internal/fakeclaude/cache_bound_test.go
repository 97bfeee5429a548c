package fakeclaude

import (
	"encoding/binary"
	"testing"
	"time"
)

func TestCachesAreBounded(t *testing.T) {
	s := New(Options{})
	defer s.Close()
	now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	key := func(i int) (k cacheKey) {
		binary.BigEndian.PutUint64(k.chain[:], uint64(i))
		return k
	}
	for i := range maxCaches + 1 {
		s.caches[key(i)] = &cacheEntry{end: now.Add(time.Duration(i/2) * time.Second)}
	}
	s.trimCaches()
	if len(s.caches) != maxCaches/2 || s.caches[key(maxCaches)] == nil || s.caches[key(0)] != nil {
		t.Errorf("%d entries are left; the youngest is %v, the oldest %v", len(s.caches), s.caches[key(maxCaches)], s.caches[key(0)])
	}
}
