#!/bin/sh
# Builds, shows and tests shunt. Needs Go; `test` installs what else it needs.
#
#	./xcaddy.sh [build [FILE]]   build Caddy with shunt into ./caddy (or FILE)
#	./xcaddy.sh demo             run the demo: no account needed
#	./xcaddy.sh test             run every check and test
#	./xcaddy.sh fuzz [SECONDS]   fuzz every parser, each for so long (30)
#	./xcaddy.sh sim [FLAGS]      compare the policies in a simulator; -h lists the flags
#	./xcaddy.sh chaos [FLAGS]    everything goes wrong at once, for ten minutes, then load for thirty
#	./xcaddy.sh bench [FLAGS] [A B C D E F]   measure against reverse_proxy; -h lists the flags
#
# CADDY_VERSION chooses another Caddy to build with.
set -eu

module=github.com/caddy-shunt/caddy-shunt
tags=nobadger,nomysql,nopgx
go_needed=1.26

cd "$(dirname "$0")"
version=${CADDY_VERSION:-$(sed -n 's|^[[:space:]]*\(require \)\{0,1\}github.com/caddyserver/caddy/v2 \(v[^ ]*\).*|\2|p' go.mod | head -n 1)}

say() { printf '\n==> %s\n' "$*"; }
fail() {
	printf '\nxcaddy.sh: %s\n' "$*" >&2
	exit 1
}

check_go() {
	command -v go >/dev/null 2>&1 || fail "Go is not installed. shunt needs Go $go_needed or newer: see https://go.dev/dl/"
	# Outside the module, so that the go command does not fetch a newer one first.
	have=$(cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//')
	[ -n "$have" ] || fail "Go is too old to tell its version. shunt needs Go $go_needed or newer: see https://go.dev/dl/"
	major=${have%%.*}
	rest=${have#*.}
	minor=${rest%%.*}
	if [ "$major" -lt "${go_needed%%.*}" ] || { [ "$major" -eq "${go_needed%%.*}" ] && [ "$minor" -lt "${go_needed#*.}" ]; }; then
		fail "Go $have is too old. shunt needs Go $go_needed or newer: see https://go.dev/dl/"
	fi
}

# patiently WHAT COMMAND...: runs a command that may be silent for minutes, and
# says now and then that it still runs.
patiently() {
	what=$1
	shift
	say "$what"
	(
		waited=0
		while sleep 15; do
			waited=$((waited + 15))
			echo "    still at it after $waited s (the first time, Go downloads and compiles all of Caddy)"
		done
	) &
	ticker=$!
	trap 'kill $ticker 2>/dev/null || true' EXIT INT TERM
	status=0
	"$@" || status=$?
	kill $ticker 2>/dev/null || true
	wait $ticker 2>/dev/null || true
	trap - EXIT INT TERM
	[ $status -eq 0 ] || fail "failed: $what"
}

tool() { go tool -modfile=tools/go.mod "$@"; }

build() {
	# @v0.0.0 keeps the go command from asking a proxy for versions of a module that
	# is right here.
	patiently "Building Caddy $version with shunt through xcaddy, into $1" \
		go tool -modfile=tools/go.mod xcaddy build "$version" --with "$module@v0.0.0=$PWD" --output "$1"
}

build_demo() {
	mkdir -p bin
	patiently "Building Caddy with shunt and a made-up upstream, into bin/caddy-demo" \
		go build -tags "$tags" -o bin/caddy-demo ./cmd/caddy
}

demo() {
	build_demo
	# A home of its own: the demo starts anew each time and leaves the Caddy that may
	# be on this machine alone.
	rm -rf bin/demo-home
	mkdir -p bin/demo-home
	export XDG_DATA_HOME="$PWD/bin/demo-home/data" XDG_CONFIG_HOME="$PWD/bin/demo-home/config"
	say "Running the demo; press Ctrl-C to end it"
	exec bin/caddy-demo run --config Caddyfile.demo --adapter caddyfile
}

# need PROGRAM PACKAGE: installs a Debian package when the program is missing.
need() {
	command -v "$1" >/dev/null 2>&1 && return
	if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ]; then
		say "Installing $2, for $1"
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null && return
	fi
	fail "the tests need $1, which is not installed and could not be installed here (it takes root and apt-get). Install $2 and run this again."
}

node_major() { node --version 2>/dev/null | sed 's/^v//; s/\..*//'; }

# need_node makes sure of a Node that the TypeScript SDK works with. Debian's may
# be older: then one comes from the npm registry, into bin/node.
need_node() {
	wanted=20 package_version=22.23.3
	case "$(uname -m)" in
	x86_64) arch=x64 ;;
	aarch64 | arm64) arch=arm64 ;;
	*) arch=unknown ;;
	esac
	package=node-$(uname -s | tr '[:upper:]' '[:lower:]')-$arch
	[ -d "bin/node/node_modules/$package/bin" ] && PATH="$PWD/bin/node/node_modules/$package/bin:$PATH"
	major=$(node_major)
	[ "${major:-0}" -ge $wanted ] && return
	say "Installing Node $package_version into bin/node: the tests need $wanted or newer, and this is ${major:-none}"
	mkdir -p bin/node
	npm install --prefix bin/node --ignore-scripts --no-save --no-audit --no-fund --silent "$package@$package_version" || true
	PATH="$PWD/bin/node/node_modules/$package/bin:$PATH"
	major=$(node_major)
	[ "${major:-0}" -ge $wanted ] || fail "the tests need Node $wanted or newer, and it could not be installed here. Install it and run this again."
}

test_all() {
	mkdir -p bin
	need gcc gcc    # for the race detector
	need npm npm
	need redis-server redis-server
	need "${CHROMIUM:-chromium}" chromium
	need pgrep procps
	need_node
	say "Formatting"
	unformatted=$(gofmt -l $(git ls-files '*.go' 2>/dev/null || find . -name '*.go'))
	[ -z "$unformatted" ] || fail "gofmt would change: $unformatted"
	patiently "go vet" go vet -tags "$tags" ./...
	patiently "golangci-lint" go tool -modfile=tools/go.mod golangci-lint run ./...
	say "Licences of what is linked"
	contrib/licences.sh -check
	vulnerabilities
	patiently "Tests with the race detector, against a real Caddy" \
		go test -race -count=1 -tags "$tags" -timeout 20m ./...
	patiently "What a request allocates, without the race detector" go test -count=1 -tags "$tags" -run 'TestAllocations|AllocatesNothing' . ./pool
	patiently "Fuzzing each parser for a moment" fuzz 1
	patiently "Event streams, against go-sse and the SDK's reader" others_sse
	build ./caddy
	check_build
	build_demo
	say "Validating the demo's Caddyfile"
	bin/caddy-demo validate --config Caddyfile.demo --adapter caddyfile 2>/dev/null || fail "Caddyfile.demo is not valid"
	patiently "The official SDKs, through the binary that xcaddy built" sdks
	patiently "The dashboard, in Chromium, against the binary that xcaddy built" browser
	patiently "Alerts and the Grafana dashboard, against the metrics of the binary that xcaddy built" contrib
	patiently "The OpenAPI file, against the answers of the binary that xcaddy built" api
	patiently "The terminal views, in a pseudo-terminal, through the binary that xcaddy built" terminals
	patiently "The conformance suite, against the binary that xcaddy built" faults
	patiently "Chaos, against the binary that xcaddy built" chaos_test -chaos.for 2m -soak.for 30s
	say "All checks and tests passed"
}

# vulnerabilities asks the Go vulnerability database, where it can be reached.
vulnerabilities() {
	say "govulncheck"
	status=0
	out=$(timeout 300 go tool -modfile=tools/go.mod govulncheck -tags "$tags" ./... 2>&1) || status=$?
	case "$status:$out" in
	0:*) echo "    no known vulnerability" ;;
	*"fetching vulnerabilities"*) echo "    not done: the vulnerability database cannot be reached from here" ;;
	*) printf '%s\n' "$out"; fail "govulncheck found something" ;;
	esac
}

# check_build looks at the binary that xcaddy built as its user would.
check_build() {
	say "Looking at ./caddy"
	for id in http.handlers.shunt http.authentication.providers.shunt http.handlers.shunt.policies.balanced http.handlers.shunt.policies.least_used admin.api.shunt shunt; do
		./caddy list-modules | grep -qx "$id" || fail "./caddy lacks the module $id"
	done
	if ./caddy list-modules | grep -qx fakeclaude; then fail "./caddy holds the demo's upstream"; fi
	SHUNT_KEY_ANN=a-made-up-key SHUNT_KEY_BOB=another-made-up-key ANTHROPIC_API_KEY_MAIN=c ANTHROPIC_API_KEY_SECOND=d ANTHROPIC_API_KEY_RESERVE=e \
		./caddy validate --config Caddyfile.example --adapter caddyfile 2>bin/validate.log || { cat bin/validate.log >&2; false; } || fail "Caddyfile.example is not valid"
}

sdks() {
	caddy=$PWD/caddy out=$PWD/bin/sdks.log
	(cd integration/gosdk && go vet ./... && SHUNT_CADDY=$caddy SHUNT_DEMO=$PWD/../../bin/caddy-demo go test -count=1 -v -timeout 15m ./... >"$out" 2>&1) || { cat "$out"; return 1; }
	grep -E '^(gosdk|tssdk): [1-9][0-9]* calls through the pool' "$out" || { cat "$out"; return 1; }
}

browser() {
	caddy=$PWD/caddy demo=$PWD/bin/caddy-demo out=$PWD/bin/browser.log
	(cd integration/browser && npm ci --silent && SHUNT_CADDY=$caddy SHUNT_DEMO=$demo CHROMIUM=$(command -v "${CHROMIUM:-chromium}") node --test --test-reporter=tap --test-concurrency=1 --test-timeout=180000 dashboard.test.js >"$out" 2>&1) || { tail -n 120 "$out"; return 1; }
	grep -E '^# pass [1-9]' "$out" || { tail -n 60 "$out"; return 1; }
}

terminals() {
	caddy=$PWD/caddy out=$PWD/bin/terminal.log
	(cd integration/terminal && go vet ./... && SHUNT_CADDY=$caddy go test -count=1 -v -timeout 10m ./... >"$out" 2>&1) || { tail -n 60 "$out"; return 1; }
	grep -E '^terminal: [1-9][0-9]* commands ran in a terminal' "$out" || { tail -n 60 "$out"; return 1; }
}

contrib() {
	caddy=$PWD/caddy out=$PWD/bin/contrib.log
	(cd contrib/check && go vet ./... && SHUNT_CADDY=$caddy go test -count=1 -v -timeout 10m ./... >"$out" 2>&1) || { tail -n 60 "$out"; return 1; }
	grep -E '^contrib: [1-9][0-9]* expressions checked against [1-9][0-9]* metrics' "$out" || { tail -n 60 "$out"; return 1; }
}

api() {
	caddy=$PWD/caddy out=$PWD/bin/api.log
	(cd integration/api && go vet ./... && SHUNT_CADDY=$caddy go test -count=1 -v -timeout 10m ./... >"$out" 2>&1) || { tail -n 60 "$out"; return 1; }
	grep -E '^api: [1-9][0-9]* answers checked' "$out" || { tail -n 60 "$out"; return 1; }
}

faults() {
	caddy=$PWD/caddy out=$PWD/bin/faults.log
	(cd integration/faults && go vet ./... && SHUNT_CADDY=$caddy go test -count=1 -v -timeout 15m ./... >"$out" 2>&1) || { tail -n 60 "$out"; return 1; }
	grep -E '^faults: [1-9][0-9]* rows, [1-9][0-9]* runs, 0 failed' "$out" || { tail -n 60 "$out"; return 1; }
}

# others_sse: the parser of event streams against two of others'.
others_sse() {
	(cd integration/sse && go vet ./... && go test -count=1 . && go test -run '^$' -fuzz FuzzAgainstOthers -fuzztime 3s .) >bin/sse.log 2>&1 || { tail -n 40 bin/sse.log; return 1; }
}

# fuzz [SECONDS]: every fuzz target that there is. What breaks one is kept in testdata/fuzz of
# its package, and is a test from then on.
fuzz() {
	seconds=${1:-30} found=0
	for file in $(find . -name '*_test.go' -not -path './integration/*' | LC_ALL=C sort); do
		for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
			echo "$(dirname "$file") $target"
			go test -tags "$tags" -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s" -fuzzminimizetime 5s "$(dirname "$file")" >bin/fuzz.log 2>&1 ||
				{ tail -n 40 bin/fuzz.log; return 1; }
			found=$((found + 1))
		done
	done
	[ "$found" -gt 10 ] || { echo "only $found fuzz targets were found"; return 1; }
	echo "fuzz: $found targets, $seconds s each"
}

# chaos_test [FLAGS]: the chaos test with these flags, against ./caddy.
chaos_test() {
	caddy=$PWD/caddy out=$PWD/bin/chaos.log
	(cd integration/chaos && go vet ./... && SHUNT_CADDY=$caddy go test -count=1 -v -timeout 3h . "$@" >"$out" 2>&1) || { tail -n 90 "$out"; return 1; }
	grep -E '^(streams|overload|soak): ' "$out"
	grep -E '^chaos: [1-9][0-9]* requests served, [1-9][0-9]* faults, 0 lost, 0 wrong' "$out" || { tail -n 90 "$out"; return 1; }
}

# chaos is its long form.
chaos() {
	shift
	mkdir -p bin
	build ./caddy
	patiently "Chaos, against the binary that xcaddy built" chaos_test -chaos.for 10m -soak.for 30m "$@"
}

check_go
# sim plays weeks of made-up work with every policy, in a minute or two.
sim() {
	shift
	mkdir -p bin
	patiently "Building the simulator, into bin/sim" go build -tags "$tags" -o bin/sim ./bench/sim
	exec bin/sim "$@"
}

# bench measures shunt against reverse_proxy, both in the same Caddy, and writes
# docs/performance.md; letters choose parts of it, which are only printed.
bench() {
	shift
	mkdir -p bin
	build bin/caddy-bench
	patiently "Building the harness, into bin/compare" go build -C bench/compare -o ../../bin/compare .
	exec bin/compare -root "$PWD" -caddy bin/caddy-bench "$@"
}

case "${1:-build}" in
build) build "${2:-caddy}" && echo "Built ${2:-caddy}. Try: ./caddy run --config Caddyfile.example" ;;
demo) demo ;;
sim) sim "$@" ;;
bench) bench "$@" ;;
chaos) chaos "$@" ;;
fuzz) mkdir -p bin && fuzz "${2:-30}" ;;
test) test_all ;;
*) fail "unknown command $1; expected build, demo, sim, bench, chaos, fuzz or test" ;;
esac
