#!/usr/bin/env bash
# Gets what only the tests use: ffmpeg, and OpenAI's official clients under the cache, the one for Python
# in a virtual environment of its own, the one for Node in a folder of its own. Prints the environment's
# folder; with --node the folder of the one for Node. A second run takes no time.
set -euo pipefail
cd "$(dirname "$0")"
source ./packages.sh

openai_version=3.57.0
openai_node_version=7.57.0

need ffmpeg ffmpeg
need curl curl ca-certificates

venv=$cache/openai-$openai_version
if [ ! -e "$venv/complete" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/openai.lock"
    flock 9
    if [ ! -e "$venv/complete" ]; then
        need python3 python3 python3-venv
        rm -rf "$venv"
        python3 -m venv "$venv" >/dev/null 2>&1 || {
            install_packages "Python's venv" python3-venv
            python3 -m venv "$venv"
        }
        say "installing the official OpenAI client $openai_version"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "openai==$openai_version" >&2
        touch "$venv/complete"
    fi
fi

node=$cache/openai-node-$openai_node_version
if [ ! -e "$node/complete" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/openai-node.lock"
    flock 9
    if [ ! -e "$node/complete" ]; then
        need node nodejs
        need npm npm
        [ "$(node -p 'Number(process.versions.node.split(".")[0])')" -ge 20 ] ||
            die "OpenAI's client needs Node 20 or newer, and $(node --version) is here: install a newer one"
        rm -rf "$node"
        mkdir -p "$node"
        say "installing the official OpenAI client for Node $openai_node_version"
        (cd "$node" && npm install --silent --no-audit --no-fund --prefix "$node" "openai@$openai_node_version" >&2)
        touch "$node/complete"
    fi
fi

if [ "${1:-}" = --node ]; then
    echo "$node"
else
    echo "$venv"
fi
