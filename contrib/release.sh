#!/bin/sh
# contrib/release.sh VERSION [SYSTEM...]: builds Caddy with shunt into dist/ for each system
# (os/arch), with checksums, the licences of what is linked, and for each binary an SBOM in
# CycloneDX's JSON. docs/releasing.md says when. The module is taken at its tag, as everybody's
# xcaddy takes it; LOCAL=1 takes this folder, to try the script.
set -eu
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { echo "usage: contrib/release.sh VERSION [os/arch...]" >&2; exit 2; }
version=$1
shift
case $version in
v[0-9]*.[0-9]*.[0-9]*) ;;
*) echo "contrib/release.sh: $version is no version such as v0.1.0" >&2; exit 2 ;;
esac
[ $# -gt 0 ] || set -- linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64
caddy=$(sed -n 's/^	github.com\/caddyserver\/caddy\/v2 \(v[^ ]*\).*/\1/p' go.mod)
module=$(sed -n 's/^module //p' go.mod)

# sbom BINARY NAME: what the binary says that it was built from.
sbom() {
	go version -m "$1" | awk -v name="$2" -v version="$version" '
	function purl(path, v) { return "pkg:golang/" path "@" v }
	function part(path, v) {
		return sprintf("    {\"type\": \"library\", \"name\": \"%s\", \"version\": \"%s\", \"purl\": \"%s\", \"bom-ref\": \"%s\"}", path, v, purl(path, v), purl(path, v))
	}
	NR == 1 { go = $NF; sub(/^go/, "", go) }
	$1 == "dep" { held = $2; n++; parts[n] = part($2, $3); next }
	$1 == "=>" && $2 ~ /^\// { parts[n] = part(held, version); next } # a folder of this machine
	$1 == "=>" { parts[n] = part($2, $3) }
	END {
		print "{"
		print "  \"bomFormat\": \"CycloneDX\", \"specVersion\": \"1.5\", \"version\": 1,"
		printf "  \"metadata\": {\"component\": {\"type\": \"application\", \"name\": \"%s\", \"version\": \"%s\"}},\n", name, version
		print "  \"components\": ["
		printf "    {\"type\": \"platform\", \"name\": \"go\", \"version\": \"%s\"}", go
		for (i = 1; i <= n; i++) printf ",\n%s", parts[i]
		print "\n  ]\n}"
	}'
}

source=$module@$version
[ -z "${LOCAL:-}" ] || source=$module@v0.0.0=$PWD
contrib/licences.sh -check
rm -rf dist
mkdir -p bin dist
go build -modfile=tools/go.mod -o bin/xcaddy github.com/caddyserver/xcaddy/cmd/xcaddy
for system; do
	os=${system%/*} arch=${system#*/}
	name=caddy-shunt_${version#v}_${os}_$arch
	[ "$os" != windows ] || name=$name.exe
	echo "==> $name"
	GOOS=$os GOARCH=$arch CGO_ENABLED=0 XCADDY_GO_BUILD_FLAGS="-trimpath -ldflags=-s -tags=nobadger,nomysql,nopgx" \
		bin/xcaddy build "$caddy" --with "$source" --output "dist/$name" >dist/build.log 2>&1 || { tail -n 30 dist/build.log; exit 1; }
	sbom "dist/$name" "$name" >"dist/$name.cdx.json"
done
rm -f dist/build.log
cp docs/licences.md LICENSE dist/
(cd dist && sha256sum -- * >SHA256SUMS)
echo "==> dist/ has $(ls dist | wc -l) files"
