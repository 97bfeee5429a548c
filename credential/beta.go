package credential

import (
	"net/http"
	"slices"
	"strings"
)

// oauthBeta must accompany OAuth bearers and refresh calls (official SDKs:
// "required on authenticated requests with an OAuth bearer token and on
// refresh_token grants").
const oauthBeta = "oauth-2025-04-20"

// federationBeta accompanies oauthBeta on jwt-bearer grants, and must not be sent
// with refresh_token grants (official SDKs, config/federation).
const federationBeta = "oidc-federation-2026-04-01"

const betaHeader = "Anthropic-Beta"

// addBeta adds the value to the last anthropic-beta line, or as the first line,
// unless one of the lines has it. A header of several lines means the same as its
// lines joined with commas (RFC 9110, 5.3), so the last line's end is the end of
// the list.
func addBeta(h http.Header, beta string) {
	last := ""
	for name, lines := range h {
		if !strings.EqualFold(name, betaHeader) || len(lines) == 0 {
			continue
		}
		if slices.ContainsFunc(lines, func(line string) bool { return hasBeta(line, beta) }) {
			return
		}
		if last == "" || name == betaHeader {
			last = name
		}
	}
	if last == "" {
		h[betaHeader] = []string{beta}
		return
	}
	// A copy: the slice may be shared with the client's header, which the next
	// attempt starts from.
	lines := slices.Clone(h[last])
	end := &lines[len(lines)-1]
	if *end = strings.TrimRight(*end, ", \t"); *end != "" {
		*end += ","
	}
	*end += beta
	h[last] = lines
}

// dropOAuthBeta takes the value out wherever it stands. Lines that do not have it
// keep every byte; a line of which nothing is left goes.
func dropOAuthBeta(h http.Header) {
	for name, lines := range h {
		if !strings.EqualFold(name, betaHeader) || !slices.ContainsFunc(lines, hasOAuthBeta) {
			continue
		}
		kept := make([]string, 0, len(lines))
		for _, line := range lines {
			if hasOAuthBeta(line) {
				if line = withoutOAuthBeta(line); line == "" {
					continue
				}
			}
			kept = append(kept, line)
		}
		if len(kept) == 0 {
			delete(h, name)
		} else {
			h[name] = kept
		}
	}
}

func isBeta(value, beta string) bool {
	return strings.EqualFold(strings.Trim(value, " \t"), beta)
}

func isOAuthBeta(value string) bool { return isBeta(value, oauthBeta) }

func hasBeta(line, beta string) bool {
	for value := range strings.SplitSeq(line, ",") {
		if isBeta(value, beta) {
			return true
		}
	}
	return false
}

func hasOAuthBeta(line string) bool { return hasBeta(line, oauthBeta) }

func withoutOAuthBeta(line string) string {
	kept := slices.DeleteFunc(strings.Split(line, ","), isOAuthBeta)
	return strings.Trim(strings.Join(kept, ","), ", \t")
}
