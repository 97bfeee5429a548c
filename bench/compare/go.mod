module github.com/caddy-shunt/caddy-shunt/bench/compare

go 1.26.0
