module github.com/caddy-shunt/caddy-shunt/integration/terminal

go 1.26.0

require (
	github.com/caddy-shunt/caddy-shunt v0.0.0
	github.com/creack/pty v1.1.24
	github.com/hinshun/vt10x v0.0.0-20220301184237-5011da428d02
	golang.org/x/term v0.46.0
)

require (
	github.com/tidwall/gjson v1.20.1 // indirect
	github.com/tidwall/match v1.1.1 // indirect
	github.com/tidwall/pretty v1.2.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.42.0 // indirect
)

replace github.com/caddy-shunt/caddy-shunt => ../..
