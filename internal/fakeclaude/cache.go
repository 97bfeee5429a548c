package fakeclaude

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"
)

// cacheKey says who may read an entry: caches never cross organisations or
// workspaces, and model, effort and speed are part of the key.
type cacheKey struct {
	org, workspace, model, effort, speed string
	chain                                [32]byte
}

type cacheEntry struct {
	life time.Duration
	end  time.Time
}

// lookBack is how many blocks before a breakpoint are searched for an entry.
const lookBack = 20

// maxCaches bounds memory in long runs.
const maxCaches = 50_000

func (ex *exchange) cacheKey(segments int) cacheKey {
	p := &ex.prompt
	return cacheKey{ex.acct.Org, ex.acct.Workspace, p.model, p.effort, p.speed, p.segments[segments-1].chain}
}

// split divides the prompt into what is read from the cache, what is written to
// it and what is neither, without changing the cache. The caller holds mu.
func (ex *exchange) split(now time.Time) Usage {
	p := &ex.prompt
	hit, marked := ex.longestHit(now)
	u := Usage{CacheRead: p.tokensUpTo(hit), Input: p.tokens() - p.tokensUpTo(marked)}
	from := hit
	for i := hit; i < marked; i++ {
		life := p.segments[i].life
		if life == 0 {
			continue
		}
		written := p.tokensUpTo(i+1) - p.tokensUpTo(from)
		if life == 1 {
			u.CacheWrite5m += written
		} else {
			u.CacheWrite1h += written
		}
		from = i + 1
	}
	return u
}

// longestHit returns how many segments are cached and how many are marked to be
// cacheable, which is never less.
func (ex *exchange) longestHit(now time.Time) (hit, marked int) {
	p := &ex.prompt
	minimum := int64(0)
	if ex.s.opts.CacheMinimum {
		m, _ := resolve(p.model)
		minimum = m.minimum
	}
	for i := range p.segments {
		if p.segments[i].life == 0 || p.tokensUpTo(i+1) < minimum {
			continue
		}
		marked = i + 1
		for n := marked; n > max(hit, marked-lookBack); n-- {
			if e := ex.s.caches[ex.cacheKey(n)]; e != nil && now.Before(e.end) {
				hit = n
				break
			}
		}
	}
	return hit, marked
}

// keep writes the breakpoints up to the last cacheable one and refreshes what
// was read. The caller holds mu.
func (ex *exchange) keep(now time.Time) {
	_, marked := ex.longestHit(now)
	p := &ex.prompt
	for i := range marked {
		key := ex.cacheKey(i + 1)
		if e := ex.s.caches[key]; e != nil && now.Before(e.end) {
			e.end = now.Add(e.life)
		} else if p.segments[i].life > 0 {
			life := time.Duration(p.segments[i].life) * ex.s.opts.CacheLife
			ex.s.caches[key] = &cacheEntry{life: life, end: now.Add(life)}
		}
	}
	ex.s.trimCaches()
}

// trimCaches drops the entries that end first; which ones must not depend on the
// order of a map.
func (s *Server) trimCaches() {
	if len(s.caches) <= maxCaches {
		return
	}
	keys := slices.SortedFunc(maps.Keys(s.caches), func(a, b cacheKey) int {
		return cmp.Or(s.caches[a].end.Compare(s.caches[b].end), bytes.Compare(a.chain[:], b.chain[:]))
	})
	for _, key := range keys[:len(keys)-maxCaches/2] {
		delete(s.caches, key)
	}
}
