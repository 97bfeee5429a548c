// Package check holds contrib's alerts and dashboard against the metrics of a real
// Caddy with shunt, and plays each alert with Prometheus' own engine. It is a module
// of its own, so that Prometheus' many dependencies stay out of shunt's.
//
// SHUNT_CADDY names the Caddy binary. From this folder:
//
//	go build -C ../.. -tags nobadger,nomysql,nopgx -o /tmp/shunt-caddy ./cmd/caddy
//	SHUNT_CADDY=/tmp/shunt-caddy go test -v ./...
package check
