// Command caddy is Caddy with the shunt module, for development: it builds
// without xcaddy and also holds the fake upstream that the demo runs against.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-shunt/caddy-shunt"
	_ "github.com/caddy-shunt/caddy-shunt/internal/fakeclaude/demo"
)

func main() { caddycmd.Main() }
