// Command redis is Caddy with shunt and the Redis storage, as users build it with
// xcaddy, for the tests.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/pberkel/caddy-storage-redis"

	_ "github.com/caddy-shunt/caddy-shunt"
)

func main() { caddycmd.Main() }
