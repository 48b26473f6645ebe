#!/usr/bin/env bash
# Gets what only the tests use: ffmpeg, and OpenAI's official Python client in a virtual environment
# of its own under the cache. Prints the environment's folder. A second run takes no time.
set -euo pipefail
cd "$(dirname "$0")"
source ./packages.sh

openai_version=3.57.0

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
echo "$venv"
