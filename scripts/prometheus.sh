#!/usr/bin/env bash
# Prints the folder in which the programs prometheus and promtool are: that of those on PATH, else of
# Debian's package, which is unpacked under the cache and not installed, so that no service of it runs.
set -euo pipefail
cd "$(dirname "$0")"
source ./packages.sh

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    dirname "$(command -v promtool)"
    exit
fi

unpack() {
    local version=$1 folder=$2 work
    say "getting Debian's prometheus $version"
    work=$(mktemp -d "$cache/prometheus.XXXXXX")
    (cd "$work" && apt-get download -qq "prometheus=$version" >&2 2>/dev/null) ||
        die "apt-get could not download prometheus $version; put prometheus and promtool on PATH and run this again"
    dpkg-deb --fsys-tarfile "$work"/*.deb | tar -x -C "$work" ./usr/bin/prometheus ./usr/bin/promtool
    mv "$work/usr/bin" "$folder"
    rm -rf "$work"
}

command -v apt-get >/dev/null ||
    die "Prometheus is needed; put prometheus and promtool on PATH and run this again"
mkdir -p "$cache"
# What was got stays, whatever newer version there may be: the tests of today are those of tomorrow.
for folder in "$cache"/prometheus-*; do
    if [ -x "$folder/promtool" ] && [ -x "$folder/prometheus" ]; then
        echo "$folder"
        exit
    fi
done
exec {lock}>"$cache/prometheus.lock"
flock "$lock"
refresh_package_lists
version=$(apt-cache policy prometheus | awk '$1 == "Candidate:" {print $2}')
[ -n "$version" ] && [ "$version" != "(none)" ] ||
    die "apt has no package prometheus; put prometheus and promtool on PATH and run this again"
folder=$cache/prometheus-${version//[^0-9A-Za-z.+-]/_}
[ -x "$folder/promtool" ] || unpack "$version" "$folder"
echo "$folder"
