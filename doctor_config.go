package shunt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-shunt/caddy-shunt/internal/doctor"
)

// leastCaddy is the Caddy that go.mod asks for.
const leastCaddy = "v2.11.9"

// versions compares what this command is with what runs.
func (p *patient) versions(ctx context.Context) []doctor.Finding {
	own := thisProgram()
	if p.admin == nil {
		return judgeVersions(own, nil)
	}
	var there programAnswer
	err := p.admin.call(ctx, http.MethodGet, "/shunt/check", nil, nil, &there)
	var refusal *adminError
	switch {
	case errors.As(err, &refusal) && refusal.status == http.StatusNotFound:
		return []doctor.Finding{{
			Level: doctor.Warning, Found: fmt.Sprintf("what runs is an older shunt than this command (%s), and cannot tell its version", own.Shunt),
			Change: "Restart Caddy with this binary; a reload does not change the program.",
		}}
	case err != nil:
		return []doctor.Finding{{Level: doctor.Skipped, Found: err.Error()}}
	}
	p.dataDir = there.DataDir
	return judgeVersions(own, &there)
}

// judgeVersions: there is nil when nothing runs.
func judgeVersions(own programAnswer, there *programAnswer) []doctor.Finding {
	runs := own
	if there != nil {
		runs = *there
		if own.Shunt != runs.Shunt || own.Caddy != runs.Caddy || own.Go != runs.Go {
			return []doctor.Finding{{
				Level:  doctor.Warning,
				Found:  fmt.Sprintf("this command is shunt %s, Caddy %s, %s; what runs is shunt %s, Caddy %s, %s", own.Shunt, own.Caddy, own.Go, runs.Shunt, runs.Caddy, runs.Go),
				Change: "Run the command with the binary that runs, or restart Caddy with this one; a reload does not change the program.",
			}}
		}
	}
	if older(runs.Caddy, leastCaddy) {
		return []doctor.Finding{{
			Level: doctor.Warning, Found: fmt.Sprintf("Caddy %s is older than %s, with which this shunt is tested", runs.Caddy, leastCaddy),
			Change: "xcaddy build " + leastCaddy + " --with github.com/caddy-shunt/caddy-shunt",
		}}
	}
	return []doctor.Finding{{Level: doctor.OK, Found: fmt.Sprintf("shunt %s, Caddy %s, %s", runs.Shunt, runs.Caddy, runs.Go)}}
}

// older compares versions such as v2.11.9; what is no version is not older.
func older(version, least string) bool {
	a, okA := numbers(version)
	b, okB := numbers(least)
	return okA && okB && slices.Compare(a, b) < 0
}

func numbers(version string) (list []int, ok bool) {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, false
		}
		list = append(list, n)
	}
	return list, len(list) == 3
}

// configuration tells whether the file is loaded, and what the accounts lack.
func (p *patient) configuration(context.Context) []doctor.Finding {
	var found []doctor.Finding
	if p.unloaded {
		found = append(found, doctor.Finding{
			Level: doctor.Warning, Where: p.file, Found: "the file is not what runs: it was changed and not loaded, or something else was; what runs is judged here",
			Change: "caddy reload --config " + quoteAll([]string{p.file}),
		})
	}
	for i := range p.accounts {
		c := &p.accounts[i]
		_, wrong := baseOf(c)
		if err := c.config.check(); err != nil {
			wrong = err
		}
		if wrong != nil {
			found = append(found, doctor.Finding{Level: doctor.Problem, Where: p.whereIs(c.pool, c.config.Name), Found: wrong.Error(), Change: "Put the account right; docs/configuration.md has what it takes."})
		}
	}
	if len(found) == 0 {
		return []doctor.Finding{{Level: doctor.OK, Found: doctor.Count(len(p.accounts), "account") + ", " + doctor.Count(p.parsed.Sites(), "site")}}
	}
	return found
}

// owners tells of logins that everybody uses, and of owners who cannot come.
func (p *patient) owners(context.Context) []doctor.Finding {
	var found []doctor.Finding
	for i := range p.accounts {
		c := &p.accounts[i]
		where := p.whereIs(c.pool, c.config.Name)
		if c.config.personal() && slices.Contains(c.config.Owners, "*") {
			found = append(found, doctor.Finding{
				Level: doctor.Warning, Where: where, Found: "a login of one person is shared with everybody; see Terms in the README",
				Change: "owner <name of the person's remote_key>",
			})
		}
		names, known := p.keyNames(c.pool)
		for _, owner := range c.config.Owners {
			if owner != "*" && known && !names[owner] {
				found = append(found, doctor.Finding{
					Level: doctor.Warning, Where: where, Found: fmt.Sprintf("its owner %s has no remote_key here, so it serves only whom Caddy authenticates by that name", owner),
					Change: "caddy shunt key " + owner + "\nand put the line that it prints into the block shunt; or correct the name behind owner.",
				})
			}
		}
	}
	if len(found) == 0 {
		return []doctor.Finding{{Level: doctor.OK, Found: "each login has its owner"}}
	}
	return found
}

// keyNames are the names of the keys of a pool; known is false when there is no key,
// or the file of keys cannot be read here.
func (p *patient) keyNames(pool string) (names map[string]bool, known bool) {
	names = make(map[string]bool)
	for _, h := range p.handlersOf(pool) {
		for _, k := range h.RemoteKeys {
			names[k.Name], known = true, true
			if k.Name == "" {
				names["default"] = true
			}
		}
		if h.KeysFile == "" {
			continue
		}
		path, err := resolve("keys", h.KeysFile)
		if err != nil {
			return nil, false
		}
		text, err := os.ReadFile(path) //nolint:gosec // the file that the operator names
		if err != nil {
			return nil, false
		}
		keys, _, err := parseKeys(path, text)
		if err != nil {
			return nil, false
		}
		for _, k := range keys {
			names[k.Name], known = true, true
		}
	}
	return names, known
}

// handlersOf are the handlers of a pool in the configuration; without a name those
// of all pools that are looked at.
func (p *patient) handlersOf(pool string) []Handler {
	var root struct {
		Apps any `json:"apps"`
	}
	if pool == "" {
		pool = p.pool
	}
	if json.Unmarshal(p.raw, &root) != nil {
		return nil
	}
	handlers := handlersIn(root.Apps)
	for i := range handlers {
		if handlers[i].Pool == "" {
			handlers[i].Pool = DefaultPool
		}
	}
	return slices.DeleteFunc(handlers, func(h Handler) bool { return pool != "" && h.Pool != pool })
}
