package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
)

const (
	// longAnswer is how long an answer may well take: official SDKs and Claude Code
	// wait ten minutes for one.
	longAnswer = 10 * time.Minute
	// slowUpload is how long the body of a request may take on a slow line.
	slowUpload = 30 * time.Second
	// shortGrace is a time in which few answers end.
	shortGrace = time.Minute
	// defaultMaxBody is the handler's default of max_body, in bytes.
	defaultMaxBody = 32 << 20
)

// Timeouts looks for limits of Caddy's server that cut answers which are well, or
// keep requests out that the pool would take. Its idle timeouts bound single reads
// and writes and cut nothing that flows.
func (c *Config) Timeouts(context.Context) []Finding {
	var found []Finding
	for _, s := range c.servers {
		found = append(found, c.serverTimeouts(s)...)
	}
	c.eachStep("timeouts", func(_ *Server, _ *Site, s step) {
		var h struct {
			Rate int64 `json:"write_min_rate"`
		}
		if json.Unmarshal(s.raw, &h) == nil && h.Rate > 0 {
			found = append(found, Finding{
				Level: Problem, Where: c.Source.Where(s.path+".write_min_rate", "write_timeout"), Found: tooSlow(h.Rate),
				Change: "Take the rate behind write_timeout out of the site's block timeouts.",
			})
		}
	})
	c.eachStep("request_body", func(_ *Server, site *Site, s step) {
		var h struct {
			Max int64 `json:"max_size"`
		}
		limit := site.MaxBody
		if limit == 0 {
			limit = defaultMaxBody
		}
		if json.Unmarshal(s.raw, &h) == nil && h.Max > 0 && h.Max < limit {
			found = append(found, Finding{
				Level: Warning, Where: c.Source.Where(s.path+".max_size", "max_size"),
				Found: fmt.Sprintf("requests over %s are refused with 413 before shunt, which takes up to %s, sees them; long conversations and images are larger",
					humanize.Bytes(uint64(h.Max)), humanize.IBytes(uint64(limit))),
				Change: "Take this request_body out, since shunt bounds bodies by max_body itself, or write\nrequest_body {\n\tmax_size " + fmt.Sprint(limit) + "\n}",
			})
		}
	})
	if grace := time.Duration(c.Apps.HTTP.GracePeriod); grace > 0 && grace < shortGrace {
		found = append(found, Finding{
			Level: Warning, Where: c.Source.Where("apps.http.grace_period", "grace_period"),
			Found:  fmt.Sprintf("when Caddy stops it cuts answers that take longer than %v", grace),
			Change: "grace_period 10m\nand a longer time than that in the service manager; with systemd TimeoutStopSec=11min.",
		})
	}
	return orOK(found, "nothing cuts answers or keeps large requests out")
}

func (c *Config) serverTimeouts(s *Server) (found []Finding) {
	if limit := time.Duration(s.WriteTimeout); limit > 0 {
		f := Finding{
			Level: Warning, Where: c.Source.Where(s.path+".write_timeout", "write"),
			Found:  fmt.Sprintf("an answer that takes longer than %v is cut, also one that flows", limit),
			Change: "Take write out of servers { timeouts { ... } }; write_idle bounds clients that stall.",
		}
		if limit < longAnswer {
			f.Level = Problem
		}
		found = append(found, f)
	}
	if s.WriteMinRate > 0 {
		found = append(found, Finding{
			Level: Problem, Where: c.Source.Where(s.path+".write_min_rate", "write_idle"), Found: tooSlow(s.WriteMinRate),
			Change: "Take the rate behind write_idle out of servers { timeouts { ... } }.",
		})
	}
	if limit := time.Duration(s.ReadTimeout); limit > 0 && limit < slowUpload {
		found = append(found, Finding{
			Level: Warning, Where: c.Source.Where(s.path+".read_timeout", "read_body"),
			Found:  fmt.Sprintf("a request that takes longer than %v to arrive is refused; conversations have up to 32 MiB", limit),
			Change: "Take read_body out of servers { timeouts { ... } }; read_body_idle bounds clients that stall.",
		})
	}
	return found
}

func tooSlow(rate int64) string {
	return fmt.Sprintf("an answer with less than %d bytes a second from its beginning is cut; while a model thinks it sends next to nothing", rate)
}
