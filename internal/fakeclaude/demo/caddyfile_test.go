package demo

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func adapt(t *testing.T, text string) ([]byte, error) {
	t.Helper()
	out, _, err := caddyfile.Adapter{ServerType: httpcaddyfile.ServerType{}}.Adapt([]byte(text), map[string]any{"filename": "Testfile"})
	return out, err
}

const complete = `{
	fakeclaude {
		listen 127.0.0.1:0
		speed 600
		capacity 5000
		pace 5ms
		storm 20s
		account small pro setup_token sk-ant-oat01-small
		account mid max5 login sk-ant-oat01-mid sk-ant-ort01-mid
		account team api api_key sk-ant-api03-team
		traffic http://127.0.0.1:1 {
			pause 2s
			person ann ann-key 3
			person bob bob-key
		}
	}
}
`

func TestTheWholeBlock(t *testing.T) {
	out, err := adapt(t, complete)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Apps struct {
			Fakeclaude json.RawMessage `json:"fakeclaude"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(out, &config); err != nil {
		t.Fatal(err)
	}
	want := `{"listen":"127.0.0.1:0","speed":600,"capacity":5000,"pace":5000000,"accounts":[` +
		`{"name":"small","plan":"pro","setup_token":"sk-ant-oat01-small"},` +
		`{"name":"mid","plan":"max5","access_token":"sk-ant-oat01-mid","refresh_token":"sk-ant-ort01-mid"},` +
		`{"name":"team","plan":"api","api_key":"sk-ant-api03-team"}],` +
		`"traffic":{"url":"http://127.0.0.1:1","pause":2000000000,"people":[{"name":"ann","key":"ann-key","sessions":3},{"name":"bob","key":"bob-key"}]},` +
		`"storm":20000000000}`
	if got := string(config.Apps.Fakeclaude); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWrongWordsAreNamedWithTheirLine(t *testing.T) {
	for name, c := range map[string]struct{ block, where, text string }{
		"unknown option":   {"account a api api_key k\n rainbow 3", "Testfile:4", `unknown option "rainbow"`},
		"argument":         {"listen 127.0.0.1:1 extra", "Testfile:3", "wrong argument count"},
		"speed":            {"speed fast", "Testfile:3", `"fast" is not a number above zero`},
		"negative speed":   {"speed -1", "Testfile:3", `"-1" is not a number above zero`},
		"storm":            {"storm 0s", "Testfile:3", `"0s" is not a duration above zero`},
		"twice":            {"speed 1\nspeed 2", "Testfile:4", "speed is already there"},
		"short account":    {"account a pro", "Testfile:3", "expected: account <name>"},
		"plan":             {"account a huge setup_token t", "Testfile:3", `unknown plan "huge"`},
		"kind":             {"account a pro password t", "Testfile:3", "expected api_key <key>, setup_token <token> or login"},
		"login":            {"account a pro login t", "Testfile:3", "expected api_key <key>"},
		"key of a plan":    {"account a pro api_key t", "Testfile:3", "goes with the plan api"},
		"token of the api": {"account a api setup_token t", "Testfile:3", "goes with the plan api"},
		"same account":     {"account a api api_key k\naccount a api api_key l", "Testfile:4", "account a is already there"},
		"no account":       {"speed 1", "Testfile:4", "needs at least one account"},
		"traffic option":   {"account a api api_key k\ntraffic http://x {\nweather fine\n}", "Testfile:5", `unknown option "weather"`},
		"no people":        {"account a api api_key k\ntraffic http://x {\npause 1s\n}", "Testfile:6", "traffic needs at least one person"},
		"sessions":         {"account a api api_key k\ntraffic http://x {\nperson p k 0\n}", "Testfile:5", `"0" is not a number of sessions`},
		"person":           {"account a api api_key k\ntraffic http://x {\nperson p\n}", "Testfile:5", "expected: person <name> <key>"},
	} {
		_, err := adapt(t, "{\nfakeclaude {\n"+c.block+"\n}\n}\n")
		if err == nil || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), c.where) {
			t.Errorf("%s: got %v, want %s at %s", name, err, c.text, c.where)
		}
	}
	if _, err := adapt(t, "{\nfakeclaude {\naccount a api api_key k\n}\nfakeclaude {\naccount b api api_key l\n}\n}\n"); err == nil ||
		!strings.Contains(err.Error(), "fakeclaude is already there") {
		t.Errorf("two blocks: %v", err)
	}
}

func TestConfigurationsThatCannotRun(t *testing.T) {
	account := []Account{{Name: "a", Plan: "api", APIKey: "k"}}
	for text, a := range map[string]*App{
		"is not a loopback address":            {Listen: "0.0.0.0:1", Accounts: account},
		"is not host:port":                     {Listen: "8089", Accounts: account},
		"at least one account":                 {},
		"has no credential":                    {Accounts: []Account{{Name: "a"}}},
		"capacity and storm":                   {Accounts: account, Storm: -1},
		"http or https URL":                    {Accounts: account, Traffic: &Traffic{URL: "localhost", People: []Person{{Name: "p", Key: "k"}}}},
		"traffic needs at least one person":    {Accounts: account, Traffic: &Traffic{URL: "http://x"}},
		"needs a name, a key and 1 to 20 sess": {Accounts: account, Traffic: &Traffic{URL: "http://x", People: []Person{{Name: "p"}}}},
	} {
		a.complete()
		if err := a.check(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
	a := &App{Accounts: account, Traffic: &Traffic{URL: "http://x", People: []Person{{Name: "p", Key: "k"}}}}
	a.complete()
	if err := a.check(); err != nil {
		t.Error(err)
	}
	if a.Listen != "127.0.0.1:8089" || a.Speed != 300 || a.Traffic.Pause != caddy.Duration(time.Second) || a.Traffic.People[0].Sessions != 1 {
		t.Errorf("defaults: %+v", a)
	}
}
