// Package gosdk runs the official SDKs against a real Caddy with shunt: the Go
// SDK from its own tests, the TypeScript SDK by starting the tests in ../tssdk.
// It is a module of its own, so that the SDK's many dependencies stay out of
// shunt's.
//
// SHUNT_CADDY names the Caddy binary. From this folder:
//
//	go build -C ../.. -tags nobadger,nomysql,nopgx -o /tmp/shunt-caddy ./cmd/caddy
//	SHUNT_CADDY=/tmp/shunt-caddy go test -v ./...
//
// The last lines say how many calls each SDK made through the pool; go test shows
// them with -v only.
package gosdk
