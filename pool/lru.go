package pool

// lru is a map that forgets the key which was put longest ago once there are
// more than limit.
type lru[K comparable, V any] struct {
	limit          int
	byKey          map[K]*entry[K, V]
	newest, oldest *entry[K, V]
}

type entry[K comparable, V any] struct {
	key          K
	value        V
	newer, older *entry[K, V]
}

func newLRU[K comparable, V any](limit int) lru[K, V] {
	return lru[K, V]{limit: limit, byKey: make(map[K]*entry[K, V])}
}

// get finds the value without making it newer; nil when there is none. The
// pointer is good until the key is forgotten.
func (l *lru[K, V]) get(key K) *V {
	if e, ok := l.byKey[key]; ok {
		return &e.value
	}
	return nil
}

// put makes the key the newest and returns its value to be set; a new key's is zero.
func (l *lru[K, V]) put(key K) *V {
	e, ok := l.byKey[key]
	switch {
	case ok && e == l.newest:
		return &e.value
	case ok:
		l.unlink(e)
	default:
		if len(l.byKey) >= l.limit {
			// The entry of the forgotten key is used again.
			e = l.oldest
			l.unlink(e)
			delete(l.byKey, e.key)
			*e = entry[K, V]{key: key}
		} else {
			e = &entry[K, V]{key: key}
		}
		l.byKey[key] = e
	}
	e.older = l.newest
	if l.newest != nil {
		l.newest.newer = e
	} else {
		l.oldest = e
	}
	l.newest = e
	return &e.value
}

func (l *lru[K, V]) remove(key K) {
	if e, ok := l.byKey[key]; ok {
		l.unlink(e)
		delete(l.byKey, key)
	}
}

func (l *lru[K, V]) unlink(e *entry[K, V]) {
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		l.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		l.oldest = e.newer
	}
	e.newer, e.older = nil, nil
}

func (l *lru[K, V]) len() int { return len(l.byKey) }

// oldestFirst calls each for every key. each may remove its own key.
func (l *lru[K, V]) oldestFirst(each func(key K, value *V)) {
	for e := l.oldest; e != nil; {
		next := e.newer
		each(e.key, &e.value)
		e = next
	}
}
