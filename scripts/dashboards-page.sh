#!/usr/bin/env bash
# Builds the page that draws dashboards with Grafana's own components (dashboards/draw), once for each state of
# its sources, and prints the folder. What npm fetches is held by the checksums of package-lock.json.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

node=$(scripts/test-tools.sh --node)/bin
sources=(dashboards/draw/{package.json,package-lock.json,index.html,*.js,*.jsx})
key=$(cat "${sources[@]}" | sha256sum | cut -c1-16)
modules=$cache/grafana-$(sha256sum dashboards/draw/package-lock.json | cut -c1-16)
page=$cache/grafana-page-$key
if [ ! -e "$page/index.html" ]; then
    exec {lock}>"$modules.lock"
    flock "$lock"
    if [ ! -e "$modules/complete" ]; then
        say "getting Grafana's components: 450 MB, once"
        mkdir -p "$modules"
        cp dashboards/draw/package{,-lock}.json "$modules/"
        PATH=$node:$PATH npm ci --silent --legacy-peer-deps --ignore-scripts --no-audit --no-fund --prefix "$modules" >&2
        touch "$modules/complete"
    fi
    say "building the page that draws dashboards"
    cp "${sources[@]}" "$modules/"
    rm -rf "$page.part"
    (cd "$modules" && PATH=$node:$PATH node_modules/.bin/esbuild main.jsx --bundle --format=esm --splitting --outdir="$page.part" --jsx=automatic \
        --define:process.env.NODE_ENV='"production"' --define:global=globalThis --log-level=warning \
        --loader:.woff=file --loader:.woff2=file --loader:.ttf=file --loader:.svg=dataurl --loader:.png=file >&2)
    cp "$modules/index.html" "$page.part/"
    mv -T "$page.part" "$page"
fi
echo "$page"
