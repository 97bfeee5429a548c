// Package api checks docs/openapi.yaml against what a real Caddy with shunt answers: each
// answer and each error must be as the file says, and each field, status, parameter and
// listed value of the file must have been seen. It is a module of its own, so that the
// validator's dependencies stay out of shunt's.
//
// SHUNT_CADDY names the Caddy binary. From this folder:
//
//	go build -C ../.. -tags nobadger,nomysql,nopgx -o /tmp/shunt-caddy ./cmd/caddy
//	SHUNT_CADDY=/tmp/shunt-caddy go test -v ./...
//
// The last line says how many answers were checked; go test shows it with -v only. With
// SHUNT_ANSWERS=<folder> one answer of each kind is written there, for the examples.
package api
