// Package terminal runs the commands in a pseudo-terminal, against a real Caddy with
// shunt in front of the fake upstream, and reads what they draw with a terminal emulator.
// It is a module of its own, so that both libraries stay out of shunt's.
//
// SHUNT_CADDY names the Caddy binary. From this folder:
//
//	go build -C ../.. -tags nobadger,nomysql,nopgx -o /tmp/shunt-caddy ./cmd/caddy
//	SHUNT_CADDY=/tmp/shunt-caddy go test -v ./...
//
// The last line says how many commands ran; go test shows it with -v only.
package terminal
