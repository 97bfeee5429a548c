package shunt_test

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	_ "github.com/caddy-shunt/caddy-shunt"
)

// Two people, a login of one of them, and a key of the API for both when that is used up.
func Example() {
	const caddyfile = `
:8080 {
	shunt {
		remote_key ann {env.ANN_KEY} {
			admin
		}
		remote_key bob {env.BOB_KEY}
		account ann {
			oauth
			owner ann
		}
		account company {
			api_key {env.ANTHROPIC_API_KEY}
			priority 1
			budget 50usd per day
		}
	}
}`
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var adapted struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes []struct {
						Handle []json.RawMessage `json:"handle"`
					} `json:"routes"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &adapted); err != nil {
		fmt.Println(err)
		return
	}
	for _, route := range adapted.Apps.HTTP.Servers["srv0"].Routes {
		for _, handler := range route.Handle {
			var text strings.Builder
			encoder := json.NewEncoder(&text)
			encoder.SetIndent("", "  ")
			_ = encoder.Encode(handler)
			fmt.Print(text.String())
		}
	}
	// Output:
	// {
	//   "accounts": [
	//     {
	//       "name": "ann",
	//       "oauth": {},
	//       "owners": [
	//         "ann"
	//       ]
	//     },
	//     {
	//       "api_key": "{env.ANTHROPIC_API_KEY}",
	//       "budgets": [
	//         {
	//           "per": "day",
	//           "usd": 50
	//         }
	//       ],
	//       "name": "company",
	//       "priority": 1
	//     }
	//   ],
	//   "handler": "shunt",
	//   "remote_keys": [
	//     {
	//       "admin": true,
	//       "name": "ann",
	//       "secret": "{env.ANN_KEY}"
	//     },
	//     {
	//       "name": "bob",
	//       "secret": "{env.BOB_KEY}"
	//     }
	//   ]
	// }
}
