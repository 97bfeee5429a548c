package doctor

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
)

const eventStream = "text/event-stream"

// Encode looks for compression in front of the pool. Caddy's encode compresses event
// streams by default, since its default matcher has text/*. Its minimum length does
// not count for them: the head of an event stream is sent at once, and each event is
// flushed (modules/caddyhttp/encode of Caddy v2.11).
func (c *Config) Encode(context.Context) []Finding {
	var found []Finding
	c.eachStep("encode", func(_ *Server, _ *Site, s step) {
		if encodesStreams(s.raw) {
			found = append(found, Finding{
				Level: Warning, Where: c.Source.Where(s.path, "encode"),
				Found:  "encode compresses event streams: each keeps an encoder in memory and each event costs work, for pieces that are too small to become smaller; a Caddy before v2.11 holds them back",
				Change: "@others not path /v1/*\nencode @others",
			})
		}
	})
	return orOK(found, "no event stream is compressed")
}

// encodesStreams reports whether the matcher of an encode handler takes event
// streams.
func encodesStreams(raw json.RawMessage) bool {
	var h struct {
		Match *struct {
			Status  []int               `json:"status_code"`
			Headers map[string][]string `json:"headers"`
		} `json:"match"`
	}
	if json.Unmarshal(raw, &h) != nil || h.Match == nil {
		return true
	}
	// A status of one digit stands for its class.
	if len(h.Match.Status) > 0 && !slices.Contains(h.Match.Status, 200) && !slices.Contains(h.Match.Status, 2) {
		return false
	}
	for name, patterns := range h.Match.Headers {
		if !strings.EqualFold(name, "Content-Type") {
			continue
		}
		return slices.ContainsFunc(patterns, func(p string) bool {
			return globMatch(p, eventStream) || globMatch(p, eventStream+"; charset=utf-8")
		})
	}
	return true
}
