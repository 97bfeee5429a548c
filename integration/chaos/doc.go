// Package chaos drives a real Caddy with shunt through everything that goes wrong at
// once, and keeps its own record of what is true: which bytes upstream sent for which
// request, who asked, which account was well, and what each was charged.
//
//	go build -tags nobadger,nomysql,nopgx -o /tmp/caddy ./cmd/caddy
//	cd integration/chaos
//	SHUNT_CADDY=/tmp/caddy go test -v -timeout 30m . -chaos.for 2m
//
// The seed is printed; -chaos.seed plays the same faults in the same order again.
package chaos
