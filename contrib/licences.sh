#!/bin/sh
# contrib/licences.sh [-check]: lists the licences of the modules that shunt's own code links,
# in docs/licences.md. With -check it fails when that page says something else. A licence
# that is not one of the permissive ones below is an error in both cases.
set -eu
cd "$(dirname "$0")/.."
tags=nobadger,nomysql,nopgx
page=docs/licences.md
new=$(mktemp)
trap 'rm -f "$new"' EXIT

licence() { # licence FOLDER: the short name (SPDX) of the licence there
	text=$(cat "$1"/LICENSE* "$1"/LICENCE* "$1"/COPYING* "$1"/license* 2>/dev/null | tr -s ' \n\t' ' ')
	case $text in
	*"Apache License"*"Version 2.0"*) echo Apache-2.0 ;;
	*"Mozilla Public License Version 2.0"* | *"Mozilla Public License, version 2.0"*) echo MPL-2.0 ;;
	*"Permission is hereby granted, free of charge"*) echo MIT ;;
	*"Permission to use, copy, modify, and"*"distribute this software"*) echo ISC ;;
	*"Redistribution and use in source and binary forms"*"Neither the name"* | *"Redistribution and use in source and binary forms"*"names of its contributors"* | *"Redistribution and use in source and binary forms"*"name of the"*"may not be used"*) echo BSD-3-Clause ;;
	*"Redistribution and use in source and binary forms"*) echo BSD-2-Clause ;;
	*"CC0 1.0 Universal"*) echo CC0-1.0 ;;
	*"This is free and unencumbered software"*) echo Unlicense ;;
	*) echo unknown ;;
	esac
}

{
	echo "# Licences"
	echo
	echo "Of each module that Caddy with shunt links, as \`contrib/licences.sh\` finds them; it refuses what is not permissive. The texts"
	echo "are in the modules themselves. shunt's own licence is in [LICENSE](../LICENSE)."
	echo
	echo "| Module | Version | Licence |"
	echo "|---|---|---|"
	go list -tags "$tags" -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/caddy |
		LC_ALL=C sort -u | while read -r path version folder; do
		echo "| $path | $version | $(licence "$folder") |"
	done
} >"$new"
if grep -F '| unknown |' "$new" >&2; then
	echo "contrib/licences.sh: the licences of these modules are not known to be permissive" >&2
	exit 1
fi
if [ "${1:-}" = -check ]; then
	diff -u "$page" "$new" >&2 || { echo "contrib/licences.sh writes $page anew" >&2; exit 1; }
else
	cp "$new" "$page"
fi
