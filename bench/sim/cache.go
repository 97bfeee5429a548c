package main

import "time"

// cached is a session's prompt in an account's cache.
type cached struct {
	account int
	tokens  int
	until   time.Duration
}

// sessionCache is where a session's prompts are, the oldest first. More places than
// these are never warm at once.
type sessionCache [4]cached

// has is how much of the prompt the account has.
func (c *sessionCache) has(account int, now time.Duration) int {
	for i := range c {
		if c[i].account == account && now < c[i].until {
			return c[i].tokens
		}
	}
	return 0
}

func (c *sessionCache) put(account, tokens int, until time.Duration) {
	oldest := 0
	for i := range c {
		if c[i].account == account {
			oldest = i
			break
		}
		if c[i].until < c[oldest].until {
			oldest = i
		}
	}
	c[oldest] = cached{account, tokens, until}
}

// forget is for a conversation that starts anew.
func (c *sessionCache) forget() { *c = sessionCache{} }

// prefixCache tells until when each account has each shared prefix.
type prefixCache [][models * kinds]time.Duration

func (c prefixCache) has(account int, s *session, now time.Duration) int {
	if now < c[account][s.model*kinds+s.kind] {
		return sharedPrefix[s.kind]
	}
	return 0
}

func (c prefixCache) put(account int, s *session, until time.Duration) {
	p := &c[account][s.model*kinds+s.kind]
	*p = max(*p, until)
}
