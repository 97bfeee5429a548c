package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude/fctest"
)

const organization = "01234567-89ab-cdef-0123-456789abcdef"

// planted are the secrets of the configurations, by the variable that has them. No answer
// may hold one.
var planted = map[string]string{
	"ANN_KEY": annKey, "BOB_KEY": bobKey, "EVE_KEY": eveKey,
	"KEY_A": "sk-ant-api03-planted-a", "KEY_B": "sk-ant-api03-planted-b", "KEY_ODD": "sk-ant-api03-planted-odd",
	"TOKEN_C": "sk-ant-oat01-planted-c", "TOKEN_D": "sk-ant-oat01-planted-d",
}

const (
	firstAccess, firstRefresh = "sk-ant-oat01-planted-first", "sk-ant-ort01-planted-first"
	otherAccess, otherRefresh = "sk-ant-oat01-planted-other", "sk-ant-ort01-planted-other"
)

func secretsEnv() (env []string) {
	for name, value := range planted {
		env = append(env, name+"="+value)
	}
	return env
}

const globals = `{
	admin unix/%HOME%/admin.sock
	auto_https off
	persist_config off
	storage file_system %HOME%/store
	grace_period 2s
}
`

const people = `
		remote_key ann {env.ANN_KEY} {
			admin
		}
		remote_key bob {env.BOB_KEY}
		remote_key eve {env.EVE_KEY}
		person bob {
			models claude-sonnet-* claude-opus-* claude-next-*
			max_concurrent 4
			rate 600
			weight 2
			budget 50usd per day
			budget 600usd per month
			budget 50M tokens per week
		}
`

// team is a pool with accounts of all kinds.
const team = `http://team.test:%PORT% {
	bind fd/3
	shunt {
		pool team
		upstream %UPSTREAM%
` + people + `
		instances {
			name %NAME%
			interval 300ms
		}
		hold off
		retries 3
		account a {
			api_key {env.KEY_A}
			max_concurrent 50
			budget 500usd per month
			budget 500M tokens per day
		}
		account b {
			api_key {env.KEY_B}
			models claude-sonnet-* claude-opus-*
			weight 3
			priority 1
		}
		account c {
			setup_token {env.TOKEN_C}
			owner *
		}
		account d {
			setup_token {env.TOKEN_D} {
				made %MADE%
			}
			owner *
			plan_only
		}
		account e {
			oauth {
				token_url %UPSTREAM%/v1/oauth/token
			}
			owner ann
		}
		account f {
			oauth {
				token_url %UPSTREAM%/v1/oauth/token
			}
			owner eve
		}
		account fed {
			federation {
				rule fdrl_1
				organization ` + organization + `
				service_account svac_1
				token_file %HOME%/jwt
				token_url %UPSTREAM%/v1/oauth/token
			}
			priority 9
		}
		account odd {
			api_key {env.KEY_ODD}
			upstream %ODD%
			models claude-next-*
			priority 2
		}
	}
}
`

// small is a pool with one account, that takes one request at once.
const small = `http://small.test:%PORT% {
	bind fd/3
	shunt {
		pool small
		upstream %ODD%
` + people + `
		account only {
			api_key {env.KEY_ODD}
			max_concurrent 1
			budget 1usd per week
		}
	}
}
`

// open has no keys, lost no login.
const open = `http://localhost:%PORT% {
	bind fd/3
	shunt {
		pool open
		upstream %UPSTREAM%
		account a {
			api_key {env.KEY_A}
		}
	}
}
http://lost.test:%PORT% {
	bind fd/3
	shunt {
		pool lost
		upstream %UPSTREAM%
` + people + `
		hold off
		account gone {
			oauth
			owner *
		}
	}
}
`

// world is what the tests share: upstream, and what is odd about one of its servers.
type world struct {
	fake *fakeclaude.Server
	url  string
	odd  *httptest.Server
	// patient holds back the answers to those who ask for it.
	patient chan struct{}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	fake, url := fctest.Start(t, fakeclaude.Options{Accounts: []fakeclaude.Account{
		{Name: "a", APIKey: planted["KEY_A"], Org: organization},
		{Name: "b", APIKey: planted["KEY_B"], Org: organization},
		{Name: "c", AccessToken: planted["TOKEN_C"], Plan: fakeclaude.Max20, ModelWeek: map[string]float64{"opus": 5e6}},
		{Name: "d", AccessToken: planted["TOKEN_D"], Plan: fakeclaude.Pro, ExtraUsage: 1e6},
		{Name: "e", AccessToken: firstAccess, RefreshToken: firstRefresh, Plan: fakeclaude.Max5},
		{Name: "other", AccessToken: otherAccess, RefreshToken: otherRefresh, Plan: fakeclaude.Max5},
	}})
	w := &world{fake: fake, url: url, patient: make(chan struct{})}
	w.odd = httptest.NewServer(http.HandlerFunc(w.serveOdd))
	return w
}

// patience in a message asks for an answer that takes its time and says nothing of tokens.
const patience = "take your time"

// serveOdd answers as the fake upstream does not: with a model that has no price, with the
// use of all server tools, and with limits of which not all is told.
func (o *world) serveOdd(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Model string }
	raw, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(raw, &asked)
	if r.Method == http.MethodGet {
		time.Sleep(5 * time.Millisecond) // so that it is seen to take time
	}
	silent := strings.Contains(string(raw), patience)
	if silent {
		select {
		case <-o.patient:
		case <-r.Context().Done():
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Request-Id", "req_odd")
	limits := http.Header{}
	if asked.Model == "claude-sonnet-5" {
		limits.Set("Anthropic-Ratelimit-Unified-7d-Status", "allowed")
	} else {
		limits.Set("Anthropic-Ratelimit-Unified-5h-Utilization", "0.3")
	}
	limits.Set("Anthropic-Ratelimit-Requests-Limit", "1000")
	limits.Set("Anthropic-Ratelimit-Requests-Remaining", "999")
	for name, values := range limits {
		w.Header()[name] = values
	}
	if silent {
		fmt.Fprintf(w, `{"id":"msg_1","type":"message","role":"assistant","model":%q,"content":[],"stop_reason":"end_turn"}`, asked.Model)
		return
	}
	fmt.Fprintf(w, `{"id":"msg_1","type":"message","role":"assistant","model":%q,"content":[{"type":"text","text":"hello"}],"stop_reason":"end_turn","usage":{"input_tokens":10,"output_tokens":500000,`+
		`"cache_read_input_tokens":20,"cache_creation_input_tokens":30,"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"server_tool_use":{"web_search_requests":2,"web_fetch_requests":3}}}`, asked.Model)
}

// config fills in what is of the world.
func (w *world) config(name, text string) string {
	return strings.NewReplacer("%NAME%", name, "%ODD%", w.odd.URL, "%MADE%", time.Now().AddDate(-1, 0, 4).Format("2006-01-02")).Replace(globals + text)
}

func credentials(access, refresh string, ends time.Time) string {
	data, _ := json.Marshal(map[string]any{"claudeAiOauth": map[string]any{
		"accessToken": access, "refreshToken": refresh, "expiresAt": time.Now().Add(8 * time.Hour).UnixMilli(), "refreshTokenExpiresAt": ends.UnixMilli(), "subscriptionType": "max",
	}})
	return string(data)
}

// asJSON is a body with one field.
func asJSON(field, value string) string {
	data, _ := json.Marshal(map[string]string{field: value})
	return string(data)
}

func message(model, text string) string {
	data, _ := json.Marshal(map[string]any{"model": model, "max_tokens": 100, "messages": []map[string]string{{"role": "user", "content": text}}})
	return string(data)
}

// stored are the files of a folder in storage.
func (c *caddy) stored(t *testing.T, folder string) (files []string) {
	t.Helper()
	err := filepath.Walk(filepath.Join(c.home, "store", folder), func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
