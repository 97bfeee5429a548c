package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Log is a log of a configuration.
type Log struct {
	Writer struct {
		Output string `json:"output"`
	} `json:"writer"`
	Encoder json.RawMessage `json:"encoder"`
	Level   string          `json:"level"`
	Include []string        `json:"include"`
	Exclude []string        `json:"exclude"`
}

// ServerLogs says which loggers the requests of a server go to.
type ServerLogs struct {
	Default      string               `json:"default_logger_name"`
	Names        map[string]oneOrMore `json:"logger_names"`
	SkipHosts    []string             `json:"skip_hosts"`
	SkipUnmapped bool                 `json:"skip_unmapped_hosts"`
	Credentials  bool                 `json:"should_log_credentials"`
	Trace        bool                 `json:"trace"`
}

// oneOrMore are texts, of which one may stand alone.
type oneOrMore []string

func (s *oneOrMore) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*s = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(s))
}

const (
	accessLogger = "http.log.access"
	errorLogger  = "http.log.error"
	// keyField is X-Api-Key in log entries; the filter encoder wants it spelled so.
	keyField = "request>headers>X-Api-Key"
)

const keyFilter = "format filter {\n\trequest>headers>X-Api-Key delete\n}"

// Logs looks for logs that get the keys of clients in clear. Caddy hides Cookie,
// Authorization and the like by itself, but not X-Api-Key (internal/logmarshalers.go
// of Caddy v2.11), and it copies a request for its logs before any handler runs.
func (c *Config) Logs(context.Context) []Finding {
	found := c.logsInClear()
	for _, s := range c.servers {
		if s.Logs == nil {
			continue
		}
		if s.Logs.Credentials {
			found = append(found, Finding{
				Level: Problem, Where: c.Source.Where(s.path+".logs.should_log_credentials", "log_credentials"),
				Found:  "logs get Authorization and cookies in clear, with which people may come to the pool",
				Change: "Take log_credentials out of servers { ... }.",
			})
		}
		if s.Logs.Trace {
			found = append(found, Finding{
				Level: Warning, Where: c.Source.Where(s.path+".logs.trace", "trace"),
				Found:  "at level DEBUG each handler's settings are logged, with the keys that are written in them",
				Change: "Take trace out of servers { ... }.",
			})
		}
	}
	found = append(found, c.appendedToLogs()...)
	found = append(found, c.keysInQueries()...)
	return orOK(found, "no log gets the keys of clients in clear")
}

// logsInClear finds logs with entries of requests to the pool and no filter of the
// key.
func (c *Config) logsInClear() (found []Finding) {
	logs := maps.Clone(c.Logging.Logs)
	if logs == nil {
		logs = make(map[string]*Log)
	}
	if logs["default"] == nil {
		logs["default"] = new(Log) // Caddy makes it
	}
	access, errors := c.loggers()
	for _, name := range slices.Sorted(maps.Keys(logs)) {
		l := logs[name]
		if l == nil || l.Writer.Output == "discard" {
			continue
		}
		where := c.Source.Where("logging.logs."+name, "log", name)
		if strings.HasPrefix(name, "log") && where == "logging.logs."+name {
			where = c.Source.Where(where, "log", "{") // Caddy numbers those without a name
		}
		if gets := l.getsAny(access); gets || l.getsAny(errors) {
			found = append(found, l.inClear(name, where, gets)...)
		}
	}
	return found
}

// inClear judges a log that gets errors of requests to the pool, and their access
// log too if access is true.
func (l *Log) inClear(name, where string, access bool) (found []Finding) {
	hides, why := keyHidden(l.Encoder)
	debug := strings.EqualFold(l.Level, "DEBUG")
	switch {
	case hides == no && access:
		found = append(found, Finding{Level: Problem, Found: "the access log gets X-Api-Key, the key of each client, in clear" + why, Change: filterLines(name)})
	case hides == no && debug:
		found = append(found, Finding{Level: Problem, Found: "at level DEBUG this log gets X-Api-Key, the key of a client, in clear with each request that fails or is left" + why, Change: filterLines(name)})
	case hides == no:
		found = append(found, Finding{Level: Warning, Found: "the log of errors gets X-Api-Key, the key of a client, in clear when a request fails in Caddy" + why, Change: filterLines(name)})
	case hides == unknown:
		found = append(found, Finding{
			Level: Warning, Found: "it cannot be told whether X-Api-Key is kept out of this log" + why,
			Change: "See for yourself that no line of it holds a key, or use the filter:\n" + filterLines(name),
		})
	}
	if debug && len(found) == 0 {
		found = append(found, Finding{
			Level: Warning, Found: "level DEBUG writes much for each request, and handlers log there what no filter knows",
			Change: "Take debug out of the global options, or level DEBUG out of the log, once you have found what you look for.",
		})
	}
	for i := range found {
		found[i].Where = where
	}
	return found
}

// loggers are the names under which requests to the pool, and errors of theirs,
// are logged.
func (c *Config) loggers() (access, errors []string) {
	for _, s := range c.servers {
		for _, site := range s.sites {
			names, logged := s.Logs.names(site.hosts)
			for _, name := range names {
				errors = append(errors, joined(errorLogger, name))
				if logged {
					access = append(access, joined(accessLogger, name))
				}
			}
		}
	}
	return access, errors
}

func joined(logger, name string) string {
	if name == "" {
		return logger
	}
	return logger + "." + name
}

// names are the loggers of requests to the hosts, and whether there is an access
// log for them. No hosts stand for any.
func (l *ServerLogs) names(hosts []string) (names []string, access bool) {
	if l == nil {
		return []string{""}, false
	}
	if len(hosts) == 0 {
		names = []string{l.Default}
		for _, host := range slices.Sorted(maps.Keys(l.Names)) {
			names = append(names, l.Names[host]...)
		}
		return names, true
	}
	for _, host := range hosts {
		mapped, ok := l.mapped(strings.ToLower(host))
		if !ok {
			mapped = []string{l.Default}
		}
		names = append(names, mapped...)
		access = access || !slices.Contains(l.SkipHosts, host) && (ok || !l.SkipUnmapped)
	}
	return names, access
}

// mapped finds the loggers of a host, also by a wildcard in the place of labels.
func (l *ServerLogs) mapped(host string) ([]string, bool) {
	labels := strings.Split(host, ".")
	for i := -1; i < len(labels); i++ {
		if i >= 0 {
			labels[i] = "*"
		}
		if names, ok := l.Names[strings.Join(labels, ".")]; ok {
			return names, true
		}
	}
	return nil, false
}

func (l *Log) getsAny(loggers []string) bool { return slices.ContainsFunc(loggers, l.gets) }

// gets reports whether the log takes the entries of a logger: the longest of the
// names in include and exclude decides.
func (l *Log) gets(logger string) bool {
	longest := func(names []string) (n int) {
		for _, name := range names {
			if strings.HasPrefix(logger+".", name+".") {
				n = max(n, len(name))
			}
		}
		return n
	}
	in, out := longest(l.Include), longest(l.Exclude)
	switch {
	case len(l.Include) > 0 && in == 0:
		return false
	case out > 0:
		return in > out
	}
	return true
}

type answer uint8

const (
	no answer = iota
	yes
	unknown
)

// keyHidden reports whether an encoder keeps the key out. why goes behind a
// sentence that says it does not.
func keyHidden(encoder json.RawMessage) (hides answer, why string) {
	var e struct {
		Format string                     `json:"format"`
		Wrap   json.RawMessage            `json:"wrap"`
		Fields map[string]json.RawMessage `json:"fields"`
	}
	if len(encoder) > 0 && json.Unmarshal(encoder, &e) != nil {
		return unknown, ""
	}
	switch e.Format {
	case "nop":
		return yes, ""
	case "", "json", "console":
		return no, ""
	case "append", "journald":
		return keyHidden(e.Wrap)
	case "filter":
	default:
		return unknown, fmt.Sprintf(", since its format is %q", e.Format)
	}
	for _, field := range slices.Sorted(maps.Keys(e.Fields)) {
		filter := filterOf(e.Fields[field])
		switch known := field == keyField || field == "request>headers" || field == "request"; {
		case known && slices.Contains([]string{"delete", "replace", "hash"}, filter):
			return yes, ""
		case known:
			hides, why = unknown, fmt.Sprintf(", since the filter of %s is %q", field, filter)
		case strings.EqualFold(field, keyField) && hides == no:
			why = fmt.Sprintf("; its filter is for %s, and the name must be spelled X-Api-Key", field)
		}
	}
	if inner, _ := keyHidden(e.Wrap); hides == no && inner == yes {
		return yes, ""
	}
	return hides, why
}

// filterOf is the name of a field's filter.
func filterOf(raw json.RawMessage) string {
	var f struct {
		Filter string `json:"filter"`
	}
	_ = json.Unmarshal(raw, &f) // what is none has no name
	return f.Filter
}

// filterLines are the lines that keep the key out of a log.
func filterLines(log string) string {
	if log == "default" {
		return "Among the global options:\nlog default {\n\t" + strings.ReplaceAll(keyFilter, "\n", "\n\t") + "\n}"
	}
	return "In the log's block, with what it has now as format behind wrap:\n" + keyFilter
}

// appendedToLogs finds what log_append puts into logs.
func (c *Config) appendedToLogs() (found []Finding) {
	c.eachStep("log_append", func(_ *Server, _ *Site, s step) {
		var h struct{ Key, Value string }
		if json.Unmarshal(s.raw, &h) != nil {
			return
		}
		f := Finding{Where: c.Source.Where(s.path, "log_append", h.Key), Change: "Take this log_append out."}
		switch value := strings.ToLower(h.Value); {
		case strings.Contains(value, "{http.request.header.x-api-key}"), strings.Contains(value, "{http.request.header.authorization}"):
			f.Level, f.Found = Problem, "log_append puts the key of each client into the log, where no filter of the header takes it out"
		case strings.HasPrefix(value, "{http.response.body"):
			f.Level, f.Found = Problem, "log_append holds each answer back until it is whole, so nothing is streamed, and puts conversations into the log"
		case strings.HasPrefix(value, "{http.request.body"):
			f.Level, f.Found = Warning, "log_append puts whole conversations into the log"
		default:
			return
		}
		found = append(found, f)
	})
	return found
}

// keysInQueries finds keys that clients send in the URL, which every access log has.
func (c *Config) keysInQueries() (found []Finding) {
	const in = "{http.request.uri.query"
	const change = "Let clients send the key as a header, or keep it out of each log:\nformat filter {\n\trequest>uri query {\n\t\tdelete <name of the parameter>\n\t}\n}"
	for _, s := range c.servers {
		for _, site := range s.sites {
			if strings.Contains(site.User, in) {
				found = append(found, Finding{Level: Warning, Where: site.path + ".user", Found: "who a client is comes from its URL, which access logs and browsers keep", Change: change})
			}
		}
	}
	c.eachStep("headers", func(_ *Server, _ *Site, s step) {
		var h struct {
			Request struct{ Set, Add map[string][]string }
		}
		if json.Unmarshal(s.raw, &h) != nil {
			return
		}
		for _, fields := range []map[string][]string{h.Request.Set, h.Request.Add} {
			for name, values := range fields {
				key := strings.EqualFold(name, "X-Api-Key") || strings.EqualFold(name, "Authorization")
				if key && strings.Contains(strings.Join(values, " "), in) {
					found = append(found, Finding{Level: Problem, Where: c.Source.Where(s.path, "request_header", name), Found: "keys come in the URL, which access logs write in clear", Change: change})
				}
			}
		}
	})
	return found
}
