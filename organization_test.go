package shunt

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

func TestIdentities(t *testing.T) {
	key := func(org string) identityFacts {
		return identityFacts{system: "api", upstream: "https://up", organization: org}
	}
	login := func(org, person string, seats bool) identityFacts {
		return identityFacts{system: "login", upstream: "https://up", organization: org, person: person, seats: seats}
	}
	elsewhere := key("o")
	elsewhere.upstream = "https://other"
	for name, test := range map[string]struct {
		facts []identityFacts
		want  string // who shares with whom, a letter for each
	}{
		"keys of one organisation":                   {[]identityFacts{key("o"), key("o"), key("p")}, "aab"},
		"organisations that are not known":           {[]identityFacts{key(""), key(""), login("", "x", false)}, "---"},
		"another upstream's":                         {[]identityFacts{key("o"), elsewhere}, "ab"},
		"a key and a login":                          {[]identityFacts{key("o"), login("o", "", false)}, "ab"},
		"logins of one person":                       {[]identityFacts{login("o", "x", false), login("o", "x", false)}, "aa"},
		"a login and a setup token of one person":    {[]identityFacts{login("o", "x", false), login("o", "", false)}, "aa"},
		"setup tokens of one organisation":           {[]identityFacts{login("o", "", false), login("o", "", false)}, "aa"},
		"two people":                                 {[]identityFacts{login("o", "x", false), login("o", "y", false)}, "ab"},
		"two people and nobody knows who":            {[]identityFacts{login("o", "x", false), login("o", "y", false), login("o", "", false)}, "abc"},
		"seats of two people":                        {[]identityFacts{login("o", "x", true), login("o", "y", true)}, "ab"},
		"a seat twice":                               {[]identityFacts{login("o", "x", true), login("o", "x", true)}, "aa"},
		"a seat twice, one without a plan":           {[]identityFacts{login("o", "x", true), login("o", "x", false)}, "aa"},
		"seats and nobody knows whose":               {[]identityFacts{login("o", "", true), login("o", "", true)}, "ab"},
		"a seat and a setup token":                   {[]identityFacts{login("o", "x", true), login("o", "", false)}, "ab"},
		"a seat of nobody knows who, and somebody's": {[]identityFacts{login("o", "", true), login("o", "x", false)}, "ab"},
		"seats elsewhere change nothing":             {[]identityFacts{login("p", "y", true), login("o", "x", false), login("o", "", false)}, "abb"},
	} {
		for i := range test.facts {
			test.facts[i].key = string(rune('A' + i))
		}
		for range 2 {
			var got strings.Builder
			identities := identitiesOf(test.facts)
			var seen []string
			for _, identity := range identities {
				switch i := slices.Index(seen, identity); {
				case identity == "":
					got.WriteByte('-')
				case i < 0:
					got.WriteByte(byte('a' + len(seen)))
					seen = append(seen, identity)
				default:
					got.WriteByte(byte('a' + i))
				}
			}
			if got.String() != test.want {
				t.Errorf("%s: %s, want %s: %q", name, got.String(), test.want, identities)
			}
			// Nor does the order of accounts matter.
			slices.Reverse(test.facts)
			test.want = mirrored(test.want)
		}
	}
}

// mirrored reverses the letters and names them anew by when they come.
func mirrored(s string) string {
	var out, seen []byte
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '-' {
			out = append(out, '-')
			continue
		}
		if !slices.Contains(seen, s[i]) {
			seen = append(seen, s[i])
		}
		out = append(out, byte('a'+slices.Index(seen, s[i])))
	}
	return string(out)
}

func TestAccountsOfOneOrganizationAreFound(t *testing.T) {
	const org = "01234567-89ab-cdef-0123-456789abcdef"
	accounts := fourAccounts()
	for i := range accounts {
		accounts[i].Org = org
	}
	b := newBench(t, fakeclaude.Options{Accounts: accounts},
		"remote_key ann "+annKey+" {\nadmin\n}\nremote_key bob "+bobKey+"\nupstream %UPSTREAM%\nhold off"+fourBlocks)
	core, logs := observer.New(zap.WarnLevel)
	b.h.logger = zap.New(core)
	everybody := func() {
		t.Helper()
		for _, name := range []string{"a", "b", "c", "d"} {
			b.h.live.state.Pin(name)
			b.ask(hello).mustServe(t, name)
			b.mustBeIdle()
		}
		b.h.live.state.Pin("")
	}
	everybody()
	everybody()
	var reported []string
	for _, entry := range logs.FilterMessageSnippet("organisation").All() {
		reported = append(reported, entry.Message)
	}
	if want := []string{
		"accounts a and b draw on the same organisation's limits; the second adds no capacity",
		"accounts c and d draw on the same organisation's limits; the second adds no capacity",
	}; !slices.Equal(reported, want) {
		t.Errorf("reported %q", reported)
	}
	for key, mayKnow := range map[string]bool{annKey: true, bobKey: false} {
		var status struct {
			Accounts []struct {
				Name         string
				Organization *string  `json:"organization_id"`
				Shares       []string `json:"shares_limits_with"`
			}
		}
		if err := json.Unmarshal([]byte(b.do(http.MethodGet, "/status", "", "X-Api-Key", "", "X-Api-Key", key).body), &status); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"b", "a", "d", "c"} {
			a := status.Accounts[i]
			if !slices.Equal(a.Shares, []string{want}) || (a.Organization != nil) != mayKnow || mayKnow && *a.Organization != org {
				t.Errorf("%s shares with %v, of %v", a.Name, a.Shares, a.Organization)
			}
		}
	}
	// A window that is spent is spent for both logins: the other is not asked.
	b.fake.Spend("c", "5h", 1)
	b.h.live.state.Pin("c")
	b.ask(hello).mustServe(t, "with c spent")
	b.mustBeIdle()
	for _, v := range b.h.group.View().Accounts {
		if out := v.Benched() != nil; out != (v.Member.Name == "c" || v.Member.Name == "d") {
			t.Errorf("%s is out: %v", v.Member.Name, out)
		}
	}
}
