#!/usr/bin/env bash
# Gets a balancer that is written in Python, in a virtual environment of its own under the cache.
# Prints the environment's folder. A second run takes no time. Usage: bench-peers-env.sh ray|skyserve
set -euo pipefail
cd "$(dirname "$0")"
source ./packages.sh

case ${1:-} in
    ray) what="Ray Serve" package="ray[serve]" version=2.60.0 ;;
    skyserve) what="SkyServe" package=skypilot version=0.14.1 ;;
    *) die "usage: bench-peers-env.sh ray|skyserve" ;;
esac

venv=$cache/$1-$version
if [ ! -e "$venv/complete" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/$1.lock"
    flock 9
    if [ ! -e "$venv/complete" ]; then
        need python3 python3 python3-venv
        rm -rf "$venv"
        python3 -m venv "$venv" >/dev/null 2>&1 || {
            install_packages "Python's venv" python3-venv
            python3 -m venv "$venv" >&2
        }
        say "installing $what $version"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "$package==$version" >&2 ||
            die "pip could not install $package $version; is there one for $(python3 --version)?"
        touch "$venv/complete"
    fi
fi
echo "$venv"
